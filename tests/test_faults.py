"""Whatever breaks or is cancelled inside, at whichever await: the answer is a review."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import BASE, Case, all_cases, review_of
from webhook.engine.sources import Sources
from webhook.errors import ReviewMalformed
from webhook.metrics import Metrics
from webhook.server.app import Admission
from webhook.server.bodies import App, Message, Scope
from webhook.server.codec import read_review

RULES = (
    *("pvc-vm", "pvc-disk-source", "pvc-disk-claimed", "pvc-identity", "pvc-disk-source-path"),
    *("plan-vm", "plan-disks", "migration-disks", "migration-pvc-in-use", "conversion-disks"),
)
CASES = [case for case in all_cases() if case.rule in RULES]
FAULTS = [asyncio.CancelledError, lambda: RuntimeError("canary")]


class Asked:
    """What a source is asked, each question after a moment; the `nth` of all fails."""

    def __init__(self, nth: int, fault: Callable[[], BaseException]) -> None:
        self.nth, self.fault, self.questions = nth, fault, 0

    def instead_of(self, source: Any) -> Any:
        asked = self

        class Source:
            def __getattr__(self, name: str) -> Any:
                question = getattr(source, name)

                async def answer(*args: Any, **named: Any) -> Any:
                    number = asked.questions
                    asked.questions += 1
                    await asyncio.sleep(0)
                    if number == asked.nth:
                        raise asked.fault()
                    return await question(*args, **named)

                return answer

        return Source()


class Interrupted(Awaitable[None]):
    """A coroutine that gets an exception at its `nth` suspension."""

    def __init__(
        self, whole: Coroutine[Any, Any, None], nth: int, fault: Callable[[], BaseException]
    ) -> None:
        self._whole, self._nth, self._fault = whole, nth, fault
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, None]:
        step = self._whole.__await__()
        try:
            waits_for = next(step)
            while True:
                number = self.suspensions
                self.suspensions += 1
                if number == self._nth:
                    waits_for = step.throw(self._fault())
                    continue
                try:
                    yield waits_for
                except BaseException as error:  # noqa: BLE001  as a task hands it on
                    waits_for = step.throw(error)
                else:
                    waits_for = next(step)
        except StopIteration:
            return


def _sources(case: Case, asked: Asked) -> Sources:
    sources = case.sources()
    for provider in sources.inventory.vsphere():
        if provider.reader is not None:
            provider.reader = asked.instead_of(provider.reader)
    if sources.cluster is None:
        return sources
    return msgspec.structs.replace(sources, cluster=asked.instead_of(sources.cluster))


def _called(app: App, path: str, review: bytes, sent: list[Message]) -> Coroutine[Any, Any, None]:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(review))]
    scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "state": {}}

    async def receive() -> Message:
        return {"type": "http.request", "body": review}

    async def send(message: Message) -> None:
        sent.append(message)

    async def whole() -> None:
        await app(scope, receive, send)

    return whole()


def _answer(sent: list[Message]) -> dict[str, Any]:
    start, body = sent
    assert start["status"] == 200
    assert b"canary" not in body["body"]
    response: dict[str, Any] = json.loads(body["body"])["response"]
    assert response["uid"] == "u-1"
    return response


def _each(case: Case, path: str, fault: Callable[[], BaseException]) -> Iterator[dict[str, Any]]:
    """The answers, first the right one, then with a fault at each question and at each await."""
    review = json.dumps(review_of(case.object, case.old)).encode()
    for inside in (True, False):
        nth, more = -1, True
        while more:
            asked = Asked(nth if inside else -1, fault)
            sources, sent = _sources(case, asked), list[Message]()
            app = Admission(lambda: sources, Metrics())  # noqa: B023
            call = Interrupted(_called(app, path, review, sent), -1 if inside else nth, fault)

            async def run() -> None:
                await call  # noqa: B023

            asyncio.run(run())
            yield _answer(sent)
            more = nth < (asked.questions if inside else call.suspensions)
            nth += 1


@pytest.mark.parametrize("fault", FAULTS, ids=["cancelled", "broken"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_fault_at_any_await_leaves_it_undecided(
    case: Case, fault: Callable[[], BaseException]
) -> None:
    answers = _each(case, "/validate", fault)
    right = next(answers)
    for answer in answers:
        if answer != right:
            assert answer["allowed"] is False
            assert answer["status"]["code"] == 503


@pytest.mark.parametrize("fault", FAULTS, ids=["cancelled", "broken"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_fault_at_any_await_of_a_repair_leaves_the_object_alone(
    case: Case, fault: Callable[[], BaseException]
) -> None:
    answers = _each(case, "/mutate", fault)
    right = next(answers)
    for answer in answers:
        assert answer in (right, {"uid": "u-1", "allowed": True})


def test_the_faults_reach_what_they_are_meant_for() -> None:
    """Else all of the above would hold for nothing."""
    case = next(case for case in CASES if case.id == "migration-disks/fail/missing")
    answers = list(_each(case, "/validate", asyncio.CancelledError))
    assert len(answers) > 8
    assert sum(answer["status"]["code"] == 503 for answer in answers) > 4


REVIEW = json.dumps(review_of(BASE["PersistentVolumeClaim"])).encode()


@given(st.integers(0, len(REVIEW) - 1), st.binary(min_size=1, max_size=3))
def test_bytes_that_are_no_text_are_no_fault(at: int, junk: bytes) -> None:
    with suppress(ReviewMalformed):
        read_review(REVIEW[:at] + junk + REVIEW[at + len(junk) :])
