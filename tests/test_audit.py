"""What an audit of the dependencies may be taken for, in the words that pip-audit writes."""

import json
from typing import Any

import pytest

from tests.audit import judged

CLEAN = {"name": "idna", "version": "3.7", "vulns": []}
FOUND = {
    "name": "jinja2",
    "version": "3.1.3",
    "vulns": [{"id": "PYSEC-2024-1", "fix_versions": ["3.1.4"], "aliases": [], "description": ""}],
}
SKIPPED = {"name": "private", "skip_reason": "Dependency not found on PyPI: private (1.0)"}


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([CLEAN], 0, "1 packages, no known vulnerability"),
        ([CLEAN, FOUND], 1, "jinja2 3.1.3: PYSEC-2024-1, mended in 3.1.4"),
        ([SKIPPED, FOUND], 1, "jinja2 3.1.3"),
        ([CLEAN, SKIPPED], 3, "NOT AUDITED: 1 of 2 packages: Dependency not found"),
        ([], 3, "NOT AUDITED"),
    ],
    ids=["clean", "found", "found-beside-a-skipped", "one-skipped", "nothing"],
)
def test_what_a_report_means(packages: list[dict[str, Any]], code: int, says: str) -> None:
    audit = judged("a.lock", json.dumps({"dependencies": packages, "fixes": []}), "")
    assert audit.code == code
    assert says in audit.message


def test_without_a_report_its_last_word_is_told() -> None:
    audit = judged("a.lock", "", "Traceback\nrequests.exceptions.ConnectionError: no such host\n")
    assert audit.code == 3
    assert audit.message.endswith("NOT AUDITED: requests.exceptions.ConnectionError: no such host")
