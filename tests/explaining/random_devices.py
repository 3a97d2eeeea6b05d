"""Volumes and devices of random nodes, and pods that claim them."""

import random
from typing import Any

from random_pods import HOST, ZONE

Object = dict[str, Any]

CSI, GPUS = "disk.example.com", "gpu.example.com"
RULES_API = "resource.k8s.io/v1beta2"
_TAINTS = ("rma", "example.com/noisy")
_PINNED = "requiredDuringSchedulingIgnoredDuringExecution"
CLASSES: tuple[Object, ...] = (
    {
        "metadata": {"name": "local"},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    },
    {"metadata": {"name": "late"}, "provisioner": CSI, "volumeBindingMode": "WaitForFirstConsumer"},
    {
        "metadata": {"name": "zonal"},
        "provisioner": CSI,
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowedTopologies": [{"matchLabelExpressions": [{"key": ZONE, "values": ["a", "b"]}]}],
    },
    {"metadata": {"name": "at-once"}, "provisioner": "nobody.example.com", "volumeBindingMode": "Immediate"},
)
DEVICE_CLASSES: tuple[Object, ...] = (
    {"metadata": {"name": GPUS}, "spec": {"selectors": [{"cel": {"expression": f"device.driver == '{GPUS}'"}}]}},
    {
        "metadata": {"name": "whole"},
        "spec": {
            "selectors": [
                {"cel": {"expression": f"device.driver == '{GPUS}' && device.attributes['{GPUS}'].type == 'gpu'"}}
            ]
        },
    },
)
_CEL = (
    f"device.attributes['{GPUS}'].model == 'h100'",
    f'device.attributes["{GPUS}"].type == "mig"',
    f"device.attributes['{GPUS}'].index == 1",
    f"device.attributes['{GPUS}'].healthy == true",
    f"device.attributes['{GPUS}'].missing == 'x'",
    f"has(device.attributes['{GPUS}'].healthy) && device.attributes['{GPUS}'].healthy",
    f"!('model' in device.attributes['{GPUS}'])",
    f"device.attributes['{GPUS}'].index in [0, 2, 3]",
    f"device.capacity['{GPUS}'].memory.isLessThan(quantity('40Gi'))",
    f"device.attributes['{GPUS}'].type.upperAscii().matches('^M.G$')",
    f"device.attributes['{GPUS}'].index == '1'",
    f"device.attributes['{GPUS}'].index >= 1 ? true : false",
    f"device.attributes['{GPUS}'].model != 'h100'",
    f"device.attributes['{GPUS}'].model.startsWith('h')",
    f"device.capacity['{GPUS}'].memory.compareTo(quantity('40Gi')) >= 0",
    f"device.attributes['{GPUS}'].model == 'h100' || device.attributes['{GPUS}'].index == 0",
    f"device.driver == '{GPUS}' && device.attributes['{GPUS}'].index == 0",
)


def csi_node(node: Object, chance: random.Random) -> Object:
    """How many volumes a node attaches."""
    name, uid = node["metadata"]["name"], node["metadata"]["uid"]
    driver = {"name": CSI, "nodeID": name, "allocatable": {"count": chance.choice((1, 2, 3))}}
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
    return {"metadata": {"name": name, "ownerReferences": [owner]}, "spec": {"drivers": [driver]}}


