"""Kubernetes quantities, by the kubernetes package's own parser."""

import re
from decimal import ROUND_UP, Decimal, localcontext
from functools import lru_cache

from kubernetes.utils.quantity import parse_quantity

# apimachinery's grammar (resource/quantity.go). The package's parser alone is wider: it takes NaN,
# underscores, blanks and digits of other scripts, which no API server accepts.
_GRAMMAR = re.compile(
    r"[+-]?(\d+(\.\d*)?|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,3})?", re.ASCII
)


_MOST = Decimal(2**63 - 1)
_LEAST = Decimal("1e-9")


_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtpe])?i?b?(?:ytes)?\s*", re.ASCII | re.IGNORECASE)


def near(text: str) -> tuple[str, ...]:
    """What a size that is no quantity may mean: `10GB` -> `10Gi`, `10G`; empty if nothing."""
    size = _SIZE.fullmatch(text)
    if size is None or not float(size[1]):
        return ()
    number, unit = size.groups()
    if unit is None:
        return (number,)
    return f"{number}{unit.upper()}i", f"{number}{'k' if unit in 'kK' else unit.upper()}"


@lru_cache(maxsize=1024)  # a vendor's PVCs come in a few sizes
def parse(text: str) -> Decimal | None:
    """The number of `text` (`100Gi`, `1e3`, `0.5`, `1500m`) as the API server takes it: exact, but
    capped at 2^63-1 and rounded up to a billionth (resource/quantity.go). None if it is none."""
    if len(text) > 64 or not _GRAMMAR.fullmatch(text):
        return None
    with localcontext(prec=128):  # 64 digits by 2^60: the usual 28 would round
        number: Decimal = parse_quantity(text)
        capped = max(-_MOST, min(_MOST, number))
        return capped.quantize(_LEAST, rounding=ROUND_UP).normalize() + 0
