"""The simulated device plugin as a stack: a DaemonSet for each GPU pool, on clusters whose nodes have no GPUs.

The device plugin is conformance/deviceplugin; its image is made by ``gpu-conformance cluster image simulated-plugin``.
What it offers is what the pool declares, and everything that belongs to it bears the label SIMULATED_GPUS.
"""

import json
from typing import Any

from conformance.kube.names import SIMULATED_GPUS
from conformance.reference.model import Gpu, Pool, Reference
from conformance.reference.stack import Stack

__all__ = ["IMAGE", "KIND", "NAME", "daemon_sets", "is_simulated"]

KIND = "simulated-plugin"
NAME = "gpu-conformance-simulated-plugin"
IMAGE = "localhost/gpu-conformance/simulated-plugin:1"
"""The image where a set-up names no other: the name under which it is made."""

_FILES = "/var/lib/gpu-conformance/simulated-plugin"
_PLUGINS = "/var/lib/kubelet/device-plugins"
_DRIVER, _MEMORY_MIB, _COMPUTE = "580.95.05", 16384, "8.0"
"""What stands for what the set-up does not declare."""

_Object = dict[str, Any]


def is_simulated(reference: Reference) -> bool:
    """Whether the set-up declares GPUs that are simulated by a device plugin."""
    return reference.stack is not None and reference.stack.kind == KIND


def daemon_sets(reference: Reference, stack: Stack) -> list[_Object]:
    """The DaemonSets of the plugin, one for each pool with GPUs."""
    return [_daemon_set(stack, pool, pool.gpu) for pool in reference.gpu_pools if pool.gpu is not None]


def _daemon_set(stack: Stack, pool: Pool, gpu: Gpu) -> _Object:
    name = f"{NAME}-{pool.name}"
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": name, SIMULATED_GPUS: "true"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": stack.namespace, "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/instance": name}},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": labels}, "spec": _pod(stack, pool, gpu)},
        },
    }


def _pod(stack: Stack, pool: Pool, gpu: Gpu) -> _Object:
    places = {"plugins": (_PLUGINS, "Directory"), "files": (_FILES, "DirectoryOrCreate")}
    container = {
        # By this name other runs, and whoever installs a stack, know what gives GPUs to pods here.
        "name": "nvidia-device-plugin",
        "image": stack.image or IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--node=$(NODE)", f"--files={_FILES}", f"--machine={_machine(stack, gpu)}"],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}},
        "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in places.items()],
    }
    return {
        "automountServiceAccountToken": False,
        "nodeSelector": dict(pool.selector),
        "priorityClassName": "system-node-critical",
        "tolerations": [dict(each) for each in stack.tolerations] or [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        "volumes": [{"name": name, "hostPath": {"path": path, "type": kind}} for name, (path, kind) in places.items()],
    }


def _machine(stack: Stack, gpu: Gpu) -> str:
    """The machine as the plugin reads it: simulator/hardware.py, Machine."""
    machine = {
        "product": gpu.product.replace("-", " ", 1) or gpu.model,
        "gpus": gpu.count,
        "memory_mib": gpu.memory_mib or _MEMORY_MIB,
        "compute": _COMPUTE,
        "driver": gpu.driver or stack.driver or _DRIVER,
        "offered_as": gpu.resource,
    }
    return json.dumps(machine, sort_keys=True)
