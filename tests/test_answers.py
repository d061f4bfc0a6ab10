"""The property collector's answers: what is read of them, in any pieces, and what is refused."""

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhook.errors import VsphereUnreachable
from webhook.vsphere.answers import AnswerMalformed, Change, SoapAnswer, SoapFault

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<soapenv:Envelope'
    ' xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
)
TAIL = "</soapenv:Body></soapenv:Envelope>"

DEVICES = """
<VirtualDevice xsi:type="VirtualIDEController"><key>200</key></VirtualDevice>
<VirtualDevice xsi:type="VirtualE1000"><key>4000</key>
<backing xsi:type="X"><key>1000</key></backing>
</VirtualDevice>
<VirtualDevice xsi:type="ParaVirtualSCSIController"><key>1000</key><device>2000</device>
</VirtualDevice>
<VirtualDevice xsi:type="VirtualDisk"><key>2000</key>
<deviceInfo><label>Hard disk 1</label><summary>10,485,760 KB</summary></deviceInfo>
<backing xsi:type="VirtualDiskFlatVer2BackingInfo">
<fileName>[ds &amp; co] vm/disk.vmdk</fileName><diskMode>persistent</diskMode>
<parent><fileName>[ds &amp; co] vm/base.vmdk</fileName></parent><sharing>sharingNone</sharing>
</backing><controllerKey>1000</controllerKey><unitNumber>3</unitNumber>
<capacityInKB>10485760</capacityInKB><capacityInBytes>10737418240</capacityInBytes>
</VirtualDevice><VirtualDevice xsi:type="VirtualVideoCard"><key>500</key></VirtualDevice>
<VirtualDevice xsi:type="VirtualKeyboard"/>
"""


def _object(moref: str, properties: str, kind: str = "VirtualMachine") -> str:
    return f'<objects><obj type="{kind}">{moref}</obj>{properties}</objects>'


def _property(name: str, value: str, kind: str = "xsd:string") -> str:
    return f'<propSet><name>{name}</name><val xsi:type="{kind}">{value}</val></propSet>'


def _retrieved(*objects: str, token: str = "") -> bytes:
    paging = f"<token>{token}</token>" if token else ""
    body = f'<R xmlns="urn:vim25"><returnval>{paging}{"".join(objects)}</returnval></R>'
    return f"{HEAD}{body}{TAIL}".encode()


WHOLE = _retrieved(
    _object(
        "dc-1", _property("name", "DC%2f0") + _property("parent", "group-d1", "MoRef"), "Datacenter"
    ),
    _object(
        "vm-7",
        _property("name", "Dätenbank &lt;1&gt;")
        + _property("parent", "group-v3", "ManagedObjectReference")
        + _property("config.uuid", "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a")
        + _property("config.template", "true", "xsd:boolean")
        + _property("runtime.powerState", "poweredOff", "VirtualMachinePowerState")
        + _property("config.hardware.device", DEVICES, "ArrayOfVirtualDevice"),
    ),
    _object("vm-8", _property("name", "being created")),
    token="page-2",
)


def read(pieces: Iterable[bytes]) -> tuple[list[Change], SoapAnswer]:
    answer = SoapAnswer()
    changes = [change for piece in pieces for change in answer.feed(piece)]
    return [*changes, *answer.close()], answer


def test_a_page_of_everything() -> None:
    changes, answer = read([WHOLE])
    assert answer.token == "page-2"
    datacenter, vm, unmade = changes
    assert datacenter == (
        "enter",
        "Datacenter",
        "dc-1",
        {"name": "DC/0", "parent": "group-d1"},
        True,
    )
    assert (vm.kind, vm.type, vm.moref, vm.whole) == ("enter", "VirtualMachine", "vm-7", True)
    (disk,) = vm.fields.pop("disks")
    assert vm.fields == {
        "name": "Dätenbank <1>",
        "parent": "group-v3",
        "uuid": "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a",
        "template": True,
        "power_state": "poweredOff",
    }
    assert (disk.file, disk.capacity, disk.bus) == ("[ds & co] vm/disk.vmdk", 10737418240, "scsi")
    assert (disk.key, disk.unit_number, disk.controller_key) == (2000, 3, 1000)
    assert (disk.backing, disk.mode, disk.shared) == ("FlatVer2", "persistent", False)
    assert unmade.fields == {"name": "being created"}


