"""A YAML file and the environment over it; the faults of both in one answer."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from webhook.errors import SettingsInvalid
from webhook.settings.fields import Settings

PREFIX = "CONVERSION_GUARD_"
_ALSO = {"CONVERSION_GUARD_API_ENABLED": "CONVERSION_GUARD_API__ENABLED"}
_NESTED = "."
_LONGEST = 100
_OF_YAML = {True: "true, as on and yes are in YAML", False: "false, as off and no are in YAML"}


def load(
    path: Path | None,
    environment: Mapping[str, str],
    *,
    rules: frozenset[str],
    defaults: frozenset[str],
) -> Settings:
    """The settings of a YAML file, or of none: see `of_yaml`. Raises SettingsInvalid."""
    content = read(path) if path else b""
    return of_yaml(path, content, environment, rules=rules, defaults=defaults)


def read(path: Path) -> bytes:
    """Raises SettingsInvalid."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"{path}: {error.strerror}") from None


def of_yaml(
    path: Path | None,
    content: bytes,
    environment: Mapping[str, str],
    *,
    rules: frozenset[str],
    defaults: frozenset[str],
) -> Settings:
    """The settings of a YAML file's content, with the environment laid over its fields.

    CONVERSION_GUARD_MAX_AGE is `maxAge`, CONVERSION_GUARD_API__LISTEN is `api.listen`. `rules` and
    `defaults` are the ids that exist. Raises SettingsInvalid: every fault, one a line.
    """
    values = _decoded(path, content)
    overlay = _environment(environment)

    def placed(where: Sequence[str | int], message: str) -> str:
        source = path if path and not _names(overlay, where) else "environment"
        return _one_line(": ".join(filter(None, (str(source), ".".join(map(str, where)), message))))

    faults = [placed(where, message) for where, message in _keys_that_are_no_text(values)]
    _lay(overlay, values)
    settings = None
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults += [
            placed([part for part in one["loc"] if part != "[key]"], _fault(dict(one)))
            for one in error.errors(include_url=False)
            if one["type"] != "default_factory_not_called"  # a field that was given is at fault
        ]
    for place, known in (
        (("rules",), rules),
        (("defaults",), defaults),
        *((("namespaces", name, "rules"), rules) for name in _mapping(values, "namespaces")),
    ):
        for unknown in sorted(_mapping(values, *place).keys() - known):
            faults.append(placed(place, f'"{unknown}" is none of {", ".join(sorted(known))}'))
    if settings is None or faults:
        raise SettingsInvalid("\n".join(faults))
    return settings


def _decoded(path: Path | None, content: bytes) -> dict[str, Any]:
    try:
        values = msgspec.yaml.decode(content)
    except (ValueError, RecursionError) as error:  # DecodeError is a ValueError, of several lines
        raise SettingsInvalid(_one_line(f"{path}: {' '.join(str(error).split())}")) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsInvalid(f"{path}: must hold a mapping of settings")
    return values


def _keys_that_are_no_text(values: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Tell of the keys that YAML reads as something else, and take them out: nothing else can be
    told of them, and they can't be sorted among the others."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), values)]
    seen = set()  # what an anchor names is there many times, maybe in itself
    while waiting:
        where, value = waiting.pop()
        if id(value) in seen or not isinstance(value, dict | list):
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            for key in [key for key in value if not isinstance(key, str)]:
                yield (
                    where,
                    f"the key {_short(key)} is not text: write it in quotes, or leave it out",
                )
                del value[key]
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += [((*where, key), one) for key, one in inside]


def _environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What the variables say, in the shape of a file. Those that name no field are none of ours: a
    Service of the guard's name gives every pod CONVERSION_GUARD_PORT and more."""
    named = {_ALSO.get(name, name): value for name, value in environment.items()}
    given = {_key(name): value for name, value in named.items() if name.startswith(PREFIX)}
    if not given:
        return {}
    # Here, not above: it takes 0.1 s to import, and most commands have no such variable.
    from pydantic_settings import EnvSettingsSource

    class Environment(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return given

        def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
            return value  # not as JSON, which fails at once: it is told with the other faults

    source = Environment(
        Settings,  # type: ignore[arg-type]  # no BaseSettings: Settings() must not see os.environ
        env_prefix=_key(PREFIX),
        env_prefix_target="alias",
        env_nested_delimiter=_NESTED,
    )
    return source()


def _key(variable: str) -> str:
    """As the names in a file are compared with it: in any case, and without underscores."""
    return variable.lower().replace("__", _NESTED).replace("_", "")


def _lay(overlay: dict[str, Any], values: dict[str, Any]) -> None:
    """Lay the one over the other. Where that has something else than a mapping, it stays: a fault
    of the file is told, and not hidden."""
    for key, value in overlay.items():
        there = values.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            _lay(value, there)
        elif there is None or not isinstance(value, dict):
            values[key] = value


def _names(overlay: Any, where: Sequence[str | int]) -> bool:
    """Whether the overlay has a value there."""
    for part in where:
        if isinstance(overlay, dict):
            overlay = overlay.get(part)
    return overlay is not None and not isinstance(overlay, dict)


def _mapping(values: Any, *where: str) -> dict[str, Any]:
    """What is there; empty if it is no mapping, which is told of elsewhere."""
    for part in where:
        values = values.get(part) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def _fault(error: dict[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    # Never the value of a field that may hold a secret: only simple ones are shown.
    value = error.get("input")
    simple = isinstance(value, str | int | float | bool)
    return f"{message} (there: {_short(value)})" if simple else message


def _short(value: object) -> str:
    text = _OF_YAML[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _one_line(text: str) -> str:
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
