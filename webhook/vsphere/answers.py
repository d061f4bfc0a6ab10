"""The property collector's answers, read as they come: records out, and nothing kept.

An answer about thousands of VMs is tens of megabytes, most of it devices that nobody asked about.
Each object is taken apart when its last byte is here, and dropped: one at a time is in memory.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from lxml import etree

from webhook.errors import VsphereUnreachable
from webhook.vsphere.disks import BUSES, disks_of
from webhook.vsphere.names import unescaped

VM_FIELDS = {
    "name": "name",
    "parent": "parent",
    "config.uuid": "uuid",
    "config.instanceUuid": "instance_uuid",
    "config.template": "template",
    "runtime.powerState": "power_state",
    "runtime.connectionState": "connection_state",
    "config.keyId": "encrypted",
    "guest.toolsRunningStatus": "tools",
    "guest.toolsStatus": "tools_status",
    "guest.ipAddress": "ip_address",
    "config.hardware.device": "disks",
}
"""vSphere's property paths, and the fields of a VirtualMachine that they fill."""

FOLDER_FIELDS = {"name": "name", "parent": "parent"}
"""The same for a Folder, which stands for a Datacenter, too."""

_VIM = "{urn:vim25}"
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_ENVELOPE = "{http://schemas.xmlsoap.org/soap/envelope/}Envelope"
_FAULT = "{http://schemas.xmlsoap.org/soap/envelope/}Fault"
_UNSET: dict[str, Any] = {"template": False, "encrypted": False, "disks": ()}

# A VM's devices are most of an answer, and all but these are left out before the parser sees them.
_DEVICE = re.compile(
    rb'<VirtualDevice\s[^<>]*?type\s*=\s*["\'](?:\w+:)?(\w+)["\'](?:[^<>]*[^/<>])?>'
)
_DEVICE_START = b"<VirtualDevice"
_DEVICE_END = b"</VirtualDevice>"
_WANTED = frozenset(kind.encode() for kind in ("VirtualDisk", *BUSES))
_LONGEST_TAG = 4096


class AnswerMalformed(VsphereUnreachable):
    """What came is no answer of a property collector."""


class SoapFault(VsphereUnreachable):
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


class SoapAnswer:
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
        """The objects that are whole now. Raises AnswerMalformed or SoapFault, and nothing else."""
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
            raise AnswerMalformed("its answer was cut off") from None
        if root.tag != _ENVELOPE:
            raise AnswerMalformed("its answer is not SOAP")

    def _read(self) -> Iterator[Change]:
        element: Any
        for _, element in self._parser.read_events():
            match element.tag:
                case "{urn:vim25}objects":
                    yield _object(element, "enter", "propSet")
                case "{urn:vim25}objectSet":
                    yield _object(element, element.findtext(f"{_VIM}kind"), "changeSet")
                case "{http://schemas.xmlsoap.org/soap/envelope/}Fault":
                    raise SoapFault(_fault(element))
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
    reference, fields, whole, unread = None, dict[str, Any](), True, False
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
        elif tag == "missingSet":  # what is just unset is in none
            fault = _kind_of(child.find(f"{_VIM}fault/{_VIM}fault"))
            if fault == "NotAuthenticated":  # the session ended meanwhile: nothing of this is so
                raise SoapFault(fault)
            whole = whole and kind == "enter"
            unread = unread or not child.findtext(f"{_VIM}path", "").startswith("guest.")
    if unread and names is VM_FIELDS:
        fields["uuid"] = ""  # as a VM without a configuration: of its disks nothing is known
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
        return disks_of(value)
    if field == "encrypted":
        return True  # a key is all that is asked for, not which
    text = value.text or ""
    if field == "name":
        return unescaped(text)
    return text == "true" if field == "template" else text


def _fault(element: Any) -> str:
    """The type of a fault: `<detail><NotAuthenticatedFault xsi:type="NotAuthenticated">`."""
    detail = element.find("detail")
    if detail is not None and len(detail):
        return _kind_of(detail[0])
    return str(element.findtext("faultstring") or "unknown")[:64]


def _kind_of(fault: Any) -> str:
    return str(fault.get(_TYPE, "").rpartition(":")[2] or etree.QName(fault).localname)[:64]
