"""Namespaces, service accounts, roles and bindings: who may do what."""

import msgspec

from conformance.facts.wire import Metadata, Wire
from conformance.subjects import ObjectReference


class Namespace(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One namespace."""

    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deleting: bool = False
    uid: str = ""

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("Namespace", self.name)

    def __str__(self) -> str:
        return f"namespace {self.name}"


class ServiceAccount(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One service account. ``automounts_token`` is the field, None when absent (which means true)."""

    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    automounts_token: bool | None = None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("ServiceAccount", self.name, namespace=self.namespace)

    def __str__(self) -> str:
        return f"service account {self.namespace}/{self.name}"

    @property
    def user(self) -> str:
        """The user name that requests with its token carry."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that requests with its token carry."""
        return "system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated"


class Rule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rule of a role."""

    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = ", ".join(self.resources + self.non_resource_urls)
        named = f" named {', '.join(self.resource_names)}" if self.resource_names else ""
        return f"{', '.join(self.verbs)} on {what}{named}"

    def allows(self, verb: str, resource: str, *, group: str = "", name: str = "", subresource: str = "") -> bool:
        """Whether the rule grants the request, as the RBAC authorizer decides it (pkg/apis/rbac/v1, RuleAllows).

        A rule with resource names grants nothing to a request without a name.
        """
        asked = f"{resource}/{subresource}" if subresource else resource
        wanted = {"*", asked, f"*/{subresource}"} if subresource else {"*", asked}
        return (
            any(each in ("*", verb) for each in self.verbs)
            and any(each in ("*", group) for each in self.api_groups)
            and any(each in wanted for each in self.resources)
            and (not self.resource_names or name in self.resource_names)
        )


class Role(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A Role, or a ClusterRole, which has no namespace."""

    kind: str
    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    rules: tuple[Rule, ...] = ()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of(self.kind, self.name, namespace=self.namespace)

    def __str__(self) -> str:
        return f"role {self.namespace}/{self.name}" if self.namespace else f"cluster role {self.name}"


class Subject(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """To whom a binding gives its role: a User, a Group or a ServiceAccount."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        kind = "service account" if self.kind == "ServiceAccount" else self.kind.lower()
        return f"{kind} {self.namespace}/{self.name}" if self.namespace else f"{kind} {self.name}"

    def includes(self, account: ServiceAccount) -> bool:
        """Whether a service account is this subject, by itself, by its user name or by one of its groups."""
        if self.kind == "ServiceAccount":
            return (self.namespace, self.name) == (account.namespace, account.name)
        return self.name in account.groups if self.kind == "Group" else self.name == account.user


class RoleRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The role that a binding gives: kind Role or ClusterRole, and its name."""

    kind: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{'cluster role' if self.kind == 'ClusterRole' else 'role'} {self.name}"


class RoleBinding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A RoleBinding, or a ClusterRoleBinding, which has no namespace and gives its role everywhere."""

    kind: str
    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    role_ref: RoleRef = RoleRef()
    subjects: tuple[Subject, ...] = ()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of(self.kind, self.name, namespace=self.namespace)

    def __str__(self) -> str:
        return f"role binding {self.namespace}/{self.name}" if self.namespace else f"cluster role binding {self.name}"

    def binds(self, account: ServiceAccount) -> bool:
        """Whether the service account is among the subjects."""
        return any(_in(subject, self.namespace).includes(account) for subject in self.subjects)


class WireNamespace(Wire):
    """A Namespace in JSON."""

    metadata: Metadata

    def fact(self) -> Namespace:
        """The namespace as the suites see it."""
        return Namespace(
            name=self.metadata.name,
            labels=self.metadata.labels or {},
            annotations=self.metadata.kept_annotations,
            deleting=self.metadata.deletion_timestamp is not None,
            uid=self.metadata.uid or "",
        )


class WireServiceAccount(Wire):
    """A ServiceAccount in JSON; the names of its secrets are not read."""

    metadata: Metadata
    automount_service_account_token: bool | None = None

    def fact(self) -> ServiceAccount:
        """The service account as the suites see it."""
        return ServiceAccount(
            name=self.metadata.name,
            namespace=self.metadata.namespace or "default",
            labels=self.metadata.labels or {},
            annotations=self.metadata.kept_annotations,
            automounts_token=self.automount_service_account_token,
        )


class _Rule(Wire):
    api_groups: tuple[str, ...] | None = None
    resources: tuple[str, ...] | None = None
    verbs: tuple[str, ...] | None = None
    resource_names: tuple[str, ...] | None = None
    non_resource_urls: tuple[str, ...] | None = msgspec.field(name="nonResourceURLs", default=None)

    def fact(self) -> Rule:
        return Rule(
            api_groups=self.api_groups or (),
            resources=self.resources or (),
            verbs=self.verbs or (),
            resource_names=self.resource_names or (),
            non_resource_urls=self.non_resource_urls or (),
        )


class _WireAnyRole(Wire):
    metadata: Metadata
    rules: tuple[_Rule, ...] | None = None

    def _fact(self, kind: str) -> Role:
        return Role(
            kind=kind,
            name=self.metadata.name,
            namespace=self.metadata.namespace or "",
            labels=self.metadata.labels or {},
            rules=tuple(rule.fact() for rule in self.rules or ()),
        )


class WireRole(_WireAnyRole):
    """A Role in JSON."""

    def fact(self) -> Role:
        """The role as the suites see it."""
        return self._fact("Role")


class WireClusterRole(_WireAnyRole):
    """A ClusterRole in JSON; the API server has already filled in the rules that it aggregates."""

    def fact(self) -> Role:
        """The cluster role as the suites see it."""
        return self._fact("ClusterRole")


class _Subject(Wire):
    kind: str | None = None
    name: str | None = None
    namespace: str | None = None

    def fact(self) -> Subject:
        return Subject(kind=self.kind or "", name=self.name or "", namespace=self.namespace or "")


class _WireAnyBinding(Wire):
    metadata: Metadata
    role_ref: RoleRef | None = None
    subjects: tuple[_Subject, ...] | None = None

    def _fact(self, kind: str) -> RoleBinding:
        return RoleBinding(
            kind=kind,
            name=self.metadata.name,
            namespace=self.metadata.namespace or "",
            labels=self.metadata.labels or {},
            role_ref=self.role_ref or RoleRef(),
            subjects=tuple(subject.fact() for subject in self.subjects or ()),
        )


class WireRoleBinding(_WireAnyBinding):
    """A RoleBinding in JSON."""

    def fact(self) -> RoleBinding:
        """The binding as the suites see it."""
        return self._fact("RoleBinding")


class WireClusterRoleBinding(_WireAnyBinding):
    """A ClusterRoleBinding in JSON."""

    def fact(self) -> RoleBinding:
        """The binding as the suites see it."""
        return self._fact("ClusterRoleBinding")


def _in(subject: Subject, namespace: str) -> Subject:
    """The subject with the namespace that the RBAC authorizer assumes when a binding leaves it out: the binding's."""
    if subject.kind == "ServiceAccount" and not subject.namespace:
        return msgspec.structs.replace(subject, namespace=namespace)
    return subject
