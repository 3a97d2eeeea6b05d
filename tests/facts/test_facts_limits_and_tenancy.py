"""Quotas, limit ranges, priorities, rights: read, and decided as Kubernetes decides."""

from typing import Any

import pytest

from conformance.facts import Facts, PriorityClass, ResourceQuota, Rule, ScopeTerm, ServiceAccount
from conformance.facts.limits import PodTraits


def metadata(name: str, namespace: str = "ml-serving") -> dict[str, Any]:
    return {"name": name, "namespace": namespace}


def test_a_quota_tells_the_keys_that_nobody_counts() -> None:
    facts = Facts.from_objects(
        [
            {
                "kind": "ResourceQuota",
                "metadata": metadata("gpus"),
                "spec": {"hard": {"requests.nvidia.com/gpu": "4", "limits.nvidia.com/gpu": "4", "nvidia.com/gpu": "4"}},
                "status": {"used": {"requests.nvidia.com/gpu": "1"}},
            }
        ]
    )
    (quota,) = facts.quotas_in("ml-serving")

    assert quota.ignored_keys == ("limits.nvidia.com/gpu", "nvidia.com/gpu")
    assert facts.quotas_in("elsewhere") == ()
    assert str(quota) == "quota ml-serving/gpus"


@pytest.mark.parametrize(
    ("terms", "counted"),
    [
        ([], ["", "high", "low"]),
        ([ScopeTerm(scope="PriorityClass", operator="In", values=("high",))], ["high"]),
        ([ScopeTerm(scope="PriorityClass", operator="NotIn", values=("high",))], ["", "low"]),
        ([ScopeTerm(scope="PriorityClass", operator="Exists")], ["high", "low"]),
        ([ScopeTerm(scope="PriorityClass", operator="DoesNotExist")], [""]),
        ([ScopeTerm(scope="Terminating")], ["", "high", "low"]),
    ],
    ids=["unscoped", "in", "not-in", "exists", "does-not-exist", "other-scope"],
)
def test_a_scoped_quota_counts_the_classes_that_it_names(terms: list[ScopeTerm], counted: list[str]) -> None:
    quota = ResourceQuota(name="q", scope_selector=tuple(terms))

    assert [each for each in ("", "high", "low") if quota.counts_class(each)] == counted


@pytest.mark.parametrize(
    ("scope", "counted"),
    [
        ("Terminating", PodTraits(terminating=True)),
        ("NotTerminating", PodTraits()),
        ("BestEffort", PodTraits(best_effort=True)),
        ("NotBestEffort", PodTraits()),
        ("CrossNamespacePodAffinity", PodTraits(crosses_namespaces=True)),
    ],
)
def test_every_scope_counts_only_the_pods_that_it_is_about(scope: str, counted: PodTraits) -> None:
    plain, selected = (
        ResourceQuota(name="q", scopes=(scope,)),
        ResourceQuota(name="q", scope_selector=(ScopeTerm(scope=scope),)),
    )
    opposite = PodTraits(terminating=True, best_effort=True) if counted == PodTraits() else PodTraits()

    for quota in (plain, selected):
        assert quota.counts(counted)
        assert not quota.counts(opposite)


def test_a_pod_meets_all_scopes_of_a_quota_or_is_not_counted() -> None:
    quota = ResourceQuota(name="q", scopes=("NotTerminating", "PriorityClass"))

    assert quota.counts(PodTraits(priority_class="high"))
    assert not quota.counts(PodTraits())
    assert not quota.counts(PodTraits(priority_class="high", terminating=True))
    assert not ResourceQuota(name="q", scopes=("ScopeOfTomorrow",)).counts(PodTraits())


def test_the_plain_scope_priority_class_counts_pods_that_have_a_class() -> None:
    quota = ResourceQuota(name="q", scopes=("PriorityClass",))

    assert quota.counts_class("any")
    assert not quota.counts_class("")


def test_a_limit_range_gives_defaults_to_containers_only() -> None:
    items = [
        {"type": "Container", "default": {"cpu": 1, "memory": "2Gi"}, "defaultRequest": {"cpu": "500m"}},
        {"type": "Pod", "max": {"nvidia.com/gpu": 8}},
    ]
    facts = Facts.from_objects([{"kind": "LimitRange", "metadata": metadata("d"), "spec": {"limits": items}}])
    (limits,) = facts.limit_ranges_in("ml-serving")

    assert limits.container_defaults == {"cpu": "1", "memory": "2Gi"}
    assert limits.items[0].default_request == {"cpu": "500m"}
    assert limits.items[1].max == {"nvidia.com/gpu": "8"}


def test_only_a_higher_class_that_may_preempt_preempts() -> None:
    inference = PriorityClass(name="inference", value=1000, preemption_policy="Never")
    training = PriorityClass(name="training", value=500)
    experiment = PriorityClass(name="experiment", value=100)

    assert training.preempts(experiment)
    assert not experiment.preempts(training)
    assert not inference.preempts(experiment)
    assert not training.preempts(training)


