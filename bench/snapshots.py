"""What a snapshot of 5,000 nodes weighs, and what explaining a pod, or all that wait, takes after it was read.

Usage: python bench/snapshots.py [nodes]      Exit code 1 when the file or the slowest explanation is beyond its limit.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conformance.explaining import Seen, waiting_pods
from conformance.facts import snapshot
from conformance.session.explaining_pods import held_in, told
from conformance.session.garbage import kept_from_the_collector

LIMIT_BYTES, LIMIT_SECONDS = 15_000_000, 2.0
ZONE = "topology.kubernetes.io/zone"
PODS_ON_EACH = 12
_SPREAD = {
    "maxSkew": 1,
    "topologyKey": ZONE,
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"app": "worker"}},
}
_APART = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "worker"}}}
_DRIVER = "gpu.nvidia.com"
_H200 = f"device.attributes['{_DRIVER}'].productName.lowerAscii().matches('^.*h200.*$')"
DEVICES = 8
WAITING: dict[str, dict[str, Any]] = {
    "full": {},
    "selector": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H200"}},
    "spread": {"topologySpreadConstraints": [_SPREAD]},
    "apart": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_APART]}}},
    "claim": {"resourceClaims": [{"name": "gpus", "resourceClaimName": "h200"}]},
    "class": {},
    "local": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]},
}
_ASKS: dict[str, dict[str, Any]] = {
    "claim": {"claims": [{"name": "gpus"}]},
    "class": {"limits": {f"deviceclass.resource.kubernetes.io/{_DRIVER}": "9"}},
}
WAITING_WITH_THEM = 400
"""Pods of the overview besides, of as many sorts as its nodes that are judged allow several times over."""
_LOCAL = "local-nvme"
_NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
# What this loop takes says how fast the machine is: figures of two days can be compared by it.
_YARDSTICK = 3_000_000


def fleet(nodes: int) -> Iterator[dict[str, Any]]:
    """GPU nodes as gpu-feature-discovery labels them, each full of pods with all that an API server says of them."""
    for number in range(nodes):
        yield _node(number)
        yield _slice(number)
        for at in range(PODS_ON_EACH):
            yield _pod(number, at)
        yield _local_volume(number)
    yield from _claims()
    yield from _for_local_volumes()
    for name, spec in WAITING.items():
        yield _waiting(name, spec, _ASKS.get(name, {"limits": {"nvidia.com/gpu": "8"}}))
    for number in range(WAITING_WITH_THEM):
        asks = {"limits": {"nvidia.com/gpu": str(number % 8 + 1)}, "requests": {"cpu": str(number % 5)}}
        yield _waiting(f"more-{number}", {}, asks)


def _node(number: int) -> dict[str, Any]:
    name = f"gpu-node-{number:05}"
    labels = {f"feature.node.kubernetes.io/cpu-cpuid.F{flag}": "true" for flag in range(40)}
    labels |= {f"nvidia.com/gpu.deploy.operand-{each}": "true" for each in range(8)}
    labels |= {
        "kubernetes.io/hostname": name,
        ZONE: f"zone-{number % 3}",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    }
    amounts = {"cpu": "192", "memory": "2113405056Ki", "pods": "110", "nvidia.com/gpu": "8", "ephemeral-storage": "3Ti"}
    ready = {
        "status": "True",
        "lastHeartbeatTime": "2026-11-01T10:00:00Z",
        "reason": "KubeletReady",
        "message": "ready",
    }
    images = [
        {"names": [f"registry.example/image-{each}@sha256:{each:064x}"], "sizeBytes": 10**9} for each in range(20)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": _uid(number),
            "labels": labels,
            "annotations": {"example/hash": _uid(number)},
        },
        "spec": {"providerID": f"example:///{_uid(number)}"},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "images": images,
            "conditions": [
                {"type": kind, **ready} for kind in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
            ],
            "addresses": [{"type": "InternalIP", "address": f"10.{number >> 8}.{number & 255}.1"}],
            "nodeInfo": {"kubeletVersion": "v1.35.1", "machineID": _uid(number), "kernelVersion": "6.8.0-1-generic"},
        },
    }


def _slice(number: int) -> dict[str, Any]:
    """The devices of a node as NVIDIA's DRA driver publishes them."""
    name = f"gpu-node-{number:05}"
    pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
    devices = [
        {
            "name": f"gpu-{at}",
            "attributes": {
                "type": {"string": "gpu"},
                "uuid": {"string": f"GPU-{_uid(number * DEVICES + at)}"},
                "productName": {"string": "NVIDIA H100 80GB HBM3"},
                "architecture": {"string": "Hopper"},
                "cudaComputeCapability": {"version": "9.0.0"},
                "driverVersion": {"version": "580.95.5"},
                "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{at}a"},
            },
            "capacity": {"memory": {"value": "81559Mi"}},
        }
        for at in range(DEVICES)
    ]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{name}-{_DRIVER}", "uid": _uid(number + 1)},
        "spec": {"driver": _DRIVER, "nodeName": name, "pool": pool, "devices": devices},
    }


def _claims() -> Iterator[dict[str, Any]]:
    """A claim whose selector has to be evaluated for every device."""
    of_class = f"device.driver == '{_DRIVER}' && device.attributes['{_DRIVER}'].type == 'gpu'"
    yield {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": _DRIVER},
        "spec": {"selectors": [{"cel": {"expression": of_class}}]},
    }
    exactly = {"deviceClassName": _DRIVER, "count": 1, "selectors": [{"cel": {"expression": _H200}}]}
    yield {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "h200", "namespace": "team-00"},
        "spec": {"devices": {"requests": [{"name": "gpus", "exactly": exactly}]}},
    }


