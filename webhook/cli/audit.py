"""`conversion-guard audit`: the verdict on what is on the cluster already."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence

from webhook.cli.known import Where, settings_of, standing
from webhook.cli.progress import Progress
from webhook.cli.verdicts import Output, demand_judged, lines, write
from webhook.engine.check import audit
from webhook.engine.results import Result


def main(where: Where, namespaces: Sequence[str], output: Output) -> int:
    """The exit code: 1 if anything is denied or undecided. Raises GuardError."""
    results = asyncio.run(_audited(where, namespaces))
    if output == "table":
        said = [one for one in results if not one.good or one.findings or one.notes or one.patch]
        sys.stdout.write("".join(f"{line}\n" for one in said for line in lines(one)))
        sys.stdout.write(_summary(results))
    else:
        write(results, output)
    demand_judged(results, f"in {' and '.join(namespaces)}" if namespaces else "in the cluster")
    return 0 if all(result.good for result in results) else 1


async def _audited(where: Where, namespaces: Sequence[str]) -> tuple[Result, ...]:
    settings = settings_of(where.settings)
    async with standing(where, settings, namespaces, some=True) as (sources, there):
        for lost in sources.inventory.vsphere():
            if not lost.synced:
                sys.stderr.write(f"conversion-guard: {lost.trouble}\n")
        everything = there.judged
        with Progress() as progress:
            return await audit(
                everything,
                sources,
                migrations=there.migration_uids,
                claims=there.claim_uids,
                told=progress.of("checked", len(everything)).more,
            )


def _summary(results: Sequence[Result]) -> str:
    """`3 PersistentVolumeClaims: 2 admitted, 1 denied; 1 Plan: 1 admitted`; empty for nothing."""
    parts = []
    for kind in ("PersistentVolumeClaim", "Plan", "Migration", "Conversion"):
        counts = Counter(one.verdict for one in results if one.kind == kind)
        total = counts.total()
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        if total:
            parts.append(f"{total} {kind}{'s' if total > 1 else ''}: {verdicts}")
    return f"{'; '.join(parts)}\n" if parts else ""
