"""Which GPU stack a cluster runs, told from the objects that are there: their kinds, names, owners and containers.

Sources: NVIDIA/gpu-operator v26.7.0, controllers/clusterpolicy_controller.go and active_config.go, api/nvidia;
NVIDIA/k8s-device-plugin v0.20.0, deployments; kubernetes-sigs/dra-driver-nvidia-gpu, deployments.
A plugin that a node image runs outside Kubernetes leaves no object, and so looks like no stack.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from conformance.gpu.stack_programs import names_of_device_plugins

GROUP = "nvidia.com"
GPU_CLUSTER_NAME = "gpu-cluster"
"""The one name that the CRD of GPUCluster admits."""

CUSTOM_KINDS = {"ClusterPolicy": "clusterpolicies", "GPUCluster": "gpuclusters", "NVIDIADriver": "nvidiadrivers"}
OPERATOR = "gpu-operator"
OPERATOR_LABELS = ("app", "app.kubernetes.io/component")

DRA_PLUGIN = ("dra-driver", "kubelet-plugin")
DRA_GPU_CONTAINER = "gpus"
"""The container of the DRA driver that offers GPUs; without it the driver serves ComputeDomains only."""
_FORKS_OF_DRA_DRIVER = ("hami",)
"""What names of DRA drivers have whose DaemonSet is like that of NVIDIA's, and whose devices have another driver name.

Source: Project-HAMi/k8s-dra-driver, chart/hami-dra-driver/templates/daemonset.yaml."""

DRA_DOMAIN_CONTAINER = "compute-domains"
"""The container of the DRA driver that serves ComputeDomains."""


class StackKind(StrEnum):
    """What offers GPUs to pods."""

    CLUSTER_POLICY = "GPU Operator with ClusterPolicy"
    GPU_CLUSTER = "GPU Operator with GPUCluster"
    INVALID = "ClusterPolicy and GPUCluster at once"
    DEVICE_PLUGIN = "device plugin without operator"
    DRA_DRIVER = "DRA driver without operator"
    NONE = "none"
    UNKNOWN = "unknown"


class Fault(StrEnum):
    """What kind of thing is wrong with a stack."""

    TWO_OPERATOR_RESOURCES = "ClusterPolicy beside GPUCluster"
    IGNORED = "ignored object"
    WRONG_NAME = "wrong name"
    NO_OPERATOR_RESOURCE = "CRD without object"
    NO_OPERATOR = "object without operator"
    NO_CRD = "operator without CRD"
    OPERATOR_DOWN = "operator without running pod"
    DRIVER_NOT_USED = "driver object without effect"
    DRIVER_MISSING = "driver object missing"
    TWO_PLUGINS = "two device plugins"
    TWO_DRA_DRIVERS = "two DRA drivers"
    TWO_ALLOCATORS = "device plugin and DRA driver"


_RELEASE = re.compile(r"v?(\d+)\.(\d+)[.\w-]*")
_WATCHES_DRIVERS = (23, 9)

HALF_INSTALLED = (Fault.NO_OPERATOR_RESOURCE, Fault.NO_OPERATOR, Fault.NO_CRD, Fault.OPERATOR_DOWN)


class StackObject(msgspec.Struct, frozen=True):
    """The object that something is wrong with; ``also`` names others that share its part in it."""

    kind: str
    name: str
    namespace: str = ""
    also: tuple["StackObject", ...] = ()

    @property
    def place(self) -> str:
        """``namespace/name``, the name alone of what is in no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def __str__(self) -> str:
        return ", ".join([f"{_CALLED.get(self.kind, self.kind)} {self.place}", *map(str, self.also)])


