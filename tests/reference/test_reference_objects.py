"""The objects that a set-up stands for, and what the two shipped set-ups say in them."""

from pathlib import Path
from typing import Any

import pytest

from conformance.gpu.affinity import node_matches
from conformance.gpu.taints import Taint, toleration_from, untolerated
from conformance.reference import load, objects
from conformance.reference.model import Pool, Reference, Workload
from conformance.reference.objects import ORDER, STAGES, name_of
from conformance.shipped import shipped

MISTAKES = {"TEN-03", "TEN-10", "SCHED-14", "PRIO-09", "PRIO-13", "PRIO-14", "QUOTA-04"}


@pytest.fixture(scope="module")
def corrected() -> Reference:
    return load(shipped("fixtures/reference"))


@pytest.fixture(scope="module")
def literal() -> Reference:
    return load(shipped("fixtures/guide"))


def made(reference: Reference, kind: str, name: str = "") -> list[dict[str, Any]]:
    return [each for each in objects(reference) if each["kind"] == kind and name in ("", each["metadata"]["name"])]


def pod_spec(workload: Workload) -> dict[str, Any]:
    assert workload.manifest is not None
    spec: dict[str, Any] = workload.manifest["spec"]["template"]["spec"]
    return spec


def pods_fit(spec: dict[str, Any], pool: Pool) -> bool:
    labels = {**pool.selector, **pool.labels}
    tolerations = [toleration_from(each) for each in spec["tolerations"]]
    taints = [Taint(taint.key, taint.value, taint.effect) for taint in pool.taints]
    return node_matches(labels, "node", None, spec["affinity"]["nodeAffinity"]) and not untolerated(tolerations, taints)


def test_objects_come_in_an_order_in_which_they_can_be_created(corrected: Reference) -> None:
    kinds = [each["kind"] for each in objects(corrected)]

    assert kinds == sorted(kinds, key=ORDER.index)
    assert set(ORDER) <= {kind for stage in STAGES for kind in stage}


def test_objects_are_fresh_each_time(corrected: Reference) -> None:
    made(corrected, "Deployment")[0]["spec"]["replicas"] = 99
    made(corrected, "LimitRange")[0]["spec"]["limits"][0]["default"]["cpu"] = "99"

    assert made(corrected, "Deployment")[0]["spec"]["replicas"] == 2
    assert made(corrected, "LimitRange")[0]["spec"]["limits"][0]["default"]["cpu"] == "2"


def test_a_role_binding_names_its_role_and_its_account(corrected: Reference) -> None:
    (binding,) = made(corrected, "RoleBinding")

    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "inference-role"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "inference-server", "namespace": "ml-serving"}]


def test_a_quota_for_priority_classes_gets_a_scope(tmp_path: Path) -> None:
    file = tmp_path / "set-up.yaml"
    file.write_text(
        "name: scoped\n"
        "teams: [{namespace: a, quotas: [{name: q, hard: {pods: 1}, priority_classes: [system-node-critical]}]}]\n"
    )
    reference = load(file)

    (quota,) = made(reference, "ResourceQuota")

    assert quota["spec"] == {
        "hard": {"pods": "1"},
        "scopeSelector": {
            "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]
        },
    }


def test_objects_are_named_in_words(corrected: Reference) -> None:
    assert name_of(made(corrected, "Job")[0]) == "Job ml-training/model-finetuning"
    assert name_of(made(corrected, "Namespace", "ml-serving")[0]) == "Namespace ml-serving"


# --- the corrected set-up ---------------------------------------------------------------------------------------


def test_every_workload_fits_its_pools_and_no_other(corrected: Reference, literal: Reference) -> None:
    for reference in (corrected, literal):
        for workload in reference.workloads:
            assert {pool.name for pool in reference.pools if pods_fit(pod_spec(workload), pool)} == set(workload.pools)


