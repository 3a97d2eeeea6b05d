"""Installing a declared GPU stack and taking it away: what may stand in the way, what is recorded, what Helm leaves.

How charts get onto a cluster is the business of an Installer: Helm on a real one, the simulator on an embedded one.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from conformance.gpu.operator_stack import Detection, detect
from conformance.gpu.resources import is_gpu_resource
from conformance.kube.client import Client
from conformance.kube.errors import KubeError, NotFound
from conformance.kube.nodechange import NodeChange
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.reference import leavings
from conformance.reference.errors import ReferenceError
from conformance.reference.model import Reference
from conformance.reference.objects import Object
from conformance.reference.releases import Installed, Release, releases
from conformance.reference.stack_objects import stack_objects

__all__ = ["InstallError", "Installer", "StackPlan", "StackPresent", "in_the_way", "install", "uninstalled"]

# What a stack is told by, see gpu/operator_stack.py.
_TELLING = ("ClusterPolicy", "GPUCluster", "NVIDIADriver", "CustomResourceDefinition", "Deployment", "DaemonSet")
GROUPS = ("nvidia.com", "resource.nvidia.com", "nfd.k8s-sigs.io")
"""The API groups of the CRDs that the charts bring along."""
# What the operator makes outside its namespace and leaves to the garbage collector (NVIDIA/gpu-operator:
# controllers/object_controls.go). Once the CRD of its owner is gone, the collector cannot look the owner up any more,
# and retries for ever (kubernetes: pkg/controller/garbagecollector/garbagecollector.go, attemptToDeleteWorker).
_OWNED = ("RuntimeClass", "DeviceClass", "ClusterRoleBinding", "ClusterRole")


class InstallError(ReferenceError):
    """A stack could not be installed or taken away; the text says what to do."""


class StackPresent(InstallError):
    """Something on the cluster gives GPUs to pods already, and a GPU can have one allocator only."""


class Installer(Protocol):
    """How a chart gets onto a cluster, and off it."""

    def install(self, client: Client, release: Release, timeouts: Timeouts, *, replace: bool = False) -> None:
        """Install a release. With ``replace`` one of that name is ours and becomes this one.

        Raises StackPresent for a release of that name that is not, InstallError for everything else.
        """

    def uninstall(self, client: Client, installed: Installed, timeouts: Timeouts) -> None:
        """Take a release away and wait until what it brought is gone; nothing when it is not there.

        Raises InstallError with the command to run by hand where that cannot be done from here.
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
        """The recorded changes of nodes that have not been taken back."""


class StackPlan(msgspec.Struct, frozen=True):
    """What deploying does about the declared stack, decided before anything is written.

    ``objects`` have to be there first. ``left_alone`` says what gives GPUs to pods already: then nothing is done.
    """

    objects: tuple[Object, ...] = ()
    releases: tuple[Release, ...] = ()
    installer: Installer | None = None
    left_alone: str = ""

    @classmethod
    def of(cls, client: Client, reference: Reference, installer: Installer | None, records: Records) -> "StackPlan":
        """The plan; empty without an installer, and for a set-up that declares no stack."""
        if installer is None or reference.stack is None:
            return cls()
        if not records.installed and (present := in_the_way(client)):
            return cls(left_alone=f"the cluster has a GPU stack already, which was left alone: {', '.join(present)}")
        return cls(tuple(stack_objects(reference)), releases(reference), installer)

    def install(self, client: Client, records: Records, timeouts: Timeouts) -> tuple[str, ...]:
        """Install what is planned; the releases in words. Raises as ``install`` does."""
        if self.installer is None:
            return ()
        return install(client, self.releases, self.installer, records, timeouts)


def in_the_way(client: Client) -> tuple[str, ...]:
    """What on the cluster gives GPUs to pods, or is about to: each thing by its kind and name.

    A plugin that a node image runs outside Kubernetes leaves no object; it is told by what its nodes offer.
    """
    found = _detected(client)
    named = (
        ("ClusterPolicy", (found.policy, *found.ignored_policies) if found.policy else ()),
        ("GPUCluster", found.gpu_clusters),
        ("NVIDIADriver", found.drivers),
        ("deployment", found.operators),
        ("daemonset", (*found.device_plugins, *found.dra_drivers)),
    )
    seen = tuple(f"{kind} {name}" for kind, names in named for name in names)
    return seen or _offered_by_nodes(client)


def _offered_by_nodes(client: Client) -> tuple[str, ...]:
    nodes = [str(node["metadata"]["name"]) for node in client.list(path("Node")) if _offers_gpus(node)]
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return (f"a device plugin of the image of node {nodes[0]}{more}",) if nodes else ()


def _offers_gpus(node: dict[str, Any]) -> bool:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    return any(is_gpu_resource(name) and str(count) != "0" for name, count in allocatable.items())


