"""What may be a label of Kubernetes, and what a name (k8s.io/apimachinery, validation.go)."""

import re

from webhook.model.keys import DNS_SUBDOMAIN, echoed

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", re.ASCII)
LONGEST = 63
"""Characters of a name or a value."""


def is_long_name(name: str) -> bool:
    """Whether Forklift gives a VM this name, and labels it with it, which can't be: a name that is
    none for Kubernetes gets a shorter one."""
    return len(name) > LONGEST and DNS_SUBDOMAIN.fullmatch(name) is not None


def dotted(name: str) -> bool:
    """Whether its first 15 characters have a dot, which Forklift's own template for the names of
    PVCs takes over, and refuses then (Forklift: template.go, DefaultPVCNameTemplate)."""
    return "." in name[:15]


def fault(key: str, value: str) -> str:
    """What is wrong with it, and what to write; empty where nothing is."""
    domain, slash, name = key.rpartition("/")
    if slash and not DNS_SUBDOMAIN.fullmatch(domain):
        return f"has the key {echoed(key)}: write a domain in lower case before the slash"
    if not (len(name) <= LONGEST and _NAME.fullmatch(name)):
        return f"has the key {echoed(key)}: write {_RULE}"
    if value and not (len(value) <= LONGEST and _NAME.fullmatch(value)):
        return f"has the value {echoed(value)} for {echoed(key)}: write {_RULE}, or nothing"
    return ""


_RULE = f"at most {LONGEST} of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at each end"