@given(st.integers(0, 2**32))
def test_any_pieces_give_the_same(seed: int) -> None:
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(len(WHOLE)), chance.randint(0, 60)))
    pieces = [WHOLE[a:b] for a, b in zip([0, *cuts], [*cuts, len(WHOLE)], strict=True)]
    assert read(pieces)[0] == read([WHOLE])[0]


def test_a_byte_at_a_time() -> None:
    assert read(WHOLE[i : i + 1] for i in range(len(WHOLE)))[0] == read([WHOLE])[0]


BACKINGS = {
    "FlatVer1": ("fileName", True),
    "FlatVer2": ("fileName", True),
    "RawDiskMappingVer1": ("fileName", True),
    "RawDiskVer2": ("descriptorFileName", True),
    "PartitionedRawDiskVer2": ("descriptorFileName", False),
    "SeSparse": ("fileName", False),
    "SparseVer1": ("fileName", False),
    "SparseVer2": ("fileName", False),
    "LocalPMem": ("fileName", False),
}


@pytest.mark.parametrize("backing", BACKINGS)
def test_backings_are_those_that_forklift_tells_apart(backing: str) -> None:
    field, listed = BACKINGS[backing]
    (disk,) = _disks(
        f'<VirtualDevice xsi:type="VirtualDisk"><key>2000</key>'
        f'<backing xsi:type="VirtualDisk{backing}BackingInfo"><{field}>[ds] a.vmdk</{field}>'
        f"<sharing>sharingMultiWriter</sharing></backing><capacityInKB>4</capacityInKB></VirtualDevice>"
    )
    assert (disk.backing, disk.listed, disk.file) == (backing, listed, "[ds] a.vmdk")
    assert (disk.capacity, disk.shared) == (4096, True)


@pytest.mark.parametrize(
    ("controller", "bus"),
    [
        ("ParaVirtualSCSIController", "scsi"),
        ("VirtualLsiLogicSASController", "scsi"),
        ("VirtualLsiLogicController", "scsi"),
        ("VirtualBusLogicController", "scsi"),
        ("VirtualAHCIController", "sata"),
        ("VirtualIDEController", "ide"),
        ("VirtualNVMEController", "nvme"),
        ("VirtualUSBController", "usb"),
        ("VirtualUSBXHCIController", "usb"),
        ("VirtualSIOController", ""),
    ],
)
def test_a_disks_bus_is_its_controllers(controller: str, bus: str) -> None:
    (disk,) = _disks(
        '<VirtualDevice xsi:type="VirtualDisk"><key>2</key><controllerKey>1</controllerKey>'
        "</VirtualDevice>"
        f'<VirtualDevice xsi:type="{controller}"><key>1</key></VirtualDevice>'
    )
    assert disk.bus == bus


def _missing(path: str, fault: str) -> str:
    return (
        f'<missingSet><path>{path}</path><fault><fault xsi:type="{fault}">'
        "<privilegeId>System.Read</privilegeId></fault></fault></missingSet>"
    )


@pytest.mark.parametrize("path", ["config.hardware.device", "config.uuid", "name", "runtime.x"])
def test_a_vm_that_cannot_be_read_whole_is_as_one_without_a_configuration(path: str) -> None:
    properties = _property("name", "web") + _property("config.uuid", "4232")
    page = _retrieved(_object("vm-1", properties + _missing(path, "NoPermission")))
    (change,), _ = read([page])
    assert change.fields["uuid"] == ""
    assert change.whole, "to ask again would say the same"


def test_what_only_the_guest_knows_may_be_missing() -> None:
    properties = _property("config.uuid", "4232") + _missing("guest.ipAddress", "NoPermission")
    (change,), _ = read([_retrieved(_object("vm-1", properties))])
    assert change.fields["uuid"] == "4232"


def test_news_that_lack_something_make_the_vm_be_asked_for() -> None:
    page = _news("modify", _change("name", "assign", "new"), _missing("config.uuid", "SystemError"))
    (change,), _ = read([page])
    assert not change.whole


@pytest.mark.parametrize("kind", ["VirtualMachine", "Folder"])
def test_a_session_that_ends_while_it_is_read_from_makes_no_blank_vm(kind: str) -> None:
    page = _retrieved(_object("vm-1", _missing("name", "NotAuthenticated"), kind))
    with pytest.raises(SoapFault, match="NotAuthenticated"):
        read([page])


def _disks(devices: str) -> Any:
    page = _retrieved(
        _object("vm-1", _property("config.hardware.device", devices, "ArrayOfVirtualDevice"))
    )
    return read([page])[0][0].fields["disks"]


