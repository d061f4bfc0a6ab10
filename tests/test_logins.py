"""Logins that are refused or fail: what is tried again, and when, so that no account is locked."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.bed import Vcsim, eventually
from tests.live import following, live_address
from tests.middleman import Middleman, fault, middleman
from webhook.errors import VsphereUnreachable
from webhook.vsphere import VsphereAddress
from webhook.vsphere.refusals import MOST, REST, WINDOW, Account, LoginRefused, Refusals

# CPython drops the socket of a connection that is reset before its handshake.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


class Clock:
    """The test's own."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


ACCOUNT = Account("vcenter.example.com:443", "guard")


def refuse(refusals: Refusals, password: str, account: Account = ACCOUNT) -> bool:
    """Whether the login was tried at all; it is refused."""
    tried = False
    with pytest.raises(LoginRefused), refusals.attempt(account, password):
        tried = True
        raise LoginRefused("wrong")
    return tried


def test_a_refused_password_is_not_tried_again_before_its_time() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    assert refuse(refusals, "wrong")
    assert not refuse(refusals, "wrong")
    assert refusals.rest(ACCOUNT, "wrong") == REST
    assert refusals.rest(ACCOUNT, "other") == 0
    assert refusals.rest(Account("elsewhere:443", "guard"), "wrong") == 0
    assert refusals.rest(Account(ACCOUNT.host, "other"), "wrong") == 0
    clock.now += REST
    assert refusals.rest(ACCOUNT, "wrong") == 0
    assert refuse(refusals, "wrong")


def test_even_new_passwords_wait_where_too_many_were_refused() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    assert [refuse(refusals, f"wrong-{n}") for n in range(MOST)] == [True] * MOST
    assert not refuse(refusals, "another")
    clock.now += WINDOW
    assert refuse(refusals, "another")


def test_a_login_that_succeeds_forgets_what_was_refused() -> None:
    refusals = Refusals(Clock())
    for number in range(9):
        assert refuse(refusals, f"wrong-{number}")
        with refusals.attempt(ACCOUNT, "right"):
            pass
    assert refusals.rest(ACCOUNT, "wrong-1") == 0


def test_what_is_no_refusal_counts_as_none() -> None:
    refusals = Refusals(Clock())
    with pytest.raises(OSError, match="gone"), refusals.attempt(ACCOUNT, "right"):
        raise OSError("gone")
    assert refusals.rest(ACCOUNT, "right") == 0


