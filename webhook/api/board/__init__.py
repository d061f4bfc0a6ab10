"""The readiness board at `/`: files that anybody may have, for nothing is in them.

What the page shows, it gets from the API's own calls with its reader's token: so nobody sees more
in it than the API tells him.
"""

from importlib.resources import files

import msgspec

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""Nothing inline, nothing of another site, and no text becomes markup."""
_TYPES = {
    "board.html": "text/html; charset=utf-8",
    "board.css": "text/css; charset=utf-8",
    "board.js": "text/javascript; charset=utf-8",
    "board.svg": "image/svg+xml",
}


class BoardFile(msgspec.Struct, frozen=True):
    """A file as it is served."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def _page(name: str, media_type: str) -> BoardFile:
    body = files(__name__).joinpath(name).read_bytes()
    headers = {
        "content-type": media_type,
        "content-length": str(len(body)),
        "content-security-policy": POLICY,
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
    }
    return BoardFile(
        body, tuple((name.encode(), value.encode()) for name, value in headers.items())
    )


_NAMED = {f"/{name}": _page(name, media_type) for name, media_type in _TYPES.items()}
PAGES = {"/": _NAMED.pop("/board.html"), **_NAMED}
"""By path."""
