"""Reading a cluster: page by page, odd objects set aside, unreadable kinds remembered."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from paged_server import PagedServer, node, pod

from conformance.facts import Facts, read, snapshot
from conformance.facts.kinds import EVERYWHERE
from conformance.kube.errors import ApiError, BrokenOff, Unreachable
from conformance.verdict import Inconclusive


def test_reading_lists_every_kind_once_and_keeps_the_order_of_the_pages(server: PagedServer) -> None:
    facts = read(server)

    assert sorted(server.listed) == sorted(EVERYWHERE)
    assert [each.name for each in facts.pods] == ["train-a", "train-b", "train-done"]
    assert facts.server_version == "v1.36.3"
    assert facts.odd == ()


def test_facts_are_of_the_api_servers_time(server: PagedServer) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    server.clock = lambda: tomorrow

    assert read(server).taken_at == tomorrow
    assert snapshot.take(server).taken_at == tomorrow


def test_reading_gives_what_the_plain_objects_give(server: PagedServer) -> None:
    from_objects = Facts.from_objects(server.objects)
    facts = read(server)

    assert facts.nodes == from_objects.nodes
    assert facts.pods == from_objects.pods
    assert facts.namespaces == from_objects.namespaces


def test_a_list_that_starts_again_counts_nothing_twice(server: PagedServer) -> None:
    server.restarts = {"Pod"}

    assert [each.name for each in read(server).pods] == ["train-a", "train-b", "train-done"]


@pytest.mark.parametrize("version", ["v1.34.0", "v1.36.1-gke.2", "v2.0.0"])
def test_long_lists_come_in_one_answer_where_the_server_writes_it_item_by_item(
    server: PagedServer, version: str
) -> None:
    server.version = version
    read(server)

    assert sorted(server.in_one_answer) == ["Node", "Pod"]


@pytest.mark.parametrize("version", ["v1.33.9", "v1.9.0", "", "unknown"])
def test_other_servers_are_asked_for_pages(server: PagedServer, version: str) -> None:
    server.version = version

    assert [each.name for each in read(server).pods] == ["train-a", "train-b", "train-done"]
    assert server.in_one_answer == []


@pytest.mark.parametrize(
    "error", [BrokenOff("/api/v1/pods", "closed"), msgspec.DecodeError("cut within an item")], ids=["broken", "cut"]
)
def test_a_long_answer_that_breaks_off_is_read_again_in_pages_and_counts_nothing_twice(
    server: PagedServer, error: Exception
) -> None:
    server.broken["Pod"] = error

    assert [each.name for each in read(server).pods] == ["train-a", "train-b", "train-done"]


def test_a_kind_that_is_forbidden_is_told_only_to_who_asks_for_it(server: PagedServer) -> None:
    server.failures["Pod"] = ApiError.from_response(
        403, b'{"kind":"Status","reason":"Forbidden","message":"ann cannot list pods"}', "GET", "/api/v1/pods"
    )
    facts = read(server)

    assert [each.name for each in facts.nodes] == ["gpu-1", "cpu-1"]
    assert set(facts.unreadable) == {"pods"}
    with pytest.raises(Inconclusive) as told:
        facts.pods_on("gpu-1")
    assert str(told.value) == "pods could not be read: Forbidden: ann cannot list pods; grant list on pods"


def test_a_missing_right_names_the_api_group_to_grant() -> None:
    facts = Facts.from_objects([], {"PodDisruptionBudget": "Forbidden: no"})

    with pytest.raises(Inconclusive, match=r"; grant list on poddisruptionbudgets of API group policy$"):
        _ = facts.disruption_budgets


def test_a_list_cut_off_in_the_middle_counts_as_unread_rather_than_as_short(server: PagedServer) -> None:
    server.failures["Pod"] = Unreachable("https://127.0.0.1:1", "connection reset")

    with pytest.raises(Inconclusive, match="connection reset"):
        _ = read(server).pods


def test_an_unreachable_server_is_an_error_at_once(server: PagedServer) -> None:
    server.down = True

    with pytest.raises(Unreachable):
        read(server)
    assert server.listed == []


@pytest.mark.parametrize("page", [b"<html>log in</html>", b'{"items": "none"}', b"[]"], ids=["html", "text", "array"])
def test_a_page_that_is_no_list_makes_its_kind_unreadable(server: PagedServer, page: bytes) -> None:
    server.raw["Node"] = [page]

    with pytest.raises(Inconclusive, match="nodes could not be read: the answer is no list in JSON"):
        _ = read(server).nodes


@pytest.mark.parametrize("items", [None, []], ids=["null", "empty"])
def test_a_list_without_items_is_empty(server: PagedServer, items: list[object] | None) -> None:
    server.raw["Node"] = [msgspec.json.encode({"kind": "NodeList", "items": items})]

    assert read(server).nodes == ()


def test_one_odd_object_costs_only_itself(server: PagedServer) -> None:
    odd = pod("odd")
    odd["spec"]["containers"] = "none"
    server.objects.insert(3, odd)
    server.objects.append(pod("clinging", spec={"affinity": "a100"}))
    server.objects.append({"kind": "Pod", "metadata": {"namespace": "ml-training"}})
    facts = read(server)

    assert [each.name for each in facts.pods] == ["train-a", "train-b", "train-done"]
    assert [each.name for each in facts.odd] == ["odd", "clinging", "without a name"]
    assert str(facts.odd[0]) == "pod ml-training/odd"
    assert "$.spec.containers" in facts.odd[0].reason
    assert "$.spec.affinity" in facts.odd[1].reason
    assert "name" in facts.odd[2].reason


def test_null_lists_missing_members_and_numbers_as_text_are_not_odd() -> None:
    facts = Facts.from_objects(
        [
            {"kind": "Node", "metadata": {"name": "bare", "labels": None}},
            {"kind": "Node", "metadata": {"name": "null"}, "spec": {"taints": None}, "status": None},
            {
                "kind": "Node",
                "metadata": {"name": "yaml"},
                "spec": {"taints": [{"key": "dedicated", "value": None, "effect": "NoSchedule"}]},
                "status": {"allocatable": {"nvidia.com/gpu": 4}, "conditions": None},
            },
            {
                "kind": "Pod",
                "metadata": {"name": "bare"},
                "spec": {"priority": "100", "tolerations": None, "affinity": None},
            },
            {"kind": "Deployment", "metadata": {"name": "bare"}, "spec": {"replicas": "3", "template": None}},
            {"kind": "ResourceQuota", "metadata": {"name": "bare"}, "spec": {"hard": {"requests.nvidia.com/gpu": 4}}},
            {"kind": "RoleBinding", "metadata": {"name": "bare"}, "subjects": None},
        ]
    )

    assert facts.odd == ()
    assert facts.node("yaml").gpus() == 4
    assert facts.pods[0].priority == 100
    assert facts.pods[0].containers == ()
    assert facts.workloads[0].replicas == 3
    assert facts.quotas[0].hard == {"requests.nvidia.com/gpu": "4"}


def test_lists_among_plain_objects_are_unpacked_and_other_kinds_passed_over() -> None:
    listed = node("b")
    del listed["kind"]
    facts = Facts.from_objects(
        [
            {"kind": "NodeList", "items": [listed]},
            {"kind": "List", "items": [node("a"), pod("p")]},
            {"kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "x"}},
        ]
    )

    assert [each.name for each in facts.nodes] == ["b", "a"]
    assert [each.name for each in facts.pods] == ["p"]


def test_an_unreadable_kind_that_nobody_reads_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="Unicorn: not among the kinds that are read"):
        Facts.from_objects([], {"Unicorn": "Forbidden"})