_CALLED = {"Deployment": "deployment", "DaemonSet": "daemonset", "CustomResourceDefinition": "CRD"}


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: which object, what, and what to do about it."""

    fault: Fault
    subject: StackObject
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


class Detection(msgspec.Struct, frozen=True):
    """The stack of a cluster, the objects that tell of it by name, and what is wrong with it.

    ``policy`` is the ClusterPolicy that the operator follows, whatever its name. Workloads are ``namespace/name``.
    """

    stack: StackKind
    policy: str = ""
    ignored_policies: tuple[str, ...] = ()
    gpu_clusters: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    device_plugins: tuple[str, ...] = ()
    dra_drivers: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    unread: tuple[str, ...] = ()
    """Kinds that could not be read; what depends on them was not judged."""

    @property
    def half_installed(self) -> bool:
        """Whether a part is there without the part that would act on it."""
        return any(finding.fault in HALF_INSTALLED for finding in self.findings)


def detect(objects: Iterable[object], unread: Collection[str] = ()) -> Detection:
    """Tell the stack from plain Kubernetes objects; those of other kinds and odd ones are passed over.

    Needed are ClusterPolicy, GPUCluster, NVIDIADriver, CustomResourceDefinition, Deployment and DaemonSet, of all
    namespaces. ``unread`` names the kinds among them that could not be listed; a kind that the API server does not
    serve is not one of them, it has no objects.
    """
    observed = _Objects(objects, unread)
    policies = observed.policies()
    return Detection(
        stack=_stack(observed),
        policy=_name(policies[0]) if policies else "",
        ignored_policies=tuple(_name(policy) for policy in policies[1:]),
        gpu_clusters=observed.names("GPUCluster"),
        drivers=observed.names("NVIDIADriver"),
        operators=tuple(_place(deployment) for deployment in observed.operators()),
        device_plugins=tuple(_place(plugin) for plugin in observed.device_plugins()),
        dra_drivers=tuple(_place(driver) for driver in observed.dra_drivers()),
        findings=tuple(_findings(observed)),
        unread=tuple(sorted(unread)),
    )


class _Objects:
    """The objects of a cluster by kind, as far as they tell of a GPU stack."""

    def __init__(self, objects: Iterable[object], unread: Collection[str]) -> None:
        self.unread = unread
        self.by_kind: dict[str, list[Mapping[str, Any]]] = {}
        for item in objects:
            if isinstance(item, Mapping) and _name(item) and _of_ours(item):
                self.by_kind.setdefault(item["kind"], []).append(item)

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return self.by_kind.get(kind, [])

    def names(self, kind: str) -> tuple[str, ...]:
        return tuple(sorted(_name(item) for item in self.of(kind)))

    def read(self, *kinds: str) -> bool:
        return not any(kind in self.unread for kind in kinds)

    def policies(self) -> list[Mapping[str, Any]]:
        """All ClusterPolicies, the one that the operator follows first: the oldest, by name among equals."""
        return sorted(self.of("ClusterPolicy"), key=lambda policy: (_ignored(policy), _created(policy), _name(policy)))

    def operators(self) -> list[Mapping[str, Any]]:
        return [
            deployment
            for deployment in self.of("Deployment")
            if _name(deployment) == OPERATOR or any(_labels(deployment).get(key) == OPERATOR for key in OPERATOR_LABELS)
        ]

    def device_plugins(self) -> list[Mapping[str, Any]]:
        return [item for item in self.of("DaemonSet") if names_of_device_plugins(_pod_spec(item), _described(item))]

    def dra_drivers(self) -> list[Mapping[str, Any]]:
        """DaemonSets of the DRA driver that offer GPUs."""
        return [
            item
            for item in self.of("DaemonSet")
            if is_dra_plugin(_name(item)) and DRA_GPU_CONTAINER in _containers(item)
        ]

    def defines(self, kind: str) -> bool:
        wanted = f"{CUSTOM_KINDS[kind]}.{GROUP}"
        return any(_name(definition) == wanted for definition in self.of("CustomResourceDefinition"))


def is_dra_plugin(name: str) -> bool:
    """Whether a DaemonSet of this name is the kubelet plugin of NVIDIA's DRA driver, if it has its containers."""
    return all(part in name for part in DRA_PLUGIN) and not any(fork in name for fork in _FORKS_OF_DRA_DRIVER)


