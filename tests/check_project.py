"""What no linter knows: `make check` fails where the project contradicts itself.

`--update` rewrites what is made of something else: the rule table of the README, docs/rules.md,
docs/openapi.json, and what `doctor` knows of the manifests.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.cases import FIXTURES
from webhook import __version__
from webhook.api import openapi
from webhook.engine.reference import VERBS, parts
from webhook.rules import DEFAULTS, RULES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "rules.md"
SHIPPED = ROOT / "webhook" / "cli" / "doctor" / "shipped.json"
OPENAPI = ROOT / "docs" / "openapi.json"
_ACTIONS = {rule.id: rule.action for rule in RULES}
_TABLE = re.compile(r"(<!-- rules: [^>]*-->\n).*?(<!-- /rules -->)", re.DOTALL)


def main() -> int:
    if "--update" in sys.argv:
        README.write_text(_TABLE.sub(rf"\1{_table()}\2", README.read_text()))
        REFERENCE.write_text(_reference())
        SHIPPED.write_text(_shipped())
        OPENAPI.write_bytes(openapi())
    faults = [*_versions(), *_locks(), *_readme()]
    if REFERENCE.read_text() != _reference():
        faults.append("docs/rules.md: is not that of the rules and their cases: make fix")
    if SHIPPED.read_text() != _shipped():
        faults.append(f"{SHIPPED.relative_to(ROOT)}: is not what manifests/ ships: make fix")
    if not OPENAPI.exists() or OPENAPI.read_bytes() != openapi():
        faults.append("docs/openapi.json: is not that of the API's routes: make fix")
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


def _versions() -> Iterator[str]:
    project = _project()["project"]["version"]
    newest = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    if not project == __version__ == newest:
        yield f"versions differ: pyproject {project}, webhook {__version__}, CHANGELOG {newest}"


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


def _readme() -> Iterator[str]:
    text = README.read_text()
    if _TABLE.sub(rf"\1{_table()}\2", text) != text or not _TABLE.search(text):
        yield "README.md: the rule table is not that of the rules: make fix"
    targets = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for named in re.findall(r"`make ([a-z0-9-]+)", text):
        if named not in targets:
            yield f"README.md: `make {named}` is no target"


def _table() -> str:
    """A line a rule, from its docstring."""
    lines = ["| id | does | action |", "| --- | --- | --- |"]
    for rule in RULES:
        lines.append(f"| `{rule.id}` | {_title(rule.id)} | {rule.action} |")
    for default in DEFAULTS:
        action = "fills in" if default.on else "off"
        lines.append(f"| `{default.id}` | {_title(default.id)} | {action} |")
    return "\n".join(lines) + "\n"


def _title(rule: str) -> str:
    return _parts(rule)[0]


def _parts(rule: str) -> tuple[str, dict[str, str]]:
    """What its docstring says, all of it there."""
    title, found = parts(rule)
    heads = ["Reads", "Fills"]
    if rule in _ACTIONS:
        heads = ["Reads", "Asks", "Accepts", VERBS[_ACTIONS[rule]]]
    if missing := [head for head in heads if head not in found]:
        raise SystemExit(f"{rule}: its docstring lacks {', '.join(missing)}")
    return title, found


def _reference() -> str:
    """A section a rule: what it says of itself, and two of its cases."""
    made = [_HEAD]
    for kind, ids in (("Rules", list(_ACTIONS)), ("Defaults", [d.id for d in DEFAULTS])):
        made.append(f"## {kind}\n")
        for rule in ids:
            title, parts = _parts(rule)
            made.append(f"### `{rule}`\n\n{title}\n")
            if rule in _ACTIONS:
                parts["Action"] = f"`{_ACTIONS[rule]}`, unless the settings say otherwise"
            else:
                default = next(default for default in DEFAULTS if default.id == rule)
                parts["On"] = "yes" if default.on else "no: `defaults: {" + rule + ": true}`"
            made.append("".join(f"- **{head}**: {text}\n" for head, text in parts.items()))
            made.extend(_example(rule, outcome) for outcome in ("pass", "fail"))
    return "\n".join(made)


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
        "api": objects("api/cluster-role.yaml"),
        "providers": objects("provider-namespace/role.yaml"),
    }
    return json.dumps(shipped, indent=1) + "\n"


_HEAD = """\
# The rules

Written by `make fix` from the rules' own docstrings and from their cases in `tests/fixtures/`, all
run on the engine, through HTTP and on a real API server. Each example is merged over a right object
(`tests/fixtures/base.yaml`), so it shows only what is special.
"""


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
    name = {"pass": "Passes", "fail": "Found"}[outcome]
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
