"""The property collector's answers, read as they come: records out, and nothing kept.

An answer about thousands of VMs is tens of megabytes, most of it devices that nobody asked about.
Each object is taken apart when its last byte is here, and dropped: one at a time is in memory.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from lxml import etree

from webhook.errors import VsphereUnreachable
from webhook.model.vms import Disk

VM_FIELDS = {
    "name": "name",
    "parent": "parent",
    "config.uuid": "uuid",
    "config.instanceUuid": "instance_uuid",
    "config.template": "template",
    "runtime.powerState": "power_state",
    "runtime.connectionState": "connection_state",
    "guest.toolsRunningStatus": "tools",
    "guest.ipAddress": "ip_address",
    "config.hardware.device": "disks",
}
"""vSphere's property paths, and the fields of a VirtualMachine that they fill."""

FOLDER_FIELDS = {"name": "name", "parent": "parent"}
"""The same for a Folder, which stands for a Datacenter, too."""

# Forklift: vsphere/model.go, the controllers by which it knows a disk's bus.
_BUSES = {
    "ParaVirtualSCSIController": "scsi",
    "VirtualBusLogicController": "scsi",
    "VirtualLsiLogicController": "scsi",
    "VirtualLsiLogicSASController": "scsi",
    "VirtualSCSIController": "scsi",
    "VirtualAHCIController": "sata",
    "VirtualSATAController": "sata",
    "VirtualIDEController": "ide",
    "VirtualNVMEController": "nvme",
    "VirtualUSBController": "usb",
    "VirtualUSBXHCIController": "usb",
}

_VIM = "{urn:vim25}"
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_ENVELOPE = "{http://schemas.xmlsoap.org/soap/envelope/}Envelope"
_FAULT = "{http://schemas.xmlsoap.org/soap/envelope/}Fault"
_UNSET: dict[str, Any] = {"template": False, "disks": ()}

# A VM's devices are most of an answer, and all but these are left out before the parser sees them.
_DEVICE = re.compile(
    rb'<VirtualDevice\s[^<>]*?type\s*=\s*["\'](?:\w+:)?(\w+)["\'](?:[^<>]*[^/<>])?>'
)
_DEVICE_START = b"<VirtualDevice"
_DEVICE_END = b"</VirtualDevice>"
_WANTED = frozenset(kind.encode() for kind in ("VirtualDisk", *_BUSES))
_LONGEST_TAG = 4096


class AnswerMalformed(VsphereUnreachable):
    """What came is no answer of a property collector."""


class Fault(VsphereUnreachable):
    """vSphere answered with a fault; `kind` is its type, such as NotAuthenticated."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"it answered with a fault: {kind}")
        self.kind = kind


class Change(NamedTuple):
    """One object, as it is (`enter`), in what has changed (`modify`), or gone (`leave`)."""

    kind: Literal["enter", "modify", "leave"]
    type: str
    """VirtualMachine, Folder or Datacenter."""
    moref: str
    fields: dict[str, Any]
    """Of the record, by VM_FIELDS or FOLDER_FIELDS; what is unset is blank."""
    whole: bool = True
    """False where a part of a property has changed, such as one device: ask for it again."""


class _Sieve:
    """Takes the devices that nobody asked about out of an answer's bytes.

    Sound, because comments, CDATA and document types are refused: so `<VirtualDevice` in the bytes
    is always a tag, and vSphere puts no device into a device. Whatever is written in another way
    passes, and is the parser's.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._dropping = False

    def __call__(self, piece: bytes) -> bytes:
        data = self._rest + piece
        if b"<!" in data:
            raise AnswerMalformed("its answer has a document type, a comment or CDATA in it")
        kept: list[bytes] = []
        at = 0
        while True:
            if self._dropping:
                end = data.find(_DEVICE_END, at)
                if end < 0:
                    self._rest = data[max(at, len(data) - len(_DEVICE_END)) :]
                    return b"".join(kept)
                at, self._dropping = end + len(_DEVICE_END), False
            start, tag = data.find(_DEVICE_START, at), None
            while start >= 0:
                tag = _DEVICE.match(data, start)
                if tag is None and data.find(b">", start) < 0 and len(data) - start < _LONGEST_TAG:
                    break  # the rest of the tag is on its way
                if tag is not None and tag[1] not in _WANTED:
                    break
                start = data.find(_DEVICE_START, start + 1)
            if start < 0:
                # What may be the start of a tag, or of what is refused, waits for the next piece.
                cut = data.rfind(b"<", max(at, len(data) - len(_DEVICE_END)))
                cut = len(data) if cut < 0 else cut
                kept.append(data[at:cut])
                self._rest = data[cut:]
                return b"".join(kept)
            kept.append(data[at:start])
            if tag is None:
                self._rest = data[start:]
                return b"".join(kept)
            at, self._dropping = tag.end(), True

    def close(self) -> bytes:
        return b"" if self._dropping else self._rest


