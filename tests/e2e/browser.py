"""A real Chromium, Debian's: driven by playwright, and looked at by axe.

`python -m tests.e2e.browser` installs it where it is missing and may be: as root, with CI=true.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PACKAGE = "chromium"
_HOW = f"left out without Chromium: apt-get install {_PACKAGE}"
_ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Its sandbox refuses to run as root, as CI does; it opens nothing but the tests' own guard.
    "--no-sandbox",
)
_MINUTES = 10.0


class BrowserMissing(Exception):
    """There is no Chromium; the message says how to get it."""

    def __init__(self, why: str = "") -> None:
        super().__init__(f"{_HOW} ({why})" if why else _HOW)


def program() -> str:
    """Where it is. Raises BrowserMissing."""
    found = shutil.which("chromium")
    if found is None:
        raise BrowserMissing
    return found


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Raises BrowserMissing."""
    # Here, not above: every run of pytest asks whether there is one, and few need it.
    from playwright.sync_api import sync_playwright

    there = program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=there, args=[*_ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()


def barriers(page: "Page") -> list[str]:
    """What keeps people out of the page as it is now, by all rules of axe."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    return [
        f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for one in found.response["violations"]
        for node in one["nodes"]
    ]


def _install() -> None:
    """Raises BrowserMissing."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise BrowserMissing("only root may install it here")
    print("Installing Debian's Chromium, once.", flush=True)
    for command in (["update"], ["install", "--yes", "--no-install-recommends", _PACKAGE]):
        try:
            subprocess.run(
                ["apt-get", "--quiet", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                timeout=60 * _MINUTES,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            last = " | ".join(error.stderr.strip().splitlines()[-3:])
            raise BrowserMissing(f"apt-get {command[0]}: {last}") from None
        except subprocess.TimeoutExpired:
            raise BrowserMissing(f"apt-get {command[0]} takes too long") from None


def main() -> int:
    """1 if CI must do without it."""
    try:
        program()
    except BrowserMissing as missing:
        if os.environ.get("CI") != "true":
            print(f"warning: the tests of the board are {missing}", file=sys.stderr)
            return 0
        try:
            _install()
        except BrowserMissing as why:
            print(f"error: the tests of the board are {why}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
