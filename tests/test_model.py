"""Forklift's own compare, Kubernetes quantities, and what may be said in a message."""

from decimal import Decimal

import pytest

from webhook import quantity
from webhook.model.keys import is_blank, quoted
from webhook.model.vms import trim_backing_file


@pytest.mark.parametrize(
    ("file", "trimmed"),
    [
        ("[ds] vm/vm.vmdk", "[ds] vm/vm.vmdk"),
        ("[ds] vm/vm-000003.vmdk", "[ds] vm/vm.vmdk"),
        ("[ds] vm/vm-123456.vmdk", "[ds] vm/vm.vmdk"),
        ("[ds] vm/vm-12345.vmdk", "[ds] vm/vm-12345.vmdk"),
        ("[ds] vm/vm-1234567.vmdk", "[ds] vm/vm-1234567.vmdk"),
        ("[ds] vm/vm-000001-000002.vmdk", "[ds] vm/vm-000001.vmdk"),
        ("[ds] vm-000001xvmdk/vm.vmdk", "[ds] vm.vmdk/vm.vmdk"),  # unanchored, any character
        ("[ds] vm/vm-٠٠٠٠٠١.vmdk", "[ds] vm/vm-٠٠٠٠٠١.vmdk"),  # Go's \d is ASCII
        (" [ds] vm/vm.vmdk", " [ds] vm/vm.vmdk"),
        ("", ""),
    ],
)
def test_the_trim_is_forklifts(file: str, trimmed: str) -> None:
    assert trim_backing_file(file) == trimmed


@pytest.mark.parametrize(
    ("text", "blank"),
    [
        (None, True),
        ("", True),
        (" \t\r\n\v\f", True),
        ("\x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000", True),
        ("\x1c", False),  # blank for Python, not for Go
        ("\u200b", False),
        (" x ", False),
    ],
)
def test_blank_is_gos_idea_of_it(text: str | None, blank: bool) -> None:
    assert is_blank(text) is blank


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100Gi", 107374182400),
        ("1e3", 1000),
        ("1E3", 1000),
        ("128974848", 128974848),
        ("0.5", Decimal("0.5")),
        ("1500m", Decimal("1.5")),
        (".5Gi", 2**29),
        ("1E", 10**18),
        ("12n", Decimal("12E-9")),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_quantity_is_a_number(text: str, number: Decimal) -> None:
    assert quantity.parse(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "Gi", "1 Gi", "1_000", "NaN", "Infinity", "0x10", "٣Gi", "1ki", "1e", "1e9999", "1" * 65],
)
def test_what_no_api_server_accepts_is_no_quantity(text: str) -> None:
    assert quantity.parse(text) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("vm-178", '"vm-178"'),
        ('a"b', '"a?b"'),
        ("a\nb\x1b[31m", '"a?b?[31m"'),
        ("</obj>", '"?/obj?"'),
        ("ü 日本", '"ü 日本"'),
        ("x" * 200, '"' + "x" * 120 + '…"'),
    ],
)
def test_a_quotation_is_printable_and_short(text: str, shown: str) -> None:
    assert quoted(text) == shown
