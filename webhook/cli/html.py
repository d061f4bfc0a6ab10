"""Results as one HTML file: nothing else is loaded, and no script runs.

Every text is a node of a tree, so that none can become markup.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from webhook import __version__
from webhook.cli.verdicts import NO_XML, place, title, written
from webhook.engine.reference import reference
from webhook.engine.results import CheckVerdict, Result

_WORST_FIRST: tuple[CheckVerdict, ...] = "denied", "undecided", "admitted", "skipped", "not-checked"
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #57606a; --line: #d0d7de;
  --denied: #a40e26; --undecided: #7a4b00; --admitted: #116329; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --faint: #9198a1;
  --line: #3d444d; --denied: #ff8b83; --undecided: #e3b341; --admitted: #56d364; } }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; }
h3 { overflow-wrap: anywhere; font-size: 1rem; margin: 1rem 0 .25rem; }
li, dd { overflow-wrap: anywhere; }
.faint { color: var(--faint); }
.denied, .deny { color: var(--denied); }
.undecided, .warn { color: var(--undecided); }
.admitted { color: var(--admitted); }
section { border-top: 1px solid var(--line); margin-top: 1.5rem; }
b { font-weight: 600; }
a { color: inherit; }
dt { font-weight: 600; margin-top: .75rem; }
dd { margin: 0; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"


def html(results: Sequence[Result]) -> bytes:
    """The whole page: how many, then each kind of verdict, the worst first, then the rules."""
    page = Element("html", lang="en")
    head = SubElement(page, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", "Conversion Guard")
    _add(head, "style", _STYLE)
    main = SubElement(SubElement(page, "body"), "main")
    _add(main, "h1", "Conversion Guard: what was checked")
    counts = Counter(result.verdict for result in results)
    each = ", ".join(f"{counts[one]} {one}" for one in _WORST_FIRST if counts[one])
    _add(main, "p", f"{len(results)} object{'' if len(results) == 1 else 's'}: {each or 'nothing'}")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    _add(main, "p", f"Made {now} by conversion-guard {__version__}.", "faint")
    named: set[str] = set()
    worst = sorted(results, key=lambda result: _WORST_FIRST.index(result.verdict))
    for verdict, some in groupby(worst, lambda result: result.verdict):
        section = SubElement(main, "section")
        _add(section, "h2", verdict.capitalize(), verdict)
        for result in some:
            _result(section, result)
            named |= {found.rule for found in result.findings}
    _rules(main, named)
    indent(page)  # a code host's preview, and a person's `diff`, read it by lines
    written: bytes = tostring(page, encoding="utf-8", method="html")
    return b"<!DOCTYPE html>\n" + written + b"\n"


def _result(section: Element, result: Result) -> None:
    article = SubElement(section, "article")
    _add(article, "h3", title(result))
    if where := place(result):
        _add(article, "p", where, "faint")
    if result.message:
        _add(article, "p", result.message)
    if not (result.findings or result.patch or result.notes):
        return
    listed = SubElement(article, "ul")
    for found in result.findings:
        item = SubElement(listed, "li")
        _add(item, "b", found.action, found.action).tail = f" {_text(found.field)}: "
        _add(item, "span", f"{found.message} ")
        _add(item, "a", found.rule).set("href", f"#{_text(found.rule)}")
    for op in result.patch:
        _add(listed, "li", f"repair: {written(op)}")
    for note in result.notes:
        _add(listed, "li", f"note: {note}")


def _rules(main: Element, named: set[str]) -> None:
    """What the rules say of themselves that have found something."""
    told = {rule.id: (rule.title, rule.text) for rule in reference().rules if rule.id in named}
    if "object" in named:
        told["object"] = ("The API server itself would refuse the object.", {})
    if not told:
        return
    section = SubElement(main, "section")
    _add(section, "h2", "The rules")
    listed = SubElement(section, "dl")
    for rule, (words, text) in told.items():
        _add(listed, "dt", rule).set("id", rule)
        _add(listed, "dd", words)
        for name, paragraph in text.items():
            _add(listed, "dd", f"{name}: {paragraph}", "faint")


def _add(parent: Element, tag: str, text: str, style: str = "") -> Element:
    element = SubElement(parent, tag, {"class": style} if style else {})
    element.text = _text(text)
    return element


def _text(text: str) -> str:
    """What a page can hold."""
    return NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
