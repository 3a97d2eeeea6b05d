"""Teams are the namespaces in which GPUs are asked for; what belongs to a platform is nobody's team."""

import pytest
from fleet import T4, gpu_nodes, named, pod, quota, workload

NODES = gpu_nodes("t4", 2, {"agentpool": "t4", **T4})
RBAC = "rbac.authorization.k8s.io/v1"
COUNTING = {"requests.nvidia.com/gpu": "4"}


def account(name, namespace="vision", **members):
    return named("ServiceAccount", name, namespace, apiVersion="v1", **members)


def role(name, namespace="vision"):
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    return named("Role", name, namespace, apiVersion=RBAC, rules=rules)


def binding(name, role, *accounts, namespace="vision", kind="Role"):
    subjects = [{"kind": "ServiceAccount", "name": each, "namespace": where} for where, each in accounts]
    return named(
        "RoleBinding", name, namespace, apiVersion=RBAC, roleRef={"kind": kind, "name": role}, subjects=subjects
    )


def test_a_namespace_with_gpu_pods_is_a_team(drafted):
    made = drafted(NODES, pod("vision", "p"), named("Namespace", "web", apiVersion="v1"))

    assert [team.namespace for team in made.reference.teams] == ["vision"]
    assert "pod vision/p asks for GPUs" in made.comments
    assert "no ResourceQuota of the namespace counts GPUs" in made.comments


def test_a_workload_is_the_better_reason(drafted):
    made = drafted(NODES, pod("vision", "p"), workload("Deployment", "vision", "detector"))

    assert "derived from: deployment vision/detector asks for GPUs" in made.comments
    assert "which account deployment vision/detector shall have: it runs as default" in made.comments


def test_a_fraction_of_kai_and_a_claim_ask_for_gpus(drafted):
    fraction = named(
        "Pod", "f", "kai-team", apiVersion="v1", metadata={"annotations": {"gpu-fraction": "0.5"}}, spec={}
    )
    claim = named(
        "ResourceClaimTemplate",
        "one-gpu",
        "dra-team",
        apiVersion="resource.k8s.io/v1",
        spec={"spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com"}}]}}},
    )
    claims = [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]
    claiming = named("Pod", "c", "dra-team", apiVersion="v1", spec={"resourceClaims": claims})
    made = drafted(NODES, fraction, claim, claiming)

    assert {team.namespace for team in made.reference.teams} == {"dra-team", "kai-team"}


def test_namespaces_of_platforms_are_no_teams(drafted):
    made = drafted(
        NODES, pod("kai-resource-reservation", "p"), pod("openshift-monitoring", "p"), pod("kube-system", "p")
    )

    assert made.reference.teams == ()
    assert "namespace kai-resource-reservation" in made.comments


def test_labels_of_programs_are_left_out(drafted):
    labels = {"team": "v", "kubernetes.io/metadata.name": "vision", "argocd.argoproj.io/instance": "x"}
    namespace = named("Namespace", "vision", apiVersion="v1", metadata={"labels": labels})

    assert drafted(NODES, pod("vision", "p"), namespace).reference.teams[0].labels == {"team": "v"}


def test_accounts_roles_and_bindings_are_declared(drafted):
    made = drafted(
        NODES, pod("vision", "p"), account("default"), account("server", automountServiceAccountToken=False),
        role("reader"), binding("read", "reader", ("vision", "server")),
    )  # fmt: skip

    (team,) = made.reference.teams
    assert [(each.name, each.automount_token) for each in team.service_accounts] == [("server", False)]
    assert [(each.role, each.service_accounts) for each in team.bindings] == [("reader", ("server",))]
    assert team.roles[0].rules[0].resources == ("pods",)


def test_the_annotation_that_nobody_reads_is_kept_so_that_it_is_judged(drafted):
    annotated = account("server", metadata={"annotations": {"automountServiceAccountToken": "false"}})
    (team,) = drafted(NODES, pod("vision", "p"), annotated).reference.teams

    assert team.service_accounts[0].annotations == {"automountServiceAccountToken": "false"}


def test_a_binding_to_a_role_that_does_not_exist_is_told(drafted):
    made = drafted(NODES, pod("vision", "p"), account("server"), binding("read", "gone", ("vision", "server")))

    assert made.reference.teams[0].bindings == ()
    assert [each.name for each in made.reference.teams[0].service_accounts] == ["server"]
    assert any("its role gone does not exist" in each for each in made.draft.contradictions)


def test_a_binding_of_an_account_of_another_namespace_cannot_be_declared(drafted):
    both = binding("deploy", "reader", ("vision", "server"), ("ci", "deployer"))
    made = drafted(NODES, pod("vision", "p"), account("server"), role("reader"), both)

    assert (made.reference.teams[0].bindings, made.reference.teams[0].service_accounts) == ((), ())
    assert "service account ci/deployer of another namespace" in made.comments


