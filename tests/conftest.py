"""Options and what every test shares."""

import os
import re
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.e2e.bed import Vcsim
from tests.e2e.browser import BrowserMissing, program
from tests.e2e.parts import PartMissing, missing, part
from tests.e2e.world import CrdsMissing, forklifts_crds

# How fast a machine is, is no matter; nor is a fixture that serves all examples of a test.
_LEFT_OUT = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
settings.register_profile("here", settings(), deadline=None, suppress_health_check=_LEFT_OUT)
settings.load_profile("here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-fixtures",
        action="store_true",
        help="rewrite the `expect` of every case in tests/fixtures with what is answered now",
    )
    parser.addoption(
        "--soak",
        action="store_true",
        help="the long forms of tests/e2e/test_soak.py and test_faults.py: `make soak`",
    )
    parser.addoption(
        "--seeds",
        default="",
        help="of the runs of tests/e2e/test_faults.py, as in `--seeds 1,2`; else new ones",
    )


def pytest_configure(config: pytest.Config) -> None:
    """What no test could do anything about is told once, before any of them."""
    # A shell's background job ignores it, and all that a test starts would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        return
    try:
        forklifts_crds()
    except CrdsMissing:
        pass  # told by the tests that are skipped
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    if os.environ.get("CI") == "true" and (absent := missing()):
        raise pytest.UsageError(str(PartMissing(absent)))
    if os.environ.get("CI") == "true":
        try:
            program()
        except BrowserMissing as lost:
            raise pytest.UsageError(str(lost)) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """A test that needs what is not there is skipped. From one place, for one reason: so pytest
    makes one line of all of them."""
    try:
        return (yield)
    except PartMissing:
        pytest.skip(str(PartMissing(missing())))
    except (BrowserMissing, CrdsMissing) as absent:
        pytest.skip(str(absent))


pytest_runtest_call = pytest_runtest_setup  # it may be missed only amid the test


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """More than twice as many as cores: much of a test is waiting."""
    return min(6, 2 * (os.cpu_count() or 1) + 1)


LONGEST = "own", "forklift", "test_soak", "test_faults", "test_certificates", "test_serving"
"""More than a minute each: begun first, so that no process is left with one of them at the end."""


def together(nodeid: str) -> str:
    """The bed of a test or, else, its module: what one process does, for it sets it up but once."""
    bed = re.search(r"\[(own|forklift)\b", nodeid)
    return bed[1] if bed else Path(nodeid.partition("::")[0]).stem


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """How processes share the tests. Not by xdist's own marks: under pytest 9.2 they are ignored
    (pytest-xdist #1386), and each process starts every bed."""

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    config.option.loadscopereorder = False  # by the number of tests, which says little
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        name = together(item.nodeid)
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=rank)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of tests that are coroutines."""
    return "asyncio"


@pytest.fixture(scope="session")
def simulator() -> Path:
    """vcsim."""
    return part("vcsim")


@pytest.fixture
def vcsim(simulator: Path, tmp_path: Path) -> Iterator[Vcsim]:
    with Vcsim(simulator, tmp_path / "vcsim") as vcsim:
        yield vcsim
