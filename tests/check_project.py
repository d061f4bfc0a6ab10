"""What no linter knows: `make check` fails where the project contradicts itself.

`--update` rewrites the rule table of the README.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from webhook import __version__
from webhook.rules import DEFAULTS, RULES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
_ACTIONS = {rule.id: rule.action for rule in RULES}
_VERBS = {"deny": "Denies", "warn": "Warns", "audit": "Records"}
_TABLE = re.compile(r"(<!-- rules: [^>]*-->\n).*?(<!-- /rules -->)", re.DOTALL)


def main() -> int:
    if "--update" in sys.argv:
        README.write_text(_TABLE.sub(rf"\1{_table()}\2", README.read_text()))
    faults = [*_versions(), *_locks(), *_readme()]
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
    doc = import_module(f"webhook.rules.{rule.replace('-', '_')}").__doc__ or ""
    title, _, rest = doc.partition("\n\n")
    heads = ["Reads", "Fills"]
    if rule in _ACTIONS:
        heads = ["Reads", "Asks", "Accepts", _VERBS[_ACTIONS[rule]]]
    if missing := [head for head in heads if not re.search(rf"^{head}: ", rest, re.MULTILINE)]:
        raise SystemExit(f"{rule}: its docstring lacks {', '.join(missing)}")
    return title


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return project


if __name__ == "__main__":
    sys.exit(main())