def test_of_several_default_classes_the_lowest_is_given() -> None:
    facts = Facts.from_objects(
        [
            {"kind": "PriorityClass", "metadata": {"name": "b"}, "value": 5, "globalDefault": True},
            {"kind": "PriorityClass", "metadata": {"name": "a"}, "value": "-5", "globalDefault": True},
            {"kind": "PriorityClass", "metadata": {"name": "c"}, "value": -9, "preemptionPolicy": "Never"},
        ]
    )

    assert facts.default_priority_class == facts.priority_class("a")
    assert [each.may_preempt for each in facts.priority_classes] == [True, True, False]
    assert Facts.from_objects([]).default_priority_class is None


def test_the_field_of_a_service_account_is_told_from_the_annotation_of_that_name() -> None:
    annotated = metadata("annotated") | {"annotations": {"automountServiceAccountToken": "false"}}
    facts = Facts.from_objects(
        [
            {"kind": "ServiceAccount", "metadata": annotated},
            {"kind": "ServiceAccount", "metadata": metadata("closed"), "automountServiceAccountToken": False},
        ]
    )

    assert facts.service_account("ml-serving", "annotated").automounts_token is None
    assert facts.service_account("ml-serving", "closed").automounts_token is False
    assert facts.service_account("elsewhere", "closed") is None


@pytest.mark.parametrize(
    "subject",
    [
        {"kind": "ServiceAccount", "name": "model", "namespace": "ml-serving"},
        {"kind": "ServiceAccount", "name": "model"},
        {"kind": "Group", "name": "system:serviceaccounts:ml-serving"},
        {"kind": "Group", "name": "system:authenticated"},
        {"kind": "User", "name": "system:serviceaccount:ml-serving:model"},
    ],
    ids=["itself", "in-the-namespace-of-the-binding", "group", "everyone", "user-name"],
)
def test_a_binding_reaches_a_service_account_on_every_way(subject: dict[str, str]) -> None:
    role_ref = {"kind": "Role", "name": "reader"}
    facts = Facts.from_objects(
        [
            {"kind": "RoleBinding", "metadata": metadata("b"), "roleRef": role_ref, "subjects": [subject]},
            {"kind": "Role", "metadata": metadata("reader"), "rules": [{"verbs": ["get"], "resources": ["pods"]}]},
            {"kind": "Role", "metadata": metadata("reader", "elsewhere")},
        ]
    )
    (binding,) = facts.bindings_of(ServiceAccount(name="model", namespace="ml-serving"))

    assert facts.role_of(binding) == facts.roles_in("ml-serving")[0]
    assert facts.bindings_of(ServiceAccount(name="model", namespace="elsewhere")) == (
        (binding,) if subject["name"] == "system:authenticated" else ()
    )


def test_a_binding_to_a_role_that_is_not_there_gives_nothing() -> None:
    role_ref = {"kind": "ClusterRole", "name": "gone"}
    facts = Facts.from_objects([{"kind": "ClusterRoleBinding", "metadata": {"name": "b"}, "roleRef": role_ref}])

    assert facts.role_of(facts.cluster_role_bindings[0]) is None


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (Rule(api_groups=("",), resources=("pods",), verbs=("get",)), True),
        (Rule(api_groups=("*",), resources=("*",), verbs=("*",)), True),
        (Rule(api_groups=("apps",), resources=("pods",), verbs=("get",)), False),
        (Rule(api_groups=("",), resources=("secrets",), verbs=("get",)), False),
        (Rule(api_groups=("",), resources=("pods",), verbs=("list",)), False),
        (Rule(api_groups=("",), resources=("pods",), verbs=("get",), resource_names=("other",)), False),
        (Rule(api_groups=("",), resources=("pods/log",), verbs=("get",)), False),
    ],
    ids=str,
)
def test_a_rule_allows_what_the_authorizer_would(rule: Rule, allowed: bool) -> None:
    assert rule.allows("get", "pods", name="p") is allowed


def test_a_subresource_needs_a_rule_of_its_own() -> None:
    rule = Rule(api_groups=("",), resources=("pods", "*/log"), verbs=("get",))

    assert rule.allows("get", "pods", subresource="log")
    assert not rule.allows("get", "pods", subresource="exec")


def test_disruption_budgets_cover_the_pods_that_they_select() -> None:
    def pod(name: str, namespace: str, **labels: str) -> dict[str, Any]:
        return {"kind": "Pod", "metadata": metadata(name, namespace) | {"labels": labels}}

    facts = Facts.from_objects(
        [
            {
                "kind": "PodDisruptionBudget",
                "metadata": metadata("keep"),
                "spec": {"minAvailable": "50%", "maxUnavailable": 1, "selector": {"matchLabels": {"app": "a"}}},
            },
            {"kind": "PodDisruptionBudget", "metadata": metadata("all"), "spec": {"selector": {}}},
            {"kind": "PodDisruptionBudget", "metadata": metadata("none"), "spec": {}},
            pod("a", "ml-serving", app="a"),
            pod("b", "ml-serving", app="b"),
            pod("c", "elsewhere", app="a"),
        ]
    )
    covering = {each.name: [b.name for b in facts.disruption_budgets_of(each)] for each in facts.pods}

    assert covering == {"a": ["keep", "all"], "b": ["all"], "c": []}
    assert (facts.disruption_budgets[0].min_available, facts.disruption_budgets[0].max_unavailable) == ("50%", "1")
