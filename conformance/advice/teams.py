"""Advice on teams: quotas that count and cover, tokens, roles that give too much."""

from collections.abc import Iterator

from conformance.advice.rules import Remark, Rules, Setup
from conformance.gpu.labels import HAMI_QUOTA_KEYS
from conformance.gpu.quantities import quantity
from conformance.gpu.resources import is_gpu_resource, quota_key
from conformance.reference.expected import gpu_resources, offer_of
from conformance.reference.model import Quota, Reference, Rule

RULES = Rules()
_CLASS_QUOTA = ".deviceclass.resource.k8s.io/devices"
_TOKEN_ANNOTATION = "automountServiceAccountToken"  # noqa: S105
_COUNTING = "kubernetes: pkg/quota/v1/evaluator/core/pods.go"


@RULES.rule("team-without-quota", "QUOTA-04; kubernetes.io: Resource Quotas")
def team_without_quota(setup: Setup) -> Iterator[Remark]:
    """Teams that may take every GPU of the cluster."""
    if not setup.reference.gpu_pools:
        return
    for at, team in enumerate(setup.reference.teams):
        keys = [key for quota in team.quotas for key in quota.hard]
        if not any(_meant(key, setup.reference) for key in keys):
            text = (
                f"{team} has no quota of GPUs: it may take every GPU of the cluster, unless a quota of another system "
                f"covers it (OpenShift's ClusterResourceQuota, Kueue, KAI, Volcano)"
            )
            yield Remark(("teams", at), text)


@RULES.rule("quota-key-counts-nothing", _COUNTING)
def key_counts_nothing(setup: Setup) -> Iterator[Remark]:
    """Keys by which somebody meant to limit GPUs, and under which Kubernetes counts nothing."""
    for at, each, quota in _quotas(setup):
        for key in quota.hard:
            resource = _meant(key, setup.reference)
            counted = key == quota_key(resource) or key.endswith(_CLASS_QUOTA)
            if resource and not counted and not (key in HAMI_QUOTA_KEYS and _may_have_hami(setup.reference)):
                text = f"Kubernetes takes the key {key} and counts nothing under it; say {quota_key(resource)}"
                yield Remark(("teams", at, "quotas", each, "hard", key), text)


@RULES.rule("quota-of-nothing-offered", "QUOTA-03")
def quota_of_nothing_offered(setup: Setup) -> Iterator[Remark]:
    """Limits above 0 on a GPU resource that no pool offers: a misspelled name, or a pool that is not declared."""
    offered = _offered(setup.reference)
    if offered is None:
        return
    for at, each, quota in _quotas(setup):
        for key, amount in quota.hard.items():
            resource = key.removeprefix("requests.")
            if key == quota_key(resource) and is_gpu_resource(resource) and resource not in offered and _some(amount):
                listed = ", ".join(sorted(offered)) or "none"
                text = f"no declared pool offers {resource}; offered are {listed}"
                yield Remark(("teams", at, "quotas", each, "hard", key), text)


@RULES.rule("quota-leaves-a-name-open", "QUOTA-03; NVIDIA/k8s-device-plugin: README, renaming of shared resources")
def quota_leaves_a_name_open(setup: Setup) -> Iterator[Remark]:
    """Teams whose quotas count GPUs, but not under every name by which pools offer them."""
    offered = _offered(setup.reference) or frozenset()
    for at, team in enumerate(setup.reference.teams):
        # One of some classes only covers no pod of the others.
        keys = {key for quota in team.quotas if not quota.priority_classes for key in quota.hard}
        meant = {key: _meant(key, setup.reference) for key in keys}
        counted = {resource for key, resource in meant.items() if resource and key == quota_key(resource)}
        missing = sorted(offered - counted)
        if counted and missing:
            text = f"its quotas count {', '.join(sorted(counted))} and leave {', '.join(missing)} without limit"
            yield Remark(("teams", at, "quotas"), f"{text}; add requests. keys, 0 for what the team shall not have")


@RULES.rule("quota-of-some-classes-only", "kubernetes.io: Resource Quotas, quota scopes")
def quota_of_some_classes_only(setup: Setup) -> Iterator[Remark]:
    """Teams all of whose GPU quotas count the pods of some priority classes only."""
    for at, team in enumerate(setup.reference.teams):
        of_gpus = [quota for quota in team.quotas if any(_meant(key, setup.reference) for key in quota.hard)]
        if of_gpus and all(quota.priority_classes for quota in of_gpus):
            classes = ", ".join(sorted({name for quota in of_gpus for name in quota.priority_classes}))
            text = f"every GPU quota of {team} counts pods of {classes} only: a pod of another class is not limited"
            yield Remark(("teams", at, "quotas"), text)


