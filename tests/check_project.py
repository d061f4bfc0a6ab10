"""What no linter knows: `make check` fails where the project contradicts itself.

`--update` rewrites what is made of something else: the rules of docs/rules.md, the list of
docs/decisions, docs/openapi.json, the demo in the README, what `doctor` knows of the
manifests, and the Helm chart's share of them.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml
from pydantic import BaseModel

from tests import chart, command, pages
from tests.cases import FIXTURES
from tests.pages import ROOT
from webhook import __version__
from webhook.api import openapi
from webhook.engine.reference import VERBS, parts
from webhook.facts.facts import PlanFacts
from webhook.rules import DEFAULTS, RULES
from webhook.settings import NamespaceSettings, Settings

README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "rules.md"
DECISIONS = ROOT / "docs" / "decisions" / "README.md"
SETTINGS = ROOT / "docs" / "settings.md"
SHIPPED = ROOT / "webhook" / "cli" / "doctor" / "shipped.json"
OPENAPI = ROOT / "docs" / "openapi.json"
KUSTOMIZATION = ROOT / "manifests" / "base" / "kustomization.yaml"
_ACTIONS = {rule.id: rule.action for rule in RULES}
_ELSEWHERE = {
    rule.id: "at the Plan `warn` at the most"
    if rule.facts is PlanFacts
    else "also at a Plan that has been started"
    for rule in RULES
    if rule.again and rule.action == "deny"
}
"""What a rule does with the other of a Plan and its Migration."""
_MADE = re.compile(r"(<!-- (\w+): [^>]*by `make fix`[^>]*-->\n).*?(<!-- /\2 -->)", re.DOTALL)


def main() -> int:
    if "--update" in sys.argv:
        for page, made in _made():
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_bytes(made)
    faults = [*_versions(), *_locks(), *_settings(), *_names(), *_lengths()]
    faults.extend(pages.faults(_targets()))
    for page, made in _made():
        if not page.exists() or page.read_bytes() != made:
            faults.append(f"{page.relative_to(ROOT)}: is not what it is made of: make fix")
    copies = {chart.CHART / "files" / file.relative_to(chart.MANIFESTS) for file in chart.sources()}
    for left in {file for file in (chart.CHART / "files").rglob("*.*") if file.is_file()} - copies:
        faults.append(f"{left.relative_to(ROOT)}: is a copy of nothing: remove it")
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


def _made() -> Iterator[tuple[Path, bytes]]:
    """The files that are made of something else, wholly or between two marks."""
    yield README, _between(README, _cards())
    yield REFERENCE, _between(REFERENCE, _reference())
    yield DECISIONS, _between(DECISIONS, _decisions())
    yield SHIPPED, _shipped().encode()
    yield OPENAPI, openapi()
    yield from chart.made()
    tagged = re.sub(r"(newTag): \S+", rf"\1: {__version__}", KUSTOMIZATION.read_text())
    yield KUSTOMIZATION, tagged.encode()


def _between(page: Path, made: str) -> bytes:
    text, times = _MADE.subn(lambda marks: f"{marks[1]}{made}{marks[3]}", page.read_text())
    if times != 1:
        raise SystemExit(f"{page.relative_to(ROOT)}: has {times} places for what is made, not 1")
    return text.encode()


def _versions() -> Iterator[str]:
    newest = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    if __version__ != newest:
        yield f"versions differ: webhook {__version__}, CHANGELOG {newest}"


def _names() -> Iterator[str]:
    """A class's name stands for one thing in the whole product."""
    found: dict[str, Path] = {}
    for file in sorted((ROOT / "webhook").rglob("*.py")):
        for name in re.findall(r"^class ([A-Za-z]\w*)", file.read_text(), re.MULTILINE):
            if (other := found.setdefault(name, file)) != file:
                yield f"{file.relative_to(ROOT)}: {name} is a class of {other.relative_to(ROOT)}"


