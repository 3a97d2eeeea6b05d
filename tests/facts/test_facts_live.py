"""A real API server: everything is readable, nothing is odd, and a snapshot says the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paged_server import config_map, operator
from patience import PATIENCE

from conformance.facts import Facts, Resource, read, snapshot
from conformance.kube.errors import NotFound
from conformance.kube.paths import path, path_of
from conformance.kube.waits import wait_for

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def facts(cluster: Any) -> Facts:
    return read(cluster.client)


def test_everything_is_readable_and_nothing_is_odd(facts: Facts) -> None:
    assert facts.unreadable == {}
    assert facts.odd == ()
    assert facts.server_version.startswith("v1.")
    assert facts.simulated


def test_what_every_cluster_has_is_there(facts: Facts) -> None:
    assert facts.namespace("kube-system") is not None
    assert facts.service_account("default", "default") is not None
    assert facts.priority_class("system-node-critical").is_system
    assert any(role.name == "cluster-admin" for role in facts.cluster_roles)
    assert facts.role_of(facts.cluster_role_bindings[0]) is not None


def test_a_snapshot_gives_the_same_facts(cluster: Any, facts: Facts, tmp_path: Path) -> None:
    snapshot.save(snapshot.take(cluster.client), tmp_path / "live")
    saved = snapshot.load(tmp_path / "live")

    assert {each.name: each.labels for each in saved.nodes} == {each.name: each.labels for each in facts.nodes}
    assert saved.cluster_roles == facts.cluster_roles
    assert saved.priority_classes == facts.priority_classes
    assert saved.unreadable == {}


def test_kinds_that_the_server_lacks_are_told_from_those_that_it_serves(facts: Facts) -> None:
    assert not facts.serves("ClusterPolicy")
    assert not facts.serves("Queue")
    assert facts.serves("ResourceSlice")
    assert facts.config_maps == ()


@pytest.fixture
def with_policy(cluster: Any) -> Iterator[Any]:
    """The shared cluster with a ClusterPolicy, an operator that never starts, and a ConfigMap of its settings."""
    deployment = operator()
    deployment["spec"] = {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "gpu-operator"}},
        "template": {
            "metadata": {"labels": {"app": "gpu-operator"}},
            "spec": {"containers": [{"name": "gpu-operator", "image": "none"}]},
        },
    }
    made = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gpu-operator"}},
        {"apiVersion": "apps/v1", **deployment, "status": {}},
        {"apiVersion": "v1", **config_map("time-slicing-config", "gpu-operator", any="version: v1")},
        {"apiVersion": "v1", **config_map("elsewhere", "default", any="version: v1")},
        POLICY_DEFINITION,
    ]
    policy = {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "cluster-policy"}}
    client = cluster.client
    try:
        for obj in made:
            client.apply(obj, manager="tests")
        wait_for(lambda: _applied(client, policy), bool, what="ClusterPolicies served", timeout=PATIENCE)
        # Two readings agree only once the controller has written the Deployment's status.
        where = path("Deployment", namespace="gpu-operator", name="gpu-operator")
        wait_for(
            lambda: client.get(where).get("status"),
            bool,
            what="the operator's Deployment has a status",
            timeout=PATIENCE,
        )
        yield cluster
    finally:
        for obj in [policy, *reversed(made)]:
            client.delete(path_of(obj))
        wait_for(lambda: _is_served(client), lambda served: not served, what="ClusterPolicies gone", timeout=PATIENCE)


POLICY_DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "clusterpolicies.nvidia.com"},
    "spec": {
        "group": "nvidia.com",
        "names": {"kind": "ClusterPolicy", "listKind": "ClusterPolicyList", "plural": "clusterpolicies"},
        "scope": "Cluster",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def _applied(client: Any, policy: dict[str, Any]) -> bool:
    try:
        client.apply(policy, manager="tests")
    except NotFound:
        return False
    return True


def _is_served(client: Any) -> bool:
    try:
        return client.list(path("ClusterPolicy")) is not None
    except NotFound:
        return False


def nameless(resources: tuple[Resource, ...]) -> list[Resource]:
    """Resources without the programs that wrote them, which a snapshot does not keep."""
    return [
        msgspec.structs.replace(each, writers=tuple(one._replace(program="") for one in each.writers))
        for each in resources
    ]


def test_a_stack_is_found_with_its_config_maps_and_saved_with_them(with_policy: Any, tmp_path: Path) -> None:
    found = read(with_policy.client)
    snapshot.save(snapshot.take(with_policy.client), tmp_path / "stack")
    saved = snapshot.load(tmp_path / "stack")

    assert found.stack.policy == "cluster-policy"
    assert found.stack.operators == ("gpu-operator/gpu-operator",)
    assert found.config_map("gpu-operator", "time-slicing-config").changed is not None
    assert all(each.namespace == "gpu-operator" for each in found.config_maps)
    assert saved.stack == found.stack
    assert nameless(saved.config_maps) == nameless(found.config_maps)
    assert nameless(saved.cluster_policies) == nameless(found.cluster_policies)
    assert nameless(saved.crds) == nameless(found.crds)
    assert [each.name for each in saved.crds if each.spec["group"] == "nvidia.com"] == ["clusterpolicies.nvidia.com"]
