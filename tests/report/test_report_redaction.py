"""What a run writes with --gpu-redact names no machine, and what it writes without it holds no secret."""

import gzip
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_reports import before_an_upgrade, made_report

from conformance import cli
from conformance.facts import snapshot
from conformance.facts.redacting import redacted as redacted_snapshot
from conformance.redaction import RedactionError, Redactor, key_from
from conformance.report.emitters import write_json
from conformance.report.formats import FORMATS
from conformance.report.model import EXIT_INCOMPLETE
from conformance.report.redacted import learn_from, redacted

KEY = b"0123456789abcdef0123456789abcdef"
# "q" begins no word of our own texts, so that what is found in an output came from the cluster.
LABELS = st.from_regex(r"q[a-z0-9]{3}(-?[a-z0-9]){2,8}", fullmatch=True)
DOMAINS = st.sampled_from(["", ".ec2.internal", ".corp", ".rack-7.example.com"])
HOSTS = st.builds("{}{}".format, LABELS, DOMAINS)
UUIDS = st.uuids().map(str)
ADDRESSES = (
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
    .map(str)
    .filter(lambda each: each not in ("0.0.0.0", "127.0.0.1", "::", "::1"))
)
MACS = st.lists(st.integers(16, 255), min_size=6, max_size=6).map(lambda parts: ":".join(f"{n:02x}" for n in parts))
AROUND = st.sampled_from(
    ["node {}", "({})", "pod kube-proxy-{}: gone", "{}: no route", "{},{}", '"{}"', "https://{}/x"]
)


def redactor(*nodes: str) -> Redactor:
    made = Redactor(KEY)
    made.learn("node", nodes)
    return made


@given(HOSTS, AROUND)
def test_no_host_name_is_left_in_a_text_and_redacting_again_changes_nothing(host, around):
    using = redactor(host)
    told = using.text(around.format(host, host))

    assert host not in told
    assert using.text(told) == told


@given(st.one_of(UUIDS, UUIDS.map("GPU-{}".format), UUIDS.map("MIG-{}".format), MACS), AROUND)
def test_no_uuid_and_no_mac_address_is_left(value, around):
    told = redactor().text(around.format(value, value))

    assert value.removeprefix("GPU-").removeprefix("MIG-") not in told or "https" in around
    assert redactor().text(told) == told


@given(
    ADDRESSES,
    st.sampled_from(["node {}", "({})", "{}/24", "to {}, again", "{}: refused", "InternalIP={}", "addr [{}]"]),
)
def test_no_address_is_left(address, around):
    told = redactor().text(around.format(address))

    assert address not in told
    assert redactor().text(told) == told


@pytest.mark.parametrize(
    "text",
    [
        "driver 580.95.05, CUDA 13.0, Kubernetes v1.36.3", "nvidia.com/gpu: 8", "at 12:30:45", "0000:17:00.0",
        "nvcr.io/nvidia/k8s-device-plugin@sha256:" + "a" * 64, "see https://docs.nvidia.com/datacenter",
        "kubectl get node --show-labels", "127.0.0.1", "",
    ],
)  # fmt: skip
def test_what_names_no_machine_stays(text):
    assert redactor("gpu-1").text(text) == text


def test_a_node_that_is_called_like_our_words_changes_replacements_once():
    using = redactor("node", "x", "gpu-1")
    told = using.text("node gpu-1 x")

    assert "gpu-1" not in told
    assert using.text(told) == told


def test_the_same_value_has_the_same_replacement_and_only_with_the_same_key():
    one, again, other = redactor("gpu-1", "gpu-10"), redactor("gpu-1"), Redactor(b"another key of some length")
    other.learn("node", ["gpu-1"])

    assert one.text("gpu-1") == again.text("on GPU-1")[3:] == one.text("pod kube-proxy-gpu-1")[len("pod kube-proxy-") :]
    assert one.text("gpu-1") != one.text("gpu-10")
    assert one.text("gpu-1") != other.text("gpu-1")


