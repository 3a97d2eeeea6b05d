"""Installing NVIDIA's charts on an embedded cluster: the objects that Helm would create, without Helm and the charts.

As with Helm a Secret in the namespace says which release is there and what belongs to it, and CRDs stay behind.
"""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

from conformance.deploy.deploying import in_parallel
from conformance.deploy.helm.releases import DRA, FORMER_DRA, OPERATOR, PLUGIN
from conformance.deploy.installing import InstallError, NotOurs, StackPresent
from conformance.kube.errors import Conflict, Forbidden, NotFound
from conformance.kube.names import MANAGED_BY, MANAGED_BY_US
from conformance.kube.paths import path
from conformance.kube.waits import until_accepted, wait_for
from conformance.simulator import chart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from conformance.deploy.helm.releases import Installed, Release
    from conformance.kube.client import Client
    from conformance.kube.timeouts import Timeouts

Object = dict[str, Any]

MANAGER = "helm"
_TYPE = "helm.sh/release.v1"
_MEMBERS = "members.json"
_MARK = "mark.txt"
# Until a definition that was created a moment ago, or a namespace, is known everywhere.
_RACE_SECONDS = 10.0
# What Helm does not take away: a namespace that it was asked to create, and what a chart has in its folder crds.
_STAYING = ("Namespace", "CustomResourceDefinition")
_OPERATOR_RESOURCES = ("ClusterPolicy", "GPUCluster", "NVIDIADriver")
_WORKLOADS = ("DaemonSet", "Deployment")
_LEAST_GRACE = 1
_CHARTS: dict[str, Callable[..., list[Object]]] = {
    OPERATOR: chart.gpu_operator,
    PLUGIN: chart.device_plugin,
    DRA: chart.dra_driver,
    FORMER_DRA: chart.dra_driver,
}


class SimulatedInstaller:
    """Installs what the simulator knows of NVIDIA's charts. See conformance.deploy.installing.Installer."""

    def has(self, client: Client, release: Release, timeouts: Timeouts) -> bool:
        """See Installer."""
        return _read(client, release.name, release.namespace) is not None

    def install(self, client: Client, release: Release, timeouts: Timeouts, *, replace: bool = False) -> None:
        """Apply the objects of a chart; with ``replace`` those go that the release does not have any more."""
        known = _read(client, release.name, release.namespace)
        before = _members(known)
        if known is not None and not (replace and release.token and _token(known) == release.token):
            raise StackPresent(f"a release {release.name} is in namespace {release.namespace} already, and not ours")
        objects = _rendered(release)
        for obj in _of_kinds(objects, *_STAYING):
            if obj["kind"] != "Namespace" or not _is_there(client, client.path_of(obj)):
                _apply(client, obj)
        _established(client, _of_kinds(objects, "CustomResourceDefinition"), timeouts)
        own = [obj for obj in objects if obj["kind"] not in _STAYING]
        members = [client.path_of(obj) for obj in own]
        former = [place for place in before if place not in members]
        # What the release had before stays on record until it is gone.
        _apply(client, _record(release, [*former, *members]))
        for obj in own:
            _apply(client, obj)
        for gone in former:
            client.delete(gone)
        if former:
            _apply(client, _record(release, members))

    def uninstall(self, client: Client, installed: Installed, timeouts: Timeouts) -> None:
        """Delete the objects of a release, those that tell the operator what to do first, and wait for the pods."""
        known = _read(client, installed.name, installed.namespace)
        if known is None:
            return
        if not installed.token or _token(known) != installed.token:
            raise NotOurs(installed)
        members = _members(known)
        for member in reversed(members):
            # A custom object in the foreground would wait for the garbage collector, see _still_there.
            client.delete(member, propagation="Foreground" if "/apps/" in member else "Background")
        wait_for(
            lambda: _still_there(client, installed.namespace, members),
            lambda paths: not paths,
            what=f"everything of {installed} is gone",
            timeout=timeouts.namespace_deleted,
            format_seen=", ".join,
        )
        client.delete(path("Secret", namespace=installed.namespace, name=_record_name(installed.name)))


