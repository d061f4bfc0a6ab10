"""Settings: all faults at once, the environment over the file, durations."""

from pathlib import Path

import pytest

from webhook.errors import SettingsInvalid
from webhook.settings import Settings, load, spelled

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


def test_the_certificate_comes_from_files_only_where_that_is_said(tmp_path: Path) -> None:
    assert _load(tmp_path, "tls: {extraNames: [guard.example, '::1']}").tls.source == "self-managed"
    assert _load(tmp_path, "tls: {source: files, certFile: /a, keyFile: /b}").tls.source == "files"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tls: {certFile: /a, keyFile: /b}", "tls: certFile and keyFile count only with source"),
        ("tls: {secret: ../x}", "tls.secret: write the name of a Kubernetes object"),
        ("tls: {namespace: A_b}", "tls.namespace: write the name of a Kubernetes object"),
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
    with pytest.raises(SettingsInvalid, match="clientCAFile and allowedClientNames go together"):
        _load(tmp_path, text)


def test_a_clients_ca_is_spelled_as_kubernetes_does(tmp_path: Path) -> None:
    text = "clientCAFile: /ca.crt\nallowedClientNames: [kube-apiserver]"
    assert _load(tmp_path, text).client_ca_file == Path("/ca.crt")
    assert spelled("client_ca_file") == "clientCAFile"
