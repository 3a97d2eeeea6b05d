"""The simulated device plugin as a stack: a DaemonSet for each GPU pool, on clusters whose nodes have no GPUs.

The device plugin is conformance/deviceplugin; its image is made by ``gpu-conformance cluster image simulated-plugin``.
What it offers is what the pool declares: by count, or as devices of claims where ``allocated_by`` is dra. Everything
that belongs to it bears the label SIMULATED_GPUS.
"""

import json
from typing import Any

from conformance.gpu.resources import DRA_DRIVER
from conformance.kube.names import SIMULATED_GPUS
from conformance.reference.model import Gpu, Pool, Reference
from conformance.reference.stack import Stack

__all__ = ["DRA_NAME", "IMAGE", "KIND", "NAME", "is_simulated", "plugin_objects"]

KIND = "simulated-plugin"
NAME = "gpu-conformance-simulated-plugin"
DRA_NAME = "gpu-conformance-simulated-dra-driver-kubelet-plugin"
"""By this name, and that of its container, other runs know what gives claims their devices here."""

IMAGE = "localhost/gpu-conformance/simulated-plugin:1"
"""The image where a set-up names no other: the name under which it is made."""

_FILES = "/var/lib/gpu-conformance/simulated-plugin"
_KUBELET = "/var/lib/kubelet"
_PLUGINS = f"{_KUBELET}/device-plugins"
_CDI = "/var/run/cdi"
_BY_COUNT = {"plugins": (_PLUGINS, "Directory"), "files": (_FILES, "DirectoryOrCreate")}
_BY_CLAIM = {
    "registrations": (f"{_KUBELET}/plugins_registry", "Directory"),
    "sockets": (f"{_KUBELET}/plugins/{DRA_DRIVER}", "DirectoryOrCreate"),
    "cdi": (_CDI, "DirectoryOrCreate"),
    "files": (_FILES, "DirectoryOrCreate"),
}
_DRIVER, _MEMORY_MIB, _COMPUTE = "580.95.05", 16384, "8.0"
"""What stands for what the set-up does not declare."""

_DRA = "dra"
_RBAC = "rbac.authorization.k8s.io"
_Object = dict[str, Any]


def is_simulated(reference: Reference) -> bool:
    """Whether the set-up declares GPUs that are simulated by a device plugin."""
    return reference.stack is not None and reference.stack.kind == KIND


def plugin_objects(reference: Reference, stack: Stack) -> list[_Object]:
    """The DaemonSets of the plugin, one for each pool with GPUs, and what those that prepare claims need."""
    pools = [(pool, pool.gpu) for pool in reference.gpu_pools if pool.gpu is not None]
    beside = _for_claims(stack) if any(gpu.allocated_by == _DRA for _, gpu in pools) else []
    return [*beside, *(_daemon_set(stack, pool, gpu) for pool, gpu in pools)]


def _daemon_set(stack: Stack, pool: Pool, gpu: Gpu) -> _Object:
    kind = DRA_NAME if gpu.allocated_by == _DRA else NAME
    name = f"{kind}-{pool.name}"
    labels = {"app.kubernetes.io/name": kind, "app.kubernetes.io/instance": name, SIMULATED_GPUS: "true"}
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
    claims = gpu.allocated_by == _DRA
    places = _BY_CLAIM if claims else _BY_COUNT
    more = [f"--dra={_KUBELET}", f"--claims={_CDI}"] if claims else []
    container = {
        # By these names other runs, and whoever installs a stack, know what gives GPUs to pods here.
        "name": "gpus" if claims else "nvidia-device-plugin",
        "image": stack.image or IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--node=$(NODE)", f"--files={_FILES}", f"--machine={_machine(stack, gpu)}", *more],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}},
        "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in places.items()],
    }
    account = {"serviceAccountName": DRA_NAME} if claims else {"automountServiceAccountToken": False}
    return {
        **account,
        "nodeSelector": dict(pool.selector),
        "priorityClassName": "system-node-critical",
        "tolerations": [dict(each) for each in stack.tolerations] or [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        "volumes": [{"name": name, "hostPath": {"path": path, "type": kind}} for name, (path, kind) in places.items()],
    }


def _for_claims(stack: Stack) -> list[_Object]:
    """What the driver may ask of the API server, and the class by which pods claim its devices."""
    labels = {SIMULATED_GPUS: "true"}
    dra = "resource.k8s.io"
    rules = [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
        {"apiGroups": [dra], "resources": ["resourceclaims"], "verbs": ["get"]},
        {"apiGroups": [dra], "resources": ["resourceslices"],
         "verbs": ["get", "list", "watch", "create", "update", "delete"]},
    ]  # fmt: skip
    chosen = f"device.driver == '{DRA_DRIVER}' && device.attributes['{DRA_DRIVER}'].type == 'gpu'"
    role = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": DRA_NAME}
    subject = {"kind": "ServiceAccount", "name": DRA_NAME, "namespace": stack.namespace}
    named = {"name": DRA_NAME, "labels": labels}
    return [
        {"apiVersion": f"{dra}/v1", "kind": "DeviceClass", "metadata": {"name": DRA_DRIVER, "labels": labels},
         "spec": {"selectors": [{"cel": {"expression": chosen}}]}},
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": named, "rules": rules},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**named, "namespace": stack.namespace}},
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": named, "roleRef": role,
         "subjects": [subject]},
    ]  # fmt: skip


def _machine(stack: Stack, gpu: Gpu) -> str:
    """The machine as the plugin reads it: simulator/hardware.py, Machine."""
    machine = {
        "product": gpu.product.replace("-", " ", 1) or gpu.model,
        "gpus": gpu.count,
        "memory_mib": gpu.memory_mib or _MEMORY_MIB,
        "compute": _COMPUTE,
        "driver": gpu.driver or stack.driver or _DRIVER,
        "offered_as": "" if gpu.allocated_by == _DRA else gpu.resource,
    }
    return json.dumps(machine, sort_keys=True)