def test_at_once_only_one_tries() -> None:
    refusals, tried = Refusals(Clock()), []
    ready = threading.Barrier(8)

    def login() -> None:
        ready.wait()
        tried.append(refuse(refusals, "wrong"))

    threads = [threading.Thread(target=login) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(tried) == [False] * 7 + [True]


class Replica:
    """Whose turn it is, of those that share one `holder`."""

    def __init__(self, name: str, holder: list[str]) -> None:
        self._name, self._holder = name, holder

    def take(self, _: Account) -> bool:
        if not self._holder:
            self._holder.append(self._name)
        return self._holder == [self._name]

    def give(self, _: Account) -> None:
        assert self._holder == [self._name]
        self._holder.clear()


def test_of_several_replicas_one_tries_for_all() -> None:
    holder: list[str] = []
    (one, turn), (other, others) = ((Refusals(Clock()), Replica(n, holder)) for n in "ab")
    with pytest.raises(LoginRefused), one.attempt(ACCOUNT, "wrong", turn):
        raise LoginRefused("wrong")
    second = other.attempt(ACCOUNT, "wrong", others)
    with pytest.raises(VsphereUnreachable, match="another replica"), second:
        pytest.fail("it was tried")
    assert other.rest(ACCOUNT, "wrong") == 0, "it may try as soon as it is its turn"
    with one.attempt(ACCOUNT, "right", turn):
        pass
    with other.attempt(ACCOUNT, "right", others):
        pass
    assert not holder
    with one.attempt(ACCOUNT, "right", Replica("c", ["other"])):
        pass  # what was right a moment ago needs nobody's leave


def test_a_login_that_fails_for_another_reason_keeps_no_turn() -> None:
    holder: list[str] = []
    attempt = Refusals(Clock()).attempt(ACCOUNT, "right", Replica("a", holder))
    with pytest.raises(OSError, match="gone"), attempt:
        raise OSError("gone")
    assert not holder


def test_no_password_is_kept() -> None:
    refusals = Refusals(Clock())
    refuse(refusals, "secret-canary-7c1e")
    assert "canary" not in repr(vars(refusals))


@pytest.fixture
def man(vcsim: Vcsim) -> Iterator[Middleman]:
    with middleman(vcsim) as man:
        yield man


@pytest.fixture
def address(vcsim: Vcsim, man: Middleman, tmp_path: Path) -> VsphereAddress:
    return live_address(vcsim, tmp_path, url=f"https://127.0.0.1:{man.port}/sdk")


def _counted(password: Callable[[], str]) -> tuple[Callable[[], str], list[int]]:
    looks = [0]

    def read() -> str:
        looks[0] += 1
        return password()

    return read, looks


@pytest.mark.simulator
@pytest.mark.parametrize("kind", ["InvalidLogin", "PasswordExpired"])
def test_a_refused_login_rests(
    address: VsphereAddress, man: Middleman, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.vsphere.source._PASSWORD_LOOKS", 0.01)
    monkeypatch.setattr("webhook.vsphere.source._PAUSES", (0.0, 0.0))
    man.faults["Login"] = [fault(kind)]
    clock = Clock()
    password, looks = _counted(address.password)
    source = replace(address, password=password)
    with following(source, refusals=Refusals(clock)) as inventory:
        eventually(lambda: inventory.unreachable_since, "the refusal")
        before = looks[0]
        eventually(lambda: looks[0] > before + 20, "some looks at the password")
        assert man.calls["Login"] == 1
        clock.now += REST
        eventually(lambda: inventory.synced, "the next try")


@pytest.mark.simulator
@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("Login", "NotAuthenticated"),
        ("Login", "NoPermission"),
        ("Login", "InvalidLocale"),
        ("Login", "HostConnectFault"),
        ("Login", ""),
        ("RetrieveServiceContent", "NotAuthenticated"),
        ("CreateContainerView", "NotAuthenticated"),
        ("CreateContainerView", "NoPermission"),
        ("CreateFilter", "NoPermission"),
        ("RetrievePropertiesEx", "NoPermission"),
        ("RetrievePropertiesEx", "NotAuthenticated"),
        ("WaitForUpdatesEx", "NoPermission"),
    ],
)
def test_what_fails_for_another_reason_is_tried_again(
    address: VsphereAddress, man: Middleman, method: str, kind: str
) -> None:
    man.faults[method] = [fault(kind) if kind else b""]
    refusals = Refusals(Clock())
    logins = 1 if method == "RetrieveServiceContent" else 2
    with following(address, refusals=refusals) as inventory:
        eventually(lambda: man.calls["Login"] == logins and inventory.synced, "another try")
        eventually(lambda: inventory.unreachable_since is None, "its news")
    assert man.calls["Login"] == logins
    assert man.calls["RetrieveServiceContent"] == 2, "no login is sent twice"
    assert refusals.rest(address.account, address.password()) == 0


@pytest.mark.simulator
def test_a_password_that_rotates_while_the_old_one_is_refused_is_tried_at_once(
    address: VsphereAddress, man: Middleman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.vsphere.source._PASSWORD_LOOKS", 0.01)
    right = address.password
    old = replace(address, password=lambda: right() if man.calls["Login"] else "old")
    with following(old, refusals=Refusals(Clock())) as inventory:
        eventually(lambda: inventory.synced, "the new password")


@pytest.mark.simulator
def test_four_providers_with_one_wrong_password_are_refused_once(
    address: VsphereAddress, man: Middleman, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = Refusals(Clock())
    wrong = replace(address, password=lambda: "secret-canary-7c1e")
    with ExitStack() as stack:
        inventories = [
            stack.enter_context(following(wrong, name=f"prod-{n}", refusals=refusals))
            for n in range(4)
        ]
        eventually(lambda: all(one.unreachable_since for one in inventories), "four refusals")
        assert {one.cause for one in inventories} == {"user or password is wrong"}
        assert man.calls["Login"] == 1
    assert "canary" not in caplog.text


@pytest.mark.simulator
def test_who_is_refused_is_in_the_log_alone(
    address: VsphereAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """A cause is told to whoever makes a PVC: the account's name is half of a login."""
    caplog.set_level(logging.WARNING)
    wrong = replace(address, password=lambda: "wrong")
    with following(wrong, refusals=Refusals(Clock())) as inventory:
        eventually(lambda: inventory.unreachable_since, "the refusal")
        assert address.user not in inventory.trouble
    assert f"user or password is wrong (user {address.user}, no Secret)" in caplog.text
