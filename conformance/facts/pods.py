"""Pods as the suites see them: as they were admitted, and where and how they are."""

from collections.abc import Mapping
from datetime import datetime
from sys import intern
from typing import Any

import msgspec

from conformance.facts.containers import ContainerStatus, WireContainerStatus
from conformance.facts.podspec import PodSpec, WirePodSpec
from conformance.facts.volumes import with_generated
from conformance.facts.wire import Condition, Metadata, Wire, statuses
from conformance.subjects import ObjectReference

_SANDBOX = "PodReadyToStartContainers"
STATIC_ANNOTATION = "kubernetes.io/config.mirror"
"""A kubelet marks the mirror of a static pod with it."""


class Pod(PodSpec, frozen=True, kw_only=True, gc=False):
    """One pod as admitted, with where and how it is.

    ``created`` is when it was made, ``started`` when its kubelet took it up, ``deletion`` when it has to be gone,
    ``finalizers`` what has to be taken off it before. ``statuses`` has the init containers first. ``has_sandbox`` is
    whether its kubelet has made its sandbox, for which volumes and devices of claims come first (condition
    PodReadyToStartContainers); None where it does not say.
    """

    name: str
    namespace: str = "default"
    uid: str = ""
    owner_kind: str = ""
    owner_name: str = ""
    node: str = ""
    nominated_node: str = ""
    phase: str = ""
    reason: str = ""
    message: str = ""
    ready: bool = False
    deleting: bool = False
    static: bool = False
    created: datetime | None = None
    started: datetime | None = None
    deletion: datetime | None = None
    finalizers: tuple[str, ...] = ()
    statuses: tuple[ContainerStatus, ...] = ()
    has_sandbox: bool | None = None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("Pod", self.name, namespace=self.namespace, node=self.node)

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}"

    @property
    def of_owner(self) -> ObjectReference:
        """The pods that one owner makes, of which this is one; the pod itself where nothing owns it."""
        if not self.owner_kind:
            return self.subject
        text = f"pods of {self.owner_kind.lower()} {self.namespace}/{self.owner_name}"
        return ObjectReference.of(self.owner_kind, self.owner_name, namespace=self.namespace, text=text)

    @property
    def finished(self) -> bool:
        """Whether the pod has ended and holds no devices any more (phase Succeeded or Failed)."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def gated(self) -> bool:
        """Whether scheduling gates keep the scheduler from looking at the pod."""
        return bool(self.gates) and not self.node


class _ClaimStatus(Wire):
    name: str = ""
    resource_claim_name: str | None = None


class _Status(Wire):
    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    start_time: datetime | None = None
    nominated_node_name: str | None = None
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[WireContainerStatus, ...] | None = None
    init_container_statuses: tuple[WireContainerStatus, ...] | None = None
    resource_claim_statuses: tuple[_ClaimStatus, ...] | None = None

    @property
    def of_containers(self) -> tuple[ContainerStatus, ...]:
        """The statuses of all containers, the init containers first."""
        ordinary = [each.fact(False) for each in self.container_statuses or ()]
        return tuple([each.fact(True) for each in self.init_container_statuses or ()] + ordinary)

    @property
    def generated_claims(self) -> dict[str, str]:
        """The names of the claims that were made from templates, by the name of the entry in the pod."""
        return {each.name: each.resource_claim_name or "" for each in self.resource_claim_statuses or ()}


class WirePod(Wire):
    """A Pod in JSON."""

    metadata: Metadata
    spec: WirePodSpec | None = None
    status: _Status | None = None

    def fact(self) -> Pod:
        """The pod as the suites see it."""
        metadata, spec, status = self.metadata, self.spec or WirePodSpec(), self.status or _Status()
        annotations = metadata.kept_annotations
        owner_kind, owner_name = metadata.owner
        members = spec.members(metadata.labels, annotations)
        conditions = statuses(status.conditions)
        if status.resource_claim_statuses:
            members["claims"] = with_generated(members["claims"], status.generated_claims)
        return Pod(
            name=metadata.name,
            namespace=intern(metadata.namespace or "default"),
            uid=metadata.uid or "",
            owner_kind=intern(owner_kind),
            owner_name=intern(owner_name),
            node=intern(spec.node_name or ""),
            nominated_node=status.nominated_node_name or "",
            phase=intern(status.phase or ""),
            reason=status.reason or "",
            message=status.message or "",
            ready=conditions.get("Ready") == "True",
            deleting=metadata.deletion_timestamp is not None,
            static=STATIC_ANNOTATION in annotations,
            created=metadata.creation_timestamp,
            started=status.start_time,
            deletion=metadata.deletion_timestamp,
            finalizers=metadata.finalizers or (),
            statuses=status.of_containers,
            has_sandbox=conditions[_SANDBOX] == "True" if _SANDBOX in conditions else None,
            **members,
        )


def pod_from(obj: Mapping[str, Any]) -> Pod:
    """The pod that a plain object describes. Raises msgspec.ValidationError naming the member that is odd."""
    return msgspec.json.decode(msgspec.json.encode(obj), type=WirePod, strict=False).fact()