def test_every_declared_preference_can_be_met(corrected: Reference) -> None:
    for workload in corrected.workloads:
        allowed = [pool for pool in corrected.pools if pool.name in workload.pools]
        affinity = pod_spec(workload)["affinity"]["nodeAffinity"]
        for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", []):
            wish = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term["preference"]]}}
            assert any(node_matches({**pool.selector, **pool.labels}, "node", None, wish) for pool in allowed)


def test_workloads_carry_what_is_declared_for_them(corrected: Reference) -> None:
    for workload in corrected.workloads:
        spec = pod_spec(workload)
        assert spec["priorityClassName"] == workload.priority_class
        assert spec["serviceAccountName"] == workload.service_account
        for container in spec["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert not container["image"].endswith(":latest")


def test_every_team_has_a_gpu_quota_that_renaming_does_not_escape(corrected: Reference) -> None:
    limits = {}
    for team in corrected.teams:
        (quota,) = team.quotas
        limits[team.namespace] = quota.hard["requests.nvidia.com/gpu"]
        counted = ("requests.nvidia.com/", "gpu.nvidia.com.deviceclass.", "mig.nvidia.com.deviceclass.")
        assert all(key.startswith(counted) for key in quota.hard)
        assert {value for key, value in quota.hard.items() if key != "requests.nvidia.com/gpu"} == {"0"}
    assert limits == {"ml-serving": "8", "ml-training": "32", "ml-notebook": "2"}


def test_limit_ranges_give_cpu_and_memory_and_never_gpus(corrected: Reference) -> None:
    for team in corrected.teams:
        (limits,) = team.limit_ranges
        for item in limits.items:
            assert item["default"].keys() == item["defaultRequest"].keys() == {"cpu", "memory"}


def test_no_service_account_mounts_a_token(corrected: Reference) -> None:
    accounts = made(corrected, "ServiceAccount")

    assert len(accounts) == 3
    assert all(account["automountServiceAccountToken"] is False for account in accounts)


def test_a_preempted_trainer_keeps_its_retries(corrected: Reference) -> None:
    (job,) = made(corrected, "Job")

    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert job["spec"]["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    ]


# --- the guide taken literally -----------------------------------------------------------------------------------


def test_each_mistake_of_the_guide_is_still_in_it(literal: Reference) -> None:
    (account,) = made(literal, "ServiceAccount")
    inference, training = (pod_spec(literal.workloads_for(role)[0]) for role in ("inference", "training"))
    preferred = inference["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    highest = literal.priority_class("inference-critical")
    default = literal.default_priority_class
    assert highest is not None
    assert default is not None

    assert "automountServiceAccountToken" not in account, "TEN-03"
    assert account["metadata"]["annotations"] == {"automountServiceAccountToken": "false"}, "TEN-03"
    assert "serviceAccountName" not in inference, "TEN-10"
    assert preferred[0]["preference"]["matchExpressions"][0]["values"] == ["40gb", "80gb"], "SCHED-14"
    assert default.preemption_policy == "PreemptLowerPriority", "PRIO-09"
    assert "priorityClassName" not in training, "PRIO-13"
    assert (highest.preemption_policy, highest.preempts) == ("Never", ("experiment-low",)), "PRIO-14"
    assert not any(team.quotas for team in literal.teams), "QUOTA-04"


def test_each_mistake_names_the_requirement_that_finds_it() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in shipped("fixtures/guide").rglob("*.yaml"))

    assert {mistake for mistake in MISTAKES if f"MISTAKE, found by {mistake}" in text} == MISTAKES


def test_the_page_about_the_mistakes_has_a_chapter_for_each() -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide-mistakes.md").read_text(encoding="utf-8")

    assert {mistake for mistake in MISTAKES if f"## {mistake}\n" in page} == MISTAKES


def test_both_set_ups_describe_the_same_fleet() -> None:
    fleets = [
        {pool.name: (pool.selector, pool.nodes, pool.taints, pool.gpu and (pool.gpu.product, pool.gpu.count))
         for pool in load(shipped(f"fixtures/{name}")).pools}
        for name in ("reference", "guide")
    ]  # fmt: skip

    assert fleets[0] == fleets[1]
