"""What may be a label of Kubernetes: its key and its value (k8s.io/apimachinery, validation.go)."""

import re

from webhook.model.keys import echoed

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", re.ASCII)
_PART = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DOMAIN = re.compile(rf"{_PART}(\.{_PART})*", re.ASCII)
LONGEST = 63
"""Characters of a name or a value."""
_LONGEST_DOMAIN = 253


def fault(key: str, value: str) -> str:
    """What is wrong with it, and what to write; empty where nothing is."""
    domain, slash, name = key.rpartition("/")
    if slash and not (len(domain) <= _LONGEST_DOMAIN and _DOMAIN.fullmatch(domain)):
        return f"has the key {echoed(key)}: write a domain in lower case before the slash"
    if not (len(name) <= LONGEST and _NAME.fullmatch(name)):
        return f"has the key {echoed(key)}: write {_RULE}"
    if value and not (len(value) <= LONGEST and _NAME.fullmatch(value)):
        return f"has the value {echoed(value)} for {echoed(key)}: write {_RULE}, or nothing"
    return ""


_RULE = f"at most {LONGEST} of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at each end"