def _news(kind: str, *changes: str, version: str = "7", truncated: str = "false") -> bytes:
    body = (
        f'<W xmlns="urn:vim25"><returnval><version>{version}</version><filterSet><objectSet>'
        f'<kind>{kind}</kind><obj type="VirtualMachine">vm-7</obj>{"".join(changes)}'
        f"</objectSet></filterSet><truncated>{truncated}</truncated></returnval></W>"
    )
    return f"{HEAD}{body}{TAIL}".encode()


def _change(name: str, op: str, value: str | None) -> str:
    val = "" if value is None else f'<val xsi:type="xsd:string">{value}</val>'
    return f"<changeSet><name>{name}</name><op>{op}</op>{val}</changeSet>"


@pytest.mark.parametrize(
    ("changes", "fields", "whole"),
    [
        ([_change("name", "assign", "new")], {"name": "new"}, True),
        ([_change("guest.ipAddress", "assign", None)], {"ip_address": ""}, True),
        ([_change("config.keyId", "assign", "any")], {"encrypted": True}, True),
        ([_change("config.keyId", "assign", None)], {"encrypted": False}, True),
        ([_change("guest.toolsStatus", "assign", "toolsOk")], {"tools_status": "toolsOk"}, True),
        ([_change("config.uuid", "indirectRemove", None)], {"uuid": ""}, True),
        ([_change("config.hardware.device", "remove", None)], {"disks": ()}, True),
        ([_change("config.hardware.device[2000].backing", "assign", "x")], {}, False),
        ([_change("config.hardware.device[2001]", "add", "x")], {}, False),
        ([_change("config.hardware.device[2001]", "remove", None)], {}, False),
        ([_change("config.hardware.device", "add", "x")], {}, False),
    ],
)
def test_news_are_whole_properties_or_say_that_they_are_not(
    changes: list[str], fields: dict[str, Any], whole: bool
) -> None:
    (change,), answer = read([_news("modify", *changes, version="9", truncated="true")])
    assert (change.kind, change.fields, change.whole) == ("modify", fields, whole)
    assert (answer.version, answer.truncated) == ("9", True)


def test_a_vm_that_leaves() -> None:
    (change,), answer = read([_news("leave")])
    assert (change.kind, change.moref, change.fields) == ("leave", "vm-7", {})
    assert not answer.truncated


def test_no_news_is_an_empty_answer() -> None:
    empty = f'{HEAD}<WaitForUpdatesExResponse xmlns="urn:vim25"/>{TAIL}'.encode()
    changes, answer = read([empty])
    assert (changes, answer.version) == ([], "")


def test_a_fault_is_known_by_its_type() -> None:
    fault = (
        f"{HEAD}<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>no</faultstring>"
        '<detail><NotAuthenticatedFault xmlns="urn:vim25" xsi:type="NotAuthenticated"/></detail>'
        f"</soapenv:Fault>{TAIL}"
    )
    with pytest.raises(SoapFault) as error:
        read([fault.encode()])
    assert error.value.kind == "NotAuthenticated"


_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "prolog",
    [
        f'<!DOCTYPE x [<!ENTITY l0 "ha">{_LAUGHS}]>',
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "https://127.0.0.1/x.dtd">',
        "<!-- a comment -->",
    ],
    ids=["billion-laughs", "external-entity", "external-dtd", "comment"],
)
def test_a_document_type_is_refused_in_any_pieces(prolog: str) -> None:
    text = WHOLE.replace(b"?>\n", f"?>{prolog}".encode())
    for size in (1, 7, len(text)):
        with pytest.raises(AnswerMalformed):
            read(text[i : i + size] for i in range(0, len(text), size))


@pytest.mark.parametrize("cut", [10, 300, len(WHOLE) - 3])
def test_an_answer_that_breaks_off_is_no_answer(cut: int) -> None:
    with pytest.raises(AnswerMalformed):
        read([WHOLE[:cut]])


@settings(max_examples=300)
@given(st.data())
def test_garbage_raises_its_own_error_and_nothing_else(data: st.DataObject) -> None:
    text = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(text) - 1))
        piece = data.draw(
            st.binary(max_size=6) | st.sampled_from([b"<", b">", b"</objects>", b"&x;"])
        )
        text[at : at + data.draw(st.integers(0, 30))] = piece
    try:
        read([bytes(text)])
    except VsphereUnreachable as error:
        assert str(error).isprintable()
