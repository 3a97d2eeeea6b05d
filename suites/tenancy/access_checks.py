"""Service accounts and the doors they may or may not open: each access is asked for, and then tried."""

from typing import NamedTuple

from conformance.facts import ServiceAccount as LiveAccount
from conformance.lab import RequirementLab
from conformance.reference.model import Access, ServiceAccount, Team
from conformance.subjects import ObjectReference
from conformance.verdict import Judge

# If the answer were yes, these would start something in somebody's pod: a question, but never a trial.
_NEVER_TRIED = ("attach", "exec", "portforward", "proxy")

ANNOTATION = "automountServiceAccountToken"
"""The annotation that people write where they mean the field of that name."""


class Account(NamedTuple):
    """A declared service account and the namespace that it lives in."""

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
        """As the lab takes it."""
        return self.namespace, self.declared.name

    @property
    def live(self) -> LiveAccount:
        """As the facts compare it with the subjects of bindings, whether or not it exists."""
        return LiveAccount(name=self.declared.name, namespace=self.namespace)

    @property
    def wants_no_token(self) -> bool:
        """Whether its owners want no API token in its pods; they may have said so by the annotation, in vain."""
        return self.declared.automount_token is False or self.declared.annotations.get(ANNOTATION) == "false"


class Door(NamedTuple):
    """One access that an account asks for."""

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
        """Where it asks, empty for the whole cluster."""
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

    def moved_to(self, namespace: str) -> "Door":
        """The same door in another namespace."""
        access = self.access
        there = Access(access.verb, access.resource, access.group, access.name, access.subresource, namespace)
        return Door(self.account, there)

    @property
    def is_declared(self) -> bool:
        """Whether it is among those that the account's work needs."""
        return self.access in self.account.declared.may

    def decided(self, lab: RequirementLab) -> str:
        """What the API server's authorizer says: allowed or denied."""
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
    def can_be_tried(self) -> bool:
        """Whether a request could knock without doing harm if it were let in."""
        return self.access.subresource not in _NEVER_TRIED

    def tried(self, lab: RequirementLab) -> str:
        """What a request with the account's own token meets: allowed or denied. It cannot change anything."""
        access = self.access
        visitor = lab.as_service_account(*self.account.key)
        allowed = visitor.allowed(
            access.verb, access.resource, self.namespace or None, access.name, subresource=access.subresource
        )
        return "allowed" if allowed else "denied"

    def judge(self, judge: Judge, *, wanted: str, seen: str, hides: str = "") -> None:
        """Judge whether the door is as it should be."""
        judge(
            self,
            ok=seen == wanted,
            expected=wanted,
            actual=seen,
            cause="" if seen == wanted else f"{self._question} is {seen}",
            hidden_because=hides,
            inspect=self.kubectl,
        )


def accounts_of(teams: tuple[Team, ...]) -> tuple[Account, ...]:
    """Every service account of some teams."""
    return tuple(Account(team.namespace, account) for team in teams for account in team.service_accounts)


def needed(accounts: tuple[Account, ...]) -> tuple[Door, ...]:
    """Every access that the accounts' work needs."""
    return tuple(Door(account, access) for account in accounts for access in account.declared.may)


def forbidden(accounts: tuple[Account, ...], teams: tuple[Team, ...]) -> tuple[Door, ...]:
    """Every access that must be refused: what is declared so, and next door whatever is allowed at home."""
    declared = [Door(account, access) for account in accounts for access in account.declared.may_not]
    next_door = [
        moved
        for door in needed(accounts)
        for team in teams
        if not door.access.namespace and team.namespace != door.account.namespace
        for moved in [door.moved_to(team.namespace)]
        if not moved.is_declared
    ]
    return (*declared, *(door for door in next_door if door not in declared))
