"""The objects that the operator writes for an operand of a ClusterPolicy, the DaemonSet and what it stands on.

Source: NVIDIA/gpu-operator v26.7.0, controllers/object_controls.go.

The pods of operands begin held, by an annotation that keeps KWOK from starting them. The part ``validator`` lets
them start, in the order in which the init containers of the real ones do.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from conformance.simulator.annotations import HELD, STOP_SECONDS
from conformance.simulator.chart.objects import environment_of, fields_of, given, host_volume, named
from conformance.simulator.clusterpolicy import (
    GPU_TOLERATION,
    ClusterPolicy,
    SpecError,
    given_variables,
    mapping,
)
from conformance.simulator.init_containers import config_manager, init_container, validates
from conformance.simulator.operand_env import kernel_modules, operand_env
from conformance.simulator.operand_volumes import config_maps, configured, mounts, volumes
from conformance.simulator.operands import (
    CONFIG_MANAGER,
    CONFIG_MANAGER_INIT,
    DRIVER,
    MPS_DAEMON,
    PLUGIN_VALIDATION,
    SERVICES,
    TOOLKIT_VALIDATION,
    Operand,
)
from conformance.simulator.sandbox_operands import CC_VALIDATION, VGPU_MANAGER
from conformance.simulator.world import Object

STOPS_AT_ONCE = {STOP_SECONDS: "0"}
STARTS_IN_TURN = {HELD: "true", **STOPS_AT_ONCE}
"""Annotations of an operand's pods: they wait until they are let go, and end as soon as they are told to."""

DIGEST = "DRIVER_CONFIG_DIGEST"
KERNEL = "feature.node.kubernetes.io/kernel-version.full"


def objects_of(operand: Operand, policy: ClusterPolicy, namespace: str, os_tag: str, kernel: str = "") -> list[Object]:
    """What the operator writes for an enabled operand, the DaemonSet last.

    ``os_tag`` ends the tag of a driver's image, ``kernel`` makes it one for a precompiled driver. Raises SpecError.
    """
    return [*stands_on(operand, policy, namespace), _daemon_set(operand, policy, namespace, os_tag, kernel)]


def stands_on(operand: Operand, policy: ClusterPolicy, namespace: str) -> list[Object]:
    """What the operator writes for an enabled operand beside its DaemonSet, also where no node has a GPU."""
    accounts = filter(None, (operand.account, operand.unused_account))
    made = [named("ServiceAccount", "v1", each, namespace) for each in accounts]
    made += config_maps(operand, policy, namespace)
    if operand.name in SERVICES:
        made.append(_service(operand, policy, namespace))
    return made


def precompiled_name(kernel: str, os_tag: str) -> str:
    """The name of the DaemonSet that brings precompiled drivers to the nodes with a kernel."""
    return f"{DRIVER.name}-{kernel.replace('_', '.').removesuffix('.x86_64').lower()}-{os_tag}"


def runtime_classes(policy: ClusterPolicy) -> list[Object]:
    """The runtime classes; none where the runtime needs no handler."""
    if policy.nri:
        return []
    names = (policy.runtime_class, *(("nvidia-cdi", "nvidia-legacy") if policy.cdi else ()))
    labels = {"app.kubernetes.io/component": "gpu-operator"}
    return [named("RuntimeClass", "node.k8s.io/v1", name, labels=labels, handler=name) for name in names]


