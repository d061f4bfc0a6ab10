"""Settings: all faults at once, the environment over the file, durations."""

import itertools
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from webhook.errors import SettingsInvalid
from webhook.settings import Settings, load, of_yaml, spelled

RULES, DEFAULTS = frozenset({"pvc-vm"}), frozenset({"pvc-identity"})


def _load(tmp_path: Path, text: str, **environment: str) -> Settings:
    (tmp_path / "settings.yaml").write_text(text)
    return load(tmp_path / "settings.yaml", environment, rules=RULES, defaults=DEFAULTS)


def test_nothing_at_all_is_good_settings() -> None:
    assert load(None, {}, rules=RULES, defaults=DEFAULTS) == Settings()


def test_a_file_in_the_cases_of_kubernetes(tmp_path: Path) -> None:
    settings = _load(
        tmp_path,
        """
        trustNetwork: true
        maxAge: 1h30m
        rules: {pvc-vm: warn}
        defaults: {pvc-identity: false}
        providers:
        - {namespace: mtv, name: prod, url: "https://vcenter/sdk", user: u, passwordFile: /p}
        - {namespace: mtv, name: lab, type: openstack}
        """,
    )
    assert settings.trust_network
    assert settings.max_age == 5400
    assert settings.rules == {"pvc-vm": "warn"}
    assert [provider.type for provider in settings.providers] == ["vsphere", "openstack"]


def test_the_environment_lies_over_the_file(tmp_path: Path) -> None:
    settings = _load(
        tmp_path,
        "maxAge: 1h",
        CONVERSION_GUARD_MAX_AGE="90s",
        CONVERSION_GUARD_TRUST_NETWORK="true",
        CONVERSION_GUARD_SETTINGS="/elsewhere",
        OTHER="x",
    )
    assert settings.max_age == 90
    assert settings.trust_network


def test_a_variable_reaches_a_field_inside_a_field(tmp_path: Path) -> None:
    settings = _load(
        tmp_path,
        "api: {ratePerUser: 7, listen: '127.0.0.1:1'}",
        CONVERSION_GUARD_API_ENABLED="true",  # as manifests/api spells it
        CONVERSION_GUARD_API__RATE_PER_USER="9",
        CONVERSION_GUARD_TLS__SECRET="other",
    )
    assert (settings.api.enabled, settings.api.rate_per_user) == (True, 9)
    assert settings.api.listen == "127.0.0.1:1", "what no variable names is the file's"
    assert settings.tls.secret == "other"


def test_what_kubelet_says_of_a_service_is_no_setting(tmp_path: Path) -> None:
    """One of the guard's own name, as the manifests have it."""
    variables = {
        "CONVERSION_GUARD_PORT": "tcp://10.0.0.1:443",
        "CONVERSION_GUARD_SERVICE_HOST": "10.0.0.1",
        "CONVERSION_GUARD_PORT_8444_TCP_PROTO": "tcp",
        "CONVERSION_GUARD_API_PORT": "tcp://10.0.0.1:8444",
        "LISTEN": "nowhere",
        "MAXAGE": "never",
    }
    assert _load(tmp_path, "", **variables) == Settings()


