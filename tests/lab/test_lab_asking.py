from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from lab_runs import RUN_ID
from memory_cluster import MemoryCluster

from conformance.kube.effects import Effect
from conformance.kube.errors import EffectRefused, NotFound
from conformance.kube.names import RUN_LABEL
from conformance.lab import Accepted, Rejected, RequirementLab
from conformance.verdict import Inconclusive


def bare_pod(gpus: int = 0, **metadata: str) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    container = {"name": "a", "image": "b", "resources": {"limits": limits}}
    spec = {"containers": [container], "schedulingGates": [{"name": "x"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", **metadata}, "spec": spec}


def test_what_is_accepted_is_shown_as_it_then_is(scenario: RequirementLab, memory: MemoryCluster) -> None:
    answer = scenario.create_or_refusal(bare_pod())

    assert isinstance(answer, Accepted)
    assert answer
    assert answer.object["metadata"]["labels"][RUN_LABEL] == RUN_ID
    assert memory.of("Pod") == ["bare"]


def test_the_callers_object_is_left_as_it_was(scenario: RequirementLab) -> None:
    pod = bare_pod()
    del pod["spec"]["schedulingGates"]

    scenario.create_or_refusal(pod)

    assert pod == {**bare_pod(), "spec": {"containers": bare_pod()["spec"]["containers"]}}


def test_a_quota_refuses_and_says_so(scenario: RequirementLab, memory: MemoryCluster) -> None:
    namespace = scenario.namespace(name_hint="quota")
    quota = scenario.quota(namespace, {"requests.nvidia.com/gpu": 1})
    scenario.pod(namespace=namespace, gpus=1, gated=True)
    quota.wait_until_used({"requests.nvidia.com/gpu": 1})

    answer = scenario.create_or_refusal(bare_pod(1, namespace=namespace))

    assert isinstance(answer, Rejected)
    assert not answer
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert "exceeded quota: quota-1" in str(answer)
    assert scenario.dry_run(bare_pod(1, namespace=namespace)) == answer
    assert memory.of("Pod") == ["pod-1"]


def test_a_dry_run_in_a_teams_namespace_creates_nothing(
    scenario_of: Callable[[Effect], RequirementLab], memory: MemoryCluster
) -> None:
    answer = scenario_of(Effect.OWN_NAMESPACE).dry_run(bare_pod(namespace="team"))

    assert isinstance(answer, Accepted)
    assert memory.of("Pod") == []


def test_a_refusal_of_ourselves_is_no_verdict_about_the_object(scenario: RequirementLab, memory: MemoryCluster) -> None:
    memory.forbidden.add(("POST", "Pod"))
    memory.allowed = lambda attributes: False

    with pytest.raises(Inconclusive, match="grant create"):
        scenario.create_or_refusal(bare_pod())


def test_a_namespace_that_is_not_there_is_no_verdict_about_the_object(scenario: RequirementLab) -> None:
    with pytest.raises(NotFound, match="namespace nowhere"):
        scenario.dry_run(bare_pod(namespace="nowhere"))


def test_objects_for_the_namespaces_of_others_are_refused_before_they_are_sent(
    scenario: RequirementLab, memory: MemoryCluster
) -> None:
    with pytest.raises(ValueError, match=r"Pod bare is for namespace team, none of the lab's own"):
        scenario.create_or_refusal(bare_pod(namespace="team"))
    with pytest.raises(ValueError, match="none of the lab's own"):
        scenario.quota("team", {"pods": 1})
    with pytest.raises(ValueError, match="none of the lab's own"):
        scenario.apply(bare_pod(namespace="kube-system"))


def test_applying_gives_the_runs_labels_too(scenario: RequirementLab, memory: MemoryCluster) -> None:
    namespace = scenario.namespace()
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": namespace}, "data": {}}
    memory.add("ConfigMap", "c", namespace)

    assert scenario.apply(config)["metadata"]["labels"][RUN_LABEL] == RUN_ID


def test_raw_pods_are_judged_by_their_reach_as_well(scenario_of: Callable[[Effect], RequirementLab]) -> None:
    pod = bare_pod(1)
    del pod["spec"]["schedulingGates"]

    with pytest.raises(EffectRefused, match="occupies-idle-gpus"):
        scenario_of(Effect.OWN_NAMESPACE).create_or_refusal(pod)


@pytest.mark.parametrize("subject", ["team/bot", ("team", "bot"), SimpleNamespace(namespace="team", name="bot")])
def test_the_authorizer_is_asked_for_the_account(scenario: RequirementLab, memory: MemoryCluster, subject: Any) -> None:
    memory.allowed = lambda attributes: attributes["verb"] == "list" and attributes["namespace"] == "team"

    assert scenario.can(subject, "list", "pods", namespace="team")
    assert not scenario.can(subject, "delete", "pods", namespace="team")
    assert not scenario.can(subject, "list", "pods")


def test_who_may_not_ask_the_authorizer_could_not_look(scenario: RequirementLab, memory: MemoryCluster) -> None:
    memory.forbidden.add(("POST", "SubjectAccessReview"))

    with pytest.raises(Inconclusive, match="grant create on subjectaccessreviews"):
        scenario.can("team/bot", "get", "pods")


def test_what_an_account_may_do_is_tried_without_changing_anything(
    scenario: RequirementLab, memory: MemoryCluster
) -> None:
    memory.add("ServiceAccount", "bot", "team")
    memory.add("ConfigMap", "x", "team")
    memory.forbidden |= {("DELETE", "ConfigMap"), ("GET", "Secret")}
    view = scenario.as_service_account("team", "bot")
    before = memory.everything()

    assert view.allowed("get", "ConfigMap", "team", "x")
    assert view.allowed("list", "configmaps", "team")
    assert view.allowed("get", "ConfigMap", "team", "not-there")
    assert not view.allowed("delete", "ConfigMap", "team", "x")
    assert not view.allowed("list", "secrets", "team")
    assert memory.everything() == before


def test_what_cannot_be_tried_is_said(scenario: RequirementLab) -> None:
    view = scenario.as_service_account("team", "bot")

    with pytest.raises(ValueError, match="verb 'impersonate' cannot be tried"):
        view.allowed("impersonate", "pods")
    with pytest.raises(ValueError, match="'wombats' is no kind"):
        view.allowed("get", "wombats")
