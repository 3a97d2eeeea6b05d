"""Tenancy: what a team's ServiceAccounts may do, and what is refused to them.

Each team has a namespace, and its workloads run as ServiceAccounts that may do exactly what their work needs: read
their own settings and their own tokens, look at their own pods. The chapter compares what is declared with the objects
of the cluster, then asks the API server for its decisions, and at last sends real requests with the accounts' own
tokens: the objects can look right while another binding, an aggregated role or a second authorizer decides otherwise.

Two mistakes recur. An *annotation* automountServiceAccountToken is read by no program; only the field of that name
keeps a token out of a pod. And a workload without serviceAccountName runs as `default`, whatever was granted to the
account that was meant for it.
"""

from typing import TypeAlias

import pytest

from conformance.catalog import MUST, ON_NO_NODE, OWN_NAMESPACE, Owner, requirement
from conformance.facts import Facts, Namespace, RoleBinding
from conformance.facts import ServiceAccount as LiveAccount
from conformance.lab import RequirementLab
from conformance.reference.model import Reference, Team
from conformance.verdict import Judge, NotApplicable, Waits, expect
from suites._shared.declared_workloads import not_deployed, pods_of, without_pods
from suites._shared.formatting import pairs
from suites.tenancy.access_checks import (
    ANNOTATION,
    AccessCheck,
    Account,
    accounts_of,
    declared_accesses,
    forbidden_accesses,
    reviewed,
)
from suites.tenancy.grants import (
    bindings_naming,
    bindings_of_its_groups,
    is_harmless,
    judge_bindings,
    judge_roles,
    listed,
    through,
)
from suites.tenancy.tokens import overriding

Object: TypeAlias = dict[str, object]


# --- What the owners declared ------------------------------------------------------------------------------------


@pytest.fixture
def teams(reference: Reference) -> tuple[Team, ...]:
    """The declared teams."""
    if not reference.teams:
        raise NotApplicable(f"{reference} declares no teams")
    return reference.teams


@pytest.fixture
def accounts(teams: tuple[Team, ...]) -> tuple[Account, ...]:
    """Every service account of every declared team."""
    declared = accounts_of(teams)
    if not declared:
        raise NotApplicable("no team declares a service account")
    return declared


@pytest.fixture
def allowed_access_checks(accounts: tuple[Account, ...]) -> tuple[AccessCheck, ...]:
    """Every access that is declared as allowed."""
    checks = declared_accesses(accounts)
    if not checks:
        raise NotApplicable("no service account declares allowed accesses (may)")
    return checks


@pytest.fixture
def denied_access_checks(accounts: tuple[Account, ...], teams: tuple[Team, ...]) -> tuple[AccessCheck, ...]:
    """Every access that must be denied: those declared so, and the allowed ones in the namespaces of other teams."""
    checks = forbidden_accesses(accounts, teams)
    if not checks:
        raise NotApplicable("no service account declares denied accesses (may_not)")
    return checks


# --- Objects of the cluster --------------------------------------------------------------------------------------


@requirement(
    "TEN-01",
    "Every declared namespace exists with its declared labels",
    level=MUST,
    sources=["guide-5"],
    remedy="Create the namespace with its labels, or set the missing ones (kubectl label namespace).",
)
def test_declared_namespaces_exist_with_their_labels(teams: tuple[Team, ...], facts: Facts, judge: Judge) -> None:
    for team in teams:
        namespace = facts.namespace(team.namespace)
        labels = namespace.labels if namespace else {}
        wrong = [key for key, value in team.labels.items() if labels.get(key) != value]
        judge(
            team,
            ok=namespace is not None and not namespace.deleting and not wrong,
            expected=pairs(team.labels) or "to exist",
            actual=_format_namespace(team, namespace),
            hidden_because="policies that select namespaces by label do not apply to it" if wrong else "",
            cause="somebody has deleted it, and what is left in it keeps it" if _is_going(namespace) else "",
            remedy=_when_it_has_gone(team.namespace) if _is_going(namespace) else "",
            inspect=f"kubectl get namespace {team.namespace} --show-labels",
        )