def test_every_fault_is_told_at_once_with_its_field(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as error:
        _load(
            tmp_path,
            """
            listen: 8443
            undecided: maybe
            maxAge: soon
            typo: 1
            rules: {pvc-vm: block, pvc-wm: deny}
            defaults: {nothing: true}
            providers:
            - {namespace: a, name: b, url: "http://vcenter/sdk", user: u, passwordFile: /p}
            - {namespace: a, name: c}
            """,
        )
    lines = str(error.value).splitlines()
    for field in (
        "listen:", "undecided:", "maxAge:", "typo:", "rules.pvc-vm:", "rules:", "defaults:",
        "providers.0.url:", "providers.1:",
    ):  # fmt: skip
        assert any(f"settings.yaml: {field}" in line for line in lines), (field, lines)
    assert len(lines) == 9


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [", "settings.yaml"), ("- 1", "mapping"), ("listen: x:99999", "host:port")],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says):
        _load(tmp_path, text)


def test_an_empty_file_is_good_settings(tmp_path: Path) -> None:
    assert _load(tmp_path, "# nothing\n") == Settings()


def test_forklifts_release_is_asked_for_where_it_runs_and_where_its_providers_are(
    tmp_path: Path,
) -> None:
    for text, places in {
        "": {"openshift-mtv"},
        "forkliftNamespace: konveyor": {"konveyor"},
        "providerNamespaces: [team-a]": {"openshift-mtv", "team-a"},
        "{forkliftNamespace: konveyor, providerNamespaces: []}": {"konveyor"},
    }.items():
        assert _load(tmp_path, text).release_namespaces == places


@pytest.mark.parametrize("field", ["maxAge", "silence", "audit.every"])
def test_the_schema_takes_the_lengths_of_time_that_the_guard_takes(
    tmp_path: Path, field: str
) -> None:
    group, _, name = field.rpartition(".")
    schema = Settings.model_json_schema(by_alias=True)
    shape = schema["$defs"]["AuditSettings"] if group else schema
    pattern = shape["properties"][name]["pattern"]
    parts = itertools.product(
        ("", "0h", "1h", "10h"),
        ("", "0m", "1m", "010m"),
        ("", "0s", "4.9s", "5s", "59.9s", "060s", "100.5s", "4", "5", "59", "60", "05.5", "x"),
    )
    for text in filter(None, map("".join, parts)):
        value = f"{name}: '{text}'"
        try:
            _load(tmp_path, f"{group}: {{{value}}}" if group else value)
            taken = True
        except SettingsInvalid:
            taken = False
        assert bool(re.search(pattern, text)) is taken, text


def test_the_certificate_comes_from_files_only_where_that_is_said(tmp_path: Path) -> None:
    assert _load(tmp_path, "tls: {extraNames: [guard.example, '::1']}").tls.source == "self-managed"
    assert _load(tmp_path, "tls: {source: files, certFile: /a, keyFile: /b}").tls.source == "files"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tls: {certFile: /a, keyFile: /b}", "tls: certFile and keyFile need source"),
        ("tls: {secret: ../x}", "tls.secret: write the name of a Kubernetes object"),
        ("tls: {namespace: A_b}", "tls.namespace: write the name of a namespace"),
        ("tls: {extraNames: [ok.example, 'a b']}", "tls.extraNames.1: write a host name or an IP"),
        ("tls: {source: cert-manager}", "tls.source: Input should be 'self-managed' or 'files'"),
    ],
)
def test_what_the_certificate_can_not_be_is_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsInvalid) as raised:
        _load(tmp_path, text)
    assert says in str(raised.value)


@pytest.mark.parametrize("text", ["clientCAFile: /ca.crt", "allowedClientNames: [kube-apiserver]"])
def test_a_clients_ca_and_its_names_go_together(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsInvalid, match="set clientCAFile and allowedClientNames together"):
        _load(tmp_path, text)


def test_a_clients_ca_is_spelled_as_kubernetes_does(tmp_path: Path) -> None:
    text = "clientCAFile: /ca.crt\nallowedClientNames: [kube-apiserver]"
    assert _load(tmp_path, text).client_ca_file == Path("/ca.crt")
    assert spelled("client_ca_file") == "clientCAFile"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("on: deny\nlisten: x", ["the key true, as on", "listen: "]),
        ("rules: {on: deny, pvc-wm: deny}", ["rules: the key true, as", 'rules: "pvc-wm" is none']),
        ("defaults: {off: true, 1: true, x: true}", ["the key false", "the key 1", '"x" is none']),
        ("namespaces: {no: {}, a: {rules: {on: deny, x: deny}}}", ["false", "a.rules: the", '"x"']),
        ("providers: [{yes: 1, x: 2}]", ["providers.0: the key true", "providers.0.x: "]),
    ],
)
def test_a_key_that_yaml_takes_for_something_else_is_told(
    tmp_path: Path, text: str, says: list[str]
) -> None:
    with pytest.raises(SettingsInvalid) as raised:
        _load(tmp_path, text)
    for one in says:
        assert one in str(raised.value)


def test_off_needs_no_quotes_where_an_action_is_written(tmp_path: Path) -> None:
    """YAML reads it as false; pydantic's own schema is the chart's, which reads the same YAML."""
    settings = _load(tmp_path, "rules: {pvc-vm: off}\nnamespaces: {a: {rules: {pvc-vm: Off}}}")
    assert settings.rules == settings.namespaces["a"].rules == {"pvc-vm": "off"}
    shape = Settings.model_json_schema(by_alias=True)
    for place in shape, shape["$defs"]["NamespaceSettings"]:
        actions = place["properties"]["rules"]["additionalProperties"]["enum"]
        assert actions == ["deny", "warn", "audit", "off", False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules: {pvc-vm: on}", "rules.pvc-vm: Input should be 'deny', 'warn', 'audit' or 'off'"),
        ("undecided: off", "undecided: Input should be 'deny' or 'warn' (there: false, as off and"),
        ("namespaces: {a: {enforce: no}}", "enforce: Input should be 'deny', 'warn' or 'audit'"),
        ("logLevel: on", "(there: true, as on and yes are in YAML)"),
    ],
)
def test_what_yaml_made_of_a_word_is_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsInvalid) as raised:
        _load(tmp_path, text)
    assert says in str(raised.value)


