"""Forklift's own compare, Kubernetes quantities, and how a value stands in a message."""

import json
from decimal import Decimal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from webhook import quantity
from webhook.model.keys import echoed, is_blank, quoted
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


BLANKS_AND_CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA1))] + list(
    "\xad\u1680\u200b\u200e\u200f\u2028\u2029\u202f\u205f\u3000\ufeff"
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
)
_names = st.text(
    st.characters(codec="utf-8") | st.sampled_from([*BLANKS_AND_CONTROLS, *"\"\\<>&'{}%"])
)


@given(_names)
def test_a_quotation_is_exact_and_can_be_pasted(name: str) -> None:
    assert json.loads(quoted(name)) == name
    assert quoted(name).isprintable()


@given(
    st.text(
        st.characters(codec="utf-8", max_codepoint=0xFFFF) | st.sampled_from(BLANKS_AND_CONTROLS)
    )
)
def test_a_quotation_is_a_scalar_of_yaml(name: str) -> None:
    assert yaml.safe_load(quoted(name)) == name


@pytest.mark.parametrize("char", BLANKS_AND_CONTROLS, ids=ascii)
def test_what_nobody_can_see_is_escaped(char: str) -> None:
    for shown in (quoted(f"a{char}b"), echoed(f"a{char}b")):
        assert shown == f'"a\\u{ord(char):04x}b"'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("vm-178", '"vm-178"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("a\nb\x1b[31m", r'"a\u000ab\u001b[31m"'),
        ("</obj> R&D", '"</obj> R&D"'),
        ("ü 日本", '"ü 日本"'),
        ("x" * 200, '"' + "x" * 200 + '"'),
    ],
)
def test_a_quotation(text: str, shown: str) -> None:
    assert quoted(text) == shown


@given(_names, st.integers(1, 9))
def test_an_echo_is_the_quotation_or_is_cut(name: str, limit: int) -> None:
    start = quoted(name[:limit])
    assert echoed(name, limit) == (start if len(name) <= limit else f'{start[:-1]}…"')
