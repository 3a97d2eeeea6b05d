"""The declared settings of the stack and those of the operator resource.

The declaration has Helm values; the chart copies most of them to the same path of the operator resource, and uses the
others itself. Source: NVIDIA/gpu-operator v26.7.0, deployments/gpu-operator/templates/clusterpolicy.yaml.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from conformance.deploy.helm.values import gpu_operator_values
from conformance.facts import Facts, Node, Resource
from conformance.facts.hiding import HIDDEN, without_credentials
from conformance.reference.expected import driver_of
from conformance.reference.model import Reference
from conformance.upgrading.policy import driver_object_of
from suites._shared.operator_resource import OperatorResource

_BLOCKS = {
    "ClusterPolicy": (
        "cdi",
        "ccManager",
        "daemonsets",
        "dcgm",
        "dcgmExporter",
        "devicePlugin",
        "driver",
        "gdrcopy",
        "gds",
        "gfd",
        "hostPaths",
        "kataSandboxDevicePlugin",
        "mig",
        "migManager",
        "nodeStatusExporter",
        "psa",
        "sandboxDevicePlugin",
        "sandboxWorkloads",
        "toolkit",
        "validator",
        "vfioManager",
        "vgpuDeviceManager",
        "vgpuManager",
    ),
    "GPUCluster": ("daemonsets", "dcgm", "dcgmExporter", "draDriver", "hostPaths"),
}
# Values for other objects of the chart than the ClusterPolicy, and tolerations, which have a requirement of their own.
_NOT_COPIED = (
    "daemonsets.tolerations",
    "dcgmExporter.config.create",
    "dcgmExporter.config.data",
    "devicePlugin.config.create",
    "devicePlugin.config.data",
    "driver.nvidiaDriverCRD",
    "driver.startupProbe",
    "migManager.config.create",
    "migManager.config.data",
)
_RENAMED = {
    "driver.nvidiaDriverCRD.enabled": "driver.useNvidiaDriverCRD",
    "driver.upgradePolicy.gpuPodDeletion": "driver.upgradePolicy.podDeletion",
}
_DRIVER_VERSION = "driver.version"
# Where NVIDIADriver objects define the driver of a node, the block driver has these and no others.
_OF_DRIVER_WITH_OBJECTS = ("driver.enabled", "driver.useNvidiaDriverCRD", "driver.upgradePolicy")

# An absent value of these has a default of the operator.
_SWITCH = ".enabled"


class Setting(NamedTuple):
    """One declared setting: its path in the operator resource, the declared value and the configured one."""

    path: str
    declared: Any
    configured: Any

    @property
    def agrees(self) -> bool:
        """Whether both values are equal; numbers and strings of them, and null and empty, are equal to the chart."""
        if isinstance(self.declared, bool):
            return bool(self.configured) == self.declared
        if not self.declared:
            return not self.configured
        if isinstance(self.declared, (str, int, float)) and not isinstance(self.configured, (list, dict)):
            return self.configured is not None and str(self.declared) == str(self.configured)
        return bool(self.declared == self.configured)

    def shown(self, value: Any) -> Any:
        """A value as a report may have it: without what may be a credential, as a proxy's in driver.env."""
        return without_credentials(self.path.rpartition(".")[2], value)

    @property
    def is_hidden(self) -> bool:
        """Whether it cannot be compared, because a snapshot leaves values of environment variables out."""
        return not self.agrees and _alike(self.declared, self.configured)


def settings_of(operator_resource: OperatorResource, reference: Reference) -> list[Setting]:
    """Every declared setting that the operator resource has to have."""
    blocks = _BLOCKS[operator_resource.kind]
    values = {key: value for key, value in gpu_operator_values(reference).items() if key in blocks}
    found = (Setting(path, declared, _configured(operator_resource, path)) for path, declared in _leaves(values))
    return [setting for setting in found if _is_set_here(setting, operator_resource)]


def drivers_of(
    operator_resource: OperatorResource, facts: Facts, reference: Reference
) -> Iterator[tuple[Resource, Setting]]:
    """Each NVIDIADriver that selects nodes of a declared pool, with its version and the declared one."""
    if not operator_resource.uses_nvidia_driver_objects:
        return
    for driver in facts.nvidia_drivers:
        served = [
            pool
            for pool in reference.gpu_pools
            if any(driver_object_of(node, facts) == driver for node in facts.nodes_with(pool.selector))
        ]
        wanted = sorted({version for pool in served if (version := driver_of(reference, pool))})
        if len(wanted) == 1:
            setting = Setting("version", wanted[0], driver.spec.get("version"))
            if _is_comparable(setting, driver.spec.get("usePrecompiled")):
                yield driver, setting


def asked_for(operator_resource: OperatorResource, node: Node, facts: Facts) -> str:
    """The driver version that the operator is configured to install on a node; empty where none is configured."""
    if not operator_resource.uses_nvidia_driver_objects:
        return str(operator_resource.at(_DRIVER_VERSION) or "")
    driver = driver_object_of(node, facts)
    return str(driver.spec.get("version") or "") if driver is not None else ""


def _is_set_here(setting: Setting, operator_resource: OperatorResource) -> bool:
    """Whether the operator resource has the setting, in a form that can be compared."""
    if any(setting.path == dropped or setting.path.startswith(f"{dropped}.") for dropped in _NOT_COPIED):
        return False
    if operator_resource.uses_nvidia_driver_objects and setting.path.startswith("driver."):
        return setting.path.startswith(_OF_DRIVER_WITH_OBJECTS)
    if setting.path == _DRIVER_VERSION:
        return _is_comparable(setting, operator_resource.at("driver.usePrecompiled"))
    return True


def _is_comparable(setting: Setting, precompiled: object) -> bool:
    """Whether the resource has a driver version, not a digest, and not only the branch of precompiled drivers.

    An operator of OLM uses the version of its release when the resource has none.
    """
    configured = str(setting.configured or "")
    return bool(configured) and not configured.startswith("sha256:") and precompiled is not True


def _alike(declared: Any, configured: Any) -> bool:
    """Whether two values are equal but for what a snapshot left out of the configured one."""
    if configured == HIDDEN:
        return True
    if isinstance(declared, list) and isinstance(configured, list):
        return len(declared) == len(configured) and all(map(_alike, declared, configured))
    if isinstance(declared, Mapping) and isinstance(configured, Mapping):
        return declared.keys() == configured.keys() and all(_alike(declared[key], configured[key]) for key in declared)
    return bool(declared == configured)


def _configured(operator_resource: OperatorResource, path: str) -> Any:
    value = operator_resource.at(path)
    if value is None and path.endswith(_SWITCH):
        return operator_resource.enabled(path.removesuffix(_SWITCH))
    return value


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Values by their path in the operator resource."""
    for key, value in values.items():
        path = f"{above}.{key}" if above else key
        path = _RENAMED.get(path, path)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value