@requirement(
    "TEN-02",
    "ServiceAccounts, Roles and RoleBindings exist and grant exactly the declared rules",
    level=MUST,
    sources=["guide-5", "k8s-rbac"],
    remedy="Apply the declared objects and delete the bindings that nobody declared; the role of a binding cannot be "
    "changed, so delete and create it.",
)
def test_accounts_roles_and_bindings_grant_exactly_what_is_declared(
    teams: tuple[Team, ...], accounts: tuple[Account, ...], facts: Facts, judge: Judge
) -> None:
    for team in teams:
        judge_roles(team, facts, judge)
        judge_bindings(team, facts, judge)
    for account in accounts:
        exists = facts.service_account(*account.key) is not None
        declared = [f"role binding {account.namespace}/{name}" for name in _declared_bindings(account, teams)]
        reaching = (*bindings_naming(account.live, facts), *bindings_of_its_groups(account.live, teams, facts))
        naming = {str(binding): binding for binding in reaching}
        extra = next((binding for name, binding in naming.items() if name not in declared), None)
        judge(
            account,
            ok=exists and extra is None,
            expected=f"to be named by {listed(declared, 'no binding')} and no other",
            actual=f"named by {listed(naming, 'no binding')}" if exists else "no such service account",
            cause=_also_given(extra, account.live) if extra else "",
            hidden_because="the declared role looks right: permissions add up over all bindings" if extra else "",
            inspect=f"kubectl get rolebindings -A -o wide | grep {account.declared.name}",
        )


@requirement(
    "TEN-10",
    "Declared workloads and their pods run as their declared ServiceAccount",
    level=MUST,
    owner=Owner.WORKLOAD,
    sources=["guide-5", "k8s-service-account-tokens"],
    remedy="Set serviceAccountName in the pod template; its controller then replaces the pods.",
)
def test_declared_workloads_run_as_their_service_account(reference: Reference, facts: Facts, judge: Judge) -> None:
    declared = [workload for workload in reference.workloads if workload.service_account]
    if not declared:
        raise NotApplicable(f"{reference} declares no workload with a service account")
    for each in declared:
        for pod in pods_of(each, facts):
            judge(
                pod,
                ok=pod.finished or pod.service_account == each.service_account,
                expected=f"to run as {each.service_account}",
                actual=f"runs as {pod.service_account}",
                inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.spec.serviceAccountName}}'",
            )
        if not each.built_in:
            continue  # The template is not read: its pods tell.
        if absent := not_deployed(each, facts):
            judge.pass_over(each, absent)
            continue
        workload = facts.workload(each.kind, each.namespace, each.name)
        named = workload.template.service_account if workload else ""
        judge(
            each,
            ok=named == each.service_account,
            expected=f"serviceAccountName {each.service_account} in its pod template",
            actual=named or ("no serviceAccountName, so its pods run as default" if workload else "no such workload"),
            cause="the pod template names no service account" if workload and not named else "",
            hidden_because=f"{each.service_account} and its role exist and look right, and no pod uses them",
            inspect=f"kubectl get {each.kind.lower()} -n {each.namespace} {each.name} "
            "-o jsonpath='{.spec.template.spec.serviceAccountName}'",
        )
    judge.without_subjects(without_pods(declared))


# --- Tokens ------------------------------------------------------------------------------------------------------


@requirement(
    "TEN-03",
    "ServiceAccounts declared without a token have automountServiceAccountToken false, and no pod overrides it",
    level=MUST,
    owner=Owner.WORKLOAD,
    sources=["guide-5", "k8s-service-account-tokens"],
    remedy="Set automountServiceAccountToken: false at the top level of the ServiceAccount, beside metadata, and drop "
    "the annotation; leave the field out of pod templates.",
)
def test_accounts_without_need_of_a_token_have_the_field(
    accounts: tuple[Account, ...], facts: Facts, judge: Judge
) -> None:
    tokenless = [account for account in accounts if account.wants_no_token]
    if not tokenless:
        raise NotApplicable("no declared service account has automount_token: false")
    for account in tokenless:
        live = facts.service_account(*account.key)
        annotated = live is not None and ANNOTATION in live.annotations
        judge(
            account,
            ok=live is not None and live.automounts_token is False,
            expected="the field automountServiceAccountToken false",
            actual=_token_field(live),
            cause=f"the annotation {ANNOTATION} does nothing: only the field of that name does"
            if annotated and live and live.automounts_token is not False
            else "",
            hidden_because="kubectl describe shows the annotation, and every pod still mounts a token"
            if annotated
            else "",
            inspect=f"kubectl get serviceaccount -n {account.namespace} {account.declared.name} "
            "-o jsonpath='{.automountServiceAccountToken}'",
        )
        for user in overriding(account, facts):
            judge(
                user,
                ok=False,
                expected=f"a pod template that leaves automountServiceAccountToken to {account}",
                actual="automountServiceAccountToken true",
                cause="the field of the pod spec overrides that of the ServiceAccount: every container gets a token",
                hidden_because="the ServiceAccount looks right, and its field is what audits read",
                remedy="Remove automountServiceAccountToken from the pod template; its pods are then replaced.",
                inspect=f"kubectl get {user.subject.kind.lower()} -n {account.namespace} {user.name} -o yaml",
            )


