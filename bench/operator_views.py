"""What a GPU operator makes of a ClusterPolicy and a fleet, in a form in which two of them can be compared.

A view has the objects of one cluster by name, and of each the fields that the operator decides: of nodes the labels and
annotations of NVIDIA's keys, of DaemonSets all but scripts, probes and mounts, of statuses all but the words. What
the simulator leaves out (docs/simulator.md), names that are drawn by chance, and times are in no view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Object = dict[str, Any]
View = dict[str, dict[str, Any]]
"""The fields of each object, both by name; a field is a text, a number, or a list or mapping of such."""

OURS = "gpu-conformance.io/"
OPERATORS = ("ClusterPolicy", "GPUCluster", "NVIDIADriver")
"""The kinds whose objects own what the operator makes."""
KINDS = (
    "Node",
    "Namespace",
    "DaemonSet",
    "Deployment",
    "Service",
    "ServiceAccount",
    "RuntimeClass",
    "DeviceClass",
    "ResourceClaimTemplate",
    *OPERATORS,
)
"""What has to be read of a cluster."""

_OF_NODES = ("nvidia.com/",)
# What programs on the nodes write, not the operator: feature discovery, MIG manager.
_OF_PROGRAMS = ("nvidia.com/mig.config.state", "nvidia.com/gfd.timestamp")
# The digest of what was asked for is made as everybody likes.
_DIGESTS = ("DRIVER_CONFIG_DIGEST", "nvidia.com/last-applied-hash", "nvidia.com/driver-upgrade-requested")
_CHANCE = ("kubectl.kubernetes.io/", "deprecated.daemonset.template.generation")


def view(objects: Mapping[str, Iterable[Object]]) -> View:
    """The view of a cluster, whose objects are given by kind."""
    made: View = {}
    for kind, members in objects.items():
        for obj in members:
            if kind in _FIELDS and _concerns(kind, obj):
                name, stem = obj["metadata"]["name"], _stem(kind, obj)
                made[f"{kind} {stem}"] = _renamed(_FIELDS[kind](obj), name, stem)
    return made


def _stem(kind: str, obj: Object) -> str:
    """The name of an object without its end that is drawn by chance: what an NVIDIADriver leads to has such names."""
    metadata = obj["metadata"]
    owners = {owner["kind"]: owner["name"] for owner in metadata.get("ownerReferences") or ()}
    if kind != "DaemonSet" or "NVIDIADriver" not in owners:
        return str(metadata["name"])
    return f"{metadata['name'].rpartition('-')[0]}-of-{owners['NVIDIADriver']}"


def _renamed(fields: Any, name: str, stem: str) -> Any:
    if isinstance(fields, dict):
        return {key: _renamed(value, name, stem) for key, value in fields.items()}
    return stem if fields == name else fields


def differences(real: View, simulated: View) -> dict[str, list[str]]:
    """What is different, in words, by object; empty when nothing is."""
    found: dict[str, list[str]] = {}
    for name in sorted(real.keys() | simulated.keys()):
        if name not in simulated:
            found[name] = ["only the program has it"]
        elif name not in real:
            found[name] = ["only the simulator has it"]
        elif lines := list(_different("", real[name], simulated[name])):
            found[name] = lines
    return found


def _different(place: str, real: Any, simulated: Any) -> Iterator[str]:
    if isinstance(real, dict) and isinstance(simulated, dict):
        for key in sorted(real.keys() | simulated.keys()):
            at = f"{place}.{key}" if place else key
            yield from _different(at, real.get(key), simulated.get(key))
    elif real != simulated:
        yield f"{place}: program {_said(real)}, simulator {_said(simulated)}"


def _said(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def _concerns(kind: str, obj: Object) -> bool:
    """Whether the operator has to do with an object: it owns it, is told by it, or marks it."""
    return kind in ("Node", "Namespace", *OPERATORS) or is_operators(obj)


def is_operators(obj: Object) -> bool:
    """Whether an operator made an object."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return any(owner["kind"] in OPERATORS for owner in owners)


def _node(obj: Object) -> dict[str, Any]:
    metadata = obj["metadata"]
    return {
        "labels": _ours_and_theirs(metadata.get("labels"), _OF_NODES),
        "annotations": _ours_and_theirs(metadata.get("annotations"), _OF_NODES),
        "cordoned": bool(obj["spec"].get("unschedulable")),
        "taints": sorted(f"{each['key']}={each.get('value', '')}:{each['effect']}" for each in _taints(obj)),
    }


def _taints(node: Object) -> list[Object]:
    return list(node["spec"].get("taints") or ())


