"""One ratchet: what a request sets or changes is judged, whichever field it is; no other is."""

from typing import Any

import msgspec
import pytest

from tests.cases import VSPHERE
from tests.test_audience import answer
from tests.test_decide import DATABASE, PLAN, PVC, Vcenter, judged
from webhook import quantity
from webhook.cli.demo import merged
from webhook.model.review import Admitted, Denied

OFF = msgspec.structs.replace(DATABASE, power_state="poweredOff")


def plan(**spec: Any) -> dict[str, Any]:
    return merged(PLAN, {"spec": spec})


def test_static_ips_turned_on_are_judged_for_every_entry() -> None:
    verdict = judged(
        plan(preserveStaticIPs=True),
        Vcenter(VSPHERE, OFF),
        old=plan(preserveStaticIPs=False),
        trust_network=True,
    )
    assert isinstance(verdict, Admitted)
    assert any("plan-static-ips" in warning for warning in verdict.warnings)


def test_a_warning_is_not_repeated_where_nothing_of_it_changes() -> None:
    vcenter = Vcenter(VSPHERE, OFF)
    for change in ({"description": "x"}, {"map": {"network": {"name": "other"}}}):
        verdict = judged(plan(**change), vcenter, old=PLAN, trust_network=True)
        assert isinstance(verdict, Admitted)
        assert verdict.warnings == ()


WRONG = plan(vms=[{"id": "vm-9"}])


@pytest.mark.parametrize("before", [{"archived": True}, {"type": "cold"}, {"vms": [{"id": 9}]}])
def test_what_was_not_judged_before_is_judged_whole(before: dict[str, Any]) -> None:
    vcenter = Vcenter(VSPHERE, DATABASE)
    old = merged(WRONG, {"spec": before})
    assert isinstance(judged(WRONG, vcenter, old=old), Denied)
    assert isinstance(judged(PLAN, vcenter, old=merged(PLAN, {"spec": before})), Admitted)


@pytest.mark.parametrize("vms", [[None], [None, {"id": "vm-178"}], [{}], [{"id": None}]])
def test_an_empty_entry_is_named(vms: list[Any]) -> None:
    verdict = judged(plan(vms=vms), Vcenter(VSPHERE, DATABASE))
    assert isinstance(verdict, Denied)
    assert verdict.causes[0].field == "spec.vms[0]"
    assert answer(plan(vms=vms, targetPowerState=True), DATABASE)


@pytest.mark.parametrize("size", ["1e-999", "1e999", "-1e999", "0.0000000000000000000001", "1e+30"])
def test_an_absurd_size_is_a_short_message(size: str) -> None:
    verdict = judged(
        merged(PVC, {"spec": {"resources": {"requests": {"storage": size}}}}),
        Vcenter(VSPHERE, DATABASE),
    )
    for cause in getattr(verdict, "causes", ()):
        assert len(str(cause)) < 256


def test_a_quantity_is_capped_and_rounded_as_the_api_server_does_it() -> None:
    assert quantity.parse("1e-999") == quantity.parse("1n")
    assert quantity.parse("1e999") == 2**63 - 1
