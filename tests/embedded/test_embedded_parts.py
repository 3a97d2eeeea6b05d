"""Ports, certificates, flags, seeds and files: the parts of an embedded cluster, without starting one."""

import json
import socket
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from conformance.clusters.embedded import EmbeddedSpec, annotations, files, pki, seeds
from conformance.clusters.embedded.annotations import EXIT_CODE, NOT_READY
from conformance.clusters.embedded.components import (
    BINARIES,
    Components,
    Layout,
    Ports,
)
from conformance.clusters.embedded.ports import reserved
from conformance.simulator import annotations as simulated

HERE = Layout(Path("/state"), Ports(1, 2, 3, 4, 5, 6))


def components(**spec) -> Components:
    return Components(
        {name: Path(f"/bin/{name}") for name in BINARIES}, HERE, EmbeddedSpec(**{"topology": None, **spec})
    )


def test_reserved_ports_are_different_and_can_be_listened_on() -> None:
    with reserved(6) as ports:
        assert len(set(ports)) == 6
        with socket.create_server(("127.0.0.1", ports[0])):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets us hold a port for another process")
def test_a_reserved_port_is_not_given_to_anybody_who_wants_any() -> None:
    with reserved(3) as ports:
        given = set()
        for _ in range(200):
            with socket.create_server(("127.0.0.1", 0)) as other:
                given.add(other.getsockname()[1])

        assert not given & set(ports)


def test_every_process_listens_on_the_loopback_address() -> None:
    made = components()
    for component in (made.etcd(), made.apiserver(), made.controller_manager(), made.scheduler(), made.kwok()):
        addresses = [argument for argument in component.argv if "address" in argument or "listen" in argument]
        assert addresses, component.name
        for argument in addresses:
            assert "127.0.0.1" in argument or "address-types" in argument, argument


def test_flags_of_the_specification_replace_ours() -> None:
    argv = components(apiserver_flags={"--event-ttl": "5m", "profiling": "true"}).apiserver().argv

    assert "--event-ttl=5m" in argv
    assert [argument for argument in argv if "profiling" in argument] == ["--profiling=true"]


@pytest.mark.parametrize(("version", "beta"), [("1.34.4", True), ("v1.35.0", True), ("1.36", False), ("1.37.2", False)])
def test_mutating_admission_policies_are_served_by_every_version(version: str, beta: bool) -> None:
    argv = components(version=version).apiserver().argv

    assert ("--runtime-config=admissionregistration.k8s.io/v1beta1=true" in argv) == beta
    assert ("--feature-gates=MutatingAdmissionPolicy=true" in argv) == beta


def test_a_scheduler_configuration_is_laid_over_ours() -> None:
    profile = {"schedulerName": "default-scheduler", "plugins": {"postFilter": {"disabled": [{"name": "*"}]}}}

    made = components(
        scheduler_config={"profiles": [profile], "clientConnection": {"qps": 5.0}}
    ).scheduler_configuration()

    assert made["profiles"] == [profile]
    assert made["clientConnection"]["qps"] == 5.0
    assert made["clientConnection"]["kubeconfig"] == "/state/scheduler.kubeconfig"
    assert made["leaderElection"] == {"leaderElect": False}


def test_processes_get_nothing_of_the_users_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/home/me/.kube/config")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")

    assert set(components().kwok().env) == {"HOME", "TMPDIR", "PATH", "GOGC", "GOMAXPROCS"}


def test_only_small_fleets_trade_memory_for_speed() -> None:
    assert "GOGC" in components(topology="guide").kwok().env
    assert "GOGC" not in components(topology="thousand").kwok().env


def test_in_small_clusters_only_the_api_server_has_more_than_one_processor() -> None:
    small, large = components(topology="guide"), components(topology="thousand")

    assert small.kwok().env["GOMAXPROCS"] == small.etcd().env["GOMAXPROCS"] == "1"
    assert "GOMAXPROCS" not in small.apiserver().env
    assert "GOMAXPROCS" not in large.kwok().env


def test_in_small_clusters_what_hardly_anybody_watches_is_asked_of_etcd() -> None:
    def uncached(topology: str) -> list[str]:
        argv = components(topology=topology).apiserver().argv
        return [
            each for argument in argv if argument.startswith("--watch-cache-sizes=") for each in argument.split(",")
        ]

    assert "secrets#0" in uncached("guide")
    assert not [each for each in uncached("guide") if "pods#" in each or "nodes#" in each]
    assert uncached("thousand") == []


