"""Whose a namespace and a priority class are."""

import msgspec
import pytest

from conformance.reference import Reference, load
from conformance.reference.model import Platform, PriorityClass, Team
from conformance.reference.platform import PARTS, platform_of_class, platform_of_namespace
from conformance.shipped import shipped


@pytest.fixture(scope="module")
def declared() -> Reference:
    """The shipped set-up with a platform of its own."""
    own = Platform(namespaces=("corp-*",), priority_classes=("corp-critical",))
    return msgspec.structs.replace(load(shipped("fixtures/reference")), platform=own)


@pytest.mark.parametrize(
    ("namespace", "whose"),
    [
        ("kube-system", "Kubernetes"),
        ("openshift-monitoring", "OpenShift"),
        ("gmp-system", "GKE"),
        ("calico-system", "Calico"),
        ("longhorn-system", "Longhorn"),
        ("cattle-monitoring-system", "Rancher"),
        ("nvidia-network-operator", "Network Operator"),
        ("corp-agents", "the platform of"),
        ("kubeflow", ""),
        ("default", ""),
        ("ml-serving", ""),
    ],
)
def test_a_namespace_is_the_platforms_by_its_name(declared: Reference, namespace: str, whose: str) -> None:
    found = platform_of_namespace(namespace, declared)

    assert bool(found) == bool(whose)
    assert whose in found


def test_the_namespace_of_a_declared_team_is_never_the_platforms(declared: Reference) -> None:
    team = Team(namespace="corp-research")

    assert platform_of_namespace("corp-research", declared)
    assert not platform_of_namespace("corp-research", msgspec.structs.replace(declared, teams=(team,)))


def test_a_class_is_the_platforms_unless_the_owners_declare_it(declared: Reference) -> None:
    assert platform_of_class("gmp-critical", declared) == "GKE"
    assert platform_of_class("system-node-critical", declared) == "Kubernetes"
    assert platform_of_class("azure-critical", declared) == "AKS"
    assert platform_of_class("openshift-user-critical", declared) == "OpenShift"
    assert platform_of_class("rancher-critical", declared) == "Rancher"
    assert platform_of_class("gardener-shoot-system-900", declared) == "Gardener"
    assert platform_of_class("corp-critical", declared)
    assert not platform_of_class("training-normal", declared)
    own = PriorityClass(name="gmp-critical", value=1)
    assert not platform_of_class("gmp-critical", msgspec.structs.replace(declared, priority_classes=(own,)))


def test_every_part_says_where_its_names_come_from() -> None:
    assert [part.title for part in PARTS if not part.source or not part.namespaces] == []
