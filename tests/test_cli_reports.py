"""`--output html` and `--output sarif`: the same verdicts, for a browser and for a code host."""

import json
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from sarif_pydantic import Sarif

from tests.command import run
from tests.test_cli_check import RIGHT, SECRET, SNAPSHOT, WRONG
from webhook.cli.html import html
from webhook.cli.sarif import sarif
from webhook.engine.results import Found, Note, Result
from webhook.rules import RULES

EVIL = "</style><script>alert(1)</script>\x00\x1b[31m\"'&\u202e"


def _evil() -> Result:
    """Hostile wherever somebody else chooses the words."""
    found = Found("pvc-vm", "deny", "FieldValueInvalid", EVIL, EVIL)
    return Result(
        api_version=EVIL,
        kind=EVIL,
        namespace=EVIL,
        name=EVIL,
        file=EVIL,
        line=3,
        verdict="denied",
        message=EVIL,
        findings=(found,),
        notes=(Note(EVIL, EVIL),),
        patch=({"op": "add", "path": EVIL, "value": EVIL},),
    )


class _Page(HTMLParser):
    """Its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    file = tmp_path / "all of them.yaml"
    file.write_text(f"{SECRET}---\n{RIGHT}---\n{WRONG}")
    return file


def _checked(manifests: Path, output: str) -> str:
    done = run("check", manifests, "--snapshot", SNAPSHOT, "--output", output)
    assert (done.returncode, done.stderr) == (1, "")
    return done.stdout


def test_a_page_has_every_verdict_and_its_rule_and_loads_nothing(manifests: Path) -> None:
    found = json.loads(_checked(manifests, "json"))["results"]
    page = _Page(_checked(manifests, "html"))
    for result in found:
        assert result["name"] in page.text
        for one in result["findings"]:
            assert one["message"] in page.text
            assert ("dt", {"id": one["rule"]}) in page.tags
            assert ("a", {"href": f"#{one['rule']}"}) in page.tags
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "form"})
    names = {name for _, attributes in page.tags for name in attributes}
    assert names <= {"lang", "charset", "http-equiv", "content", "name", "class", "id", "href"}


MIGRATION = """\
apiVersion: forklift.konveyor.io/v1beta1
kind: Migration
metadata: {name: m, namespace: openshift-mtv}
spec: {plan: {name: p, namespace: openshift-mtv}}
"""
UNCHECKED = 'spec.plan: not checked: Plan "openshift-mtv/p" is not in the list'
OLD = "not checked: the inventory of provider openshift-mtv/vsphere-production is"


@pytest.mark.parametrize("output", ["table", "json", "yaml", "junit", "html", "sarif"])
def test_every_form_tells_what_could_not_be_checked(output: str, tmp_path: Path) -> None:
    """Nothing of it was judged: so it isn't good."""
    for file, text in ("m.yaml", MIGRATION), ("pvc.yaml", RIGHT):
        (tmp_path / file).write_text(text)
    old = SNAPSHOT.read_text().replace("- name", "- readAt: 2020-01-01T00:00:00Z\n    name", 1)
    (tmp_path / "old.yaml").write_text(old)
    settings = tmp_path / "settings.yaml"
    settings.write_text(f'undecided: warn\nsnapshots: ["{tmp_path}/old.yaml"]')
    for file, by, said in (
        ("m.yaml", ("--snapshot", SNAPSHOT), UNCHECKED),
        ("pvc.yaml", ("--settings", settings), OLD),
    ):
        done = run("check", tmp_path / file, *by, "--output", output)
        assert done.returncode == 2, done
        assert done.stderr.startswith("conversion-guard: 0 objects: there is no Persistent")
        told = unescape(done.stdout).replace('\\"', '"')
        assert said in " ".join(told.split())
        assert ": admitted" not in told
    done = run("check", tmp_path, "--snapshot", SNAPSHOT, "--output", output)
    assert UNCHECKED in " ".join(unescape(done.stdout).replace('\\"', '"').split())


def test_no_text_becomes_markup() -> None:
    page = html([_evil()]).decode()
    parsed = _Page(page)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert parsed.text.count("<script>alert(1)</script>") > 6
    assert "\x00" not in page
    assert "\x1b" not in page


def _extras(model: object) -> list[str]:
    """Every key that SARIF doesn't know, wherever it is."""
    if isinstance(model, BaseModel):
        held = [
            getattr(model, name) for name in model.model_fields_set & set(type(model).model_fields)
        ]
        return [*(model.model_extra or ()), *_extras(held)]
    if isinstance(model, list | tuple):
        return [key for one in model for key in _extras(one)]
    return []


def _held(report: str | bytes) -> dict[str, Any]:
    """The only run of a report that is right by SARIF's structure, and by what GitHub demands."""
    assert _extras(Sarif.model_validate_json(report)) == []
    log = json.loads(report)
    assert log["version"] == "2.1.0"
    (told,) = log["runs"]
    run: dict[str, Any] = told
    driver = run["tool"]["driver"]
    assert driver["name"]
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(set(ids)) == len(ids)
    for rule in driver["rules"]:
        assert 0 < len(rule["shortDescription"]["text"]) <= 1024
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note", "none")
        assert result["message"]["text"]
        (place,) = result["locations"]
        physical = place["physicalLocation"]
        assert physical["region"]["startLine"] >= 1
        assert physical["artifactLocation"]["uri"].isascii()
        assert " " not in physical["artifactLocation"]["uri"]
        assert result["partialFingerprints"]["primaryLocationLineHash"]
    prints = [str(result["partialFingerprints"]) for result in run["results"]]
    assert len(set(prints)) == len(prints)
    return run


def test_sarif_has_every_finding_at_its_line(manifests: Path) -> None:
    results = json.loads(_checked(manifests, "json"))["results"]
    run = _held(_checked(manifests, "sarif"))
    wanted = [(one["rule"], result["line"]) for result in results for one in result["findings"]]
    lines = [
        (one["ruleId"], one["locations"][0]["physicalLocation"]["region"]["startLine"])
        for one in run["results"]
        if one["ruleId"] != "note"
    ]
    assert sorted(lines) == sorted(wanted)
    (uri,) = {
        one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]
    }
    assert uri == manifests.as_uri()
    assert "all%20of%20them.yaml" in uri
    assert {rule.id for rule in RULES} <= {rule["id"] for rule in run["tool"]["driver"]["rules"]}


def test_sarif_of_a_cluster_names_the_object_for_a_file() -> None:
    undecided = Result(
        api_version="v1",
        kind="Plan",
        namespace="mtv",
        name="web 1",
        verdict="undecided",
        message="no vCenter answers",
    )
    (result,) = _held(sarif([undecided]))["results"]
    assert (result["ruleId"], result["level"]) == ("undecided", "error")
    (place,) = result["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "Plan/mtv/web%201"
    assert len(_held(sarif([_evil()]))["results"]) == 2


def test_a_report_of_nothing_is_one() -> None:
    assert _held(sarif([]))["results"] == []
    assert "0 objects: nothing" in _Page(html([]).decode()).text