def _lengths() -> Iterator[str]:
    for file in sorted((ROOT / "webhook").rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        lines = file.read_bytes().count(b"\n")
        if lines > _LINES and name not in _LONGER:
            yield f"{name}: has {lines} lines: split it, or say in {Path(__file__).name} why not"
        if lines <= _LINES and name in _LONGER:
            yield f"{name}: has {lines} lines only: it needs no reason"


_LINES = 300
_LONGER = {
    "webhook/api/routes.py": "its calls, each with the words of its OpenAPI",
    "webhook/metrics.py": "the one importer of prometheus_client, and the words of each metric",
    "webhook/model/forklift.py": "the kinds of Forklift that are read, each field in words",
}
"""Files that are longer, and why: there is nothing in them that has a name of its own."""


def _locks() -> Iterator[str]:
    project = _project()
    runtime = project["project"]["dependencies"]
    for file, wanted in (
        ("requirements.lock", runtime),
        ("requirements-dev.lock", [*runtime, *project["dependency-groups"]["dev"]]),
    ):
        text = (ROOT / file).read_text()
        pinned = {name.lower() for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
        for requirement in wanted:
            name = re.split(r"[\[=<>~! ]", requirement)[0].lower()
            if name not in pinned:
                yield f"{file}: {name} is not pinned: make lock"
        if re.search(r"^\s*--(index|extra-index|find-links)|https?://", text, re.MULTILINE):
            yield f"{file}: names an index: hashes yes, addresses no"
        if unhashed := [
            line for line in text.splitlines() if "==" in line and not line.rstrip().endswith("\\")
        ]:
            yield f"{file}: without hashes: {unhashed}"


def _settings() -> Iterator[str]:
    """docs/settings.md has each field, and nothing else."""
    text = SETTINGS.read_text()
    named = set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))
    fields = set(_fields(Settings)) - {"namespaces"} | {
        f"namespaces.<name>.{field}" for field in _fields(NamespaceSettings)
    }
    for field in sorted(named ^ fields):
        yield f"docs/settings.md: {field} is {'not a field' if field in named else 'missing'}"


def _fields(model: type[BaseModel]) -> Iterator[str]:
    """As the file spells them; those of a group with its name before."""
    for name, field in model.model_fields.items():
        spelled, kind = field.alias or name, field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (f"{spelled}.{inner}" for inner in _fields(kind))
        else:
            yield spelled


@cache
def _cards() -> str:
    """The demo's first two cards and its last line, as in a pipe."""
    done = command.run("demo", env={"COLUMNS": "80", "NO_COLOR": "1"})
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    _, *cards, end = re.split("^-{80}\n", done.stdout, flags=re.MULTILINE)
    shown = [card.strip() for card in cards[:2]]
    return "```\n" + "\n\n".join(["$ make demo", *shown, end.splitlines()[-1]]) + "\n```\n"


def _targets() -> list[str]:
    return re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def _decisions() -> str:
    """A line a file, in the order of their dates."""
    lines = ["| date | decision |", "| --- | --- |"]
    for file in sorted(DECISIONS.parent.glob("20*.md")):
        title = file.read_text().partition("\n")[0].removeprefix("# ")
        lines.append(f"| {file.name[:10]} | [{title}]({file.name}) |")
    return "\n".join(lines) + "\n"


def _index() -> str:
    """A line a rule, from its docstring."""
    lines = ["| id | what holds | action |", "| --- | --- | --- |"]
    for rule in RULES:
        action = "; ".join(
            filter(None, (rule.action, _ELSEWHERE.get(rule.id, "").replace("`", "")))
        )
        lines.append(f"| [`{rule.id}`](#{rule.id}) | {_title(rule.id)} | {action} |")
    for default in DEFAULTS:
        action = "fills in" if default.on else "off"
        lines.append(f"| [`{default.id}`](#{default.id}) | {_title(default.id)} | {action} |")
    return "\n".join(lines) + "\n"


def _title(rule: str) -> str:
    return _parts(rule)[0]