def test_the_host_of_a_registry_and_who_logs_in_to_a_url_are_replaced():
    told = redactor().text("pull registry.mine:5000/a/b@sha256:" + "a" * 64 + " https://me:word@git.mine.example/x")

    assert "mine" not in told
    assert "word" not in told
    assert told.endswith("/x")


@pytest.mark.parametrize("content", [b"short", None])
def test_a_key_that_cannot_be_used_is_refused_with_what_makes_one(tmp_path, content):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(RedactionError, match="openssl rand"):
        key_from(file)


def outputs(report, folder: Path) -> str:
    """Everything that can be written of a report, as one text."""
    files = [write_json(report, folder)]
    for name, each in FORMATS.items():
        if not each.refuses(report):
            files += each.write(report, folder / name if name == "cncf" else folder / each.file_name)
    return "\n".join(file.read_text() for file in files)


@settings(max_examples=10)  # each writes every format
@given(st.lists(HOSTS, min_size=2, max_size=2, unique=True), UUIDS, ADDRESSES)
def test_no_format_of_a_redacted_report_names_a_machine(tmp_path_factory, hosts, uuid, address):
    first, second = hosts
    report = renamed(made_report(text=f" on {second} (GPU-{uuid}, {address} )"), {"gpu-0": first, "gpu-1": second})
    using = redactor(second)
    using.learn("cluster", ["prod-gpu"])
    learn_from(report, using)
    told = outputs(redacted(report, using), tmp_path_factory.mktemp("redacted"))

    for secret in (first, second, uuid, address, "prod-gpu"):
        assert secret not in told, secret
    assert "x-node-" in told


def renamed(report, names):
    """The report with other names of nodes."""
    text = msgspec.json.encode(report).decode()
    for old, new in names.items():
        text = re.sub(rf'"{old}"', f'"{new}"', text)
    return msgspec.json.decode(text, type=type(report))


def test_a_finding_about_one_node_is_about_one_node_in_all_formats():
    report = made_report()
    using = redactor()
    learn_from(report, using)
    shown = redacted(report, using)
    [before] = [each for each in report.requirements if each.requirement == "POOL-02"]
    [after] = [each for each in shown.requirements if each.requirement == "POOL-02"]

    assert (after.status, after.broken, len(after.groups)) == (before.status, before.broken, len(before.groups))
    names = {each.name for group in after.groups for each in group.subjects if group.kind == "Node"}
    assert names == set(shown.fleet[0].nodes[:7])
    assert shown.exit_code == report.exit_code


def test_nodes_that_only_waiting_pods_or_an_upgrade_name_are_replaced_too(tmp_path):
    asked = before_an_upgrade(made_report(), "-away")
    (full, *_) = asked.waiting_pods.groups
    waiting = msgspec.structs.replace(asked.waiting_pods, groups=(msgspec.structs.replace(full, nearest="lonely-3"),))
    report = msgspec.structs.replace(asked, waiting_pods=waiting)
    using = redactor()
    learn_from(report, using)

    told = outputs(redacted(report, using), tmp_path)

    assert "x-node-" in told
    assert not [name for name in ("gpu-1-away", "gpu-2-away", "lonely-3") if name in told]


def test_convert_redacts_and_keeps_the_original(tmp_path, capsys):
    write_json(made_report(), tmp_path)
    (tmp_path / "key").write_bytes(KEY)

    assert cli.main(["report", "convert", str(tmp_path), "--to", "markdown", "--redact", "--redact-key",
                     str(tmp_path / "key"), "-o", "-"]) == 0  # fmt: skip

    told = capsys.readouterr().out
    assert "gpu-0" not in told
    assert "prod-gpu" not in told
    assert "gpu-0" in (tmp_path / "report.json").read_text()


# --- runs -----------------------------------------------------------------------------------------------------------

HOST, UUID, ADDRESS = "qx7-worker-3.ec2.internal", "7b1f2d6e-aaaa-4bbb-8ccc-123456789abc", "10.44.3.17"
SECRETS = {name: f"qsecretq-{name}" for name in ("token", "environment", "data", "argument", "entry")}


