"""The simulated device plugin as a stack: what is deployed, how it is marked, what is refused."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from conformance.deploy import deploy, withdraw
from conformance.deploy.helm.values_text import values_text
from conformance.deploy.installing import InstallError
from conformance.facts import Facts
from conformance.kube.names import SIMULATED_GPUS
from conformance.reference import InvalidReference, Reference, load
from conformance.session.evidence import evidence_of
from conformance.simulator.hardware import Machine
from conformance.verdict import EvidenceKind
from suites._shared.operands import expected_components
from suites.operator.stack_faults import expected_stacks

NODES = "/api/v1/nodes"
PLUGIN = "/apis/apps/v1/namespaces/gpus/daemonsets/gpu-conformance-simulated-plugin-t4"
SETUP = """
name: laptop
stack: {kind: simulated-plugin, namespace: gpus}
pools:
  - name: t4
    selector: {pool: t4}
    nodes: 1
    gpu: {model: t4, product: Tesla-T4, count: 2, memory_mib: 15360}
  - name: cpu
    selector: {pool: cpu}
"""


class NoHelm:
    """An installer that has nothing to install."""

    def has(self, *_: Any) -> bool:
        raise AssertionError("no release belongs to the stack")

    install = uninstall = has


def loaded(folder: Path, text: str) -> Reference:
    (folder / "reference.yaml").write_text(text)
    return load(folder)


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    return loaded(tmp_path, SETUP)


@pytest.fixture
def laptop(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A node with the labels of each pool, in a cluster without a stack."""
    listed = fleet.list

    def list_everywhere(path: str, **selectors: Any) -> list[dict[str, Any]]:
        if path != "/apis/apps/v1/daemonsets":
            return list(listed(path, **selectors))
        return [each for place, each in sorted(fleet.objects.items()) if "/daemonsets/" in place]

    monkeypatch.setattr(fleet, "list", list_everywhere)
    for place in [place for place in fleet.objects if place.startswith(f"{NODES}/")]:
        del fleet.objects[place]
    for name in ("t4", "cpu"):
        fleet.add(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"pool": name}}, "spec": {}}
        )
    return fleet


def test_a_daemon_set_brings_what_each_pool_declares(laptop: Any, reference: Reference) -> None:
    deploy(laptop, reference, installer=NoHelm())

    made = laptop.get(PLUGIN)
    [container] = made["spec"]["template"]["spec"]["containers"]
    [machine] = [word.partition("=")[2] for word in container["args"] if word.startswith("--machine=")]
    machine = msgspec.json.decode(machine, type=Machine)
    assert made["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "t4"}
    assert (machine.product, machine.gpus, machine.memory_mib) == ("Tesla T4", 2, 15360)
    assert machine.offered_as == "nvidia.com/gpu"
    assert machine.driver


def test_whatever_belongs_to_it_says_that_it_is_simulated(laptop: Any, reference: Reference) -> None:
    deploy(laptop, reference, installer=NoHelm())

    made = laptop.get(PLUGIN)
    labels = [laptop.get(f"{NODES}/t4")["metadata"]["labels"], made["metadata"]["labels"]]
    labels.append(made["spec"]["template"]["metadata"]["labels"])
    assert [each[SIMULATED_GPUS] for each in labels] == ["true"] * 3
    assert SIMULATED_GPUS not in laptop.get(f"{NODES}/cpu")["metadata"]["labels"]


def test_nodes_that_say_so_are_no_evidence_of_hardware() -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "t4", "labels": {SIMULATED_GPUS: "true"}}}
    facts = Facts.from_objects([node])

    assert evidence_of("context", EvidenceKind.HARDWARE, facts) is EvidenceKind.SIMULATED


def test_nor_are_nodes_beside_a_plugin_that_was_applied_by_hand(reference: Reference) -> None:
    """As ``gpu-conformance values`` prints it: nobody has labelled the nodes."""
    printed = yaml.safe_load(values_text(reference))
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "t4", "labels": {"pool": "t4"}}}
    facts = Facts.from_objects([node, *printed["items"]])

    assert evidence_of("context", None, Facts.from_objects([node])) is EvidenceKind.HARDWARE
    assert evidence_of("context", None, facts) is EvidenceKind.SIMULATED


def test_deploying_again_finds_nothing_in_the_way_and_withdrawing_leaves_nothing(
    laptop: Any, reference: Reference
) -> None:
    before = json.dumps(laptop.objects[f"{NODES}/t4"]["metadata"]["labels"])
    deploy(laptop, reference, installer=NoHelm())

    again = deploy(laptop, reference, installer=NoHelm())
    assert (again.left_alone, again.created, again.updated) == ("", (), ())

    withdraw(laptop, reference, installer=NoHelm())
    assert PLUGIN not in laptop.objects
    assert json.dumps(laptop.objects[f"{NODES}/t4"]["metadata"]["labels"]) == before