def install(
    client: Client, wanted: Sequence[Release], installer: Installer, records: Records, timeouts: Timeouts
) -> tuple[str, ...]:
    """Install the releases in order, each recorded first; those that are ours already are brought up to date.

    Returns the releases in words. Raises StackPresent, before anything is installed, when the cluster has a stack
    that is not recorded as ours.
    """
    ours = {(each.name, each.namespace): each for each in records.installed}
    if not ours and (present := in_the_way(client)):
        raise StackPresent(
            f"the cluster has a GPU stack already ({', '.join(present)}), and a GPU can have one allocator only: judge "
            "that one as it is (without deploying), or remove it first; what a killed run left goes with "
            "gpu-conformance clean"
        )
    before = tuple(sorted(_names(_definitions(client))))
    marked = leavings.are_marked(client, records.outstanding)
    for release in wanted:
        known = ours.get((release.name, release.namespace))
        if known is None:
            records.will_install(Installed.of(release, before, marked=marked))
        installer.install(client, release, timeouts, replace=known is not None)
    return tuple(str(release) for release in wanted)


def uninstalled(
    client: Client,
    installed: Sequence[Installed],
    installer: Installer | None,
    changes: Sequence[NodeChange],
    timeouts: Timeouts,
) -> Iterator[tuple[Installed, str]]:
    """Take releases away, the last one first, and what charts leave.

    That are their CRDs, what the operator made outside its namespace, and what was written on nodes. ``changes`` are
    our own changes of nodes, which have a record of their own. With each release comes in words what is left of it:
    one whose words are empty is gone and may be forgotten.
    """
    remaining = list(installed)
    while remaining:
        each = remaining.pop()
        try:
            if installer is None:
                raise InstallError(f"run: helm uninstall {each.name} --namespace {each.namespace}")
            installer.uninstall(client, each, timeouts)
            left = [] if remaining else list(_without_definitions(client, each))
            if not remaining and not each.marked:
                leavings.unmark(client, changes)
        except (InstallError, KubeError) as error:
            left = [str(error)]
        yield each, f"{each}: {'; '.join(left)}" if left else ""


def _without_definitions(client: Client, first: Installed) -> Iterator[str]:
    """Remove the CRDs that were not there before the first of our releases, if nobody has objects of them.

    What is left of such a kind in the release's own namespace goes along with it; anywhere else it is somebody's.
    """
    for definition in _definitions(client):
        if definition["metadata"]["name"] in first.definitions:
            continue
        collection, namespaced = _collection(definition)
        for obj in _listed(client, collection):
            if namespaced and obj["metadata"].get("namespace") == first.namespace:
                client.delete(f"{_in_namespace(collection, first.namespace)}/{obj['metadata']['name']}")
        remaining = [obj for obj in _listed(client, collection) if not obj["metadata"].get("deletionTimestamp")]
        if remaining:
            yield f"CRD {definition['metadata']['name']}: {len(remaining)} objects of it are left"
        else:
            _delete_owned(client, definition)
            client.delete(path("CustomResourceDefinition", name=definition["metadata"]["name"]))


def _delete_owned(client: Client, definition: dict[str, Any]) -> None:
    """Delete what objects of a kind, none of which is left, owned outside namespaces."""
    spec = definition["spec"]
    kind, group = spec["names"]["kind"], spec["group"]
    for each in _OWNED:
        for obj in _listed(client, path(each)):
            owners = obj["metadata"].get("ownerReferences") or ()
            if any(owner["kind"] == kind and owner["apiVersion"].startswith(f"{group}/") for owner in owners):
                client.delete(path(each, name=obj["metadata"]["name"]))


def _in_namespace(collection: str, namespace: str) -> str:
    """The collection of a kind in one namespace, from that of all namespaces."""
    root, _, plural = collection.rpartition("/")
    return f"{root}/namespaces/{namespace}/{plural}"


def _collection(definition: dict[str, Any]) -> tuple[str, bool]:
    spec = definition["spec"]
    version = next(each["name"] for each in spec["versions"] if each.get("served"))
    return f"/apis/{spec['group']}/{version}/{spec['names']['plural']}", spec.get("scope") == "Namespaced"


def _definitions(client: Client) -> list[dict[str, Any]]:
    found = client.list(path("CustomResourceDefinition"))
    return [each for each in found if (each.get("spec") or {}).get("group") in GROUPS]


def _names(found: list[dict[str, Any]]) -> list[str]:
    return [str(each["metadata"]["name"]) for each in found]


def _listed(client: Client, collection: str) -> list[dict[str, Any]]:
    try:
        return client.list(collection)
    except NotFound:
        return []


def _detected(client: Client) -> Detection:
    return detect(obj for kind in _TELLING for obj in _listed(client, path(kind)))
