"""The settings file: read once at the start, and followed."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from webhook.errors import SettingsInvalid
from webhook.rules import DEFAULTS, RULES
from webhook.settings import Settings, of_yaml, read, spelled

_SECONDS = 2.0
_RULES = frozenset(rule.id for rule in RULES)
_DEFAULTS = frozenset(default.id for default in DEFAULTS)
_AT_START = (
    "api",
    "audit",
    "listen",
    "metrics_listen",
    "tls",
    "trust_path",
    "cache_dir",
    "client_ca_file",
    "allowed_client_names",
    "providers",
    "forklift_namespace",
    "provider_namespaces",
    "kubeconfig",
    "denied_networks",
    "shutdown_delay",
    "silence",
    "snapshots",
)

_log = logging.getLogger("webhook")


def settings_of(path: Path | None) -> Settings:
    """Of a file, or of none, and the environment. Raises SettingsInvalid."""
    return _parsed(path, _content(path))


def settings_in(name: str, text: str, environment: Mapping[str, str]) -> Settings:
    """Of a guard that runs elsewhere: `name` is told where the text is at fault. Raises
    SettingsInvalid."""
    return of_yaml(Path(name), text.encode(), environment, rules=_RULES, defaults=_DEFAULTS)


class SettingsFile:
    """The settings of the start, and what becomes of their file. Raises SettingsInvalid."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = _content(path)  # first: what changes after it is noticed
        self.settings = _parsed(path, self._seen)
        """Those of the start."""

    async def follow(
        self,
        apply: Callable[[Settings], None],
        reloaded: Callable[[bool], None],
        every: float = _SECONDS,
    ) -> None:
        """Look each `every` seconds and have each change applied, until cancelled; `reloaded` hears
        whether it could be.

        By content, for kubelet swaps symlinks and an editor replaces files. Where it is no good,
        the settings stay as they were, which is told once.
        """
        while True:
            await asyncio.sleep(every)
            now = _content(self._path)
            if now == self._seen:
                continue
            try:
                settings = _parsed(self._path, now)
            except SettingsInvalid as error:
                self._seen = now
                reloaded(False)
                _log.error("the settings were not reloaded, the old ones stay in force: %s", error)
                continue
            apply(settings)
            self._seen = now  # last: what could not be applied is tried again
            reloaded(True)
            before, after = self.settings.model_dump(), settings.model_dump()
            for field in (spelled(key) for key in _AT_START if before[key] != after[key]):
                _log.warning("the setting %s has changed: it takes effect at the next start", field)
            _log.info("the settings have been reloaded")


def _content(path: Path | None) -> bytes | str:
    """What is in the file, or why that can't be known."""
    try:
        return read(path) if path else b""
    except SettingsInvalid as error:
        return str(error)


def _parsed(path: Path | None, content: bytes | str) -> Settings:
    if isinstance(content, str):
        raise SettingsInvalid(content)
    return of_yaml(path, content, os.environ, rules=_RULES, defaults=_DEFAULTS)
