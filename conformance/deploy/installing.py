"""Installing a declared GPU stack: what may stand in the way, and what is recorded before anything is installed.

How charts get onto a cluster is the business of an Installer: Helm on a real one, the simulator on an embedded one.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from conformance.deploy import stale_labels
from conformance.deploy.helm.releases import Installed, Release, releases
from conformance.deploy.preflight import Present, in_the_way, taken_over
from conformance.kube.client import Client
from conformance.kube.names import MANAGED_BY, MANAGED_BY_US
from conformance.kube.nodechange import NodeChange
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.reference.errors import ReferenceError
from conformance.reference.model import Reference
from conformance.reference.objects import Object
from conformance.reference.simulated_plugin import is_simulated
from conformance.reference.stack_objects import stack_objects

__all__ = ["InstallError", "Installer", "NotOurs", "StackPlan", "StackPresent", "definitions", "install"]

PLAYED = "kwok.x-k8s.io/node"
"""The annotation of a node that is played by KWOK."""
GROUPS = ("nvidia.com", "resource.nvidia.com", "nfd.k8s-sigs.io")
"""The API groups of the CRDs that the charts bring along."""


class InstallError(ReferenceError):
    """A stack could not be installed or taken away; the text says what to do."""


class StackPresent(InstallError):
    """Something on the cluster gives GPUs to pods already, and a GPU can have one allocator only."""


class NotOurs(InstallError):
    """Under the name of a release of ours is one that somebody else installed, and that was left alone."""

    def __init__(self, installed: Installed) -> None:
        place = f"{installed.namespace}/{installed.name}"
        super().__init__(f"a Helm release {place} is there that is not ours: it was left alone, and what it brought")


class Installer(Protocol):
    """How a chart gets onto a cluster, and off it."""

    def has(self, client: Client, release: Release, timeouts: Timeouts) -> bool:
        """Whether a release of that name is in the namespace, whoever installed it."""

    def install(self, client: Client, release: Release, timeouts: Timeouts, *, replace: bool = False) -> None:
        """Install a release. With ``replace`` one of that name that bears our mark becomes this one.

        Raises StackPresent for any other release of that name, InstallError for everything else.
        """

    def uninstall(self, client: Client, installed: Installed, timeouts: Timeouts) -> None:
        """Take a release away and wait until what it brought is gone; nothing when it is not there.

        Raises NotOurs for a release of that name that does not bear our mark, and InstallError with the command to run
        by hand where it cannot be taken away from here.
        """


class Records(Protocol):
    """Where releases are recorded before they are installed, so that they can be taken away after a crash."""

    def will_install(self, installed: Installed) -> None:
        """Record that the release is about to be installed."""

    def uninstalled(self, installed: Installed) -> None:
        """Take the record of a release out, because the release is gone."""

    @property
    def installed(self) -> Sequence[Installed]:
        """The recorded releases that have not been taken away, in the order in which they were installed."""

    @property
    def outstanding(self) -> Sequence[NodeChange]:
        """The recorded changes of nodes that have not been undone."""


class StackPlan(msgspec.Struct, frozen=True):
    """What deploying does about the declared stack, decided before anything is written.

    ``objects`` have to be there first. ``left_alone`` says what gives GPUs to pods already: then nothing is done.
    """

    objects: tuple[Object, ...] = ()
    namespaces: tuple[str, ...] = ()
    releases: tuple[Release, ...] = ()
    installer: Installer | None = None
    left_alone: str = ""

    @classmethod
    def of(
        cls, client: Client, reference: Reference, installer: Installer | None, installed: Sequence[Installed]
    ) -> "StackPlan":
        """The plan, where ``installed`` is ours; empty without an installer and for a set-up that declares no stack."""
        if installer is None or reference.stack is None:
            return cls()
        wanted, made = releases(reference), stack_objects(reference)
        if is_simulated(reference):
            _require_containers(client)
        if not installed and (words := _left_alone(client, wanted, made)):
            return cls(left_alone=words)
        namespaces = (reference.stack.namespace, *(release.namespace for release in wanted))
        return cls(tuple(made), tuple(dict.fromkeys(namespaces)), wanted, installer)

    def install(self, client: Client, records: Records, timeouts: Timeouts) -> tuple[str, ...]:
        """Install what is planned; the releases in words. Raises as ``install`` does."""
        if self.installer is None or not self.releases:
            return ()
        return install(client, self.releases, self.installer, records, timeouts)


def _require_containers(client: Client) -> None:
    """Raise InstallError where every node is played: no container of the simulated plugin would run."""
    nodes = client.list(path("Node"))
    if nodes and all(PLAYED in (node["metadata"].get("annotations") or {}) for node in nodes):
        raise InstallError(
            "the set-up's stack is simulated-plugin, whose containers have to run, and every node of this cluster is "
            "simulated, with GPUs of its own: leave the stack out, or use a cluster whose nodes run containers, such "
            "as --cluster kind"
        )


def _left_alone(client: Client, wanted: Sequence[Release], made: Sequence[Object] = ()) -> str:
    """Why nothing is installed, in words; empty when nothing is in the way, or only what we have made before."""
    present = in_the_way(client)
    if present and all(_is_ours(client, each, made) for each in present):
        present = ()
    if present:
        return f"the cluster has a GPU stack already, which was left alone: {', '.join(map(str, present))}"
    if taken := taken_over(client, wanted):
        return f"the GPU stack was not installed, it would take over what is there: {'; '.join(taken)}"
    return ""


def install(
    client: Client, wanted: Sequence[Release], installer: Installer, records: Records, timeouts: Timeouts
) -> tuple[str, ...]:
    """Install the releases in order, each recorded first; those that are ours already are brought up to date.

    Returns the releases in words. Raises StackPresent, before anything is installed, when the cluster has a stack
    that is not recorded as ours.
    """
    ours = {(each.name, each.namespace): each for each in records.installed}
    if not ours and (words := _left_alone(client, wanted)):
        raise StackPresent(
            f"{words}; a GPU can have one allocator only: judge what is there as it is (without deploying), or remove "
            "it first; what a killed run left goes with gpu-conformance clean"
        )
    for release in wanted:
        if (release.name, release.namespace) not in ours and installer.has(client, release, timeouts):
            raise StackPresent(
                f"a Helm release {release.name} is in namespace {release.namespace} already, and it is not ours: judge "
                f"it as it is (without deploying), or remove it: helm uninstall {release.name} --namespace "
                f"{release.namespace}"
            )
    before = tuple(sorted(_names(definitions(client))))
    marks, marked = stale_labels.before(client, records.outstanding)
    for release in wanted:
        known = ours.get((release.name, release.namespace))
        token = known.token if known is not None else secrets.token_hex(8)
        if known is None:
            records.will_install(Installed.of(release, token, before, marks, marked=marked))
        installer.install(client, release.bearing(token), timeouts, replace=known is not None)
    return tuple(str(release) for release in wanted)


def _is_ours(client: Client, found: Present, made: Sequence[Object]) -> bool:
    """Whether what is in the way is a DaemonSet of the simulated plugin that this set-up's deployment made."""
    for each in made:
        place = f"{each['metadata'].get('namespace')}/{each['metadata']['name']}"
        if each["kind"] == found.kind == "DaemonSet" and str(found) == f"daemonset {place}":
            labels = client.get(client.path_of(each))["metadata"].get("labels") or {}
            return labels.get(MANAGED_BY) == MANAGED_BY_US
    return False


def definitions(client: Client) -> list[dict[str, Any]]:
    """The CRDs of the kinds that the charts bring along, whoever brought them."""
    found = client.list(path("CustomResourceDefinition"))
    return [each for each in found if (each.get("spec") or {}).get("group") in GROUPS]


def _names(found: list[dict[str, Any]]) -> list[str]:
    return [str(each["metadata"]["name"]) for each in found]