def _local_volume(number: int) -> dict[str, Any]:
    """The disk of a node, of which every other one is in use."""
    at_home = {"key": "kubernetes.io/hostname", "operator": "In", "values": [f"gpu-node-{number:05}"]}
    used = {"claimRef": {"namespace": "team-01", "name": f"data-{number}"}} if number % 2 else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"disk-{number:05}", "uid": _uid(number + 2)},
        "spec": {
            "storageClassName": _LOCAL,
            "capacity": {"storage": "3Ti"},
            "accessModes": ["ReadWriteOnce"],
            "local": {"path": "/mnt/nvme"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [at_home]}]}},
            **used,
        },
    }


def _for_local_volumes() -> Iterator[dict[str, Any]]:
    """The class of those, a claim, and the budgets of those who are there."""
    yield {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": _LOCAL},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    yield {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "team-00"},
        "spec": {"storageClassName": _LOCAL, "accessModes": ["ReadWriteOnce"]},
    }
    for number in range(40):
        yield {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "servers", "namespace": f"team-{number:02}"},
            "spec": {"selector": {"matchLabels": {"app": "server"}}},
            "status": {"disruptionsAllowed": 1},
        }


def _pod(number: int, at: int) -> dict[str, Any]:
    name, gpus = f"worker-{number:05}-{at:02}", "1" if at < 8 else "0"
    # Some ask as no other does, and some start something first.
    cpu, first = f"{7000 + number % 977}m" if at == 1 else "8", [{"name": "fetch", "image": "fetch"}] if at == 2 else []
    requests = {"cpu": cpu, "memory": "64Gi", **({"nvidia.com/gpu": "1"} if at < 8 else {})}
    mount = {
        "name": "kube-api-access-x",
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": True,
    }
    state = {"running": {"startedAt": "2026-11-01T10:00:00Z"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": f"team-{number % 40:02}",
            "uid": _uid(number * 100 + at),
            "labels": {"app": "worker" if at % 2 else "server", "pod-template-hash": f"{number:08x}"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"r-{number}", "uid": _uid(number)}
            ],
        },
        "spec": {
            "nodeName": f"gpu-node-{number:05}",
            **({"initContainers": first} if first else {}),
            "containers": [
                {
                    "name": "main",
                    "image": f"registry.example/app@sha256:{number % 50:064x}",
                    "resources": {"requests": requests, "limits": {"nvidia.com/gpu": gpus} if at < 8 else {}},
                    "env": [{"name": f"SETTING_{each}", "value": "x" * 40} for each in range(10)],
                    "volumeMounts": [mount],
                }
            ],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "priority": 0,
        },
        "status": {
            "phase": "Running",
            "startTime": f"2026-11-01T09:{number % 60:02}:{at:02}Z",
            "podIP": f"10.{number >> 8}.{number & 255}.{at + 2}",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-01T10:00:00Z"}],
            "containerStatuses": [
                {
                    "name": "main",
                    "ready": True,
                    "restartCount": 0,
                    "state": state,
                    "containerID": f"containerd://{number * 100 + at:064x}",
                }
            ],
        },
    }


def _waiting(name: str, spec: dict[str, Any], asks: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "main", "image": "train", "resources": asks}
    metadata = {"name": f"waiting-{name}", "namespace": "team-00", "labels": {"app": "worker"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container], "priority": 100, **spec},
        "status": {"phase": "Pending"},
    }


def _uid(number: int) -> str:
    """A UID that compresses as badly as a random one."""
    digits = f"{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def yardstick() -> float:
    """How long this machine takes for the same piece of work, in CPU seconds."""
    began, found = time.process_time(), 0
    for number in range(_YARDSTICK):
        found += number & 7
    return time.process_time() - began


def main() -> int:
    """Print the size and the times, in CPU seconds."""
    print(f"yardstick, {_YARDSTICK:,} turns of a loop: {yardstick():.2f} s of CPU")
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fleet.json.gz"
        began = time.process_time()
        snapshot.save(snapshot.Snapshot.of(fleet(nodes)), file)
        size = file.stat().st_size
        print(
            f"snapshot of {nodes} nodes, {nodes * PODS_ON_EACH} pods: {size:,} bytes (limit {LIMIT_BYTES:,}); "
            f"{time.process_time() - began:.1f} s of CPU to make and save"
        )
        with kept_from_the_collector():  # as the commands do it
            began = time.process_time()
            held = held_in(snapshot.open_file(file))
            print(f"read in {time.process_time() - began:.1f} s of CPU")
            slowest = _explain_each(held)
            _tell_of_all(held)
    print(f"slowest {slowest:.2f} s (limit {LIMIT_SECONDS})")
    return int(size > LIMIT_BYTES or slowest > LIMIT_SECONDS)


def _explain_each(held: Seen) -> float:
    """The CPU seconds of the slowest explanation; each counts anew what it needs, as a command does."""
    slowest = 0.0
    for name in WAITING:
        seen = Seen(held.objects, held.unreadable)
        began = time.process_time()
        (explained,) = told(seen, "Pod", "team-00", f"waiting-{name}")
        spent = time.process_time() - began
        slowest = max(slowest, spent)
        print(f"explained {name:<9} {spent:.2f} s of CPU: {explained.cause[:100]}")
    return slowest


def _tell_of_all(held: Seen) -> None:
    """What the overview takes that a report has with --gpu-explain-pods."""
    began = time.process_time()
    found = waiting_pods(Seen(held.objects, held.unreadable), (), _NOW)
    spent = time.process_time() - began
    print(f"told of {found.pods} pods, {found.not_computed} of them not computed: {spent:.2f} s of CPU")


if __name__ == "__main__":
    sys.exit(main())