@RULES.rule("limit-range-gives-gpus", "QUOTA-11; kubernetes: SetDefaults_LimitRangeItem")
def limit_range_gives_gpus(setup: Setup) -> Iterator[Remark]:
    """Limit ranges that give GPUs to every container of a namespace."""
    for at, team in enumerate(setup.reference.teams):
        for each, limits in enumerate(team.limit_ranges):
            amounts = [
                (item.get("type"), name)
                for item in limits.items
                for field in ("max", "default", "defaultRequest")
                for name in item.get(field) or ()
                if is_gpu_resource(str(name))
            ]
            if any(kind == "Container" for kind, _ in amounts):
                text = (
                    "Kubernetes copies a maximum into the default: every container of the namespace asks for these GPUs"
                )
                yield Remark(("teams", at, "limit_ranges", each, "items"), text)


@RULES.rule("token-in-every-pod", "TEN-03; kubernetes.io: Configure Service Accounts for Pods")
def token_in_every_pod(setup: Setup) -> Iterator[Remark]:
    """Accounts that leave the API token in their pods, by default or by an annotation that nobody reads."""
    for at, team in enumerate(setup.reference.teams):
        for each, account in enumerate(team.service_accounts):
            if account.annotations.get(_TOKEN_ANNOTATION) and account.automount_token is None:
                text = f"nothing reads the annotation {_TOKEN_ANNOTATION}; write automount_token: false"
                yield Remark(("teams", at, "service_accounts", each), text)
            elif account.automount_token is None and not account.may:
                text = f"{account.name} declares no access that it needs, and the API puts its token into every pod"
                yield Remark(("teams", at, "service_accounts", each), f"{text}; write automount_token: false")


@RULES.rule("role-gives-too-much", "kubernetes.io: RBAC good practices, least privilege and secrets")
def role_gives_too_much(setup: Setup) -> Iterator[Remark]:
    """Rules that give everything, all secrets, or the means to get more."""
    for at, team in enumerate(setup.reference.teams):
        for each, role in enumerate(team.roles):
            for number, rule in enumerate(role.rules):
                why = _too_much(rule)
                if why:
                    yield Remark(("teams", at, "roles", each, "rules", number), f"role {role.name} {why}")


def _too_much(rule: Rule) -> str:
    if "*" in rule.verbs or "*" in rule.resources:
        return "gives every verb or every resource; name those that its work needs"
    if "secrets" in rule.resources and not rule.resource_names and {"get", "list", "watch"} & {*rule.verbs}:
        return "gives all secrets of the namespace; name them (resource_names, which list and watch do not heed)"
    if {"bind", "escalate", "impersonate"} & {*rule.verbs}:
        return "lets its accounts give themselves further rights"
    return ""


def _quotas(setup: Setup) -> Iterator[tuple[int, int, Quota]]:
    for at, team in enumerate(setup.reference.teams):
        for each, quota in enumerate(team.quotas):
            yield at, each, quota


def _meant(key: str, reference: Reference) -> str:
    """The GPU resource that a key means, however it is spelled; empty for all others."""
    if key.endswith(_CLASS_QUOTA):
        return key
    bare = key.removeprefix("requests.").removeprefix("limits.")
    return bare if is_gpu_resource(bare) or bare in gpu_resources(reference) else ""


def _may_have_hami(reference: Reference) -> bool:
    """Whether HAMi may share the GPUs of a pool, and so hold keys that Kubernetes does not count."""
    return any(pool.gpu is not None and pool.gpu.shared_by == "other" for pool in reference.pools)


def _offered(reference: Reference) -> frozenset[str] | None:
    """Every resource that a declared pool offers; None where a MIG layout leaves that open."""
    found: set[str] = set()
    for pool in reference.gpu_pools:
        offer = offer_of(reference, pool)
        if offer.resources is None:
            return None
        found |= {name for name, count in offer.resources.items() if count}
    return frozenset(found)


def _some(amount: str) -> bool:
    try:
        return quantity(amount) > 0
    except ValueError:
        return False