@requirement(
    "TEN-04",
    "automountServiceAccountToken as a field keeps the token out of pods; as an annotation it does nothing",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["k8s-service-account-tokens", "k8s-service-account"],
    remedy="Keep the ServiceAccount admission plugin on and let nothing else add or remove token volumes.",
)
def test_the_field_keeps_the_token_out_and_the_annotation_does_not(
    teams: tuple[Team, ...], lab: RequirementLab
) -> None:
    namespace = lab.namespace()
    lab.apply(_service_account("annotated", namespace, annotations={ANNOTATION: "false"}))
    lab.apply(_service_account("with-field", namespace, automountServiceAccountToken=False))

    annotated = _token_in_pod_of("annotated", namespace, lab)
    with_field = _token_in_pod_of("with-field", namespace, lab)
    asking = _token_in_pod_of("with-field", namespace, lab, automountServiceAccountToken=True)

    expect(annotated, "a pod of an account with the annotation").equals(
        "a token", because="nothing reads an annotation of that name"
    )
    expect(with_field, "a pod of an account with the field").equals("no token", because="the field is false")
    expect(asking, "a pod that sets the field itself").equals("a token", because="the pod's own field has precedence")


# --- What the API server decides ---------------------------------------------------------------------------------


@requirement(
    "TEN-05",
    "The API server authorizes each declared ServiceAccount for the accesses it is declared to have",
    level=MUST,
    pods=ON_NO_NODE,
    sources=["guide-5", "k8s-rbac"],
    remedy="Bind the account to a Role that grants the access; a rule with resourceNames grants get, update, patch "
    "and delete of those names, and never list or create.",
)
def test_accounts_may_do_what_is_declared(
    allowed_access_checks: tuple[AccessCheck, ...], lab: RequirementLab, judge: Judge
) -> None:
    for check, decision in reviewed(allowed_access_checks, lab):
        check.judge(judge, expected="allowed", observed=decision)


@requirement(
    "TEN-06",
    "The API server denies each declared ServiceAccount its forbidden accesses and other teams' namespaces",
    level=MUST,
    pods=ON_NO_NODE,
    sources=["guide-5", "k8s-rbac"],
    remedy="Find the binding that grants it (kubectl get rolebindings,clusterrolebindings -A -o wide) and take the "
    "account or its group out.",
)
def test_accounts_may_not_do_what_is_denied(
    denied_access_checks: tuple[AccessCheck, ...], lab: RequirementLab, judge: Judge
) -> None:
    for check, decision in reviewed(denied_access_checks, lab):
        check.judge(judge, expected="denied", observed=decision)


@requirement(
    "TEN-07",
    "Requests with a ServiceAccount's token succeed where access is declared",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["guide-5", "k8s-rbac"],
    remedy="Where the decision (TEN-05) is right and the request is refused, look at what stands in front of it: a "
    "proxy, a webhook authorizer, the issuer and audience of tokens.",
)
def test_real_requests_pass_where_they_are_declared(
    allowed_access_checks: tuple[AccessCheck, ...], lab: RequirementLab, judge: Judge
) -> None:
    for check in (check for check in allowed_access_checks if check.can_be_requested):
        check.judge(judge, expected="allowed", observed=check.requested(lab))


