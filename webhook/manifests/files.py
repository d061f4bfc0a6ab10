"""Manifests as people keep them: YAML or JSON, several in a file, files in folders."""

import json
import re
import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from webhook.engine.check import unfolded
from webhook.engine.results import Candidate
from webhook.errors import ManifestInvalid

LIMIT = 32 * 2**20
"""Bytes of all that is read at once: parsed, YAML takes about twenty times its own size."""
_NODES = 1_000_000  # of one document, each alias counted as what it stands for
_DEPTH = 200
_ENDINGS = (".yaml", ".yml", ".json")


class _Loader(yaml.CSafeLoader):
    """YAML as kubectl reads it: `y` is true, `1e3` a number, a date text; each key is text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):  # such as `!!map text`
            return super().construct_mapping(node, deep)
        self.flatten_mapping(node)
        return {
            _key(self.construct_object(key, deep=True)): self.construct_object(value, deep=deep)
            for key, value in node.value
        }


_Loader.yaml_implicit_resolvers = {}
# go-yaml's resolve.go, as kubectl has it; tried with kubectl 1.37.
for _tag, _pattern, _first in (
    ("bool", r"y|Y|yes|Yes|YES|on|On|ON|true|True|TRUE", "yYoOtT"),
    ("bool", r"n|N|no|No|NO|off|Off|OFF|false|False|FALSE", "nNoOfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0b[01_]+|0o?[0-7_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), list(_first)
    )
_Loader.bool_values = {**yaml.CSafeLoader.bool_values, "y": True, "n": False}


_PLAIN = re.compile(r"[A-Za-z][A-Za-z]+[-A-Za-z0-9./]*", re.ASCII)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever any reader of YAML may take for something else than text."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"'
    ),
)


def write(objects: Iterable[Any]) -> str:
    """YAML documents, one for each object."""
    return yaml.dump_all(
        objects, Dumper=_Dumper, sort_keys=False, explicit_start=True, allow_unicode=True
    )


def read(paths: Sequence[str]) -> Iterator[Candidate]:
    """Every object of these files and folders, those of Lists included; `-` is standard input.
    Raises ManifestInvalid."""
    room = LIMIT
    for name in paths:
        for file in _files(name):
            try:
                if file == "-":
                    content = sys.stdin.buffer.read(room + 1)
                else:
                    with Path(file).open("rb") as stream:
                        content = stream.read(room + 1)
            except OSError as error:
                raise ManifestInvalid(f"{file}: {error.strerror}") from None
            room -= len(content)
            if room < 0:
                raise ManifestInvalid(f"{file}: more than {LIMIT >> 20} MiB at once: split them")
            for found in documents(content, file):
                yield from unfolded(found)


def documents(content: bytes, file: str) -> Iterator[Candidate]:
    """The documents of one file, each with the line it begins in. Raises ManifestInvalid."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestInvalid(f"{file}: byte {error.start} is not UTF-8") from None
    if text.lstrip().startswith("{") and (found := _json(text, file)):
        yield found
        return
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # noqa: S101  check_node said so
            _size(node, file, {}, 0)
            line = node.start_mark.line + 1
            obj = loader.construct_document(node)
            if obj is not None:
                yield Candidate(obj, file, line)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ManifestInvalid(f"{file}{where}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        said = re.sub(r"\s+", " ", str(error))
        raise ManifestInvalid(f"{file}: {said}") from None


def _files(name: str) -> Iterator[str]:
    path = Path(name)
    if name == "-" or not path.is_dir():
        yield name
        return
    for file in sorted(path.rglob("*")):
        # A kustomization is no object of the cluster: check what `kubectl kustomize` writes.
        if file.suffix in _ENDINGS and file.stem != "kustomization" and file.is_file():
            yield str(file)


def _key(key: object) -> str:
    """As JSON has it: `true`, `1`."""
    return key if isinstance(key, str) else json.dumps(key)


def _json(text: str, file: str) -> Candidate | None:
    """None: it is not JSON, and may be YAML that begins with a brace."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise ManifestInvalid(f'{file}: the key "{twice}" occurs twice')
        return made

    try:
        obj = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError:
        return None
    except RecursionError:
        raise ManifestInvalid(f"{file}: is nested too deeply") from None
    return Candidate(obj, file, text[: len(text) - len(text.lstrip())].count("\n") + 1)


def _size(node: yaml.Node, file: str, known: dict[int, int], depth: int) -> int:
    """Nodes below `node` with each alias written out. Raises ManifestInvalid."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    where = f"{file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    if (size := known.get(id(node))) is not None:
        if not size:
            raise ManifestInvalid(f"{where}: an alias to what contains it")
        return size
    if depth > _DEPTH:
        raise ManifestInvalid(f"{where}: is nested more than {_DEPTH} deep")
    known[id(node)] = 0
    size = 1
    seen = set()
    for entry in node.value:
        for child in entry if isinstance(entry, tuple) else (entry,):
            size += _size(child, file, known, depth + 1)
        if isinstance(entry, tuple) and isinstance(key := entry[0], yaml.ScalarNode):
            if key.value in seen and key.value != "<<":
                at = f"{file}:{key.start_mark.line + 1}:{key.start_mark.column + 1}"
                raise ManifestInvalid(f'{at}: the key "{key.value}" occurs twice')
            seen.add(key.value)
    if size > _NODES:
        raise ManifestInvalid(f"{where}: its aliases expand to more than {_NODES} values")
    known[id(node)] = size
    return size
