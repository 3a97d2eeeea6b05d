"""Connections: kubeconfig contexts, credentials that refresh or fail, certificates, proxies."""

import os
import socket
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fake_api import Answer, FakeApi, status
from urllib3.util.ssl_ import ssl_wrap_socket

from conformance.kube.client import Client
from conformance.kube.connection import Connection, trusting
from conformance.kube.effects import Effect
from conformance.kube.errors import KubeconfigError, Unreachable
from conformance.kube.guard import Guard
from conformance.kube.kubeconfig import connect, connect_in_cluster, contexts, server_of
from conformance.kube.timeouts import Timeouts

PLUGIN = """
import json, pathlib, sys
counter = pathlib.Path(sys.argv[1])
count = int(counter.read_text() or 0) + 1
counter.write_text(str(count))
status = {"token": f"token-{count}"}
if len(sys.argv) > 2:
    status["expirationTimestamp"] = sys.argv[2]
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))
"""


def kubeconfig(folder: Path, server: str, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [
            {"name": "staging", "context": {"cluster": "c", "user": "u"}},
            {"name": "other", "context": {"cluster": "c", "user": "u"}},
        ],
        "current-context": "staging",
    }
    file = folder / "config"
    file.write_text(yaml.safe_dump(content))
    return file


def plugin(folder: Path, *arguments: str) -> dict[str, Any]:
    script, counter = folder / "plugin.py", folder / "counter"
    script.write_text(PLUGIN)
    counter.write_text("0")
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(script), str(counter), *arguments],
            "interactiveMode": "Never",
        }
    }


def asked_with(api: FakeApi, connection: Connection) -> str | None:
    Client(connection, Guard(Effect.READS)).get("/version")
    return api.asked[-1].headers.get("authorization")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", *proxies):
        monkeypatch.delenv(name, raising=False)


def test_a_token_of_the_kubeconfig_is_shown(api: FakeApi, tmp_path: Path) -> None:
    with connect(kubeconfig(tmp_path, api.url, {"token": "secret"}), "other") as connection:
        assert asked_with(api, connection) == "Bearer secret"


def test_a_server_below_a_path_is_asked_there(api: FakeApi, tmp_path: Path) -> None:
    with connect(kubeconfig(tmp_path, f"{api.url}/k8s/clusters/c-1/")) as connection:
        asked_with(api, connection)

    assert api.asked[0].path == "/k8s/clusters/c-1/version"


def test_an_exec_plugin_gives_the_token_and_is_not_run_for_each_request(api: FakeApi, tmp_path: Path) -> None:
    with connect(kubeconfig(tmp_path, api.url, plugin(tmp_path))) as connection:
        assert asked_with(api, connection) == "Bearer token-1"
        assert asked_with(api, connection) == "Bearer token-1"


def test_an_expired_token_of_an_exec_plugin_is_refreshed(api: FakeApi, tmp_path: Path) -> None:
    expired = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with connect(kubeconfig(tmp_path, api.url, plugin(tmp_path, expired))) as connection:
        first, second = asked_with(api, connection), asked_with(api, connection)

    assert first != second


def test_a_token_that_the_server_refuses_is_asked_for_anew(api: FakeApi, tmp_path: Path) -> None:
    api.answer = lambda asked: (
        Answer() if asked.headers.get("authorization") == "Bearer token-2" else status(401, "Unauthorized")
    )
    with connect(kubeconfig(tmp_path, api.url, plugin(tmp_path))) as connection:
        assert asked_with(api, connection) == "Bearer token-2"


@pytest.mark.parametrize(
    ("command", "arguments"), [("no-such-plugin", []), (sys.executable, ["-c", "raise SystemExit('please log in')"])]
)
def test_a_plugin_that_fails_is_an_error_and_not_an_anonymous_request(
    api: FakeApi, tmp_path: Path, command: str, arguments: list[str]
) -> None:
    user = plugin(tmp_path)
    user["exec"] |= {"command": command, "args": arguments}
    with pytest.raises(KubeconfigError, match="gave no credentials"):
        connect(kubeconfig(tmp_path, api.url, user))

    assert api.asked == []


def test_an_unknown_context_is_named_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"no context 'prod', only: staging, other"):
        connect(kubeconfig(tmp_path, "https://127.0.0.1:1"), "prod")


def test_no_kubeconfig_is_an_error_that_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"There is no kubeconfig .*nowhere\. Correct the option"):
        connect(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["just text", "[1, 2]", "a: [", ""])
def test_a_file_that_is_no_kubeconfig_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(KubeconfigError, match=str(file)):
        connect(file)


@pytest.mark.parametrize(
    "text", ["users:\n- name: u\n  user: {token: s3cret", "a: b\n token: s3cret: x", "token: [s3cret"]
)
def test_a_broken_kubeconfig_is_not_quoted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(KubeconfigError) as caught:
        connect(file)

    assert "s3cret" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_an_incomplete_user_is_not_quoted(tmp_path: Path) -> None:
    user = {"auth-provider": {"name": "oidc", "config": {"client-secret": "s3cret"}}}
    with pytest.raises(KubeconfigError, match="id-token") as caught:
        connect(kubeconfig(tmp_path, "https://127.0.0.1:1", user))

    assert "s3cret" not in str(caught.value)