_NAMESPACE = "write the name of a namespace: a-z, 0-9 and -"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "ignoreProviders: [vsphere]",
            "ignoreProviders.0: write namespace/name, such as openshift",
        ),
        ("ignoreProviders: [a/b, 'a/b/c', 'a/ b']", "ignoreProviders.1: write namespace/name"),
        ("ignoreProviders: ['A/b']", "ignoreProviders.0: write namespace/name"),
        ("namespaces: {vms: {}, 'mtv/vms': {}}", f"namespaces.mtv/vms: {_NAMESPACE}"),
        ("namespaces: {Vms: {}}", f"namespaces.Vms: {_NAMESPACE}"),
        ("forkliftNamespace: a.b", f"forkliftNamespace: {_NAMESPACE}"),
        ("providerNamespaces: ['a, b']", f"providerNamespaces.0: {_NAMESPACE}"),
        ("providers: [{namespace: A, name: b, type: ova}]", f"providers.0.namespace: {_NAMESPACE}"),
        ("providers: [{namespace: a, name: a/b, type: ova}]", "providers.0.name: write the name"),
    ],
)
def test_a_name_that_nothing_can_have_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """It would be compared with those that there are, and count for nothing without a word."""
    with pytest.raises(SettingsInvalid) as raised:
        _load(tmp_path, text)
    assert f"settings.yaml: {says}" in str(raised.value)


def test_a_fault_of_the_file_is_told_beside_a_variable_for_the_same_place(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"settings\.yaml: api: Input should be .*: true,"):
        _load(tmp_path, "api: true", CONVERSION_GUARD_API_ENABLED="true")


def test_a_fault_names_the_environment_where_it_comes_from_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as raised:
        _load(
            tmp_path,
            "listen: x",
            CONVERSION_GUARD_MAX_AGE="soon",
            CONVERSION_GUARD_API__TYPO="1",
            CONVERSION_GUARD_PROVIDERS="[{",
        )
    places = sorted(line.split(": ")[0:2] for line in str(raised.value).splitlines())
    assert places == [
        [f"{tmp_path}/settings.yaml", "listen"],
        ["environment", "api.typo"],
        ["environment", "maxAge"],
        ["environment", "providers"],
    ]


@pytest.mark.parametrize("value", [".nan", ".inf", "-5", "-5s", "true", "soon", "''", "9" * 400])
@pytest.mark.parametrize("field", ["maxAge", "shutdownDelay"])
def test_what_is_no_length_of_time_is_refused(tmp_path: Path, field: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"{field}: is not a length of time: write 90s"):
        _load(tmp_path, f"{field}: {value}")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90", 90), ("1.5s", 1.5), ("'7'", 7), ("1h1m1s", 3661)]
)
def test_lengths_of_time(tmp_path: Path, text: str, seconds: float) -> None:
    assert _load(tmp_path, f"maxAge: {text}").max_age == seconds


@pytest.mark.parametrize("value", ["true", "10", "0.5", "!!binary AQID"])
def test_what_is_no_text_is_no_network(tmp_path: Path, value: str) -> None:
    """It would be taken for a number, and that for an address."""
    with pytest.raises(SettingsInvalid, match=r"deniedNetworks\.0: is not a network: write"):
        _load(tmp_path, f"deniedNetworks: [{value}]")


def test_a_provider_named_twice_is_refused(tmp_path: Path) -> None:
    """The second would hide the first, which goes on reading."""
    text = "providers: [{namespace: a, name: b, type: ova}, {namespace: a, name: b, type: ovirt}]"
    with pytest.raises(SettingsInvalid, match="providers: a/b is there more than once"):
        _load(tmp_path, text)


@pytest.mark.parametrize("text", ["a: &a [*a]", "rules: &a {on: *a}", f"a: {'9' * 5000}"])
def test_what_can_not_be_settings_is_told_and_nothing_breaks(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"settings\.yaml: "):
        _load(tmp_path, text)


_KEYS = st.sampled_from([*(f.alias or "" for f in Settings.model_fields.values()), "x"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | _LEAVES, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS | _LEAVES, _VALUES), st.dictionaries(_KEYS, st.text()))
@hypothesis_settings(deadline=None)
def test_whatever_is_there_gives_settings_or_all_its_faults(
    values: dict[object, object], variables: dict[str, str]
) -> None:
    content = yaml.safe_dump(values).encode()
    named = {f"CONVERSION_GUARD_{name.upper()}": value for name, value in variables.items()}
    try:
        of_yaml(Path("x"), content, named, rules=RULES, defaults=DEFAULTS)
    except SettingsInvalid as error:
        assert all(line.startswith(("x: ", "environment: ")) for line in str(error).splitlines())
