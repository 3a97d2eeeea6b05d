"""Paths, names and errors of objects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.kube.errors import UnclearPath
from conformance.kube.names import is_run_id, own_prefix
from conformance.kube.paths import PLACES, UnknownKind, path, path_of, segment, segments


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (path("Node"), "/api/v1/nodes"),
        (path("Node", name="a", subresource="status"), "/api/v1/nodes/a/status"),
        (path("Pod"), "/api/v1/pods"),
        (path("Pod", namespace="demo"), "/api/v1/namespaces/demo/pods"),
        (path("Pod", namespace="demo", name="a"), "/api/v1/namespaces/demo/pods/a"),
        (path("Namespace", name="demo"), "/api/v1/namespaces/demo"),
        (path("Deployment", namespace="demo"), "/apis/apps/v1/namespaces/demo/deployments"),
        (path("ResourceSlice"), "/apis/resource.k8s.io/v1/resourceslices"),
        (
            path("ClusterRole", name="system:node"),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
        ),
        (
            path("ServiceAccount", namespace="demo", name="a", subresource="token"),
            "/api/v1/namespaces/demo/serviceaccounts/a/token",
        ),
    ],
)
def test_kinds_have_their_paths(made: str, expected: str) -> None:
    assert made == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "Node", "namespace": "demo"},
        {"kind": "Pod", "name": "a"},
        {"kind": "Pod", "namespace": "demo", "subresource": "status"},
        {"kind": "Pod", "namespace": "..", "name": "a"},
        {"kind": "Pod", "namespace": "demo", "name": "a/exec"},
        {"kind": "Pod", "namespace": "demo", "name": ""},
        {"kind": "Pod", "namespace": "demo", "name": "%2e%2e"},
    ],
)
def test_what_could_be_no_object_has_no_path(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        path(**wrong)


def test_an_unknown_kind_says_so() -> None:
    with pytest.raises(UnknownKind, match="Podd"):
        path("Podd")


def test_an_object_keeps_its_own_version_within_its_group() -> None:
    claim = {"apiVersion": "resource.k8s.io/v1beta2", "kind": "DeviceClass", "metadata": {"name": "gpu"}}

    assert path_of(claim) == "/apis/resource.k8s.io/v1beta2/deviceclasses/gpu"


def test_a_kind_of_another_group_is_not_taken_for_ours() -> None:
    with pytest.raises(UnknownKind):
        path_of({"apiVersion": "example.com/v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}})


@pytest.mark.parametrize("metadata", [{}, {"name": "a"}, None, {"name": "", "namespace": "b"}])
def test_an_object_without_name_or_namespace_has_no_path(metadata: object) -> None:
    with pytest.raises(ValueError):
        path_of({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})


@pytest.mark.parametrize("kind", PLACES)
def test_every_path_of_the_table_has_one_reading(kind: str) -> None:
    where = PLACES[kind]
    made = where.path(namespace="demo" if where.namespaced else None, name="a:b")

    assert segments(made)[-1] == "a:b"


@given(st.text(min_size=1, max_size=20))
def test_a_segment_is_either_refused_or_reads_back_as_it_was(name: str) -> None:
    try:
        written = segment(name)
    except (ValueError, UnicodeEncodeError):
        return
    assert segments(f"/api/{written}") == ("api", name)


def test_a_space_in_a_role_name_is_encoded_once() -> None:
    assert path("ClusterRole", name="gpu users").endswith("/gpu%20users")
    with pytest.raises(UnclearPath):
        segments("/api/gpu users")


def test_run_ids_are_eight_characters_starting_with_a_letter() -> None:
    assert own_prefix("a1234567") == "gpuc-a1234567-"
    assert not any(map(is_run_id, ["", "a123456", "a12345678", "1abcdefg", "Abcdefgh", "abcdefg-", "abcdefgh\n"]))
