"""Rendered manifests: whatever the VM is like, admission finds nothing to refuse in them."""

import asyncio
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.engine.check import check
from webhook.engine.policy import Policy
from webhook.engine.results import Candidate, Result
from webhook.engine.sources import Sources
from webhook.errors import RenderImpossible
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import SnapshotReader
from webhook.manifests import render
from webhook.manifests.render import RenderRequest
from webhook.model.keys import DISK_SOURCE
from webhook.model.objects import Provider
from webhook.model.vms import Disk, VirtualMachine, needed, whole

PROVIDER = Provider("openshift-mtv", "prod")
WANTED = RenderRequest(namespace="vms", storage_class="fast")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_names = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        [
            "db",
            "DB 01 [prod]",
            "Büro",
            "数据库",
            "a" * 80,
            "-",
            "",
            "x/../y",
            "{vm}",
            "%2f",
            "é" * 70,
        ]
    ),
)
_files = st.builds(
    "[{}] {}/{}.vmdk".format,
    st.sampled_from(["ds", "LocalDS_0", "big (ssd) [1]"]),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20),
    st.sampled_from(["disk", "disk-000001", "disk_1", "Disk", "disk-123456-000001", "a b"]),
)


@st.composite
def vms(draw: st.DrawFn, most: int = 6) -> VirtualMachine:
    files = draw(st.lists(_files, max_size=most))
    disks = [
        Disk(
            file,
            draw(st.integers(0, 2**46)),
            key=2000 + index,
            bus=draw(st.sampled_from(["scsi", "sata", "ide", "nvme", "usb", ""])),
            backing=draw(st.sampled_from(["FlatVer2", "RawDiskMappingVer1", "SeSparse"])),
            shared=draw(st.booleans()),
        )
        for index, file in enumerate(files)
    ]
    return VirtualMachine(
        "vm-42",
        draw(_names),
        "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a",
        "50324a11-5d13-4f9b-9b46-7c8b9f8e123a",
        tools="guestToolsRunning",
        disks=tuple(disks),
    )


def judged(vm: VirtualMachine, *objects: Any) -> tuple[Result, ...]:
    index = Index([vm])
    vsphere = ProviderInventory(PROVIDER, SnapshotReader(index))
    vsphere.vms = index
    vsphere.heard(None)
    sources = Sources(Inventory([vsphere]), Policy(trust_network=True), lambda: 0.0)
    return asyncio.run(check([Candidate(obj) for obj in objects], sources))


def with_disks(*disks: Disk, **fields: Any) -> VirtualMachine:
    vm = VirtualMachine("vm-42", "db", "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a", disks=disks)
    return msgspec.structs.replace(vm, **fields)


@given(vms(), st.sampled_from(["Block", "Filesystem"]))
def test_what_is_rendered_is_admitted_as_it_is(vm: VirtualMachine, mode: Any) -> None:
    rendered = render.pvcs(vm, msgspec.structs.replace(WANTED, volume_mode=mode))
    alike = [view for view in rendered.left_out if "tell" in (view.why or "")]
    plans = []
    try:
        plans = [render.plan(vm, PROVIDER, namespace="vms", network_map="nets")]
    except RenderImpossible:
        assert alike
    results = judged(vm, *rendered.pvcs, *plans)
    of_pvcs, of_plans = results[: len(rendered.pvcs)], results[len(rendered.pvcs) :]
    assert not (alike and of_plans)
    for result in results:
        assert result.verdict == "admitted", result.findings
        assert result.patch == ()
    rules = {found.rule for result in of_pvcs for found in result.findings}
    # What stays is vSphere's to change, or the data's: never the manifest's own.
    assert rules <= {"pvc-disk-bus", "pvc-shared-disk"} | (
        {"pvc-volume-mode"} if mode == "Filesystem" else set()
    )
    assert all(_LABEL.fullmatch(result.name) for result in of_plans)
    assert len(rendered.pvcs) + len(rendered.left_out) == len(vm.disks)
    assert all(view.why for view in rendered.left_out)


@given(vms(most=3))
def test_names_are_dns_labels_and_differ(vm: VirtualMachine) -> None:
    rendered = render.pvcs(vm, WANTED)
    names = [pvc["metadata"]["name"] for pvc in rendered.pvcs]
    assert len(set(names)) == len(names)
    assert all(_LABEL.fullmatch(name) for name in names)


def test_the_migration_of_a_rendered_vm_is_admitted() -> None:
    disks = [Disk(f"[ds] db/disk{n}.vmdk", 10**9 + n, key=2000 + n) for n in range(60)]
    vm = with_disks(*disks, tools="guestToolsRunning")
    rendered = render.pvcs(vm, WANTED)
    plan = render.plan(vm, PROVIDER, namespace="vms", network_map="nets")
    migration = {
        "apiVersion": "forklift.konveyor.io/v1beta1",
        "kind": "Migration",
        "metadata": {"name": "go", "namespace": "openshift-mtv"},
        "spec": {"plan": {"name": "db", "namespace": "openshift-mtv"}},
    }
    results = judged(vm, *rendered.pvcs, plan, migration)
    assert {result.verdict for result in results} == {"admitted"}
    # A rule that only records: more than ten disks are permuted by the conversion.
    assert {found.rule for found in results[60].findings} == {"plan-disk-order"}
    assert {found.rule for found in results[-1].findings} == {"migration-running"}