class Answer:
    """One answer, fed in pieces. `token`, `version` and `truncated` are there once it is closed."""

    def __init__(self) -> None:
        names = "objects", "objectSet", "token", "version", "truncated"
        self._parser = etree.XMLPullParser(
            events=("end",),
            tag=[*(_VIM + name for name in names), _FAULT],
            encoding="utf-8",
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            collect_ids=False,
        )
        self._sieve = _Sieve()
        self.token = ""
        self.version = ""
        self.truncated = False

    def feed(self, piece: bytes) -> Iterator[Change]:
        """The objects that are whole now. Raises AnswerMalformed or Fault, and nothing else."""
        try:
            self._parser.feed(self._sieve(piece))
            yield from self._read()
        except (etree.LxmlError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise AnswerMalformed(f"its answer can't be read: {type(error).__name__}") from None

    def close(self) -> Iterator[Change]:
        """Nothing more comes. Raises AnswerMalformed where something is missing."""
        try:
            self._parser.feed(self._sieve.close())
            yield from self._read()
            root = self._parser.close()
        except (etree.LxmlError, ValueError, TypeError, AttributeError, IndexError):
            raise AnswerMalformed("its answer broke off") from None
        if root.tag != _ENVELOPE:
            raise AnswerMalformed("its answer is no SOAP")

    def _read(self) -> Iterator[Change]:
        element: Any
        for _, element in self._parser.read_events():
            match element.tag:
                case "{urn:vim25}objects":
                    yield _object(element, "enter", "propSet")
                case "{urn:vim25}objectSet":
                    yield _object(element, element.findtext(f"{_VIM}kind"), "changeSet")
                case "{http://schemas.xmlsoap.org/soap/envelope/}Fault":
                    raise Fault(_fault(element))
                case tag if element.getparent().tag == f"{_VIM}returnval":
                    text = element.text or ""
                    name = tag.removeprefix(_VIM)
                    setattr(self, name, text == "true" if name == "truncated" else text)
                    continue
                case _:
                    continue
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]


def _object(element: Any, kind: str, sets: str) -> Change:
    if kind not in ("enter", "modify", "leave"):
        raise ValueError(kind)
    reference, fields, whole = None, dict[str, Any](), True
    names: dict[str, str] = VM_FIELDS
    for child in element:
        tag = child.tag.removeprefix(_VIM)
        if tag == "obj":
            reference = child
            names = VM_FIELDS if child.get("type") == "VirtualMachine" else FOLDER_FIELDS
        elif tag == sets:
            path, value, removed = _property(child)
            field = names.get(path)
            if field is None:
                whole = False
            else:
                fields[field] = _UNSET.get(field, "") if removed else _value(field, value)
    return Change(kind, reference.get("type"), reference.text, fields, whole)  # type: ignore[arg-type,union-attr]


def _property(element: Any) -> tuple[str, Any, bool]:
    """A DynamicProperty or a PropertyChange: its path, its value, and whether it was unset."""
    path, operation, value = "", "assign", None
    for child in element:
        match child.tag:
            case "{urn:vim25}name":
                path = child.text or ""
            case "{urn:vim25}op":
                operation = child.text
            case "{urn:vim25}val":
                value = child
    if operation == "add":  # a single new element: its path says which, and is none of ours
        return "", None, False
    return path, value, value is None or operation in ("remove", "indirectRemove")


def _value(field: str, value: Any) -> Any:
    if field == "disks":
        return _disks(value)
    text = value.text or ""
    return text == "true" if field == "template" else text


def _disks(devices: Any) -> tuple[Disk, ...]:
    buses: dict[str, str] = {}
    disks = []
    for device in devices:
        kind = device.get(_TYPE, "").rpartition(":")[2]
        if kind == "VirtualDisk":
            disks.append(device)
        elif (bus := _BUSES.get(kind)) is not None:
            buses[device.findtext(f"{_VIM}key")] = bus
    return tuple(_disk(device, buses) for device in disks)


def _disk(device: Any, buses: dict[str, str]) -> Disk:
    texts: dict[str, str] = {}
    backing = None
    for child in device:
        tag = child.tag.removeprefix(_VIM)
        if tag == "backing":
            backing = child
        else:
            texts[tag] = child.text or ""
    kind, of_backing = "", dict[str, str]()
    if backing is not None:
        kind = backing.get(_TYPE, "").rpartition(":")[2]
        of_backing = {child.tag.removeprefix(_VIM): child.text or "" for child in backing}
    controller = texts.get("controllerKey", "0")
    return Disk(
        # A raw disk of the second kind has no file of its own: Forklift takes its descriptor's.
        file=of_backing.get("descriptorFileName") or of_backing.get("fileName", ""),
        capacity=int(texts.get("capacityInBytes") or 0)
        or int(texts.get("capacityInKB") or 0) * 1024,
        key=int(texts.get("key") or 0),
        unit_number=int(texts.get("unitNumber") or 0),
        controller_key=int(controller),
        bus=buses.get(controller, ""),
        backing=kind.removeprefix("VirtualDisk").removesuffix("BackingInfo"),
        shared=of_backing.get("sharing", "") not in ("", "sharingNone"),
        mode=of_backing.get("diskMode", ""),
    )


def _fault(element: Any) -> str:
    """The type of a fault: `<detail><NotAuthenticatedFault xsi:type="NotAuthenticated">`."""
    detail = element.find("detail")
    if detail is not None and len(detail):
        return str(detail[0].get(_TYPE) or etree.QName(detail[0]).localname)[:64]
    return str(element.findtext("faultstring") or "unknown")[:64]