def test_a_server_that_is_no_address_is_an_error() -> None:
    with pytest.raises(KubeconfigError, match="https://HOST:PORT"):
        Connection("staging")


def test_contexts_and_servers_are_listed_without_the_kubernetes_client(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "https://staging.example.com:6443/")

    assert contexts(file) == ["staging", "other"]
    assert contexts(tmp_path / "nowhere") == []
    assert server_of(file, "other") == "https://staging.example.com:6443"
    assert server_of(file, "nobody") is None


def test_several_kubeconfigs_are_merged_and_the_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    first = kubeconfig(tmp_path / "a", "https://first.example.com")
    second = kubeconfig(tmp_path, "https://second.example.com")
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(first), str(second)]))

    assert contexts() == ["staging", "other"]
    assert server_of() == "https://first.example.com"
    with connect() as connection:
        assert connection.server == "https://first.example.com"


def test_a_proxy_of_the_kubeconfig_is_used_and_named_when_it_fails(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "http://staging.example.com", **{"proxy-url": "http://127.0.0.1:1"})
    with (
        connect(file) as connection,
        pytest.raises(Unreachable, match="the proxy failed"),
    ):
        Client(connection, Guard(Effect.READS), Timeouts(retry=0.5)).get("/version")


def test_a_request_goes_through_the_proxy(api: FakeApi, tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "http://staging.example.com", {"token": "t"}, **{"proxy-url": api.url})
    with connect(file) as connection:
        assert asked_with(api, connection) == "Bearer t"

    assert api.asked[0].headers["host"] == "staging.example.com"


