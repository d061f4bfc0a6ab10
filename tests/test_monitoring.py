"""Alerts and dashboard against what a running guard exposes."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import promql_parser
import pytest

from tests.guard import running
from tests.pages import ROOT
from webhook.audit.outcome import WORDS
from webhook.inventory.provider import PROVIDER_STATES
from webhook.model.review import Doubt

MONITORING = ROOT / "manifests" / "monitoring"
API_SERVERS = {
    "apiserver_admission_webhook_admission_duration_seconds_bucket",
    "apiserver_admission_webhook_fail_open_count",
    "apiserver_admission_webhook_rejection_count",
}
"""Of k8s.io/apiserver, pkg/admission/metrics."""
RULES: list[dict[str, Any]] = [
    rule
    for group in msgspec.yaml.decode((MONITORING / "prometheus-rule.yaml").read_bytes())["spec"][
        "groups"
    ]
    for rule in group["rules"]
]
DASHBOARD = msgspec.json.decode((MONITORING / "dashboard.json").read_bytes())


def _expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in RULES)
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def _asked() -> list[promql_parser.VectorSelector]:
    """The metrics that are asked for, in expressions that Prometheus can read."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    for expression in _expressions():
        ranged = re.sub(r"\$__(rate_interval|range)", "5m", expression)  # Grafana fills it in
        promql_parser.walk(promql_parser.parse(ranged), visit)
    return found


def _names() -> set[str]:
    return {str(selector.name) for selector in _asked()}


def _values(label: str) -> set[str]:
    matchers = [matcher for selector in _asked() for matcher in selector.matchers.matchers]
    return {matcher.value for matcher in matchers if matcher.name == label}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all series, those that have none yet included: by their families."""
    with running(tmp_path_factory.mktemp("guard"), {}) as guard:
        text = guard.metrics()
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= {f"{name}_bucket"} if kind == "histogram" else {name}
    return names


def test_every_metric_that_is_asked_for_exists(exposed: set[str]) -> None:
    assert _names() - exposed - API_SERVERS == set()
    assert len(_names()) > 15


def test_every_metric_of_the_guard_is_watched_or_shown(exposed: set[str]) -> None:
    own = {name for name in exposed if name.startswith("conversion_guard_")}
    created = {name for name in own if name.endswith("_created")}
    told_otherwise = {
        "conversion_guard_certificate_not_after_timestamp_seconds",
        "conversion_guard_certificate_loads_total",
    }
    assert own - created - told_otherwise - _names() == set()


def test_every_label_that_is_asked_for_can_come() -> None:
    assert _values("state") <= {*PROVIDER_STATES, *WORDS}
    assert _values("to") <= set(WORDS)
    assert _values("cause") <= set(Doubt.__args__)  # type: ignore[attr-defined]
    hooks = msgspec.yaml.decode(
        (ROOT / "manifests" / "base" / "validating-webhook.yaml").read_bytes()
    )["webhooks"]
    names = {hook["name"] for hook in hooks}
    pattern = r".*[.]conversion-guard[.]io"
    assert _values("name") - {pattern} <= names
    assert all(re.fullmatch(pattern, name) for name in names)


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    pages = ROOT / "docs" / "runbook"
    names = [rule["alert"] for rule in RULES]
    assert sorted(page.stem for page in pages.iterdir()) == sorted(names)
    first = (ROOT / "docs" / "runbook.md").read_text()
    for rule in RULES:
        page = pages / f"{rule['alert']}.md"
        heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
        assert heads == [rule["alert"], "Meaning", "Impact", "Look", "Fix", "Escalate"]
        assert f"](runbook/{page.name})" in first, "the way there begins at the front"
        assert rule["annotations"]["runbook_url"] == f"{DOCS}/runbook/{page.name}"
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in ("warning", "critical")


DOCS = msgspec.yaml.decode((MONITORING / "values.yaml").read_bytes())["data"]["docs"]


def test_the_monitor_scrapes_what_the_deployment_serves() -> None:
    monitor = msgspec.yaml.decode((MONITORING / "pod-monitor.yaml").read_bytes())["spec"]
    deployment = msgspec.yaml.decode(
        (ROOT / "manifests" / "base" / "deployment.yaml").read_bytes()
    )["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in container["ports"]]
    assert container["name"] == "conversion-guard", "the dashboard asks for it by this name"
    assert monitor["selector"]["matchLabels"] == deployment["selector"]["matchLabels"]


def test_the_dashboards_panels_lie_side_by_side() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        mine = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not mine & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= mine
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_a_single_number_is_red_where_it_is_bad() -> None:
    """Grafana's own thresholds know nothing of it: green, and red from 80 on."""
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "stat":
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert {"green", "red"} <= {step["color"] for step in steps}, panel["title"]


def test_rates_are_over_more_than_one_scrape() -> None:
    """$__rate_interval is four times the interval of its target, which Grafana takes for 15 s."""
    monitor = msgspec.yaml.decode((MONITORING / "pod-monitor.yaml").read_bytes())["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            assert target["interval"] == endpoint["interval"], panel["title"]


def test_every_panel_says_what_it_shows() -> None:
    for panel in DASHBOARD["panels"]:
        assert panel.get("description", "").endswith("."), panel["title"]