def _stack(observed: _Objects) -> StackKind:
    policies, clusters = observed.of("ClusterPolicy"), observed.of("GPUCluster")
    if policies and clusters:
        return StackKind.INVALID
    if not observed.read("ClusterPolicy", "GPUCluster"):
        return StackKind.UNKNOWN
    if policies or clusters:
        return StackKind.CLUSTER_POLICY if policies else StackKind.GPU_CLUSTER
    if observed.device_plugins():
        return StackKind.DEVICE_PLUGIN
    if not observed.read("DaemonSet"):
        return StackKind.UNKNOWN
    return StackKind.DRA_DRIVER if observed.dra_drivers() else StackKind.NONE


def _findings(observed: _Objects) -> Iterable[Finding]:
    yield from _operator_resources(observed)
    yield from _installation(observed)
    yield from _drivers(observed)
    yield from _allocators(observed)


def _operator_resources(observed: _Objects) -> Iterable[Finding]:
    policies, clusters = observed.policies(), observed.of("GPUCluster")
    if policies and clusters:
        subject = StackObject(
            "ClusterPolicy", _name(policies[0]), also=(StackObject("GPUCluster", _name(clusters[0])),)
        )
        text = "both exist, and the operator then keeps both at notReady"
        yield Finding(Fault.TWO_OPERATOR_RESOURCES, subject, text, "delete the one whose stack is not wanted")
    for policy in policies[1:]:
        text = f"is ignored: the operator follows ClusterPolicy {_name(policies[0])} only, so changes here do nothing"
        yield Finding(
            Fault.IGNORED, StackObject("ClusterPolicy", _name(policy)), text, "move its settings there and delete it"
        )
    if policies and _ignored(policies[0]):
        text = "says ignored, and no other ClusterPolicy exists that is not: none is followed"
        remedy = "delete it and create it again while the operator runs"
        yield Finding(Fault.IGNORED, StackObject("ClusterPolicy", _name(policies[0])), text, remedy)
    for cluster in clusters:
        if _name(cluster) != GPU_CLUSTER_NAME:
            text = f"has a name that the operator does not accept: it must be {GPU_CLUSTER_NAME}"
            remedy = f"create it again as {GPU_CLUSTER_NAME}"
            yield Finding(Fault.WRONG_NAME, StackObject("GPUCluster", _name(cluster)), text, remedy)


def _installation(observed: _Objects) -> Iterable[Finding]:
    resources = [StackObject(kind, name) for kind in ("ClusterPolicy", "GPUCluster") for name in observed.names(kind)]
    defined = [kind for kind in ("ClusterPolicy", "GPUCluster") if observed.defines(kind)]
    operators = observed.operators()
    if resources and not operators and observed.read("Deployment"):
        text = "exists, but no gpu-operator Deployment does: nobody acts on it, and its status is an old one"
        yield Finding(Fault.NO_OPERATOR, resources[0], text, "install the operator, or delete the object")
    if not resources and observed.read("ClusterPolicy", "GPUCluster"):
        yield from _without_operator_resource(defined, operators, observed)
    for operator in operators:
        if _available(operator) == 0:
            yield Finding(Fault.OPERATOR_DOWN, _workload(operator), *_why_down(operator, observed))


def _why_down(operator: Mapping[str, Any], observed: _Objects) -> tuple[str, str]:
    """Why nobody acts on the operator's objects, and what to do.

    From v23.9 on the operator watches NVIDIADrivers, used or not, and ends where the API server does not know them.
    Helm installs CRDs with the first installation only. Source: NVIDIA/gpu-operator issue 602.
    """
    text = "has no available pod: nobody acts on the ClusterPolicy or GPUCluster"
    release = _RELEASE.search(str(_labels(operator).get("app.kubernetes.io/version", "")))
    watches_drivers = release is not None and (int(release[1]), int(release[2])) >= _WATCHES_DRIVERS
    known = observed.read("CustomResourceDefinition") and observed.defines("ClusterPolicy")
    if known and watches_drivers and release is not None and not observed.defines("NVIDIADriver"):
        crd = f"{CUSTOM_KINDS['NVIDIADriver']}.{GROUP}"
        return (
            f"{text}, and CRD {crd} is missing, without which this release does not start",
            f"apply the CRDs of its own release (helm show crds, chart gpu-operator {release[0]}), which an upgrade by "
            "Helm leaves out where the hook operator.upgradeCRD does not run",
        )
    return text, "read the events and the log of its pods; a pod that was OOMKilled needs a higher memory limit"