def test_a_cluster_wide_binding_contradicts_an_account(drafted):
    subjects = [{"kind": "ServiceAccount", "name": "server", "namespace": "vision"}]
    wide = named(
        "ClusterRoleBinding",
        "all",
        apiVersion=RBAC,
        roleRef={"kind": "ClusterRole", "name": "admin"},
        subjects=subjects,
    )
    made = drafted(NODES, pod("vision", "p"), account("server"), wide)

    assert any("in every namespace (TEN-09)" in each for each in made.draft.contradictions)


def test_quotas_are_declared_as_they_stand(drafted):
    (team,) = drafted(NODES, quota("vision", "gpus", {**COUNTING, "pods": "10"})).reference.teams

    assert team.quotas[0].hard == {"requests.nvidia.com/gpu": "4", "pods": "10"}


def test_a_quota_of_a_declared_class_keeps_its_scope(drafted):
    scope = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}
    high = named("PriorityClass", "high", apiVersion="scheduling.k8s.io/v1", value=10)
    (team,) = drafted(NODES, high, quota("vision", "gpus", COUNTING, scopeSelector=scope)).reference.teams

    assert team.quotas[0].priority_classes == ("high",)


def test_a_quota_that_a_set_up_cannot_hold_is_left_out_and_told(drafted):
    made = drafted(NODES, quota("vision", "gpus", COUNTING, scopes=["NotTerminating"]))

    assert made.reference.teams[0].quotas == ()
    assert "a set-up holds no quota of the scope NotTerminating" in made.comments


def test_a_quota_of_two_terms_counts_fewer_pods_than_a_set_up_can_say(drafted):
    names = [["high", "low"], ["high"]]
    terms = [{"scopeName": "PriorityClass", "operator": "In", "values": each} for each in names]
    high = named("PriorityClass", "high", apiVersion="scheduling.k8s.io/v1", value=10)
    low = named("PriorityClass", "low", apiVersion="scheduling.k8s.io/v1", value=5)

    made = drafted(NODES, high, low, quota("vision", "gpus", COUNTING, scopeSelector={"matchExpressions": terms}))

    assert made.reference.teams[0].quotas == ()


def test_a_key_that_counts_nothing_is_told_and_not_declared(drafted):
    made = drafted(NODES, quota("vision", "gpus", {"limits.nvidia.com/gpu": "4"}))

    assert made.reference.teams[0].quotas == ()
    assert any("say requests.nvidia.com/gpu" in each for each in made.draft.contradictions)


def test_a_key_that_hami_holds_is_declared_where_hami_manages_devices(drafted):
    register = {"hami.io/node-nvidia-register": "GPU-0,10,16384,100,NVIDIA-Tesla T4,0,true:"}
    nodes = [{**node, "metadata": {**node["metadata"], "annotations": register}} for node in NODES]

    made = drafted(nodes, quota("vision", "gpus", {"limits.nvidia.com/gpu": "4"}))

    assert [dict(each.hard) for each in made.reference.teams[0].quotas] == [{"limits.nvidia.com/gpu": "4"}]
    assert [each for each in made.draft.contradictions if "QUOTA" in each] == []


def of_scheduler(namespace, scheduler):
    made = pod(namespace, "p")
    made["spec"]["schedulerName"] = scheduler
    return made


LOCAL_QUEUE = named("LocalQueue", "q", "vision", apiVersion="kueue.x-k8s.io/v1beta1", spec={"clusterQueue": "all"})
SELECTING = named(
    "ClusterResourceQuota",
    "all",
    None,
    apiVersion="quota.openshift.io/v1",
    status={"namespaces": [{"namespace": "vision"}]},
)


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([pod("vision", "p")], "contradiction"),
        ([of_scheduler("vision", "default-scheduler")], "contradiction"),
        ([of_scheduler("vision", "kai-scheduler"), pod("vision", "q")], "contradiction"),
        ([of_scheduler("vision", "kai-scheduler")], "whether KAI bounds"),
        ([of_scheduler("vision", "runai-scheduler")], "whether Run:ai bounds"),
        ([of_scheduler("vision", "volcano")], "whether Volcano bounds"),
        ([of_scheduler("vision", "yunikorn")], "whether YuniKorn bounds"),
        ([pod("vision", "p"), LOCAL_QUEUE], "whether Kueue bounds"),
        ([pod("vision", "p"), SELECTING], "whether a ClusterResourceQuota bounds"),
        ([pod("vision", "p"), quota("vision", "gpus", COUNTING), LOCAL_QUEUE], ""),
    ],
)
def test_who_else_may_bound_the_gpus_of_a_team_is_a_decision_and_no_contradiction(drafted, objects, said):
    made = drafted(NODES, *objects, pod("speech", "p"), quota("speech", "gpus", COUNTING))

    assert len(made.draft.contradictions) == (said == "contradiction")
    assert ("bounds its GPUs as you want it" in made.comments) is said.startswith("whether")
    assert said in made.comments or said == "contradiction"


def test_the_only_team_contradicts_nothing_without_a_quota(drafted):
    made = drafted(NODES, pod("vision", "p"))

    assert made.draft.contradictions == ()
    assert "a quota before another team comes" in made.comments