def objects():
    """A cluster of one broken node, with whatever must not get out wherever Kubernetes lets it be."""
    amounts = {"nvidia.com/gpu": "8", "cpu": "8", "pods": "110"}
    node = {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": HOST, "uid": UUID, "labels": {"kubernetes.io/hostname": HOST, "example/uuid": UUID}},
        "spec": {"providerID": "aws:///zone/i-qx7aaaaaa"},
        "status": {
            "capacity": amounts, "allocatable": amounts, "conditions": [
                {"type": "Ready", "status": "False", "reason": "Bad", "message": f"{HOST} {ADDRESS} GPU-{UUID} is lost"}
            ],
            "addresses": [{"type": "InternalIP", "address": ADDRESS}, {"type": "Hostname", "address": HOST}],
            "nodeInfo": {"kubeletVersion": "v1.36.3"},
        },
    }  # fmt: skip
    container = {
        "name": "main", "image": "registry.qcorp.example:5000/a/b:1",
        "env": [{"name": "API_TOKEN", "value": SECRETS["environment"]}],
        "args": [f"--token={SECRETS['argument']}"],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }  # fmt: skip
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "team"},
        "spec": {"nodeName": HOST, "containers": [container]}, "status": {"phase": "Running", "podIP": ADDRESS},
    }  # fmt: skip
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "team"},
        "data": {"key": SECRETS["data"]}, "stringData": {"token": SECRETS["token"]},
    }  # fmt: skip
    entry = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "gpu-operator"},
        "data": {"config.yaml": f"password: {SECRETS['entry']}"},
    }  # fmt: skip
    return [node, pod, secret, entry]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "qcluster.json.gz"
    snapshot.save(snapshot.Snapshot.of(objects()), path)
    return path


EVERY = ",".join(name for name in FORMATS if name != "cncf")


def written(folder: Path, outcome) -> str:
    files = [each for each in (folder / "gpu-conformance-report").rglob("*") if each.is_file()]
    assert {"report.json", "junit.xml", "events.ndjson", "report.html"} <= {each.name for each in files}
    return outcome.output + "\n".join(each.read_text() for each in files)


def test_a_redacted_run_writes_and_says_nothing_of_its_machines(conform, file, tmp_path):
    outcome = conform("--cluster", f"snapshot:{file}", "--gpu-redact", "--gpu-report-formats", EVERY)
    told = written(tmp_path, outcome).replace(str(tmp_path), "")

    assert "x-node-" in told
    for secret in (HOST, UUID, ADDRESS, "i-qx7aaaaaa", "qcorp", "qcluster"):
        assert secret not in told, secret


def test_no_output_of_a_run_holds_a_secret(conform, file, tmp_path):
    outcome = conform("--cluster", f"snapshot:{file}", "--gpu-report-formats", EVERY, "-v")
    told = written(tmp_path, outcome) + gzip.decompress(file.read_bytes()).decode()

    assert HOST in told
    assert "qsecretq" not in told


def test_what_a_kubeconfig_holds_is_in_no_message(conform, tmp_path):
    config = tmp_path / "config"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:9'}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "users: [{name: u, user: {token: qsecretq-token, password: qsecretq-password}}]\n"
    )
    outcome = conform("--cluster", "c", "--gpu-kubeconfig", str(config), "--gpu-timeout", "retry=0.1", "-v")

    assert outcome.exit_code == 4
    assert "qsecretq" not in outcome.output


def test_a_redacted_snapshot_names_no_machine_and_gives_the_same_verdicts(conform, file, tmp_path):
    shown = tmp_path / "shown.json.gz"
    snapshot.save(redacted_snapshot(snapshot.open_file(file), Redactor(KEY)), shown)
    content = gzip.decompress(shown.read_bytes()).decode()

    for secret in (HOST, UUID, ADDRESS, "i-qx7aaaaaa", "qcorp"):
        assert secret not in content, secret
    before = conform("--cluster", f"snapshot:{file}")
    after = conform("--cluster", f"snapshot:{shown}")
    assert after.statuses == before.statuses
    assert before.exit_code in (1, EXIT_INCOMPLETE)
