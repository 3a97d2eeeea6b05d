"""What people keep in a namespace and would miss, so that nobody deletes a namespace over their heads."""

from collections.abc import Callable, Iterator
from typing import Any

from conformance.kube.client import Client

# Everything else in a namespace is made by a control plane, or stands on these.
_THINGS = {
    "/api/v1": ("configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "secrets", "services"),
    "/apis/apps/v1": ("daemonsets", "deployments", "replicasets", "statefulsets"),
    "/apis/batch/v1": ("cronjobs", "jobs"),
}
# The control plane puts this one into every namespace.
_GIVEN = ("configmaps", "kube-root-ca.crt")
_NAMED = 5


def kept_by_others(client: Client, namespace: str, is_ours: Callable[[dict[str, Any]], bool]) -> list[str]:
    """What others keep in a namespace, as ``plural/name``: the first few, and how many more; empty for nothing.

    What has an owner or is being deleted goes anyway, and what Kubernetes gave is missed by nobody.
    """
    found = sorted(_kept(client, namespace, is_ours))
    return [*found[:_NAMED], f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else found


def _kept(client: Client, namespace: str, is_ours: Callable[[dict[str, Any]], bool]) -> Iterator[str]:
    for root, plurals in _THINGS.items():
        for plural in plurals:
            for found in client.list(f"{root}/namespaces/{namespace}/{plural}"):
                metadata = found["metadata"]
                going = metadata.get("ownerReferences") or metadata.get("deletionTimestamp")
                if not going and (plural, metadata["name"]) != _GIVEN and not is_ours(found):
                    yield f"{plural}/{metadata['name']}"