def volume_and_claim(name: str, node: Object, chance: random.Random) -> tuple[list[Object], Object]:
    """A claim, and the volume that it is bound to where it is: on the node, in a zone, on another node, or of CSI."""
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim: Object = {"metadata": {"name": name}, "spec": spec}
    kind = chance.choice(("unbound", "local", "here", "zone", "csi", "csi", "csi"))
    if kind == "unbound":
        spec["storageClassName"] = chance.choice(("late", "zonal", "at-once", "no-such-class", "local"))
        return [], claim
    spec["storageClassName"] = "" if kind != "local" else "local"
    volume: Object = {
        "metadata": {"name": f"pv-{name}"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }
    source = {"csi": {"driver": CSI, "volumeHandle": f"{name}"}} if kind == "csi" else {"hostPath": {"path": "/data"}}
    volume["spec"] |= source | {"storageClassName": spec["storageClassName"]}
    if kind == "local":
        volume["spec"].pop("hostPath")
        volume["spec"]["local"] = {"path": "/data"}
    where = (
        {"key": HOST, "operator": "In", "values": [chance.choice((node["metadata"]["name"], "another"))]}
        if kind in ("here", "local")
        else {"key": ZONE, "operator": "In", "values": [chance.choice("abc")]}
    )
    if kind in ("here", "local") or chance.random() < 0.4:
        volume["spec"]["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}}
    if kind == "zone":
        volume["metadata"]["labels"] = {ZONE: chance.choice(("a", "b", "a__b"))}
    if kind != "local":
        spec["volumeName"] = f"pv-{name}"
        volume["spec"]["claimRef"] = {"namespace": "default", "name": name}
        if chance.random() < 0.15:
            spec["accessModes"] = volume["spec"]["accessModes"] = ["ReadWriteOncePod"]
    return [volume], claim


def with_claims(name: str, node: str, claims: list[str], *, of_devices: bool) -> Object:
    """A pod for one node with claims of volumes or of devices."""
    pinned = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
    container: Object = {"name": "main", "image": "i"}
    spec: Object = {
        "containers": [container],
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {_PINNED: {"nodeSelectorTerms": pinned}}},
    }
    if of_devices:
        spec["resourceClaims"] = [{"name": f"c{at}", "resourceClaimName": each} for at, each in enumerate(claims)]
        container["resources"] = {"claims": [{"name": each["name"]} for each in spec["resourceClaims"]]}
    else:
        spec["volumes"] = [
            {"name": f"v{at}", "persistentVolumeClaim": {"claimName": each}} for at, each in enumerate(claims)
        ]
    return {"metadata": {"name": name, "annotations": {"meant": node}}, "spec": spec}


def resource_slice(node: str, chance: random.Random) -> Object:
    """The devices of a node, none to eight of them."""
    devices = [_device(at, chance) for at in range(chance.choice((0, 1, 2, 4, 6, 8)))]
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    return {
        "metadata": {"name": f"s-{node}"},
        "spec": {"driver": GPUS, "nodeName": node, "pool": pool, "devices": devices},
    }


def _device(at: int, chance: random.Random) -> Object:
    attributes: Object = {"type": {"string": chance.choice(("gpu", "gpu", "mig"))}, "index": {"int": at}}
    if chance.random() < 0.9:
        attributes["model"] = {"string": chance.choice(("h100", "a100"))}
    if chance.random() < 0.7:
        attributes["healthy"] = {"bool": chance.random() < 0.5}
    return {
        "name": f"d{at}",
        "attributes": attributes,
        "capacity": {"memory": {"value": chance.choice(("10Gi", "80Gi"))}},
        **({"taints": [_taint(chance)]} if chance.random() < 0.15 else {}),
    }


def _taint(chance: random.Random) -> Object:
    """A taint of a device; the values are few, so that requests tolerate some of them."""
    taint = {"key": chance.choice(_TAINTS), "effect": chance.choice(("NoSchedule", "NoExecute", "None"))}
    return taint | ({"value": "yes"} if chance.random() < 0.5 else {})


def _toleration(chance: random.Random) -> Object:
    key, effect = chance.choice(_TAINTS), chance.choice(("NoSchedule", "NoExecute", ""))
    which = [{"key": key, "operator": "Exists"}, {"key": key, "value": "yes"}, {"key": key}, {"operator": "Exists"}]
    return chance.choice(which) | ({"effect": effect} if effect else {})


def taint_rule(name: str, node: str, chance: random.Random) -> Object:
    """A DeviceTaintRule for the devices of a node, for one of them, or for one name of devices anywhere.

    One without a selector is for all devices of all nodes, and would leave nothing to decide.
    """
    chosen = chance.choice([{"pool": node}, {"driver": GPUS, "pool": node, "device": "d0"}, {"device": "d7"}])
    spec = {"taint": _taint(chance), "deviceSelector": chosen}
    return {"apiVersion": RULES_API, "kind": "DeviceTaintRule", "metadata": {"name": name}, "spec": spec}


def device_claim(name: str, chance: random.Random) -> Object:
    """A claim of one or two requests, most of which ask for a number of devices of a class with selectors."""
    requests = [_request(f"r{at}", chance) for at in range(chance.choice((1, 1, 2)))]
    return {"metadata": {"name": name}, "spec": {"devices": {"requests": requests}}}


def _request(name: str, chance: random.Random) -> Object:
    selectors = [{"cel": {"expression": each}} for each in chance.sample(_CEL, chance.choice((0, 0, 0, 1, 1, 2)))]
    if chance.random() < 0.03:
        return {"name": name, "exactly": {"deviceClassName": "no-such-class"}}
    exactly: Object = {"deviceClassName": GPUS if chance.random() < 0.5 else "whole"}
    exactly |= {"selectors": selectors} if selectors else {}
    exactly |= {"tolerations": [_toleration(chance)]} if chance.random() < 0.3 else {}
    exactly |= {"allocationMode": "All"} if chance.random() < 0.05 else {"count": chance.choice((1, 1, 1, 2, 3))}
    return {"name": name, "exactly": exactly}
