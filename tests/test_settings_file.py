"""A settings file that changes: what is applied, what is refused, and what is tried again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from webhook.runtime.settings_file import SettingsFile
from webhook.runtime.supervise import Supervisor
from webhook.settings import Settings

pytestmark = pytest.mark.anyio


class Applied:
    """What came of each change. The first `failures` of them can't be applied."""

    def __init__(self, failures: int = 0) -> None:
        self._failures = failures
        self.settings: list[Settings] = []
        self.results: list[bool] = []
        self.restarts: list[str] = []

    def apply(self, settings: Settings) -> None:
        if self._failures:
            self._failures -= 1
            raise ValueError("a handler of the log has failed")
        self.settings.append(settings)


@asynccontextmanager
async def _followed(file: Path, applied: Applied) -> AsyncIterator[None]:
    followed = SettingsFile(file)

    async def follow() -> None:
        await followed.follow(applied.apply, applied.results.append, every=0.001)

    keep = Supervisor(applied.restarts.append, print, pauses=(0.0, 0.0)).keep
    task = asyncio.create_task(keep("settings", follow))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _becomes(check: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not check():  # noqa: ASYNC110  it is no event of ours
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "bad",
    [
        b"on: deny\nrules: {on: deny, pvc-wm: deny, 1: x}",
        b"rules: {on: deny, x: deny}\ndefaults: {off: 1}",
        b"a: [",
        b"\xff",
        b"maxAge: .nan",
        b"api: true",
        None,
    ],
    ids=["two", "mixed", "torn", "bytes", "nan", "api", "gone"],
)
async def test_what_is_no_good_is_told_once_and_the_next_change_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: bytes | None
) -> None:
    file, applied = tmp_path / "settings.yaml", Applied()
    file.write_bytes(b"maxAge: 1h")
    async with _followed(file, applied):
        if bad is None:
            file.unlink()
        else:
            file.write_bytes(bad)
        await _becomes(lambda: False in applied.results)
        told = caplog.text
        (tmp_path / "next").write_bytes(b"maxAge: 2h")
        (tmp_path / "next").rename(file)
        await _becomes(lambda: applied.settings)
    assert [one.max_age for one in applied.settings] == [7200]
    assert applied.results[-1] is True
    assert not applied.restarts, "no exception of any kind has ended it"
    assert "the settings were not reloaded, the old ones stay in force: " in told


async def test_what_can_not_be_applied_is_tried_again(tmp_path: Path) -> None:
    file, applied = tmp_path / "settings.yaml", Applied(failures=3)
    file.write_bytes(b"maxAge: 1h")
    async with _followed(file, applied):
        file.write_bytes(b"maxAge: 2h")
        await _becomes(lambda: applied.settings)
    assert applied.restarts == ["settings"] * 3
    assert applied.results == [True]


async def test_what_counts_from_the_next_start_only_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, applied = tmp_path / "settings.yaml", Applied()
    file.write_bytes(b"maxAge: 1h")
    async with _followed(file, applied):
        file.write_bytes(b"listen: 127.0.0.1:1")
        await _becomes(lambda: applied.results)
    assert "the setting listen has changed: it takes effect at the next start" in caplog.text