def _rendered(release: Release) -> list[Object]:
    try:
        return _CHARTS[release.chart](
            release.values, namespace_name=release.namespace, version=release.version, release_name=release.name
        )
    except chart.ChartError as error:
        raise InstallError(f"installing {release}: {error}") from error


def _of_kinds(objects: Iterable[Object], *kinds: str) -> list[Object]:
    return [obj for obj in objects if obj["kind"] in kinds]


def _record_name(release: str) -> str:
    return f"sh.helm.release.v1.{release}.v1"


def _record(release: Release, members: list[str]) -> Object:
    labels = {"owner": "helm", "name": release.name, "status": "deployed", "version": "1", MANAGED_BY: MANAGED_BY_US}
    metadata = {"name": _record_name(release.name), "namespace": release.namespace, "labels": labels}
    text = {_MEMBERS: json.dumps(members), _MARK: release.token}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": _TYPE, "stringData": text}


def _read(client: Client, release: str, namespace: str) -> Object | None:
    """What is on record of a release, None when it is not there."""
    try:
        return client.get(path("Secret", namespace=namespace, name=_record_name(release)))
    except NotFound:
        return None


def _members(record: Object | None) -> list[str]:
    """The paths of what belongs to a release, in the order of their creation."""
    found: list[str] = json.loads(_text(record, _MEMBERS) or "[]")
    return found


def _token(record: Object) -> str:
    return _text(record, _MARK)


def _text(record: Object | None, key: str) -> str:
    return base64.b64decode(((record or {}).get("data") or {}).get(key, "")).decode()


def _is_there(client: Client, place: str) -> bool:
    try:
        client.get(place)
    except NotFound:
        return False
    return True


def _apply(client: Client, obj: Object) -> None:
    """Apply an object, again while the definition or the namespace under it is not known everywhere."""
    until_accepted(
        lambda: client.apply(obj, manager=MANAGER, force=True),
        lambda error: isinstance(error, (NotFound, Forbidden, Conflict)),
        timeout=_RACE_SECONDS,
    )


def _established(client: Client, definitions: list[Object], timeouts: Timeouts) -> None:
    for definition in definitions:
        place = client.path_of(definition)
        wait_for(
            lambda place=place: client.get(place),  # type: ignore[misc]
            _is_established,
            what=f"CRD {definition['metadata']['name']} is established",
            timeout=timeouts.condition,
        )


def _is_established(definition: Object) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def _still_there(client: Client, namespace: str, members: list[str]) -> list[str]:
    """The members and operands that are not gone yet, after a push to those that are going.

    The garbage collector learns of new kinds of owners only after half a minute, so operands are deleted here.
    """
    for kind in _WORKLOADS:
        for operand in client.list(path(kind, namespace=namespace)):
            if any(owner["kind"] in _OPERATOR_RESOURCES for owner in operand["metadata"].get("ownerReferences") or ()):
                members = [*members, path(kind, namespace=namespace, name=operand["metadata"]["name"])]
                client.delete(members[-1], propagation="Foreground")
    in_parallel(lambda pod: _hasten(client, pod), client.list(path("Pod", namespace=namespace)))
    return [place for place in members if _is_there(client, place)]


def _hasten(client: Client, pod: Object) -> None:
    """Shorten the end of a pod that is going: nobody uses it, and a second is enough for a kubelet to confirm it."""
    metadata = pod["metadata"]
    if int(metadata.get("deletionGracePeriodSeconds") or 0) > _LEAST_GRACE:
        place = path("Pod", namespace=metadata["namespace"], name=metadata["name"])
        with contextlib.suppress(Conflict):
            client.delete(place, grace_seconds=_LEAST_GRACE, uid=str(metadata["uid"]))
