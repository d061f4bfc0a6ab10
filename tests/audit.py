"""Known vulnerabilities in what the hashed lock files name: pip-audit, strictly.

Exit code 1: there are some. 3: not audited, with the reason in one line; pip-audit by itself would
say "No known vulnerabilities found" where nothing could be asked. Not by its own --strict either:
that ends at the first package without an answer, and is silent on what was found in others.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock")
NOT_AUDITED = 3


class Audit(NamedTuple):
    """What came of it, in one line or several, and the exit code."""

    code: int
    message: str


def main() -> int:
    audits = [judged(name, *_asked(ROOT / name)) for name in LOCKS]
    for audit in audits:
        print(audit.message, file=sys.stderr if audit.code else sys.stdout)
    codes = {audit.code for audit in audits}
    return 1 if 1 in codes else max(codes)


def judged(name: str, report: str, trouble: str) -> Audit:
    """What pip-audit's JSON `report` on the lock file `name` means; without one, its `trouble`."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except ValueError:
        return _not_audited(name, trouble.strip().rpartition("\n")[2] or "pip-audit says nothing")
    found = [
        f"audit-deps: {name}: {package['name']} {package['version']}: {one['id']}, "
        f"mended in {', '.join(one['fix_versions']) or 'no version yet'}"
        for package in packages
        for one in package.get("vulns", ())
    ]
    if found:
        return Audit(1, "\n".join(found))
    skipped = [str(package["skip_reason"]) for package in packages if "skip_reason" in package]
    if skipped or not packages:
        first = skipped[0] if skipped else "nothing was asked"
        return _not_audited(name, f"{len(skipped)} of {len(packages)} packages: {first}")
    return Audit(0, f"audit-deps: {name}: {len(packages)} packages, no known vulnerability")


def _not_audited(name: str, reason: str) -> Audit:
    return Audit(NOT_AUDITED, f"audit-deps: {name}: NOT AUDITED: {reason}")


def _asked(lock: Path) -> tuple[str, str]:
    """pip-audit's JSON, and what it says beside it."""
    options = ["--requirement", str(lock), "--require-hashes", "--disable-pip"]
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout, done.stderr


if __name__ == "__main__":
    sys.exit(main())