def test_a_source_that_forklift_would_trim_again_is_the_whole_file() -> None:
    vm = with_disks(Disk("[ds] db/x-123456-000001.vmdk", 2**20))
    rendered = render.pvcs(vm, WANTED)
    (view,) = render.disks(vm)
    assert view.disk_source == "[ds] db/x-123456-000001.vmdk"
    assert judged(vm, *rendered.pvcs)[0].findings == ()


def test_a_manifest_says_all_there_is_to_say() -> None:
    vm = with_disks(Disk("[ds] db/disk-000002.vmdk", 10 * 2**30 + 1))
    (pvc,) = render.pvcs(vm, WANTED).pvcs
    assert pvc == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "db-disk-0",
            "namespace": "vms",
            "labels": {"vmID": "vm-42", "vmUUID": vm.uuid},
            "annotations": {DISK_SOURCE: "[ds] db/disk.vmdk"},
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "resources": {"requests": {"storage": "10241Mi"}},
            "storageClassName": "fast",
        },
    }


@pytest.mark.parametrize(
    ("capacity", "mode", "size"),
    [
        (1, "Block", "1Mi"),
        (2**20, "Block", "1Mi"),
        (2**20 + 1, "Block", "2Mi"),
        (100 * 2**30, "Block", "100Gi"),
        (100 * 2**20, "Filesystem", "106Mi"),
        (100 * 2**20 + 1, "Filesystem", "107Mi"),
        (2**62, "Block", "4294967296Gi"),
    ],
)
def test_a_size_is_whole_and_enough(capacity: int, mode: Any, size: str) -> None:
    assert whole(needed(capacity, mode)) == size


@pytest.mark.parametrize(
    ("name", "template", "made"),
    [
        ("DB 01 [prod]", render.NAME, "db-01-prod-disk-3"),
        ("Büro_Süd", render.NAME, "buro-sud-disk-3"),
        ("数据库", render.NAME, "vm-42-disk-3"),
        ("a" * 80, render.NAME, f"{'a' * 50}-vm-42-disk-3"),
        ("db", "{moref}.{index}", "vm-42-3"),
        ("db", "X{index}{vm}", "x3db"),
    ],
)
def test_a_name_is_made_of_the_template(name: str, template: str, made: str) -> None:
    assert render.pvc_name(with_disks(name=name), 3, template) == made


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{vm}", "add {index} to it"),
        ("{vm.__class__}-{index}", "is not one of {vm}, {moref}, {index}"),
        ("{}-{index}", "is not one of"),
        ("!!!", "has no letter or digit"),
        ("x" * 64, "is longer than 63 characters: shorten it"),
    ],
)
def test_a_template_that_can_not_be_is_refused(template: str, why: str) -> None:
    vm = with_disks(Disk("[ds] a.vmdk", 1), Disk("[ds] b.vmdk", 1))
    with pytest.raises(RenderImpossible, match=re.escape(why)):
        render.pvcs(vm, msgspec.structs.replace(WANTED, name=template))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"template": True}, "is a template"),
        ({"uuid": ""}, "has no configuration yet"),
        ({"connection_state": "orphaned"}, "is orphaned"),
    ],
)
def test_a_vm_that_forklift_can_not_convert_is_refused(change: Any, why: str) -> None:
    with pytest.raises(RenderImpossible, match=why):
        render.pvcs(with_disks(**change), WANTED)


def test_every_disk_says_what_becomes_of_it() -> None:
    vm = with_disks(
        Disk("[ds] db/a.vmdk", 1),
        Disk("[ds] db/b.vmdk", 1, backing="SeSparse"),
        Disk("[ds] db/c.vmdk", 1, bus="usb"),
        Disk("[ds] db/d.vmdk", 1, bus=""),
        Disk("[ds] db/e-000001.vmdk", 1),
        Disk("[ds] db/e.vmdk", 1),
        Disk("[ds] db/f.vmdk", 0),
    )
    views = render.disks(vm)
    assert [(view.needs_pvc, view.supported) for view in views] == [
        (True, True), (False, False), (True, False), (True, False), (True, False), (True, False),
        (True, False),
    ]  # fmt: skip
    whys = [view.why or "" for view in views]
    for why, part in zip(
        whys, ("", "SeSparse", "on USB", "no known", "can't tell", "can't tell", "capacity"),
        strict=True,
    ):  # fmt: skip
        assert part in why
    assert [view.disk_source for view in render.pvcs(vm, WANTED).left_out] == [
        "[ds] db/b.vmdk", "[ds] db/e.vmdk", "[ds] db/e.vmdk", "[ds] db/f.vmdk",
    ]  # fmt: skip
