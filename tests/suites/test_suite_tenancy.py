"""Tokens of service accounts: the field of a pod spec overrides that of its account. Reviews of what accounts do."""

import threading
from typing import Any

import pytest

from conformance.facts import Facts
from conformance.reference.model import Access, Binding, ServiceAccount, Team
from conformance.verdict import Inconclusive, Judge
from suites.tenancy.access_checks import AccessCheck, Account, accounts_of, reviewed
from suites.tenancy.test_tenancy import test_accounts_roles_and_bindings_grant_exactly_what_is_declared as exact_grants
from suites.tenancy.test_tenancy import test_accounts_without_need_of_a_token_have_the_field as tokenless
from suites.tenancy.test_tenancy import test_no_cluster_wide_binding_reaches_a_teams_account as cluster_wide

TEAM = "ml-serving"
ACCOUNT = Account(TEAM, ServiceAccount(name="server", automount_token=False))
LIVE = {
    "apiVersion": "v1",
    "kind": "ServiceAccount",
    "metadata": {"name": "server", "namespace": TEAM},
    "automountServiceAccountToken": False,
}


def spec(token: bool | None, account: str = "server") -> dict[str, Any]:
    field = {} if token is None else {"automountServiceAccountToken": token}
    return {"serviceAccountName": account, "containers": [{"name": "main", "image": "i"}], **field}


def deployment(token: bool | None, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "llm", "namespace": TEAM},
        "spec": {"template": {"spec": spec(token, **more)}},
    }


def pod(token: bool | None, name: str = "llm-1", phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": TEAM, **metadata},
        "spec": spec(token),
        "status": {"phase": phase},
    }


def broken(*objects: dict[str, Any]) -> list[str]:
    judge = Judge()
    tokenless((ACCOUNT,), Facts.from_objects([LIVE, *objects]), judge)
    return [str(each.subject) for each in judge.broken]


@pytest.mark.parametrize("token", [None, False])
def test_a_template_that_leaves_it_to_the_account_is_right(token):
    assert not broken(deployment(token), pod(token))


def test_a_template_that_overrides_the_account_is_reported_once_and_its_pods_with_it():
    owner = {"kind": "ReplicaSet", "name": "llm-5d9f", "controller": True, "apiVersion": "apps/v1", "uid": "r"}
    replicas = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": "llm-5d9f",
            "namespace": TEAM,
            "ownerReferences": [{"kind": "Deployment", "name": "llm", "controller": True, "uid": "d"}],
        },
    }

    assert broken(deployment(True), replicas, pod(True, ownerReferences=[owner])) == [f"deployment {TEAM}/llm"]


def test_a_pod_that_overrides_it_by_itself_is_reported_unless_it_has_ended():
    assert broken(pod(True, "notebook"), pod(True, "done", "Succeeded")) == [f"pod {TEAM}/notebook"]


def test_the_template_of_another_account_is_none_of_its_business():
    assert not broken(deployment(True, account="other"))


CHECKS = [AccessCheck(ACCOUNT, Access(verb, "pods")) for verb in ("get", "delete", "list", "create")]


class Reviews:
    """A lab whose API server answers once two reviews have arrived; it refuses those of ``refused``."""

    def __init__(self, refused: str = "") -> None:
        self._together = threading.Barrier(2, timeout=10)
        self._refused = refused

    def can(self, _account: Any, verb: str, _resource: str, **_where: str) -> bool:
        self._together.wait()
        if verb == self._refused:
            raise Inconclusive(f"nobody may ask about {verb}")
        return verb in ("get", "list")


def test_reviews_are_asked_for_side_by_side_and_told_in_their_order():
    decisions = list(reviewed(CHECKS, Reviews()))

    assert decisions == list(zip(CHECKS, ("allowed", "denied", "allowed", "denied"), strict=True))


def test_what_was_reviewed_before_a_refusal_is_told():
    answers = reviewed(CHECKS, Reviews("list"))

    assert [next(answers) for _ in range(2)] == [(CHECKS[0], "allowed"), (CHECKS[1], "denied")]
    with pytest.raises(Inconclusive, match="about list"):
        next(answers)


RBAC = "rbac.authorization.k8s.io"


def cluster_role(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)}


def bound(role: str, *subjects: str, namespace: str = "") -> dict[str, Any]:
    """A binding to groups, and to service accounts where a subject has a slash."""
    named = [
        {"kind": "ServiceAccount", "namespace": each.split("/")[0], "name": each.split("/")[1]}
        if "/" in each
        else {"kind": "Group", "apiGroup": RBAC, "name": each}
        for each in subjects
    ]
    kind, more = ("RoleBinding", {"namespace": namespace}) if namespace else ("ClusterRoleBinding", {})
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": kind,
        "metadata": {"name": f"{role}-binding", **more},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": named,
    }


def can(verbs: str, groups: str, resources: str) -> dict[str, Any]:
    return {
        "verbs": verbs.split(),
        "apiGroups": [each.strip("-") for each in groups.split()],
        "resources": resources.split(),
    }


def paths(*urls: str) -> dict[str, Any]:
    return {"verbs": ["get"], "nonResourceURLs": list(urls)}


EDIT = can("create delete", "- apps", "pods deployments")
DEFAULT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": TEAM}}
ELSEWHERE = Team(namespace="ml-training")
BOTH = [f"service account {TEAM}/default", f"service account {TEAM}/server"]


