"""The board at `/`, in a real Chromium, of a guard on a real API server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.cases import NAMESPACE
from tests.command import run
from tests.e2e.bed import eventually
from tests.e2e.browser import barriers, chromium
from tests.e2e.parts import Parts
from tests.e2e.vendors import FORKLIFT, SNAPSHOT, Api, account, plan, pvc, serving
from tests.e2e.world import TARGET, find_ready
from webhook.cli.demo import merged
from webhook.model.keys import DISK_SOURCE, NOT_READY, VM_ID, VM_UUID, WAVE

pytestmark = pytest.mark.e2e

DATABASE = {VM_ID: "vm-178", VM_UUID: "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a"}
FIRST = "[vendor-ds] production-database/vm-disk-001.vmdk"
LAST = "[vendor-ds] production-database/vm-disk-002.vmdk"
PLANS, PROVIDERS = (NAMESPACE, FORKLIFT, "plans", "get"), (NAMESPACE, FORKLIFT, "providers", "get")
_MOMENT = 60_000  # ms


@pytest.fixture(scope="module")
def api(programs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(programs, tmp_path_factory.mktemp("guard")) as api:
        first = merged(plan(), {"metadata": {"name": "shop", "labels": {WAVE: "1"}}})
        first["spec"]["vms"] = [{"id": "vm-179", "name": "production-webserver"}]
        second = merged(plan(), {"metadata": {"name": "web", "labels": {WAVE: "2"}}})
        second["spec"]["vms"] += [{"id": "vm-5", "name": "<b>bold</b>"}]
        copied = {
            "name": "db-0",
            "labels": DATABASE,
            "annotations": {DISK_SOURCE: FIRST, NOT_READY: "copied 40%"},
        }
        claims = (TARGET, "", "persistentvolumeclaims", "list")
        api.make(
            first,
            second,
            merged(pvc(), {"metadata": copied}),
            *account("watcher", PLANS, claims, PROVIDERS),
            *account("counter", PLANS),
            *account("stranger"),
        )
        find_ready(api.bed)
        token = api.token("watcher")
        eventually(lambda: len(api.get("/plans", token).json()["plans"]) == 2, "two Plans")
        yield api


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


Scheme = Literal["light", "dark"]


class Board:
    """A tab of its own, which trusts the guard's certificate; what it says on its console."""

    def __init__(self, browser: Browser, url: str, width: int, scheme: Scheme) -> None:
        self.context = browser.new_context(
            ignore_https_errors=True,
            color_scheme=scheme,
            viewport={"width": width, "height": 900},
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(_MOMENT)
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(url)

    def enter(self, token: str) -> Page:
        self.page.get_by_label("Kubernetes token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        return self.page

    def read(self, token: str) -> Page:
        """Signed in, and everything is there."""
        page = self.enter(token)
        expect(page.locator("#news")).to_contain_text("Live.", timeout=_MOMENT)
        return page


@pytest.fixture
def board(browser: Browser, api: Api, request: pytest.FixtureRequest) -> Iterator[Board]:
    width, scheme = cast("tuple[int, Scheme]", getattr(request, "param", (1280, "light")))
    board = Board(browser, api.guard.api_url, width, scheme)
    yield board
    board.context.close()
    outside = [url for url in board.asked if not url.startswith(api.guard.api_url + "/")]
    assert outside == []
    wrong = [text for text in board.said if "status of 401" not in text]  # before one signs in
    assert wrong == []


def test_waves_plans_vms_and_disks_are_shown(board: Board, api: Api) -> None:
    page = board.read(api.token("watcher"))
    heads = page.locator("#waves h3").all_text_contents()
    assert heads == ["Wave 1: 1 of 1 VMs ready", "Wave 2: 1 of 3 VMs ready"]
    assert "openshift-mtv/vsphere-production: known, 4 VMs, from a snapshot file" in (
        page.locator("#providers").inner_text()
    )
    page.get_by_text("openshift-mtv/web").click()
    page.get_by_text("vm-178", exact=True).click()
    table = page.get_by_role("table", name="Disks of vm-178")
    told = [row.inner_text().split("\t") for row in table.locator("tbody tr").all()]
    assert told == [[FIRST, "db-0", "matched, unbound, copying"], [LAST, "–", "missing"]]
    assert 'marked as not ready ("copied 40%")' in page.locator("#waves").inner_text()
    assert page.locator("#waves b").count() == 0, "a name is no markup"
    assert page.get_by_text("<b>bold</b> (vm-5)").count() == 1


def test_a_rule_is_a_link_away(board: Board, api: Api) -> None:
    page = board.read(api.token("watcher"))
    page.get_by_text("openshift-mtv/web").click()
    page.get_by_text("vm-178", exact=True).click()
    page.get_by_role("link", name="migration-disks").first.click()
    rule = page.locator("#rule-migration-disks")
    expect(rule).to_have_attribute("open", "")
    expect(rule.locator("summary")).to_be_focused()


def _tab_to(page: Page, key: str) -> None:
    """By the Tab key, past links and other things that can be used."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.key") == key:
            return
    raise AssertionError(f"no way leads to {key}")


def test_filters_and_the_keyboard_alone_lead_to_a_disk(board: Board, api: Api) -> None:
    page = board.page
    page.get_by_label("Kubernetes token").focus()
    page.keyboard.type(api.token("watcher"))
    page.keyboard.press("Enter")
    expect(page.locator("#news")).to_contain_text("Live.", timeout=_MOMENT)
    page.get_by_label("Plan, VM, PVC or disk").focus()
    page.keyboard.type("DB-0")
    expect(page.locator("#count")).to_have_text("1 of 2 Plans shown; 1 ready")
    for key in ("openshift-mtv/web", "openshift-mtv/web 1"):
        _tab_to(page, key)
        page.keyboard.press("Enter")
    expect(page.get_by_role("table", name="Disks of vm-178")).to_be_visible()
    page.get_by_label("State").select_option("ready")
    expect(page.locator("#count")).to_have_text("0 of 2 Plans shown; 1 ready")


def test_what_changes_is_shown_and_what_is_open_stays_open(board: Board, api: Api) -> None:
    page = board.read(api.token("watcher"))
    page.get_by_text("openshift-mtv/web").click()
    vm = page.locator("summary[data-key='openshift-mtv/web 1']")
    vm.click()
    vm.focus()
    named = ["pvc", "db-0", "-n", TARGET]
    api.bed.kubectl("annotate", *named, f"{NOT_READY}-", check=True)
    table = page.get_by_role("table", name="Disks of vm-178")
    expect(table.locator("tbody tr").first).to_contain_text("matched, unbound", timeout=_MOMENT)
    expect(table.locator("tbody tr").first).not_to_contain_text("copying", timeout=_MOMENT)
    expect(vm).to_be_focused()
    api.bed.kubectl("annotate", *named, f"{NOT_READY}=copied 40%", check=True)
    expect(table.locator("tbody tr").first).to_contain_text("copying", timeout=_MOMENT)


def _calls(board: Board) -> list[str]:
    return [url.partition("/api/v1")[2] for url in board.asked if "/api/v1" in url]


def test_it_is_told_and_does_not_ask_again(board: Board, api: Api) -> None:
    page = board.read(api.token("watcher"))
    named = ["plan", "shop", "-n", NAMESPACE]
    api.bed.kubectl("label", *named, f"{WAVE}=3", "--overwrite", check=True)
    expect(page.locator("#waves h3").last).to_contain_text("Wave 3", timeout=_MOMENT)
    api.bed.kubectl("label", *named, f"{WAVE}=1", "--overwrite", check=True)
    expect(page.locator("#waves h3").first).to_contain_text("Wave 1", timeout=_MOMENT)
    assert _calls(board) == ["/rules", "/rules", "/readiness"], "the first without a token"


def test_a_stream_that_ends_is_taken_up_again(board: Board, api: Api) -> None:
    pattern = "**/api/v1/readiness"
    board.page.route(pattern, lambda route: route.abort())
    page = board.enter(api.token("watcher"))
    expect(page.locator("#news")).to_contain_text("Not up to date, trying again", timeout=_MOMENT)
    page.unroute(pattern)
    expect(page.locator("#news")).to_have_text("Live.", timeout=_MOMENT)
    expect(page.locator("#count")).to_have_text("2 of 2 Plans shown; 1 ready")
    board.said.clear()  # Chromium says of each that was cut off


def test_each_reader_sees_what_the_api_tells_him(board: Board, api: Api) -> None:
    page = board.read(api.token("counter"))
    page.get_by_text("openshift-mtv/web").click()
    page.get_by_text("vm-179", exact=True).click()
    text = page.content()
    for secret in ("db-0", "web-0", ".vmdk"):
        assert secret not in text
    assert page.locator("#providers").inner_text() == "No vSphere Provider that you may see"
    page.get_by_role("button", name="Sign out").click()
    assert page.locator("#waves").inner_text() == ""
    page = board.read(api.token("stranger"))
    expect(page.locator("#count")).to_have_text("0 of 0 Plans shown; 0 ready")


def test_whom_a_proxy_in_front_has_signed_in_needs_no_token(board: Board, api: Api) -> None:
    board.context.set_extra_http_headers({"Authorization": f"Bearer {api.token('watcher')}"})
    board.page.reload()
    expect(board.page.locator("#news")).to_have_text("Live.", timeout=_MOMENT)
    expect(board.page.locator("#count")).to_have_text("2 of 2 Plans shown; 1 ready")
    expect(board.page.get_by_label("Kubernetes token")).to_be_hidden()
    expect(board.page.get_by_role("button", name="Sign out")).to_be_hidden()


def test_a_token_is_kept_nowhere(board: Board, api: Api) -> None:
    board.enter("nonsense")
    expect(board.page.get_by_role("alert")).to_contain_text("the token is not valid")
    page = board.read(api.token("watcher"))
    stored = "[localStorage.length, sessionStorage.length, document.cookie, location.search]"
    assert page.evaluate(stored) == [0, 0, "", ""]
    assert page.locator("#token").input_value() == ""
    page.reload()
    expect(page.get_by_label("Kubernetes token")).to_be_visible()


@pytest.mark.parametrize(
    "board", [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")], indirect=True
)
def test_nothing_keeps_anybody_out(
    board: Board, api: Api, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert barriers(board.page) == []
    page = board.read(api.token("watcher"))
    for name in ("openshift-mtv/shop", "openshift-mtv/web", "openshift-mtv/web 1"):
        page.locator(f"summary[data-key='{name}']").click()
    page.locator("#rule-pvc-vm summary").click()
    assert barriers(page) == []
    too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert page.evaluate(too_wide) is False
    page.locator("#rule-pvc-vm summary").click()
    page.evaluate("scrollTo(0, 0)")
    name = re.sub(r"\W+", "-", request.node.name)
    page.screenshot(path=tmp_path.parent / f"{name}.png")


def test_the_files_are_there_for_anybody_and_hold_nothing(api: Api) -> None:
    with httpx.Client(base_url=api.guard.api_url, verify=api.guard.tls(), timeout=30) as client:
        for path in ("/", "/board.js", "/board.css", "/board.svg"):
            got, head = client.get(path), client.head(path)
            assert (got.status_code, head.status_code) == (200, 200)
            assert head.content == b""
            policy = got.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert got.headers["cache-control"] == "no-store"
            assert got.headers["x-content-type-options"] == "nosniff"
        page = client.get("/").text
        assert not re.search(r"<script>|<style|style=|\son\w+=|https?:", page)
        assert client.post("/").status_code == 401
        assert client.get("/board.html").status_code == 401


def _report(browser: Browser, file: Path, scheme: Scheme) -> tuple[Any, list[str]]:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1000, "height": 700})
    said: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri())
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    found = barriers(page)
    context.close()
    return colour, found + said


def test_a_report_is_a_page_for_everybody(browser: Browser, tmp_path: Path) -> None:
    wrong = merged(pvc(), {"spec": {"resources": {"requests": {"storage": "1Gi"}}}})
    (tmp_path / "pvc.json").write_text(json.dumps(wrong))
    done = run("check", tmp_path / "pvc.json", "--snapshot", SNAPSHOT, "--output", "html")
    assert (done.returncode, done.stderr) == (1, "")
    file = tmp_path / "report.html"
    file.write_text(done.stdout)
    assert _report(browser, file, "light") == ("rgb(255, 255, 255)", [])
    assert _report(browser, file, "dark") == ("rgb(13, 17, 23)", []), "the style is let in"
