"""What is asked of the API server, and what comes of a name or an answer that is none."""

import json
from pathlib import Path

import msgspec
import pytest

from tests.cases import BASE
from tests.stand_in import standing_in
from tests.test_paths import TRICKS
from webhook.cli.demo import merged
from webhook.cluster import Cluster, LiveReader, Picture, found_in, reach
from webhook.cluster.providers import ProviderSpec
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import Referent
from webhook.model.keys import VM_ID, VM_UUID
from webhook.model.objects import Surroundings, User
from webhook.model.shape import mapping

pytestmark = pytest.mark.anyio

USER = User("vendor")
GET = "get", "providers.forklift.konveyor.io", "mtv", "prod"


async def test_no_name_asks_for_another_namespaces_objects(tmp_path: Path) -> None:
    with standing_in(tmp_path) as api:
        async with Cluster.open(api.kubeconfig) as cluster:
            reader = LiveReader()
            reader.cluster = cluster
            for trick in TRICKS:
                assert await reader.plan("team-a", trick) is None
                assert await reader.plan(trick, "plan") is None
                assert await reader.standing("secrets", "team-a", trick) == "absent"
                assert await reader.standing("secrets", trick, "keys") == "absent"
                assert await reader.claims(trick) == await reader.siblings(trick, "vm-1", "u") == ()
                assert await reader.mounted(trick) == {}
                assert await reader.surroundings(trick) == Surroundings()
                reference = {"name": trick}
                spec = {"url": "https://vcenter.example.com/sdk", "secret": reference}
                with pytest.raises(ClusterUnreachable, match=r"its spec\.secret\.name"):
                    await reach(cluster, "team-a", msgspec.convert(spec, ProviderSpec))
        assert api.asked == []


async def test_siblings_are_those_with_just_these_labels(tmp_path: Path) -> None:
    with standing_in(tmp_path) as api:
        labels = [("vm-1", "u-1"), ("vm-1", "u-2"), ("vm-2", "u-1")]
        api.pvcs = [
            merged(
                BASE["PersistentVolumeClaim"],
                {"metadata": {"name": f"pvc-{number}", "labels": {VM_ID: vm, VM_UUID: uuid}}},
            )
            for number, (vm, uuid) in enumerate(labels)
        ]
        namespace = api.pvcs[0]["metadata"]["namespace"]
        async with Cluster.open(api.kubeconfig) as cluster:
            reader = LiveReader()
            reader.cluster = cluster
            found = await reader.siblings(namespace, "vm-1", "u-1")
            assert [claim.name for claim in found] == ["pvc-0"]
            asked = len(api.asked)
            for value in ("", "vm-1,vmUUID", "vm-1)", "a b"):
                assert await reader.siblings(namespace, value, "u-1") == ()
                assert await reader.siblings(namespace, "vm-1", value) == ()
        assert len(api.asked) == asked


async def test_of_what_is_named_only_the_metadata_is_asked_for(tmp_path: Path) -> None:
    with standing_in(tmp_path) as api:
        api.objects = {
            "/api/v1/namespaces/team/secrets/keys": {"metadata": {"name": "keys"}},
            "/api/v1/namespaces/team": {"metadata": {"deletionTimestamp": "2026-11-24T00:00:00Z"}},
            _INSTANCE_TYPE: {"metadata": {"name": "large"}},
        }
        async with Cluster.open(api.kubeconfig) as cluster:
            reader = LiveReader()
            reader.cluster = cluster
            assert await reader.standing("secrets", "team", "keys") == "there"
            assert await reader.standing("namespaces", "", "team") == "ending"
            kind: Referent = "virtualmachineclusterinstancetypes"
            assert await reader.standing(kind, "", "large") == "there"
        assert all("as=PartialObjectMetadata" in accept for accept in api.accepted)
        assert len(api.accepted) == 3


_INSTANCE_TYPE = "/apis/instancetype.kubevirt.io/v1beta1/virtualmachineclusterinstancetypes/large"


async def test_what_may_not_be_looked_up_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with standing_in(tmp_path) as api:
        api.forbidden = "/secrets/"
        async with Cluster.open(api.kubeconfig) as cluster:
            reader = LiveReader()
            reader.cluster = cluster
            for name in ("keys", "others"):
                assert await reader.standing("secrets", "team", name) == "unknown"
    (said,) = caplog.messages
    assert said.startswith("what a Plan names is not looked up: the API server answers 403")


