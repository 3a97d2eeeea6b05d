"""A run may be asked about the next GPU Operator or the next Kubernetes, and judges what bears on that only."""

import pytest

from conformance.facts.snapshot import Snapshot, save

USAGE = 4
INCOMPLETE = 10
OPERATOR = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "gpu-operator", "namespace": "gpu-operator", "labels": {"app": "gpu-operator"}},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "gpu-operator"}},
        "template": {
            "metadata": {"labels": {"app": "gpu-operator"}},
            "spec": {"containers": [{"name": "gpu-operator", "image": "nvcr.io/nvidia/gpu-operator:v25.10.1"}]},
        },
    },
    "status": {"availableReplicas": 1},
}
POLICY = {
    "apiVersion": "nvidia.com/v1",
    "kind": "ClusterPolicy",
    "metadata": {"name": "cluster-policy"},
    "spec": {"driver": {"version": "580.105.08"}},
}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "name": "gpu-1",
        "labels": {"eks.amazonaws.com/nodegroup": "t4-inference", "nvidia.com/gpu.present": "true"},
    },
    "status": {
        "capacity": {"nvidia.com/gpu": "4"},
        "allocatable": {"nvidia.com/gpu": "4"},
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "v1.35.2", "containerRuntimeVersion": "containerd://2.1.5"},
    },
}
OF_OPERATOR = {"UPG-22", "UPG-23", "UPG-24", "UPG-25", "UPG-26"}
OF_KUBERNETES = {"UPG-27", "UPG-28", "UPG-29", "UPG-31"}


@pytest.fixture
def audit(conform, tmp_path):
    """Audit the cluster with these options."""
    save(Snapshot.of([NODE, OPERATOR, POLICY]), tmp_path / "a.json.gz")

    def of(*options):
        return conform("--cluster", "snapshot:a.json.gz", "--gpu-reference=corrected-guide", *options)

    return of


def of_upgrades(outcome):
    return {each for each, status in outcome.statuses.items() if each.startswith("UPG-") and status != "not-run"}


@pytest.mark.parametrize(
    ("option", "target", "judged"),
    [
        ("--gpu-pre-upgrade-operator=v26.3.3", "GPU Operator v26.3.3", OF_OPERATOR),
        ("--gpu-pre-upgrade-kubernetes=v1.36.2", "Kubernetes 1.36", OF_KUBERNETES),
    ],
)
def test_only_what_bears_on_the_target_is_judged(audit, tmp_path, option, target, judged):
    outcome = audit(option, "--gpu-report-formats=markdown,html")

    assert of_upgrades(outcome) == judged
    assert outcome.report["upgrade"]["target"] == target
    assert f"for {target}" in outcome.output
    for name in ("upgrade-baseline.json", "summary.md", "report.html", "junit.xml"):
        (file,) = tmp_path.rglob(name)
        assert target in file.read_text()


def test_the_next_release_passes_and_one_that_skips_fails(audit):
    assert audit("--gpu-pre-upgrade-operator=26.3.3").statuses["UPG-22"] == "passed"

    outcome = audit("--gpu-pre-upgrade-operator=26.7.0")

    assert outcome.exit_code == 1
    assert "UPG-22" in outcome.report["upgrade"]["failed"]
    assert "it would skip v26.3" in outcome.told("UPG-22")


def test_an_operator_that_nobody_knows_is_no_go_for_nobody(audit):
    outcome = audit("--gpu-pre-upgrade-operator=31.1.0")

    assert "not judged: the tables do not know" in outcome.output
    assert outcome.statuses["UPG-22"] == "unsupported"
    assert "UPG-22" not in outcome.report["upgrade"]["failed"]
    assert outcome.report["upgrade"]["decision"] != "go"


def test_an_operator_older_than_the_tables_is_known_to_go_back(audit):
    outcome = audit("--gpu-pre-upgrade-operator=v23.9.0")

    assert outcome.report["upgrade"]["decision"] == "no-go"
    assert "v23.9.0 is older than the operator that is installed" in outcome.told("UPG-22")


def test_kubernetes_that_the_operator_was_not_validated_with_is_named(audit):
    outcome = audit("--gpu-pre-upgrade-kubernetes=1.36")

    assert outcome.statuses["UPG-27"] == "passed"
    assert outcome.statuses["UPG-29"] == "passed"
    assert "validated with Kubernetes 1.30 to 1.35" in outcome.told("UPG-28")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gpu-pre-upgrade-operator=latest"], "'latest' is no version of the GPU Operator such as v26.7.0"),
        (["--gpu-pre-upgrade-kubernetes=next"], "'next' is no release of Kubernetes such as 1.36"),
        (["--gpu-pre-upgrade=595.91.07", "--gpu-pre-upgrade-operator=26.7.0"], "give one of them"),
        (["--gpu-pre-upgrade="], "'' is no NVIDIA driver version"),
        (["--gpu-pre-upgrade-operator="], "'' is no version of the GPU Operator"),
        (["--gpu-pre-upgrade-kubernetes="], "'' is no release of Kubernetes"),
        (["--gpu-pre-upgrade-kubernetes=1.36foo"], "'1.36foo' is no release of Kubernetes"),
        (["--gpu-post-upgrade="], "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_one_usage_error(audit, options, said):
    outcome = audit(*options)

    assert outcome.exit_code == USAGE
    assert said in outcome.output
    assert "Traceback" not in outcome.output


def test_after_the_upgrade_of_an_operator_no_driver_is_wanted(audit, tmp_path):
    audit("--gpu-pre-upgrade-operator=26.3.3", "--gpu-report=out")

    outcome = audit(f"--gpu-post-upgrade={tmp_path / 'out' / 'upgrade-baseline.json'}")

    assert outcome.statuses["UPG-13"] == "not-applicable"
    assert outcome.statuses["UPG-11"] == "passed"
    assert outcome.report["upgrade"]["target"] == "GPU Operator v26.3.3"