def _parts(rule: str) -> tuple[str, dict[str, str]]:
    """What its docstring says, all of it there."""
    title, found = parts(rule)
    heads = ["Reads", "Fills"]
    if rule in _ACTIONS:
        heads = ["Reads", "Asks", "Accepts", VERBS[_ACTIONS[rule]], "Forklift"]
    if missing := [head for head in heads if head not in found]:
        raise SystemExit(f"{rule}: its docstring lacks {', '.join(missing)}")
    return title, found


def _reference() -> str:
    """An index, and a section a rule: what it says of itself, and two of its cases."""
    made = [f"\n{_index()}"]
    for kind, ids in (("Rules", list(_ACTIONS)), ("Defaults", [d.id for d in DEFAULTS])):
        made.append(f"## {kind}\n")
        for rule in ids:
            title, parts = _parts(rule)
            made.append(f"### `{rule}`\n\n{title}\n")
            if rule in _ACTIONS:
                action = f"`{_ACTIONS[rule]}`, unless the settings say otherwise"
                parts["Action"] = "; ".join(filter(None, (action, _ELSEWHERE.get(rule))))
            else:
                default = next(default for default in DEFAULTS if default.id == rule)
                parts["On"] = "yes" if default.on else "no: `defaults: {" + rule + ": true}`"
            made.append("".join(f"- **{head}**: {text}\n" for head, text in parts.items()))
            made.extend(_example(rule, outcome) for outcome in ("pass", "fail"))
    return "\n".join(made) + "\n"


def _shipped() -> str:
    """What `doctor` holds an installation against: it must know without these files."""

    def objects(file: str) -> list[Any]:
        return list(yaml.safe_load_all((ROOT / "manifests" / file).read_text()))

    hooks = [*objects("base/mutating-webhook.yaml"), *objects("base/validating-webhook.yaml")]
    shipped = {
        "webhooks": {item["kind"]: item["webhooks"] for item in hooks},
        "cluster": [
            *objects("base/cluster-role.yaml"),
            *objects("self-managed/ca-bundle-role.yaml"),
        ],
        "own": objects("self-managed/role.yaml"),
        "logins": objects("base/lease-role.yaml"),
        "api": objects("api/cluster-role.yaml"),
        "providers": [
            *objects("provider-namespace/role.yaml"),
            *objects("provider-namespace/release-role.yaml"),
        ],
        "release": objects("provider-namespace/release-role.yaml"),
    }
    return json.dumps(shipped, indent=1) + "\n"


def _example(rule: str, outcome: str) -> str:
    """The simplest case: what is sent, and what comes back."""
    files = (FIXTURES / rule / outcome).glob("*.yaml")
    text = min((file.read_text() for file in files), key=lambda text: (len(text), text))
    inputs, _, _ = text.partition("expect:")
    case = msgspec.yaml.decode(text)
    _, _, sent = inputs.partition("\n")
    shown = [line for line in sent.strip().splitlines() if not line.startswith(_FOR_TESTS)]
    expect = case["expect"]
    answer = [*expect.get("causes", ()), *(f"Warning: {w}" for w in expect.get("warnings", ()))]
    answer += [f"recorded in the audit log: {rule}" for rule in expect.get("recorded", ())]
    for op in expect.get("patch", ()):
        value = msgspec.json.encode(op["value"]).decode() if "value" in op else ""
        answer.append(f"{op['op']} {op['path']} {value}".rstrip())
    verdict = "\n".join(answer) or expect.get("verdict", "admitted")
    name = {"pass": "Passes", "fail": "Does not pass"}[outcome]
    if rule not in _ACTIONS:
        name = {"pass": "Left alone", "fail": "Filled in"}[outcome]
    yaml = "\n".join(shown)
    return f"{name}: {case['why']}\n\n```yaml\n{yaml}\n```\n\n```\n{verdict}\n```\n"


_FOR_TESTS = ("simulator:", "apiServer:")


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return project


if __name__ == "__main__":
    sys.exit(main())
