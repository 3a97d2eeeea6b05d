"""Access checks of service accounts: each access is reviewed by the API server, then requested with a token."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from conformance.facts import ServiceAccount as LiveAccount
from conformance.lab import RequirementLab
from conformance.reference.model import Access, ServiceAccount, Team
from conformance.subjects import ObjectReference
from conformance.verdict import Judge

# A request for these would start something in a pod: they are reviewed and never requested.
_NEVER_REQUESTED = ("attach", "exec", "portforward", "proxy")
# As many as kinds are read at once: a review waits for its round trip, and nothing else.
_AT_ONCE = 6

ANNOTATION = "automountServiceAccountToken"
"""The annotation that is sometimes written instead of the field of that name."""


class Account(NamedTuple):
    """A declared service account and its namespace."""

    namespace: str
    declared: ServiceAccount

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("ServiceAccount", self.declared.name, namespace=self.namespace)

    def __str__(self) -> str:
        return f"service account {self.namespace}/{self.declared.name}"

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name, as the lab expects them."""
        return self.namespace, self.declared.name

    @property
    def live(self) -> LiveAccount:
        """The account for comparison with the subjects of bindings, whether or not it exists."""
        return LiveAccount(name=self.declared.name, namespace=self.namespace)

    @property
    def wants_no_token(self) -> bool:
        """Whether its owners want no API token in its pods, by the field or by the annotation, which has no effect."""
        return self.declared.automount_token is False or self.declared.annotations.get(ANNOTATION) == "false"


class AccessCheck(NamedTuple):
    """One access of a service account, to be reviewed and requested."""

    account: Account
    access: Access

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.account.subject.only(str(self.access))

    def __str__(self) -> str:
        return str(self.subject)

    @property
    def namespace(self) -> str:
        """The namespace of the access, empty for the whole cluster."""
        return self.access.review_namespace(self.account.namespace)

    @property
    def kubectl(self) -> str:
        """The command that asks the API server for the same decision."""
        return f"kubectl auth can-i {self._question}"

    @property
    def _question(self) -> str:
        access = self.access
        resource = f"{access.resource}.{access.group}" if access.group else access.resource
        parts = [
            access.verb,
            f"{resource}/{access.name}" if access.name else resource,
            f"--subresource={access.subresource}" if access.subresource else "",
            f"-n {self.namespace}" if self.namespace else "--all-namespaces",
            f"--as={self.account.live.user}",
        ]
        return " ".join(part for part in parts if part)

    def in_namespace(self, namespace: str) -> "AccessCheck":
        """The same access in another namespace."""
        access = self.access
        moved = Access(access.verb, access.resource, access.group, access.name, access.subresource, namespace)
        return AccessCheck(self.account, moved)

    @property
    def is_declared(self) -> bool:
        """Whether it is among the accesses that are declared as allowed."""
        return self.access in self.account.declared.may

    def reviewed(self, lab: RequirementLab) -> str:
        """The decision of the API server's authorizer: allowed or denied."""
        access = self.access
        allowed = lab.can(
            self.account.key,
            access.verb,
            access.resource,
            group=access.group,
            namespace=self.namespace,
            name=access.name,
            subresource=access.subresource,
        )
        return "allowed" if allowed else "denied"

    @property
    def can_be_requested(self) -> bool:
        """Whether a request does no harm if it is allowed."""
        return self.access.subresource not in _NEVER_REQUESTED

    def requested(self, lab: RequirementLab) -> str:
        """The result of a request with the account's own token: allowed or denied. It cannot change anything."""
        access = self.access
        client = lab.as_service_account(*self.account.key)
        allowed = client.allowed(
            access.verb, access.resource, self.namespace or None, access.name, subresource=access.subresource
        )
        return "allowed" if allowed else "denied"

    def judge(self, judge: Judge, *, expected: str, observed: str, hidden_because: str = "") -> None:
        """Judge whether the access is allowed or denied as declared."""
        judge(
            self,
            ok=observed == expected,
            expected=expected,
            actual=observed,
            cause="" if observed == expected else f"{self._question} is {observed}",
            hidden_because=hidden_because,
            inspect=self.kubectl,
        )


def accounts_of(teams: tuple[Team, ...]) -> tuple[Account, ...]:
    """Every service account of some teams."""
    return tuple(Account(team.namespace, account) for team in teams for account in team.service_accounts)


def declared_accesses(accounts: tuple[Account, ...]) -> tuple[AccessCheck, ...]:
    """Every access that is declared as allowed."""
    return tuple(AccessCheck(account, access) for account in accounts for access in account.declared.may)


def forbidden_accesses(accounts: tuple[Account, ...], teams: tuple[Team, ...]) -> tuple[AccessCheck, ...]:
    """Every access that must be denied: those declared so, and the allowed ones in the namespaces of other teams."""
    declared = [AccessCheck(account, access) for account in accounts for access in account.declared.may_not]
    in_other_namespaces = [
        moved
        for check in declared_accesses(accounts)
        for team in teams
        if not check.access.namespace and team.namespace != check.account.namespace
        for moved in [check.in_namespace(team.namespace)]
        if not moved.is_declared
    ]
    return (*declared, *(check for check in in_other_namespaces if check not in declared))


def reviewed(checks: Sequence[AccessCheck], lab: RequirementLab) -> Iterator[tuple[AccessCheck, str]]:
    """Each check with the decision on it, in their order. Raises what ``AccessCheck.reviewed`` raises of the first."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="access") as workers:
        yield from zip(checks, workers.map(lambda check: check.reviewed(lab), checks), strict=True)
