"""File and environment to frozen Settings; every bad value is reported at once."""

from webhook.settings.fields import (
    NamespaceSettings,
    ProviderSettings,
    Settings,
    TlsSettings,
    spelled,
)
from webhook.settings.loading import load, of_yaml, read

__all__ = [
    "NamespaceSettings",
    "ProviderSettings",
    "Settings",
    "TlsSettings",
    "load",
    "of_yaml",
    "read",
    "spelled",
]