def _without_operator_resource(
    defined: Sequence[str], operators: Sequence[Mapping[str, Any]], observed: _Objects
) -> Iterable[Finding]:
    if defined:
        kinds = " nor ".join(defined)
        reason = "the operator has nothing to do" if operators else "they were left behind by an operator that is gone"
        text = (
            f"CRDs exist, but no {kinds} object: {reason}"
            if observed.read("Deployment")
            else f"no {kinds} object exists"
        )
        remedy = (
            "create the object (Helm: clusterPolicy.deployCR)" if operators else "delete the CRDs, or install again"
        )
        first, *others = (StackObject("CustomResourceDefinition", f"{CUSTOM_KINDS[kind]}.{GROUP}") for kind in defined)
        yield Finding(Fault.NO_OPERATOR_RESOURCE, msgspec.structs.replace(first, also=tuple(others)), text, remedy)
    elif operators and observed.read("CustomResourceDefinition"):
        text = "runs without the CRDs of ClusterPolicy and GPUCluster: it cannot be told what to deploy"
        remedy = "install the CRDs of the operator's version"
        yield Finding(Fault.NO_CRD, _workload(operators[0]), text, remedy)


def _drivers(observed: _Objects) -> Iterable[Finding]:
    drivers, policies = observed.names("NVIDIADriver"), observed.policies()
    if not policies or observed.of("GPUCluster"):
        return
    settings = _at(_at(policies[0], "spec"), "driver")
    used = settings.get("useNvidiaDriverCRD") is True
    enabled = settings.get("enabled") is not False
    if drivers and not (used and enabled):
        setting = "driver.useNvidiaDriverCRD" if enabled else "driver.enabled"
        text = f"has no effect: {setting} of ClusterPolicy {_name(policies[0])} is not true"
        for driver in drivers:
            yield Finding(
                Fault.DRIVER_NOT_USED, StackObject("NVIDIADriver", driver), text, f"set {setting}, or delete it"
            )
    if used and enabled and not drivers and observed.read("NVIDIADriver"):
        text = "leaves drivers to NVIDIADriver objects, and there are none: no driver is deployed"
        remedy = "create an NVIDIADriver, or set driver.useNvidiaDriverCRD to false"
        yield Finding(Fault.DRIVER_MISSING, StackObject("ClusterPolicy", _name(policies[0])), text, remedy)


def _allocators(observed: _Objects) -> Iterable[Finding]:
    plugins, drivers = observed.device_plugins(), observed.dra_drivers()
    if len(plugins) > 1:
        yield from _second_plugins(plugins)
    if len(drivers) > 1:
        yield from _second_drivers(drivers)
    if plugins and drivers:
        text = f"offers the GPUs that daemonset {_place(plugins[0])} offers too: on a node with both, each GPU twice"
        remedy = "one allocator for each node: keep them apart by node labels, or disable one"
        yield Finding(Fault.TWO_ALLOCATORS, _workload(drivers[0]), text, remedy)


