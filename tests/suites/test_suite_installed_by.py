"""Where settings are changed for good: in the values of Helm, in an object that OLM leaves alone, in a Subscription."""

import pytest
from operated_cluster import OPERATOR, WORKER
from operator_chapters import SETTINGS, STACK, TOLERATIONS, tolerations

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