@requirement(
    "TEN-08",
    "Requests with a ServiceAccount's token are refused where access is forbidden",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["guide-5", "k8s-rbac"],
    remedy="Find the binding that grants it (kubectl get rolebindings,clusterrolebindings -A -o wide) and take the "
    "account or its group out.",
)
def test_real_requests_are_refused_where_they_are_denied(
    denied_access_checks: tuple[AccessCheck, ...], lab: RequirementLab, judge: Judge
) -> None:
    for check in (check for check in denied_access_checks if check.can_be_requested):
        check.judge(judge, expected="denied", observed=check.requested(lab))


@requirement(
    "TEN-09",
    "No ClusterRoleBinding gives a team's ServiceAccount more than API discovery and access reviews of itself",
    level=MUST,
    sources=["guide-5", "k8s-rbac"],
    remedy="Replace the ClusterRoleBinding by RoleBindings in the namespaces that need it, or name its subjects one "
    "by one instead of a group.",
)
def test_no_cluster_wide_binding_reaches_a_teams_account(teams: tuple[Team, ...], facts: Facts, judge: Judge) -> None:
    declared = accounts_of(teams)
    # Pods that name no account run as default, whoever declares it.
    keys = {*(account.key for account in declared), *((team.namespace, "default") for team in teams)}
    there = list(filter(None, (facts.service_account(*key) for key in sorted(keys))))
    if not there:
        if not declared:
            raise NotApplicable("no team declares a service account")
        raise Waits("none of the declared service accounts exists", on="TEN-02")
    for account in there:
        reaching = [binding for binding in facts.cluster_role_bindings if binding.binds(account)]
        granting = [binding for binding in reaching if not is_harmless(binding, facts)]
        first = granting[0] if granting else None
        subject = through(first, account) if first else ""
        judge(
            account,
            ok=not granting,
            expected="no ClusterRoleBinding but those of API discovery and of reviews of one's own access",
            actual=[str(binding) for binding in granting] or "no other",
            cause=f"{first} gives {first.role_ref} in every namespace to {subject}" if first else "",
            hidden_because="roles and bindings of the team's namespace do not show it" if first else "",
            inspect=f"kubectl get clusterrolebinding {first.name} -o yaml" if first else "",
        )


# --- Helpers -----------------------------------------------------------------------------------------------------


def _token_in_pod_of(account: str, namespace: str, lab: RequirementLab, **spec: object) -> str:
    """Whether admission mounts a token into a new pod of the account. The pod is gated, so that it never starts."""
    asked = {"automountServiceAccountToken": None, "serviceAccountName": account, **spec}
    pod = lab.pod(gated=True, namespace=namespace, spec=asked)
    volumes = pod.created["spec"].get("volumes") or ()
    sources = [source for volume in volumes for source in (volume.get("projected") or {}).get("sources") or ()]
    return "a token" if any("serviceAccountToken" in source for source in sources) else "no token"


def _service_account(
    name: str, namespace: str, *, annotations: dict[str, str] | None = None, **fields: object
) -> Object:
    metadata = {"name": name, "namespace": namespace, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, **fields}


def _also_given(binding: RoleBinding, account: LiveAccount) -> str:
    """What a binding that nobody declared gives an account, and by which group where it does not name the account."""
    reached = through(binding, account)
    by_group = f", by {reached}" if reached.startswith("group ") else ""
    return f"{binding} gives it {binding.role_ref} as well{by_group}"


def _declared_bindings(account: Account, teams: tuple[Team, ...]) -> list[str]:
    own = next(team for team in teams if team.namespace == account.namespace)
    return [binding.name for binding in own.bindings if account.declared.name in binding.service_accounts]


def _token_field(live: LiveAccount | None) -> str:
    if live is None:
        return "no such service account"
    field = (
        "no field (which means true)" if live.automounts_token is None else f"the field {live.automounts_token}".lower()
    )
    return f"{field} and an annotation of that name" if ANNOTATION in live.annotations else field


def _is_going(namespace: Namespace | None) -> bool:
    return namespace is not None and namespace.deleting


def _when_it_has_gone(namespace: str) -> str:
    return (
        f"See what keeps it: kubectl get namespace {namespace} -o jsonpath='{{.status.conditions}}' (objects with a "
        "finalizer whose controller has gone, an APIService that does not answer); make it again when it has gone."
    )


def _format_namespace(team: Team, namespace: Namespace | None) -> str:
    if namespace is None:
        return "no such namespace"
    if namespace.deleting:
        return "being deleted"
    return pairs({key: namespace.labels.get(key) for key in team.labels}) or "it exists"