def _second_plugins(plugins: Sequence[Mapping[str, Any]]) -> Iterable[Finding]:
    """The device plugins beside the operator's; without an operator all but the oldest, by name among equals."""
    operators = [plugin for plugin in plugins if _owned(plugin)]
    oldest = min(plugins, key=lambda plugin: (_created(plugin) or "9", _place(plugin)))
    beside = "the operator's" if operators else f"daemonset {_place(oldest)}"
    for plugin in plugins:
        if plugin in (operators or [oldest]):
            continue
        text = f"is a second device plugin beside {beside}: on a node that runs both, either may win"
        apart = "devicePlugin.enabled, node labels" if operators else "node selectors"
        # NVIDIA/k8s-device-plugin, internal/plugin/server.go: Stop removes the socket, whoever serves it then.
        remedy = (
            f"keep the two on different nodes ({apart}), or delete it, by the add-on or chart that would make it anew, "
            f"and restart {beside} where both were: they serve one socket, which goes with the one that ends"
        )
        yield Finding(Fault.TWO_PLUGINS, _workload(plugin), text, remedy)


def _second_drivers(drivers: Sequence[Mapping[str, Any]]) -> Iterable[Finding]:
    """All DRA drivers but the newest, by name among equals: what was installed last is meant to stay.

    The standalone chart was renamed (nvidia-dra-driver-gpu, dra-driver-nvidia-gpu), and a GPUCluster brings its own.
    Source: kubernetes, pkg/kubelet/pluginmanager/pluginwatcher/README.md (plugins of one name); Helm deletes the
    DeviceClasses of a release with it.
    """
    newest = max(drivers, key=lambda driver: (_created(driver) or "", _place(driver)))
    for driver in drivers:
        if driver is not newest:
            text = (
                f"is a second DRA driver beside daemonset {_place(newest)}: on a node that runs both, both register as "
                "one driver and write the same ResourceSlices"
            )
            remedy = (
                "keep the two on different nodes (kubeletPlugin.nodeSelector), or uninstall one by its chart: "
                "DeviceClasses that its release owns go with it, and no new claim of them is allocated until the other "
                "release has made them again"
            )
            yield Finding(Fault.TWO_DRA_DRIVERS, _workload(driver), text, remedy)


def _workload(item: Mapping[str, Any]) -> StackObject:
    namespace, _, name = _place(item).rpartition("/")
    return StackObject(str(item["kind"]), name, namespace)


def _of_ours(item: Mapping[str, Any]) -> bool:
    kind, version = str(item.get("kind")), str(item.get("apiVersion", ""))
    if kind in CUSTOM_KINDS:
        return version.startswith(f"{GROUP}/")
    return kind in ("CustomResourceDefinition", "Deployment", "DaemonSet")


def _at(value: object, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _name(item: Mapping[str, Any]) -> str:
    name = _at(item, "metadata").get("name")
    return name if isinstance(name, str) else ""


def _place(item: Mapping[str, Any]) -> str:
    return f"{_at(item, 'metadata').get('namespace') or 'default'}/{_name(item)}"


def _labels(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return _at(_at(item, "metadata"), "labels")


def _created(item: Mapping[str, Any]) -> str:
    return str(_at(item, "metadata").get("creationTimestamp") or "")


def _ignored(policy: Mapping[str, Any]) -> bool:
    return _at(policy, "status").get("state") == "ignored"


def _pod_spec(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return _at(_at(_at(item, "spec"), "template"), "spec")


def _described(item: Mapping[str, Any]) -> str:
    """The name and labels of an object, as text."""
    return " ".join([_name(item), *(f"{key}={value}" for key, value in _labels(item).items())])


def _containers(item: Mapping[str, Any]) -> list[str]:
    found = _pod_spec(item).get("containers")
    members = found if isinstance(found, list) else []
    return [str(one.get("name")) for one in members if isinstance(one, Mapping)]


def _owned(item: Mapping[str, Any]) -> bool:
    owners = _at(item, "metadata").get("ownerReferences")
    members = owners if isinstance(owners, list) else []
    return any(isinstance(one, Mapping) and str(one.get("kind")) in CUSTOM_KINDS for one in members)


def _available(deployment: Mapping[str, Any]) -> int | None:
    """Available pods of a deployment; None when its status does not tell yet.

    A status with observedGeneration and without availableReplicas means 0: the API leaves zeros out.
    """
    status = _at(deployment, "status")
    available = status.get("availableReplicas")
    if isinstance(available, int):
        return available
    return 0 if "observedGeneration" in status else None