def test_the_environments_proxy_is_used_unless_no_proxy_says_otherwise(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kubeconfig(tmp_path, "http://staging.example.com")
    monkeypatch.setenv("http_proxy", api.url)
    with connect(file) as connection:
        assert connection.proxy == api.url
    monkeypatch.setenv("no_proxy", "example.com")
    with connect(file) as connection:
        assert connection.proxy is None


@pytest.mark.parametrize(
    ("server", "no_proxy", "bypassed"),
    [
        ("http://10.0.0.1:6443", "localhost, 10.0.0.0/8", True),
        ("http://[fd00::1]:6443", "10.0.0.0/8,fd00::/8", True),
        ("http://192.168.0.1:6443", "10.0.0.0/8,fd00::/8", False),
        ("http://staging.example.com", "10.0.0.0/8", False),
    ],
)
def test_no_proxy_may_name_ranges_of_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, no_proxy: str, bypassed: bool
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    with connect(kubeconfig(tmp_path, server)) as connection:
        assert connection.proxy == (None if bypassed else "http://proxy:3128")


def test_a_user_who_acts_as_another_does_so_here_too(tmp_path: Path) -> None:
    acting = {"as": "auditor", "as-uid": "7", "as-groups": ["readers"], "as-user-extra": {"example.com/why": ["audit"]}}
    file = kubeconfig(tmp_path, "http://staging.example.com", {"token": "admin", **acting})
    with connect(file) as connection:
        assert connection.headers() == {
            "Authorization": "Bearer admin",
            "Impersonate-User": "auditor",
            "Impersonate-Uid": "7",
            "Impersonate-Group": "readers",
            "Impersonate-Extra-example.com%2Fwhy": "audit",
        }
        assert connection.with_token("other").headers() == {"Authorization": "Bearer other"}


def test_new_credentials_of_a_plugin_still_act_as_another(api: FakeApi, tmp_path: Path) -> None:
    api.answer = lambda asked: (
        Answer() if asked.headers.get("authorization") == "Bearer token-2" else status(401, "Unauthorized")
    )
    with connect(kubeconfig(tmp_path, api.url, {**plugin(tmp_path), "as": "auditor"})) as connection:
        asked_with(api, connection)

    assert {asked.headers.get("impersonate-user") for asked in api.asked} == {"auditor"}


@pytest.mark.parametrize(
    ("acting", "said"),
    [
        ({"as": "auditor", "as-groups": ["readers", "staff"]}, "2 values in as-groups"),
        ({"as": "auditor", "as-user-extra": {"scopes": ["a", "b"]}}, "2 values in as-user-extra"),
        ({"as-groups": ["readers"]}, "without the field `as`"),
    ],
)
def test_what_cannot_be_acted_as_is_refused_and_not_ignored(tmp_path: Path, acting: dict[str, Any], said: str) -> None:
    file = kubeconfig(tmp_path, "http://staging.example.com", {"token": "admin", **acting})
    with pytest.raises(KubeconfigError, match=said):
        connect(file)


def test_a_socks_proxy_is_refused_in_words(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "http://staging.example.com", **{"proxy-url": "socks5://me:secret@127.0.0.1:1"})
    with pytest.raises(KubeconfigError, match="only http and https") as caught:
        connect(file)

    assert "secret" not in str(caught.value)


class Authority:
    """A certificate authority without the extensions that OpenSSL's strict mode wants, as older clusters have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        certificate = self._builder(self.name, self.key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.file = self._write("ca.crt", certificate)

    def issue(self, name: str, *addresses: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        if addresses:
            names = [_general(address) for address in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        key_file = self.folder / f"{name}.key"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return self._write(f"{name}.crt", builder), key_file

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    def _write(self, file: str, builder: x509.CertificateBuilder) -> Path:
        path = self.folder / file
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path


def _general(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls_api(authority: Authority) -> Iterator[FakeApi]:
    """Answers with the name on the client's certificate, which it does not insist on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, authority.issue("server", "127.0.0.1", "kubernetes.default")))
    context.load_verify_locations(str(authority.file))
    context.verify_mode = ssl.CERT_OPTIONAL
    server = FakeApi(context)
    server.answer = lambda asked: Answer({"client": asked.client_name})
    yield server
    server.close()


def client_of(connection: Connection) -> Client:
    return Client(connection, Guard(Effect.READS), Timeouts(retry=0.2))


def test_a_client_certificate_is_shown_but_not_beside_a_token(authority: Authority, tls_api: FakeApi) -> None:
    certificate, key = authority.issue("admin")
    with Connection.from_certificates(tls_api.url, authority.file, certificate, key) as connection:
        assert client_of(connection).get("/version") == {"client": "admin"}
        assert client_of(connection).with_token("t").get("/version") == {"client": ""}


def test_certificates_of_a_kubeconfig_are_shown(authority: Authority, tls_api: FakeApi, tmp_path: Path) -> None:
    certificate, key = authority.issue("admin")
    user = {"client-certificate": certificate.name, "client-key": key.name}
    file = kubeconfig(tmp_path, tls_api.url, user, **{"certificate-authority": authority.file.name})
    with connect(file) as connection:
        assert client_of(connection).get("/version") == {"client": "admin"}


def test_another_name_is_expected_of_the_server_if_the_kubeconfig_says_so(
    authority: Authority, tls_api: FakeApi, tmp_path: Path
) -> None:
    trusted = {"certificate-authority": str(authority.file)}
    with connect(
        kubeconfig(tmp_path, tls_api.url, **trusted, **{"tls-server-name": "kubernetes.default"})
    ) as connection:
        assert client_of(connection).get("/version") == {"client": ""}
    with (
        connect(kubeconfig(tmp_path, tls_api.url, **trusted, **{"tls-server-name": "elsewhere"})) as connection,
        pytest.raises(Unreachable, match="certificate is not accepted"),
    ):
        client_of(connection).get("/version")


def test_a_server_that_nobody_vouches_for_is_not_talked_to(
    authority: Authority, tls_api: FakeApi, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    file = kubeconfig(tmp_path, tls_api.url, {"token": "secret"}, **{"certificate-authority": str(stranger.file)})
    with (
        connect(file) as connection,
        pytest.raises(Unreachable, match="certificate-authority-data"),
    ):
        client_of(connection).get("/version")

    assert tls_api.asked == []


def test_an_insecure_context_is_honoured_without_a_warning(
    authority: Authority, tls_api: FakeApi, tmp_path: Path
) -> None:
    file = kubeconfig(tmp_path, tls_api.url, **{"insecure-skip-tls-verify": True})
    with connect(file) as connection:
        assert client_of(connection).get("/version") == {"client": ""}


def test_files_that_are_no_certificates_are_named(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("admin")
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    with pytest.raises(KubeconfigError, match="nonsense"):
        Connection.from_certificates("https://127.0.0.1:1", nonsense, certificate, key)
    with pytest.raises(KubeconfigError, match="no certificate and its key"):
        Connection.from_certificates("https://127.0.0.1:1", authority.file, certificate, nonsense)


def test_a_pod_without_kubeconfig_uses_its_service_account(
    authority: Authority, tls_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import incluster_config

    token = tmp_path / "token"
    token.write_text("of-the-pod")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority.file))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", tls_api.url.rpartition(":")[2])
    monkeypatch.setenv("HOME", str(tmp_path))
    for connection in (
        connect(),
        connect(None, "in-cluster"),
        connect_in_cluster(),
    ):
        with connection:
            client_of(connection).get("/version")

        assert tls_api.asked[-1].headers["authorization"].lower() == "bearer of-the-pod"


def test_outside_a_pod_there_is_no_service_account() -> None:
    with pytest.raises(KubeconfigError, match="Service host"):
        connect_in_cluster()


def test_what_alpn_offers_is_set_once_and_not_while_other_connections_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    context = trusting()
    asked: list[object] = []
    monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", lambda self, protocols: asked.append(protocols))

    with ssl_wrap_socket(socket.socket(), ssl_context=context, server_hostname="127.0.0.1"):
        pass

    assert asked == []
