"""What the project's pages refer to, and must be there: links, headings, files, `make` targets."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|\b(?:src|srcset|href)=\"([^\"]+)\"")
_FILE = re.compile(r"`((?:\.ci|certs|docs|manifests|tests|webhook)/[\w./-]*)`")
_TARGET = re.compile(r"`make\s([a-z0-9-]+)")
_COMMAND = re.compile(r"^(?:\$ )?make ([a-z0-9-]+)", re.MULTILINE)


def pages(root: Path = ROOT) -> list[Path]:
    """Every page that people read."""
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def anchors(text: str) -> frozenset[str]:
    """Where a link into this page may lead: its headings as GitHub writes them."""
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return frozenset(re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles)


def faults(targets: Collection[str], root: Path = ROOT) -> Iterator[str]:
    """What a page names and nobody finds, and the pages that no other page leads to."""
    linked: set[Path] = {root / "README.md", root / "CHANGELOG.md"}
    for page in pages(root):
        name, text = page.relative_to(root), page.read_text()
        prose = _FENCE.sub("", text)
        for markdown, html in _LINK.findall(prose):
            file, _, anchor = (markdown or html).partition("#")
            if ":" in file:
                continue  # another site's
            there = (page.parent / file).resolve() if file else page
            if not there.exists():
                yield f"{name}: the link {file} leads nowhere"
            elif anchor and anchor not in anchors(there.read_text()):
                yield f"{name}: {file or name} has no heading #{anchor}"
            if there != page:
                linked.add(there)
        for file in _FILE.findall(prose):
            if not (root / file).exists():
                yield f"{name}: there is no {file}"
        commands = "\n".join(block[0] for block in _FENCE.finditer(text))
        for target in [*_TARGET.findall(prose), *_COMMAND.findall(commands)]:
            if target not in targets:
                yield f"{name}: `make {target}` is no target"
    for page in pages(root):
        if page not in linked:
            yield f"{page.relative_to(root)}: no page leads to it"
