"""Options and what every test shares."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-fixtures",
        action="store_true",
        help="rewrite the `expect` of every case in tests/fixtures with what is answered now",
    )
