"""`conversion-guard check`: the verdict on manifests before anybody applies them."""

import asyncio
import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from webhook import manifests
from webhook.check import Candidate, Result, Results, check
from webhook.decide import Sources
from webhook.errors import SettingsInvalid
from webhook.inventory import Inventory, load_snapshot
from webhook.policy import Policy

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def run(
    files: Sequence[str],
    snapshot: Path | None,
    settings: Path | None,
    namespace: str,
    output: str,
    junit: Path | None,
) -> int:
    """The exit code: 1 if anything is denied or undecided. Raises GuardError."""
    if (snapshot is None) == (settings is None):
        raise SettingsInvalid("what to judge by? Give --snapshot FILE or --settings FILE")
    candidates = list(manifests.read(files))
    if snapshot is not None:
        now = {"wall": datetime.now(UTC), "monotonic": time.monotonic()}
        inventory = Inventory(load_snapshot(snapshot, **now))  # type: ignore[arg-type]
        known = Sources(inventory, Policy(trust_network=True), time.monotonic)
        results = asyncio.run(check(candidates, known, namespace=namespace))
    else:
        results = _by_settings(candidates, settings, namespace)
    if junit is not None:
        junit.write_bytes(_junit(results))
    if output == "table":
        sys.stdout.write("".join(f"{line}\n" for one in results for line in _lines(one)))
    else:
        codec = msgspec.json if output == "json" else msgspec.yaml
        sys.stdout.buffer.write(codec.encode(Results(results)).rstrip() + b"\n")
    return 0 if all(result.good for result in results) else 1


def _by_settings(
    candidates: Sequence[Candidate], path: Path | None, namespace: str
) -> tuple[Result, ...]:
    # Here, not above: a snapshot needs neither pydantic nor rich.
    from webhook.cli import sources
    from webhook.cli.inventory import read, settings_of

    settings = settings_of(path)
    inventory, live = sources.known(settings)
    policy = msgspec.structs.replace(sources.policy(settings), trust_network=True)
    known = Sources(inventory, policy, time.monotonic)

    async def judged() -> tuple[Result, ...]:
        await read(inventory, None, 300.0)
        return await check(candidates, known, namespace=namespace)

    with ExitStack() as running:
        for source in live:
            source.start()
            running.callback(source.stop)
        return asyncio.run(judged())


def _lines(result: Result) -> list[str]:
    head = f"{_place(result)}: {_title(result)}: {result.verdict}"
    return [head + (f": {result.message}" if result.message else ""), *_said(result)]


def _said(result: Result) -> list[str]:
    said = [f"  {f.action}: {f.field}: {f.message} ({f.rule})" for f in result.findings]
    said += [f"  repair: {op['op']} {op['path']}" for op in result.patch]
    return said + [f"  note: {note.field}: {note.message}" for note in result.notes]


def _place(result: Result) -> str:
    return f"{result.file}:{result.line}"


def _title(result: Result) -> str:
    return f"{result.kind or 'object'} {result.namespace}/{result.name}".replace(" /", " ")


def _junit(results: Sequence[Result]) -> bytes:
    suite = ElementTree.Element("testsuite", name="conversion-guard", tests=str(len(results)))
    counts = {"failures": 0, "errors": 0, "skipped": 0}
    for result in results:
        title = _NO_XML.sub("�", _title(result))
        place = _NO_XML.sub("�", _place(result))
        case = ElementTree.SubElement(suite, "testcase", name=title, classname=place)
        text = _NO_XML.sub("�", "\n".join(_lines(result)))
        if result.verdict == "denied":
            ElementTree.SubElement(case, "failure", message="denied").text = text
            counts["failures"] += 1
        elif result.verdict == "undecided":
            ElementTree.SubElement(case, "error", message="undecided").text = text
            counts["errors"] += 1
        elif result.verdict in ("skipped", "passed-by"):
            ElementTree.SubElement(case, "skipped", message=result.verdict).text = text
            counts["skipped"] += 1
    suite.attrib |= {key: str(count) for key, count in counts.items()}
    report: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return report