async def test_what_the_guard_is_not_given_the_right_to_is_left_out(tmp_path: Path) -> None:
    with standing_in(tmp_path) as api:
        place = "/api/v1/namespaces/team"
        quota = {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "1"}}}
        api.objects = {f"{place}/resourcequotas": {"items": [quota]}}
        api.forbidden = "/networkpolicies"
        async with Cluster.open(api.kubeconfig) as cluster:
            reader = LiveReader()
            reader.cluster = cluster
            found = await reader.surroundings("team")
    assert [mapping(one["spec"])["hard"] for one in found.quotas] == [{"pods": "1"}]
    assert (found.limits, found.policies) == ((), ())


async def test_a_provider_where_none_may_be_listed_may_be_there(tmp_path: Path) -> None:
    with standing_in(tmp_path) as api:
        place = "/apis/forklift.konveyor.io/v1beta1/namespaces"
        api.objects = {
            f"{place}/here/providers": {"items": [{"metadata": {"name": "vc"}}]},
            f"{place}/empty/providers": {"items": []},
        }
        api.forbidden = "/elsewhere/"
        async with Cluster.open(api.kubeconfig) as cluster:
            reader = LiveReader()
            reader.cluster = cluster
            places = ("here", "empty", "elsewhere", "No Name")
            found = [await reader.provider(namespace, "vc") for namespace in places]
    assert found == ["there", "absent", "unknown", "absent"]


@pytest.mark.parametrize("answer", [b"{", b"null", b"[]", b'"\xff"', b"[" * 5000])
async def test_an_answer_that_cannot_be_read_is_none(tmp_path: Path, answer: bytes) -> None:
    with standing_in(tmp_path) as api:
        api.garbled = answer
        async with Cluster.open(api.kubeconfig) as cluster:
            reader = LiveReader()
            reader.cluster = cluster
            for asked in (
                reader.claims("team"),
                reader.siblings("team", "vm-1", "u-1"),
                reader.mounted("team"),
                reader.standing("secrets", "team", "keys"),
                reader.surroundings("team"),
                reader.plan("team", "plan"),
                reader.started(),
                reader.user("token", "audience"),
                Picture.take(cluster),
                found_in(cluster),
            ):
                with pytest.raises(ClusterUnreachable, match="can't be read"):
                    await asked


@pytest.mark.parametrize("trouble", ["stuck", "broken", "garbled", "away"])
async def test_who_cannot_be_known_is_not_trusted_until_he_can(
    tmp_path: Path, trouble: str
) -> None:
    with standing_in(tmp_path) as api:
        api.rights = {"vendor": ["*"]}
        async with Cluster.open(api.kubeconfig) as cluster:
            reader = LiveReader()
            if trouble == "stuck":
                api.stuck = "/subjectaccessreviews"
            api.broken = trouble == "broken"
            api.garbled = b"{" if trouble == "garbled" else b""
            if trouble != "away":
                reader.cluster = cluster
            assert await reader.may(USER, *GET) is False
            api.stuck, api.broken, api.garbled = "nothing", False, b""
            reader.cluster = cluster
            assert await reader.may(USER, *GET) is True


async def test_an_answer_is_asked_for_once(tmp_path: Path) -> None:
    with standing_in(tmp_path) as api:
        async with Cluster.open(api.kubeconfig) as cluster:
            reader = LiveReader()
            reader.cluster = cluster
            for _ in range(3):
                assert await reader.may(USER, *GET) is False
            assert len(api.asked) == 1
            api.rights = {"vendor": ["*"]}
            assert await reader.may(User("vendor", groups=("g",)), *GET) is True
            assert len(api.asked) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[1]", b"x", b"a:\n\t- b", b'{"clusters": null}', None]
    + [
        json.dumps(
            {
                "clusters": [{"name": "x", "cluster": cluster}],
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                "users": [{"name": "x", "user": user}],
                "current-context": "x",
            }
        ).encode()
        for cluster, user in (
            ({"server": None}, {}),
            ({"server": 5}, {}),
            ({"server": "https://["}, {}),
            ({"server": "https://127.0.0.1:1", "certificate-authority-data": "eA=="}, {}),
            ({"server": "https://127.0.0.1:1", "proxy-url": "none"}, {}),
            ({"server": "https://127.0.0.1:1"}, {"client-certificate": "/none"}),
        )
    ],
)
async def test_a_broken_kubeconfig_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "kubeconfig"
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(ClusterUnreachable) as failed:
        async with Cluster.open(file) as cluster:
            await cluster.version()
    assert "\n" not in str(failed.value)
