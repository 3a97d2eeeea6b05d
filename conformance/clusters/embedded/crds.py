"""The custom resources that KWOK reads at run time: without them when it starts, its watches back off for long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.kube.client import Client

GROUP = "kwok.x-k8s.io"
VERSION = "v1alpha1"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def definitions() -> list[dict[str, Any]]:
    """The definitions of Logs (one pod's log files) and PortForward (where one pod's ports lead).

    Each has a form with Cluster before its name, for pods chosen by name or namespace.
    """
    return [
        _definition("Logs", plural="logs", singular="logs", scope="Namespaced"),
        _definition("ClusterLogs", plural="clusterlogs", singular="clusterlogs", scope="Cluster"),
        _definition("PortForward", plural="portforwards", singular="portforward", scope="Namespaced"),
        _definition("ClusterPortForward", plural="clusterportforwards", singular="clusterportforward", scope="Cluster"),
    ]


def establish(client: Client, *, timeout: float = 30.0) -> None:
    """Create the definitions and wait until they are served. Raises WaitTimeout after ``timeout`` seconds."""
    from conformance.kube.waits import wait_for

    for definition in definitions():
        client.create(_DEFINITIONS, definition)
    for definition in definitions():
        path = f"{_DEFINITIONS}/{definition['metadata']['name']}"
        wait_for(lambda path=path: client.get(path), _served, what=f"{path} is established", timeout=timeout)  # type: ignore[misc]


def _served(definition: dict[str, Any]) -> bool:
    # Right after its creation a definition has conditions, and they are null.
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def _definition(kind: str, *, plural: str, singular: str, scope: str) -> dict[str, Any]:
    # KWOK checks what it reads; a schema of our own would only be a second, older opinion.
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": VERSION, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": singular},
            "versions": [version | {"subresources": {"status": {}}}],
        },
    }
