"""Results as a person, a program or a pipeline reads them."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from xml.etree import ElementTree

import msgspec

from webhook.cli.output import dump
from webhook.engine.results import Result, Results
from webhook.errors import NothingJudged
from webhook.model.keys import quoted

Output = Literal["table", "json", "yaml", "junit", "html", "sarif"]

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(results: Sequence[Result], output: Output) -> None:
    """On standard output."""
    if output == "table":
        sys.stdout.write("".join(f"{line}\n" for one in results for line in lines(one)))
    elif output == "junit":
        sys.stdout.buffer.write(junit(results) + b"\n")
    elif output == "html":
        from webhook.cli.html import html

        sys.stdout.buffer.write(html(results))
    elif output == "sarif":
        from webhook.cli.sarif import sarif

        sys.stdout.buffer.write(sarif(results) + b"\n")
    else:
        dump(Results(tuple(results)), output)


def demand_judged(results: Sequence[Result], where: str) -> None:
    """Raises NothingJudged: nobody may take "nothing was checked" for "all is good"."""
    if all(result.verdict == "not-checked" for result in results):
        kinds = "PersistentVolumeClaim, Plan, Migration or Conversion that can be checked"
        raise NothingJudged(f"0 objects: there is no {kinds} {where}")


def lines(result: Result) -> list[str]:
    """A line for its verdict, with file and line where it has one, and one for all that is said."""
    head = ": ".join(filter(None, (place(result), title(result))))
    head = f"{head}: {result.verdict}"
    return [head + (f": {result.message}" if result.message else ""), *_said(result)]


def _said(result: Result) -> list[str]:
    said = [f"  {f.action}: {f.field}: {f.message} ({f.rule})" for f in result.findings]
    said += [f"  repair: {written(op)}" for op in result.patch]
    return said + [f"  note: {note}" for note in result.notes]


def written(op: Mapping[str, Any]) -> str:
    """`add /spec/map/storage {}`: what to write into a template."""
    value = op.get("value")
    shown = quoted(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return f"{op['op']} {op['path']}" + (f" {shown}" if "value" in op else "")


def place(result: Result) -> str:
    """`FILE:LINE`; empty for what is in none."""
    return f"{result.file}:{result.line}" if result.file else ""


def title(result: Result) -> str:
    """`PersistentVolumeClaim vms/web-0`."""
    return f"{result.kind or 'object'} {result.namespace}/{result.name}".replace(" /", " ")


def junit(results: Sequence[Result]) -> bytes:
    """A JUnit report: denied is a failure, undecided an error."""
    suite = ElementTree.Element("testsuite", name="conversion-guard", tests=str(len(results)))
    counts = {"failures": 0, "errors": 0, "skipped": 0}
    for result in results:
        name = NO_XML.sub("�", title(result))
        where = NO_XML.sub("�", place(result) or result.kind)
        case = ElementTree.SubElement(suite, "testcase", name=name, classname=where)
        head, *said = lines(result)
        text = NO_XML.sub("�", "\n".join((head, *said)))
        if result.verdict == "denied":
            ElementTree.SubElement(case, "failure", message="denied").text = text
            counts["failures"] += 1
        elif result.verdict == "undecided":
            ElementTree.SubElement(case, "error", message="undecided").text = text
            counts["errors"] += 1
        elif result.verdict in ("skipped", "not-checked"):
            ElementTree.SubElement(case, "skipped", message=result.verdict).text = text
            counts["skipped"] += 1
        elif said:
            ElementTree.SubElement(case, "system-out").text = text
    suite.attrib |= {key: str(count) for key, count in counts.items()}
    report: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return report
