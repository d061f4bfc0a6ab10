"""Options and what every test shares."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bed import Vcsim
from tests.e2e.parts import PartMissing, part


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-fixtures",
        action="store_true",
        help="rewrite the `expect` of every case in tests/fixtures with what is answered now",
    )
    parser.addoption(
        "--soak",
        action="store_true",
        help="the long forms of tests/e2e/test_soak.py: `make soak`",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of processes that share the tests, one has all of a bed's or, else, of a module's."""
    for item in items:
        chosen = getattr(item, "callspec", None)
        bed = chosen.params.get("crds") if chosen else None
        item.add_marker(pytest.mark.xdist_group(bed or item.path.stem))


@pytest.fixture(scope="session")
def simulator() -> Path:
    """vcsim. Where it can't be had: skipped with the reason, in CI a failure."""
    try:
        return part("vcsim")
    except PartMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture
def vcsim(simulator: Path, tmp_path: Path) -> Iterator[Vcsim]:
    with Vcsim(simulator, tmp_path / "vcsim") as vcsim:
        yield vcsim
