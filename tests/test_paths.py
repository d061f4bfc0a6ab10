"""What the API server can be asked for: no name leads to another object than the one it names."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.cluster import ApiPath
from webhook.cluster.paths import labelled
from webhook.errors import NameInvalid

TRICKS = (
    "",
    ".",
    "..",
    "../..",
    "../../team-b/secrets/x",
    "a/b",
    "a/",
    "/a",
    "%2e%2e",
    "..%2f..%2fteam-b",
    "a?b",
    "a?labelSelector=x",
    "a#b",
    "a;b",
    "a b",
    "a\n",
    "a\0",
    "a\\b",
    "A",
    "ä",
    "ａ",
    "a..b",
    ".a",
    "a.",
    "-a",
    "a-",
    "a_b",
    "*",
    "a" * 254,
)
"""No name of any object."""


def test_a_path_is_made_of_names() -> None:
    assert str(ApiPath("v1", "pods")) == "/api/v1/pods"
    claims = ApiPath("v1", "persistentvolumeclaims", namespace="team-a")
    assert str(claims) == "/api/v1/namespaces/team-a/persistentvolumeclaims"
    name = "a.very-long.name" + ".x" * 118
    plan = ApiPath("forklift.konveyor.io/v1beta1", "plans", namespace="mtv", name=name)
    assert str(plan).endswith(f"/apis/forklift.konveyor.io/v1beta1/namespaces/mtv/plans/{name}")


@pytest.mark.parametrize("trick", TRICKS)
def test_what_is_no_name_is_in_no_path(trick: str) -> None:
    with pytest.raises(NameInvalid):
        ApiPath("v1", "secrets", namespace="team-a", name=trick)
    with pytest.raises(NameInvalid):
        ApiPath("v1", "secrets", namespace=trick)


@pytest.mark.parametrize("namespace", ["a.b", "a" * 64])
def test_a_namespaces_name_is_shorter_and_has_no_dot(namespace: str) -> None:
    assert str(ApiPath("v1", "secrets", namespace="x", name=namespace)).endswith(namespace)
    with pytest.raises(NameInvalid):
        ApiPath("v1", "secrets", namespace=namespace)


@given(st.text(st.sampled_from(string.printable + "äａ\u2024\uff0f"), max_size=20))
def test_no_text_adds_a_segment_or_a_query(text: str) -> None:
    try:
        path = str(ApiPath("v1", "secrets", namespace="team-a", name=text))
    except NameInvalid:
        return
    assert path.split("/")[1:] == ["api", "v1", "namespaces", "team-a", "secrets", text]
    assert set(text) <= set(string.ascii_lowercase + string.digits + "-.")
    assert ".." not in text


@pytest.mark.parametrize("value", [*TRICKS, "a,b", "a=b", "a!=b", "a in (b)", "a" * 64])
def test_what_is_no_labels_value_selects_nothing(value: str) -> None:
    selected = labelled(vmID=value, vmUUID="x")
    assert selected is None or selected == f"vmID={value},vmUUID=x"
    assert selected is None or set(value) <= set(string.ascii_letters + string.digits + "-_.")
