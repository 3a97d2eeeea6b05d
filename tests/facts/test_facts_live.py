"""A real API server: everything is readable, nothing is odd, and a snapshot says the same."""

from pathlib import Path
from typing import Any

import pytest

from conformance.facts import Facts, read, snapshot

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
