"""Where settings are changed for good: in the values of Helm, in an object that OLM leaves alone, in a Subscription."""

import pytest
from operated_cluster import OPERATOR, WORKER, Cluster
from operator_chapters import SETTINGS, STACK, TOLERATIONS, other, tolerations

from suites.operator.consequences import what_to_do_first

HELM = {"app.kubernetes.io/managed-by": "Helm"}
OLM = {"olm.owner": "gpu-operator-certified.v26.7.0", "olm.owner.kind": "ClusterServiceVersion"}


def by_olm(cluster):
    cluster.get("Deployment", OPERATOR)["metadata"]["labels"] = OLM
    return cluster


def remedy_of(cluster, requirement):
    (finding,) = (each for each in cluster.verdict(requirement).judge.findings if not each.ok)
    return finding.remedy


def test_a_field_of_a_release_is_set_in_its_values_and_one_of_nobody_in_the_object(cluster):
    cluster.policy()["spec"]["mig"]["strategy"] = "mixed"
    # The requirement's own.
    assert remedy_of(cluster, SETTINGS) == ""

    by_olm(cluster)
    assert "kubectl edit clusterpolicy cluster-policy" in remedy_of(cluster, SETTINGS)

    cluster.policy()["metadata"]["labels"] = HELM
    assert remedy_of(cluster, SETTINGS) == ""


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        ("v26.3.3", "drain the GPU nodes, or upgrade the operator"),
        ("v26.7.0", "create the NVIDIADriver objects"),
        ("own", "drain the GPU nodes, or upgrade the operator"),
    ],
)
def test_whoever_lets_driver_objects_take_over_is_told_what_that_does_to_running_drivers(reference, tag, told):
    declared = other(reference, values={"driver": {"nvidiaDriverCRD": {"enabled": True}}})
    cluster = Cluster(declared)
    cluster.policy()["spec"]["driver"]["useNvidiaDriverCRD"] = False
    deployment = cluster.get("Deployment", OPERATOR)
    deployment["metadata"]["labels"] = HELM
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        container["image"] = f"registry.example.com/gpu-operator:{tag}"

    remedy = remedy_of(cluster, SETTINGS)

    assert told in remedy
    assert "Helm values" in remedy


def test_drivers_of_the_policy_come_back_only_when_driver_objects_are_deleted(reference):
    declared = other(reference, values={"driver": {"nvidiaDriverCRD": {"enabled": False}}})
    cluster = Cluster(declared)
    cluster.policy()["spec"]["driver"]["useNvidiaDriverCRD"] = True

    assert "away from all of its nodes at once" in remedy_of(cluster, SETTINGS)


@pytest.mark.parametrize(
    ("path", "declared", "told"),
    [
        ("driver.version", "580.105.08", "pytest --gpu-pre-upgrade 580.105.08"),
        ("version", "580.105.08", "pytest --gpu-pre-upgrade 580.105.08"),
        ("driver.enabled", False, "deletes its drivers from all nodes at once"),
        ("toolkit.enabled", False, "no new pod with GPUs starts"),
        ("devicePlugin.enabled", False, "new pods stay Pending"),
        ("driver.enabled", True, ""),
        ("dcgmExporter.enabled", False, ""),
    ],
)
def test_what_a_change_does_to_running_pods_at_once_is_said_before_it_is_recommended(path, declared, told):
    found = what_to_do_first(path, declared, None)

    assert told in found
    assert bool(found) == bool(told)


def test_a_release_is_helms_or_that_of_a_subscription(cluster):
    cluster.get("Deployment", OPERATOR)["metadata"]["labels"] = {**HELM, "helm.sh/chart": "gpu-operator-v25.3.4"}
    assert "Upgrade the release" in remedy_of(cluster, STACK)

    cluster.get("Deployment", OPERATOR)["metadata"]["labels"] = {**OLM, "olm.owner": "gpu-operator-certified.v25.3.4"}
    assert "channel of the Subscription" in remedy_of(cluster, STACK)


@pytest.mark.parametrize(
    ("namespace", "labels", "owners", "told"),
    [
        (OPERATOR, HELM, [], "node-feature-discovery.worker.tolerations"),
        ("node-feature-discovery", HELM, [], "worker.tolerations of the chart node-feature-discovery"),
        (
            "openshift-nfd",
            {},
            [{"apiVersion": "nfd.openshift.io/v1", "kind": "NodeFeatureDiscovery", "name": "nfd-instance"}],
            "spec.operand.workerTolerations of NodeFeatureDiscovery nfd-instance",
        ),
    ],
)
def test_the_worker_of_discovery_tolerates_where_its_owner_says_so(cluster, namespace, labels, owners, told):
    tolerations(cluster, WORKER, [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}])
    worker = cluster.daemonset(WORKER)
    worker["metadata"] |= {"namespace": namespace, "labels": labels, "ownerReferences": owners}

    assert f"to {told}:" in remedy_of(cluster, TOLERATIONS)