def test_a_plugin_of_somebody_else_is_left_alone(laptop: Any, reference: Reference) -> None:
    theirs = {"name": "nvidia-device-plugin-ctr", "image": "nvcr.io/nvidia/k8s-device-plugin"}
    spec = {"template": {"spec": {"containers": [theirs]}}}
    metadata = {"name": "plugin", "namespace": "kube-system"}
    laptop.add({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec})

    done = deploy(laptop, reference, installer=NoHelm())

    assert "daemonset kube-system/plugin" in done.left_alone
    assert PLUGIN not in laptop.objects


def test_nodes_that_are_all_played_run_no_plugin(laptop: Any, reference: Reference) -> None:
    for name in ("t4", "cpu"):
        laptop.objects[f"{NODES}/{name}"]["metadata"]["annotations"] = {"kwok.x-k8s.io/node": "fake"}

    with pytest.raises(InstallError, match=r"every node of this cluster is simulated.*--cluster kind"):
        deploy(laptop, reference, installer=NoHelm())


CLAIMED = "gpu-conformance-simulated-dra-driver-kubelet-plugin"


@pytest.fixture
def claimed(tmp_path: Path) -> Reference:
    """Devices of the pool are given to claims."""
    return loaded(tmp_path, SETUP.replace("memory_mib: 15360", "memory_mib: 15360, allocated_by: dra"))


def test_where_dra_allocates_the_daemon_set_is_a_dra_driver_and_offers_nothing_by_count(
    laptop: Any, claimed: Reference
) -> None:
    deploy(laptop, claimed, installer=NoHelm())

    assert PLUGIN not in laptop.objects
    made = laptop.get(f"/apis/apps/v1/namespaces/gpus/daemonsets/{CLAIMED}-t4")
    spec = made["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert "--dra=/var/lib/kubelet" in container["args"]
    [machine] = [word.partition("=")[2] for word in container["args"] if word.startswith("--machine=")]
    assert msgspec.json.decode(machine, type=Machine).offered_as == ""
    paths = {each["hostPath"]["path"] for each in spec["volumes"]}
    assert {"/var/lib/kubelet/plugins_registry", "/var/lib/kubelet/plugins/gpu.nvidia.com", "/var/run/cdi"} <= paths
    assert spec["serviceAccountName"] == CLAIMED
    assert "automountServiceAccountToken" not in spec


@pytest.mark.parametrize("setup", ["reference", "claimed"])
def test_what_is_deployed_is_the_stack_that_is_judged(setup: str, request: pytest.FixtureRequest) -> None:
    declared: Reference = request.getfixturevalue(setup)
    facts = Facts.from_objects(yaml.safe_load(values_text(declared))["items"])

    assert declared.stack is not None
    assert (facts.stack.stack,) == expected_stacks(declared.stack, declared)
    [expected] = expected_components(facts, declared) or [None]
    if setup == "claimed":
        assert [each.name for each in expected.workloads] == [f"{CLAIMED}-t4"]


def test_the_dra_driver_may_do_what_it_needs_and_no_more_and_is_withdrawn_with_it(
    laptop: Any, claimed: Reference
) -> None:
    deploy(laptop, claimed, installer=NoHelm())

    role = laptop.get(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{CLAIMED}")
    may = {each: rule["verbs"] for rule in role["rules"] for each in rule["resources"]}
    assert may["resourceclaims"] == ["get"]
    assert set(may) == {"nodes", "events", "resourceclaims", "resourceslices"}
    device_class = laptop.get("/apis/resource.k8s.io/v1/deviceclasses/gpu.nvidia.com")
    assert device_class["metadata"]["labels"][SIMULATED_GPUS] == "true"
    binding = laptop.get(f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{CLAIMED}")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": CLAIMED, "namespace": "gpus"}]

    again = deploy(laptop, claimed, installer=NoHelm())
    assert (again.left_alone, again.created, again.updated) == ("", (), ())
    withdraw(laptop, claimed, installer=NoHelm())

    assert not [place for place in laptop.objects if CLAIMED in place or "deviceclasses" in place]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("memory_mib: 15360", "replicas: 4, shared_by: time-slicing"), "GPUs that are shared"),
        (("namespace: gpus", "dra: {}"), "NVIDIA's DRA driver"),
        (("kind: simulated-plugin", "kind: device-plugin, image: mine"), "is of the kind simulated-plugin only"),
    ],
)
def test_what_it_cannot_offer_is_refused(tmp_path: Path, change: tuple[str, str], why: str) -> None:
    with pytest.raises(InvalidReference, match=why):
        loaded(tmp_path, SETUP.replace(*change))
