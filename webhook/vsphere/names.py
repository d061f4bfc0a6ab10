"""Names as Forklift's inventory has them: vSphere escapes some characters, Forklift none."""

import re

_GOOD = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*", re.DOTALL)
_ESCAPE = re.compile(rb"%(..)", re.DOTALL)
_NO_UTF_8 = re.compile("[\udc80-\udcff]")


def unescaped(name: str) -> str:
    """`web%2fshop 100%25` -> `web/shop 100%`; a name with one bad escape is left wholly alone.

    Bytes that are no UTF-8 become U+FFFD, one each, as Go's JSON shows them: Forklift keeps the
    bytes, so that no Plan can name such a VM there, and none is likely to name it so here.
    Source: Go's url.PathUnescape, by which Forklift reads every name.
    """
    if "%" not in name:
        return name
    raw = name.encode()
    if not _GOOD.fullmatch(raw):
        return name
    raw = _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), raw)
    return _NO_UTF_8.sub("\ufffd", raw.decode(errors="surrogateescape"))