def test_certificates_serve_the_loopback_address_and_name_their_users(tmp_path: Path) -> None:
    pki.write(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "serving.crt", tmp_path / "serving.key")
    server.load_verify_locations(tmp_path / "ca.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    client.load_cert_chain(tmp_path / "scheduler.crt", tmp_path / "scheduler.key")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        said = {}

        def accept() -> None:
            connection, _ = listener.accept()
            with server.wrap_socket(connection, server_side=True) as wrapped:
                said.update(wrapped.getpeercert() or {})

        thread = threading.Thread(target=accept)
        thread.start()
        with (
            socket.create_connection(listener.getsockname()) as raw,
            client.wrap_socket(raw, server_hostname="127.0.0.1"),
        ):
            thread.join(5)
    assert said["subject"] == ((("organizationName", "system:masters"),), (("commonName", "system:kube-scheduler"),))


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    pki.write(tmp_path / "pki")

    keys = list((tmp_path / "pki").glob("*.key"))
    assert len(keys) == len(pki.IDENTITIES) + 3
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_an_authority_issues_more_identities_later(tmp_path: Path) -> None:
    pki.write(tmp_path)

    pki.Authority.load(tmp_path).issue_client(tmp_path, "kubelet-1", "system:node:real-1", ("system:nodes",))

    from cryptography import x509

    made = x509.load_pem_x509_certificate((tmp_path / "kubelet-1.crt").read_bytes())
    assert made.subject.rfc4514_string() == "CN=system:node:real-1,O=system:nodes"
    made.verify_directly_issued_by(x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes()))


def test_any_change_of_what_a_seed_is_made_of_changes_its_key(tmp_path: Path) -> None:
    for name in BINARIES:
        (tmp_path / name).write_text(name)
    binaries = {name: tmp_path / name for name in BINARIES}
    base = seeds.key(EmbeddedSpec(), binaries)

    assert seeds.key(EmbeddedSpec(topology="single", scheduler_config={"a": 1}), binaries) == base
    assert seeds.key(EmbeddedSpec(apiserver_flags={"event-ttl": "5m"}), binaries) != base
    assert seeds.key(EmbeddedSpec(feature_gates={"DRAConsumableCapacity": True}), binaries) != base
    (tmp_path / "etcd").write_text("another etcd")
    assert seeds.key(EmbeddedSpec(), binaries) != base


def test_a_sparse_copy_has_the_same_content_in_fewer_blocks(tmp_path: Path) -> None:
    source = tmp_path / "member" / "wal"
    source.mkdir(parents=True)
    content = b"head" + bytes(3_000_000) + b"tail" + bytes(1_000_001)
    (source / "0.wal").write_bytes(content)
    (source / "1.tmp").write_bytes(bytes(1000))

    seeds._copy_sparse(tmp_path / "member", tmp_path / "copy")

    assert (tmp_path / "copy" / "wal" / "0.wal").read_bytes() == content
    assert not (tmp_path / "copy" / "wal" / "1.tmp").exists()
    assert (tmp_path / "copy" / "wal" / "0.wal").stat().st_blocks * 512 < 1_000_000


def test_every_stage_is_valid_yaml_with_a_name_of_its_own() -> None:
    documents = list(yaml.safe_load_all(files.kwok_configuration()))

    stages = [document for document in documents if document["kind"] == "Stage"]
    names = [stage["metadata"]["name"] for stage in stages]
    assert len(names) == len(set(names)) >= 9
    assert all(stage["spec"]["selector"]["matchExpressions"] for stage in stages)


def test_the_stages_read_the_annotations_that_we_document() -> None:
    text = files.kwok_configuration()

    assert f'.metadata.annotations["{EXIT_CODE}"]' in text
    assert f'.metadata.annotations["{NOT_READY}"]' in text


def test_pods_wait_for_admission_only_where_somebody_admits_them() -> None:
    gate = f'.metadata.annotations["{simulated.ADMITTED}"] == "true"'
    gated, free = files.kwok_configuration(gated=True), files.kwok_configuration(gated=False)

    assert gated.count(gate) == 2
    assert gate not in free
    assert len(list(yaml.safe_load_all(free))) == len(list(yaml.safe_load_all(gated)))


def test_the_simulator_knows_the_annotations_of_the_stages() -> None:
    for name in ("EXIT_CODE", "RUN_SECONDS", "BACKOFF_SECONDS", "STOP_SECONDS", "WAITING_REASON", "HELD", "NOT_READY"):
        assert getattr(simulated, name) == getattr(annotations, name)
    assert (simulated.SIMULATED, simulated.SIMULATED_VALUE) == (
        annotations.SIMULATED_ANNOTATION,
        annotations.SIMULATED_VALUE,
    )


def test_the_simulator_runs_in_our_python_with_our_modules_alone() -> None:
    simulator = components().simulator()

    assert simulator.argv[0] == sys.executable
    assert set(simulator.env) == {"HOME", "TMPDIR", "PATH", "PYTHONPATH"}
    assert simulator.ready == "file:///state/simulator.ready"
    ended = subprocess.run([*simulator.argv[:4], "--help"], env=simulator.env, capture_output=True, text=True, cwd="/")
    assert ended.returncode == 0, ended.stderr


def test_the_kubeconfig_refers_to_files_and_holds_no_key() -> None:
    config = json.loads(files.kubeconfig(HERE, "admin"))

    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:3"
    assert config["users"][0]["user"] == {
        "client-certificate": "/state/pki/admin.crt",
        "client-key": "/state/pki/admin.key",
    }
