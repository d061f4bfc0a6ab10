"""How a single value is written: lengths of time, addresses, names, actions."""

import math
import re
from contextlib import suppress
from ipaddress import ip_address
from typing import Annotated, get_args

from pydantic import AfterValidator, BeforeValidator, IPvAnyNetwork, WithJsonSchema

from webhook.model.keys import Action

_DURATION = re.compile(
    r"(?=.)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?|(\d+(?:\.\d+)?)", re.ASCII
)
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_FULL_NAME = f"{_LABEL}/{_NAME}"


def _seconds(value: object) -> float:
    """`1h`, `90s`, `1h30m` -> seconds; a plain number is seconds already."""
    seconds = -1.0
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        parts = zip(match.groups(), (3600, 60, 1, 1), strict=True)
        seconds = sum(float(part or 0) * unit for part, unit in parts)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):  # an integer of 400 digits
            seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("is not a length of time: write 90s, 1h30m or a number of seconds")
    return seconds


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'"{value}" is not an address: write host:port, such as 0.0.0.0:8443')
    return value


def _off(value: object) -> object:
    """YAML reads `off` as false."""
    return "off" if value is False else value


def _like(pattern: str, otherwise: str) -> AfterValidator:
    """Of a text: `otherwise` says what to write."""

    def checked(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(otherwise)
        return value

    return AfterValidator(checked)


def host_name(value: str) -> str:
    """A host name or an IP address, as it is written. Raises ValueError, which says so."""
    try:
        return str(ip_address(value))
    except ValueError:
        pass
    if not re.fullmatch(r"(\*\.)?[a-zA-Z0-9]([-a-zA-Z0-9.]{0,251}[a-zA-Z0-9])?", value):
        raise ValueError("write a host name or an IP address")
    return value


def _text_of_network(value: object) -> object:
    """A number would be taken for an address: 1 for 0.0.0.1."""
    if isinstance(value, int | float | bytes):
        raise ValueError("is not a network: write 10.0.0.0/8, for example")
    return value


def lasting(least: int, digits: str) -> WithJsonSchema:
    """A length of time, as text: some hour, some minute, or enough seconds. `digits` are those of
    a number from `least` on."""
    some = "0*[1-9][0-9]*" if least else "[0-9]+"
    hours, minutes, seconds = "([0-9]+h)?", "([0-9]+m)?", "([0-9]+([.][0-9]+)?s)?"
    enough = f"0*({digits})([.][0-9]+)?"
    ways = f"{some}h{minutes}{seconds}|{hours}{some}m{seconds}|{hours}{minutes}{enough}s|{enough}"
    kinds = ["number", "string"]
    return WithJsonSchema({"type": kinds, "minimum": least, "pattern": f"^({ways})$"})


Duration = Annotated[float, BeforeValidator(_seconds), lasting(0, "[0-9]+")]
WrittenAction = Annotated[
    Action, BeforeValidator(_off), WithJsonSchema({"enum": [*get_args(Action), False]})
]
Address = Annotated[str, AfterValidator(_address)]
SdkUrl = Annotated[
    str, _like(r"https://[^/@?#\s]+/sdk/?", "is not a vSphere address: write https://<host>/sdk")
]
ObjectName = Annotated[
    str, _like(_NAME, "write the name of a Kubernetes object: a-z, 0-9, - and .")
]
Namespace = Annotated[str, _like(_LABEL, "write the name of a namespace: a-z, 0-9 and -")]
FullName = Annotated[
    str,
    _like(_FULL_NAME, "write namespace/name, such as openshift-mtv/vsphere-production"),
    WithJsonSchema({"type": "string", "pattern": f"^{_FULL_NAME}$"}),
]
"""Of a Provider."""
Network = Annotated[IPvAnyNetwork, BeforeValidator(_text_of_network)]
HostName = Annotated[str, AfterValidator(host_name)]
