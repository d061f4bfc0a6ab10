"""The command as a person or a pipeline runs it: a process of its own, warnings are errors."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = (sys.executable, "-W", "error", "-m", "webhook")
_MINE = ("CONVERSION_GUARD_", "KUBECONFIG")


def run(
    *args: str | Path, given: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`conversion-guard` with these arguments, and nothing of who runs the tests."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_MINE)}
    return subprocess.run(
        [*COMMAND, *args],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, **(env or {})},
    )