def reached_everywhere(*objects: dict[str, Any], declared: bool = True) -> list[str]:
    judge = Judge()
    team = Team(namespace=TEAM, service_accounts=(ACCOUNT.declared,) if declared else ())
    cluster_wide((team,), Facts.from_objects([LIVE, DEFAULT, *objects]), judge)
    return [str(each.subject) for each in judge.broken]


# As OpenShift 4, Calico's API server, KubeVirt and its data importer make and bind them (roles_for_everybody.py).
OF_PLATFORMS = [
    cluster_role(
        "basic-user",
        can("get", "user.openshift.io -", "users"),
        can("list watch", "project.openshift.io -", "projects"),
        can("get list", "rbac.authorization.k8s.io authorization.openshift.io", "clusterroles"),
        can("get list watch", "storage.k8s.io", "storageclasses"),
        can("create", "authorization.k8s.io", "selfsubjectaccessreviews"),
    ),
    cluster_role("cluster-status", paths("/healthz", "/healthz/*", "/version", "/")),
    cluster_role("system:build-strategy-docker", can("create", "build.openshift.io -", "builds/docker")),
    cluster_role("system:oauth-token-deleter", can("delete", "oauth.openshift.io -", "oauthaccesstokens")),
    cluster_role(
        "system:openshift:scc:restricted-v2", can("use", "security.openshift.io", "securitycontextconstraints")
    ),
    cluster_role(
        "system:scope-impersonation",
        can("impersonate", "authentication.k8s.io", "userextras/scopes.authorization.openshift.io"),
    ),
    cluster_role("calico-tiered-policy-passthrough", can("*", "projectcalico.org", "networkpolicies")),
    cluster_role("kubevirt.io:default", can("get list", "subresources.kubevirt.io", "version guestfs")),
    cluster_role("cdi.kubevirt.io:config-reader", can("get list watch", "cdi.kubevirt.io", "cdiconfigs")),
]


@pytest.mark.parametrize("role", OF_PLATFORMS, ids=lambda role: role["metadata"]["name"])
def test_what_a_platform_lets_everybody_do_is_none_of_a_teams_permissions(role):
    name = role["metadata"]["name"]

    assert not reached_everywhere(role, bound(name, "system:authenticated"))
    assert not reached_everywhere(role, bound(name, f"system:serviceaccounts:{TEAM}", namespace=TEAM))


@pytest.mark.parametrize("added", [can("list", "-", "secrets"), can("*", "*", "*"), paths("/metrics")], ids=str)
def test_a_platforms_role_that_somebody_widened_is_reported(added):
    role = cluster_role("kubevirt.io:default", can("get", "subresources.kubevirt.io", "version"), added)

    assert reached_everywhere(role, bound("kubevirt.io:default", "system:authenticated")) == BOTH


def test_a_platforms_role_given_to_an_account_by_name_is_reported():
    named = bound("calico-tiered-policy-passthrough", f"{TEAM}/server")

    assert reached_everywhere(OF_PLATFORMS[6], named) == [f"service account {TEAM}/server"]


def test_the_account_of_pods_that_name_none_is_a_teams_account():
    given = [cluster_role("edit", EDIT), bound("edit", f"{TEAM}/default")]

    assert reached_everywhere(*given) == [f"service account {TEAM}/default"]
    assert reached_everywhere(*given, declared=False) == [f"service account {TEAM}/default"]


@pytest.mark.parametrize("path", ["/metrics", "/logs/*", "/debug/pprof/*", "*", "/*"])
def test_paths_beyond_discovery_are_reported(path):
    assert (
        reached_everywhere(cluster_role("paths", paths("/api", path)), bound("paths", "system:authenticated")) == BOTH
    )


def given_in_its_namespace(*objects: dict[str, Any], bindings: tuple[Binding, ...] = ()) -> list[str]:
    judge = Judge()
    team = Team(namespace=TEAM, service_accounts=(ACCOUNT.declared,), bindings=bindings)
    exact_grants((team, ELSEWHERE), accounts_of((team,)), Facts.from_objects([LIVE, *objects]), judge)
    return [each.cause for each in judge.broken]


@pytest.mark.parametrize("group", ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{TEAM}"])
@pytest.mark.parametrize("namespace", [TEAM, ELSEWHERE.namespace])
def test_a_binding_of_a_group_that_an_account_is_in_gives_it_more(group, namespace):
    binding = bound("edit", group, namespace=namespace)

    told = f"role binding {namespace}/edit-binding gives it cluster role edit as well, by group {group}"
    assert given_in_its_namespace(cluster_role("edit", EDIT), binding) == [told]


def test_a_declared_binding_of_a_group_and_those_of_people_are_right():
    declared = Binding(name="edit-binding", role="edit", role_kind="ClusterRole", groups=("system:authenticated",))
    edit = cluster_role("edit", EDIT)

    binding = bound("edit", "system:authenticated", namespace=TEAM)
    assert not given_in_its_namespace(edit, binding, bindings=(declared,))
    assert not given_in_its_namespace(edit, bound("edit", "oidc:ml-engineers", namespace=TEAM))


def test_images_that_openshift_lets_a_projects_accounts_pull_are_no_permission_of_a_team():
    puller = cluster_role("system:image-puller", can("get", "- image.openshift.io", "imagestreams/layers"))
    binding = bound("system:image-puller", f"system:serviceaccounts:{TEAM}", namespace=TEAM)

    assert not given_in_its_namespace(puller, binding)
