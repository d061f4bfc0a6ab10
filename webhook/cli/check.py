"""`conversion-guard check`: the verdict on manifests before anybody applies them."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from webhook.cli.known import Where, sources_of
from webhook.cli.remote import RemoteGuard
from webhook.cli.remote import check as ask
from webhook.cli.verdicts import Output, demand_judged, junit, write
from webhook.engine.check import check
from webhook.engine.results import Candidate, Result
from webhook.errors import SettingsInvalid
from webhook.manifests.files import read


def main(
    files: Sequence[str],
    where: Where,
    server: RemoteGuard | None,
    namespace: str,
    output: Output,
    report: Path | None,
) -> int:
    """The exit code: 1 if anything is denied or undecided. Raises GuardError."""
    if where == Where() and server is None:
        message = "nothing to check against: give --snapshot FILE, --settings FILE or --server URL"
        raise SettingsInvalid(message)
    candidates = list(read(files))
    if server is not None:
        results = ask(server, candidates, namespace)
    else:
        results = asyncio.run(_judged(candidates, where, namespace))
    write(results, output)
    if report is not None:
        report.write_bytes(junit(results))
    demand_judged(results, f"among the {len(results)} in {', '.join(files)}")
    return 0 if all(result.good for result in results) else 1


async def _judged(
    candidates: Sequence[Candidate], where: Where, namespace: str
) -> tuple[Result, ...]:
    places = {place for one in candidates for place in _places(one.object, namespace)}
    async with sources_of(where, lambda: places or {"default"}) as sources:
        return await check(candidates, sources, namespace=namespace)


def _places(obj: Any, namespace: str) -> Iterator[str]:
    """The namespaces whose PVCs count for `obj`: no others need be listed."""
    obj = obj if isinstance(obj, dict) else {}
    for part, field in ("metadata", "namespace"), ("spec", "targetNamespace"):
        place = obj[part].get(field) if isinstance(obj.get(part), dict) else None
        if isinstance(place, str) and place:
            yield place
    if namespace:
        yield namespace