def _ours_and_theirs(given: Mapping[str, str] | None, prefixes: tuple[str, ...]) -> dict[str, str]:
    left_out = (*_OF_PROGRAMS, *_DIGESTS)
    return {key: value for key, value in (given or {}).items() if key.startswith(prefixes) and key not in left_out}


def _namespace(obj: Object) -> dict[str, Any]:
    prefixes = ("pod-security.kubernetes.io/", "resource.kubernetes.io/")
    return {"labels": _ours_and_theirs(obj["metadata"].get("labels"), prefixes)}


def _daemon_set(obj: Object) -> dict[str, Any]:
    status = obj.get("status") or {}
    return {
        **_workload(obj),
        "strategy": obj["spec"].get("updateStrategy"),
        "desired": status.get("desiredNumberScheduled", 0),
        "current": status.get("updatedNumberScheduled", 0),
    }


def _deployment(obj: Object) -> dict[str, Any]:
    return {**_workload(obj), "strategy": obj["spec"].get("strategy"), "replicas": obj["spec"].get("replicas")}


def _workload(obj: Object) -> dict[str, Any]:
    template = obj["spec"]["template"]
    return {
        "labels": _without_chance(obj["metadata"].get("labels")),
        "selector": obj["spec"]["selector"],
        "pods": {
            "labels": _without_chance(template["metadata"].get("labels")),
            "annotations": _without_chance(template["metadata"].get("annotations")),
        },
        **_pod(template["spec"]),
    }


def _without_chance(given: Mapping[str, str] | None) -> dict[str, str]:
    return {
        key: value
        for key, value in (given or {}).items()
        if not key.startswith((OURS, *_CHANCE)) and key not in _DIGESTS
    }


def _pod(spec: Object) -> dict[str, Any]:
    tolerations = [dict(sorted(each.items())) for each in spec.get("tolerations") or ()]
    return {
        "nodeSelector": spec.get("nodeSelector") or {},
        "affinity": spec.get("affinity"),
        "tolerations": sorted(tolerations, key=str),
        "priorityClass": spec.get("priorityClassName"),
        "runtimeClass": spec.get("runtimeClassName"),
        "account": spec.get("serviceAccountName"),
        "hostPID": bool(spec.get("hostPID")),
        "hostNetwork": bool(spec.get("hostNetwork")),
        "sharedProcesses": bool(spec.get("shareProcessNamespace")),
        "pullSecrets": sorted(each["name"] for each in spec.get("imagePullSecrets") or ()),
        "init": {each["name"]: _container(each) for each in spec.get("initContainers") or ()},
        "order": [each["name"] for each in spec.get("initContainers") or ()],
        "containers": {each["name"]: _container(each) for each in spec["containers"]},
        "claims": {each["name"]: each.get("resourceClaimTemplateName") for each in spec.get("resourceClaims") or ()},
    }


def _container(obj: Object) -> dict[str, Any]:
    return {
        "image": obj["image"],
        "pull": obj.get("imagePullPolicy"),
        "env": {each["name"]: _value(each) for each in obj.get("env") or () if each["name"] not in _DIGESTS},
        "resources": {key: value for key, value in (obj.get("resources") or {}).items() if value},
        "ports": sorted(each["containerPort"] for each in obj.get("ports") or ()),
    }


def _value(variable: Object) -> str:
    source = variable.get("valueFrom") or {}
    if "fieldRef" in source:
        return f"field {source['fieldRef']['fieldPath']}"
    return str(variable.get("value") or source or "")


def _service(obj: Object) -> dict[str, Any]:
    spec = obj["spec"]
    ports = [f"{each.get('name', '')}:{each['port']}->{each.get('targetPort')}" for each in spec.get("ports") or ()]
    return {"selector": spec.get("selector"), "ports": ports, "inside": spec.get("internalTrafficPolicy")}


def _runtime_class(obj: Object) -> dict[str, Any]:
    return {"handler": obj.get("handler")}


def _specified(obj: Object) -> dict[str, Any]:
    return {"spec": obj["spec"]}


def _service_account(_: Object) -> dict[str, Any]:
    return {}


def _operator(obj: Object) -> dict[str, Any]:
    status = obj.get("status") or {}
    conditions = {each["type"]: f"{each['status']} {each.get('reason', '')}" for each in status.get("conditions") or ()}
    return {"state": status.get("state"), "namespace": status.get("namespace"), "conditions": conditions}


_FIELDS = {
    "Node": _node,
    "Namespace": _namespace,
    "DaemonSet": _daemon_set,
    "Deployment": _deployment,
    "Service": _service,
    "ServiceAccount": _service_account,
    "RuntimeClass": _runtime_class,
    "DeviceClass": _specified,
    "ResourceClaimTemplate": _specified,
    "ClusterPolicy": _operator,
    "GPUCluster": _operator,
    "NVIDIADriver": _operator,
}