def operator_service(namespace: str) -> Object:
    """The service in front of the operator's own metrics."""
    labels = {"app": "gpu-operator"}
    ports = [{"name": "gpu-operator-metrics", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]
    return named("Service", "v1", "gpu-operator", namespace, labels, spec={"selector": labels, "ports": ports})


def rolling(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The update strategy that ``spec.daemonsets`` asks for; empty leaves it to Kubernetes. Raises SpecError."""
    if settings.get("updateStrategy") == "OnDelete":
        return {"type": "OnDelete"}
    unavailable = str(mapping(settings.get("rollingUpdate")).get("maxUnavailable") or "")
    if not unavailable:
        return {}
    if not unavailable.removesuffix("%").isdigit():
        raise SpecError(f"daemonsets.rollingUpdate.maxUnavailable is {unavailable!r}: give a number or a percentage")
    count = unavailable if unavailable.endswith("%") else int(unavailable)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": count}}


def digest(value: Any) -> str:
    """A short text that differs where the values differ."""
    encoded = msgspec.json.encode(value, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:16]


def _daemon_set(operand: Operand, policy: ClusterPolicy, namespace: str, os_tag: str, kernel: str) -> Object:
    settings = policy.block("daemonsets")
    name = precompiled_name(kernel, os_tag) if kernel else operand.name
    # Precompiled drivers have a DaemonSet for each kernel, and the label app of the one that there would be otherwise.
    more = {"nvidia.com/precompiled": "true" if kernel else "false"} if operand is DRIVER else {}
    shared = {k: v for k, v in mapping(settings.get("labels")).items() if k not in ("app", "app.kubernetes.io/part-of")}
    annotations = {**mapping(settings.get("annotations"))}
    template = {
        "metadata": {
            "labels": {**operand.pod_labels, **more, **shared},
            "annotations": {**annotations, **_held(operand), **_nri(operand, policy)},
        },
        "spec": _pod(operand, policy, os_tag, kernel),
    }
    chosen = {operand.selector: operand.name} if operand is DRIVER else operand.pod_labels
    spec: Object = {"selector": {"matchLabels": chosen}, "template": template}
    strategy = {"type": "OnDelete"} if operand is DRIVER else rolling(settings)
    if strategy:
        spec["updateStrategy"] = strategy
    # Those of the DaemonSet itself are all overridden; its pods keep the ones by which they are selected.
    labels = {**operand.own_labels, **more, **mapping(settings.get("labels"))}
    made = named("DaemonSet", "apps/v1", name, namespace, labels, spec=spec)
    made["metadata"]["annotations"] = annotations
    return made


def _held(operand: Operand) -> Mapping[str, str]:
    return STARTS_IN_TURN if operand.init and not operand.for_virtual_machines else STOPS_AT_ONCE


def _nri(operand: Operand, policy: ClusterPolicy) -> Mapping[str, str]:
    if not (policy.nri and operand.runs_with_gpus):
        return {}
    # Of the validator's containers this one looks at the devices.
    container = TOOLKIT_VALIDATION if operand.component == "validator" else operand.container
    return {f"nvidia.cdi.k8s.io/container.{container}": "management.nvidia.com/gpu=all"}


def _pod(operand: Operand, policy: ClusterPolicy, os_tag: str, kernel: str) -> Object:
    settings = policy.block("daemonsets")
    selector = operand.node_selector | ({KERNEL: kernel} if kernel else {})
    pod: Object = {
        "serviceAccountName": operand.account,
        "priorityClassName": settings.get("priorityClassName") or "system-node-critical",
        "nodeSelector": selector,
        # An empty list leaves the operator's own one in place; any other replaces it.
        "tolerations": list(settings.get("tolerations") or [GPU_TOLERATION]),
        "initContainers": [init_container(operand, name, policy) for name in _init_names(operand, policy)],
        "containers": [_main(operand, policy, os_tag, kernel)],
        "volumes": [*(host_volume(name, path) for name, path in operand.host.items()), *volumes(operand, policy)],
    }
    if configured(operand, policy):
        pod["containers"].append(config_manager(operand, CONFIG_MANAGER, operand.process, policy))
        pod |= {} if operand.host_pid else {"shareProcessNamespace": True}
    block = policy.block(operand.component)
    for key, wanted in (
        ("hostPID", operand.host_pid or block.get("hostPID") is True),
        ("hostNetwork", block.get("hostNetwork")),
    ):
        pod |= {key: True} if wanted else {}
    if operand.runs_with_gpus and policy.runtime_class:
        pod["runtimeClassName"] = policy.runtime_class
    if operand is DRIVER:
        pod["affinity"] = one_driver_per_node()
        modules = kernel_modules(policy).containers(pod["containers"][0], os_tag, precompiled=bool(kernel), env={})
        pod["containers"].extend(modules)
    secrets = {*(block.get("imagePullSecrets") or ())}
    if any(validates(name) for name in operand.init):
        secrets |= {*(policy.block("validator").get("imagePullSecrets") or ())}
    return pod | ({"imagePullSecrets": [{"name": each} for each in sorted(secrets)]} if secrets else {})


def one_driver_per_node(*others: str) -> Object:
    """Keeps the pods of two drivers off one node, and those of ``others`` that bring one."""
    term = {"key": "app.kubernetes.io/component", "operator": "In", "values": ["nvidia-driver", *others]}
    apart = {"labelSelector": {"matchExpressions": [term]}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}


def _init_names(operand: Operand, policy: ClusterPolicy) -> Iterable[str]:
    for name in operand.init:
        needed = {PLUGIN_VALIDATION: "devicePlugin", CC_VALIDATION: "ccManager"}.get(name)
        if needed is None or policy.enabled(needed):
            yield name
    if configured(operand, policy):
        yield CONFIG_MANAGER_INIT


def _main(operand: Operand, policy: ClusterPolicy, os_tag: str, kernel: str) -> Object:
    block = policy.block(operand.component)
    env = {**operand.env, **operand_env(operand, policy)}
    if configured(operand, policy):
        env["CONFIG_FILE"] = "/config/config.yaml"
    if operand is not MPS_DAEMON:  # it shares the block of the device plugin, but not the variables there
        env |= given_variables(block)
    image = policy.image(operand.component)
    if operand in (DRIVER, VGPU_MANAGER):
        image = driver_image(image, os_tag, kernel)
    if operand is DRIVER:
        env[DIGEST] = digest([image, env])
    made: Object = {
        "name": operand.container,
        "image": image,
        "imagePullPolicy": block.get("imagePullPolicy") or "IfNotPresent",
        "env": [*fields_of(operand.fields), *environment_of(env)],
        "securityContext": {"privileged": True},
        "volumeMounts": [
            *({"name": name, "mountPath": path} for name, path in operand.host.items()),
            *mounts(operand, policy),
        ],
    }
    if operand.ports:
        made["ports"] = [{"name": name, "containerPort": port} for name, port in operand.ports.items()]
    if operand.resources:
        made["resources"] = {kind: dict(amounts) for kind, amounts in operand.resources.items()}
    return made | given(block, "args", "resources")


def driver_image(image: str, os_tag: str, kernel: str = "") -> str:
    """The image of a driver for an operating system; one given by its digest stays as it is."""
    if "sha256:" in image:
        return image
    return f"{image}-{kernel}-{os_tag}" if kernel else f"{image}-{os_tag}"


def _service(operand: Operand, policy: ClusterPolicy, namespace: str) -> Object:
    name, port, traffic = SERVICES[operand.name]
    traffic = mapping(policy.block(operand.component).get("service")).get("internalTrafficPolicy") or traffic
    ports = [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"}]
    spec = {"selector": {"app": operand.name}, "ports": ports, "internalTrafficPolicy": traffic}
    return named("Service", "v1", operand.name, namespace, {"app": operand.name}, spec=spec)
