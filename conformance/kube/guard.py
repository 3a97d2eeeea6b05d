"""The effect guard: what a request does to the cluster, judged before it is sent, whoever sends it.

Everything that is not recognised is disruptive. The table is the functions ``effect_of`` calls, in their order.
How Kubernetes takes a path apart is in apiserver: pkg/endpoints/request/requestinfo.go.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from conformance.kube.effects import Effect
from conformance.kube.errors import EffectRefused, UnclearPath
from conformance.kube.names import HOME_NAMESPACE, own_prefix
from conformance.kube.paths import segments

_READING_METHODS = frozenset({"GET", "HEAD"})
_WRITING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})

# Non-resource paths that only answer. Others, such as /debug, are not recognised.
_READABLE_ROOTS = frozenset({"api", "apis", "healthz", "livez", "metrics", "openapi", "openid", "readyz", "version"})
_WELL_KNOWN = ".well-known"

# Subresources that a GET merely reads. exec, attach, portforward and proxy reach into a container, a kubelet or a
# service with a GET, and groups of others (KubeVirt's console) do the same.
_READABLE_SUBRESOURCES = frozenset({"", "log", "resize", "scale", "status", "ephemeralcontainers"})

# Subresources on which the server itself honours dryRun (registry stores); a connection ignores it.
_DRY_RUN_SUBRESOURCES = frozenset(
    {"", "approval", "binding", "ephemeralcontainers", "eviction", "finalize", "resize", "scale", "status"}
)

# Questions put as a POST: the server keeps nothing.
_QUESTIONS = frozenset(
    {
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
    }
)

_METRICS_PAGES = frozenset({"/metrics"})

# Cluster-scoped kinds that bear on other people's requests, whatever they are named.
_FAR_REACHING = frozenset(
    {
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("apiregistration.k8s.io", "apiservices"),
    }
)


@dataclass(frozen=True)
class Guard:
    """Refuses requests whose effect is greater than ``limit``.

    ``run_id`` tells which namespaces and cluster-scoped objects are the run's own; without one only the home
    namespace is. ``requirement`` is named in refusals. Raises ValueError for a malformed run id.
    """

    limit: Effect
    run_id: str | None = None
    requirement: str | None = None

    def __post_init__(self) -> None:
        if self.run_id is not None:
            own_prefix(self.run_id)

    def narrowed(self, limit: Effect, requirement: str | None = None) -> "Guard":
        """Make the guard of one requirement, never wider than this one."""
        return replace(self, limit=min(limit, self.limit), requirement=requirement or self.requirement)

    def check(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> None:
        """Let a request pass, or raise EffectRefused; UnclearPath if the path has more than one reading."""
        segments(path)
        needed = self.effect_of(method, path, query, body)
        if needed > self.limit:
            raise EffectRefused(method, path, needed, self.limit, self.requirement)

    def check_scrape(self, namespace: str, pod: str, page: str) -> None:
        """Let the GET of a pod's metrics page through a forwarded port pass, or raise EffectRefused."""
        needed = self.effect_of_scrape(page)
        if needed > self.limit:
            raise EffectRefused("GET", f"{page} of pod {namespace}/{pod}", needed, self.limit, self.requirement)

    def effect_of_scrape(self, page: str) -> Effect:
        """Say what reading a page of a pod does: for a metrics page no more than what every Prometheus does.

        Still it opens a connection to somebody's pod, which an audit must not: it takes the mode verify. Any other
        page could do anything.
        """
        return Effect.OWN_NAMESPACE if page.split("?")[0] in _METRICS_PAGES else Effect.DISRUPTIVE

    def effect_of(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Effect:
        """Say what a request does to the cluster. ``body`` is the object, patch or options that it carries."""
        try:
            target = _Target.parse(segments(path))
        except UnclearPath:
            return Effect.DISRUPTIVE
        method = method.upper()
        if method in _READING_METHODS:
            return Effect.READS if target.is_readable else Effect.DISRUPTIVE
        if method not in _WRITING_METHODS or not target.is_resource:
            return Effect.DISRUPTIVE
        if method == "POST" and target.is_question:
            return Effect.READS
        if _is_dry_run(method, query or {}, body) and target.subresource in _DRY_RUN_SUBRESOURCES:
            return Effect.OWN_NAMESPACE
        return self._effect_of_write(method, target, body)

    def _effect_of_write(self, method: str, target: "_Target", body: Any) -> Effect:
        if target.namespace is not None:
            own = self._owns_namespace(target.namespace) or target.is_token_request(method)
            return Effect.OWN_NAMESPACE if own else Effect.DISRUPTIVE
        name = target.name or (_name_in(body) if method == "POST" else "")
        if target.is_namespace:
            return Effect.OWN_NAMESPACE if self._owns_namespace(name) else Effect.DISRUPTIVE
        if self._owns_name(name) and not _bears_on_others(target, body):
            return Effect.OWN_CLUSTER_OBJECTS
        if target.is_node_state and method in {"PATCH", "PUT"}:
            return Effect.PATCHES_NODES
        return Effect.DISRUPTIVE

    def _owns_namespace(self, name: str) -> bool:
        return name == HOME_NAMESPACE or self._owns_name(name)

    def _owns_name(self, name: str) -> bool:
        return self.run_id is not None and name.startswith(own_prefix(self.run_id))


@dataclass(frozen=True)
class _Target:
    """What a path points at, as the API server would take it apart."""

    root: str
    group: str = ""
    namespace: str | None = None
    resource: str = ""
    name: str = ""
    subresource: str = ""
    deeper: bool = False
    """Whether the path goes on below the subresource, as only proxied paths do."""

    @classmethod
    def parse(cls, parts: tuple[str, ...]) -> "_Target":
        if parts[0] not in {"api", "apis"}:
            return cls(root=parts[0])
        group, rest = ("", parts[2:]) if parts[0] == "api" else ("".join(parts[1:2]), parts[3:])
        if not rest:
            return cls(root=parts[0])
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
            namespace, rest = rest[1], rest[2:]
        resource, name, subresource = (*rest[:3], "", "")[:3]
        return cls(parts[0], group, namespace, resource, name, subresource, deeper=len(rest) > 3)

    @property
    def is_resource(self) -> bool:
        # /api/v1/proxy/... and /api/v1/watch/... are old spellings that take other paths inside them.
        return self.resource not in {"", "proxy", "watch"} and not self.deeper

    @property
    def is_readable(self) -> bool:
        if self.resource:
            return self.is_resource and self.subresource in _READABLE_SUBRESOURCES
        return self.root in _READABLE_ROOTS or self.root == _WELL_KNOWN

    @property
    def is_question(self) -> bool:
        return (self.group, self.resource) in _QUESTIONS and not self.name

    @property
    def is_namespace(self) -> bool:
        return (self.group, self.resource) == ("", "namespaces")

    @property
    def is_node_state(self) -> bool:
        return (self.group, self.resource) == ("", "nodes") and bool(self.name) and self.subresource in {"", "status"}

    def is_token_request(self, method: str) -> bool:
        account = (self.group, self.resource, self.subresource) == ("", "serviceaccounts", "token")
        return method == "POST" and account


def _is_dry_run(method: str, query: Mapping[str, str], body: Any) -> bool:
    # A DELETE that carries options in its body takes them from there and ignores the query
    # (apiserver: pkg/endpoints/handlers/delete.go), so `?dryRun=All` beside a body would delete for real.
    if method == "DELETE" and body is not None:
        return isinstance(body, Mapping) and body.get("dryRun") == ["All"]
    return query.get("dryRun") == "All"


def _name_in(body: Any) -> str:
    metadata = body.get("metadata") if isinstance(body, Mapping) else None
    if not isinstance(metadata, Mapping):
        return ""
    name = metadata.get("name") or metadata.get("generateName")
    return name if isinstance(name, str) else ""


def _bears_on_others(target: _Target, body: Any) -> bool:
    if (target.group, target.resource) in _FAR_REACHING:
        return True
    # A PriorityClass that is the global default gives its value to every pod that names no class.
    return target.resource == "priorityclasses" and _makes_default(body)


def _makes_default(body: Any) -> bool:
    if isinstance(body, Mapping):
        return body.get("globalDefault") not in (None, False)
    # A JSON patch: operations on paths, which can also replace the whole object.
    return body is not None
