"""What a ClusterPolicy asks for, and what holds where it says nothing.

Source: NVIDIA/gpu-operator v26.7.0, api/nvidia/v1/clusterpolicy_types.go and deployments/gpu-operator/values.yaml.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from conformance.simulator.chart.defaults import GPU_OPERATOR
from conformance.simulator.chart.objects import over
from conformance.simulator.chart.operator import VERSION
from conformance.simulator.operands import SANDBOX_LABELS
from conformance.simulator.world import Object, World

GPU_TOLERATION: Mapping[str, str] = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


WORKLOADS = ("container", *SANDBOX_LABELS)
"""What the GPUs of a node may be for, the default first (label nvidia.com/gpu.workload.config)."""


class SpecError(ValueError):
    """The operator cannot act on the spec; the text is what it says in the condition."""


class ClusterPolicy:
    """One ClusterPolicy. Odd members of its spec count as absent: the API server has let them pass."""

    def __init__(self, obj: Object) -> None:
        self.object = obj
        self.spec = mapping(obj.get("spec"))
        self._blocks: dict[str, Mapping[str, Any]] = {}

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.object["metadata"]["name"])

    def block(self, component: str) -> Mapping[str, Any]:
        """The block of a component over the chart's defaults. Whoever changes it copies it first."""
        if component not in self._blocks:
            self._blocks[component] = over(GPU_OPERATOR.get(component) or {}, mapping(self.spec.get(component)))
        return self._blocks[component]

    def enabled(self, component: str) -> bool:
        """Whether a component is to be deployed; the validator always is."""
        return component == "validator" or self.block(component).get("enabled") is True

    def image(self, component: str) -> str:
        """The image of a component. Raises SpecError for a block that names none."""
        return image_of(component, self.block(component))

    @property
    def cdi(self) -> bool:
        """Whether devices reach containers by the Container Device Interface."""
        return self.enabled("cdi")

    @property
    def nri(self) -> bool:
        """Whether a plugin of the runtime injects devices, so that no runtime class is needed."""
        return self.block("cdi").get("nriPluginEnabled") is True

    @property
    def runtime_class(self) -> str:
        """The name of the runtime class of operands; empty where there is none."""
        return "" if self.nri else self.block("operator").get("runtimeClass") or "nvidia"

    @property
    def mig_strategy(self) -> str:
        """The MIG strategy as the object says it; empty leaves it to the plugin, which then says none."""
        return str(mapping(self.spec.get("mig")).get("strategy") or "")

    @property
    def sandbox(self) -> bool:
        """Whether nodes may be set aside for virtual machines."""
        return self.enabled("sandboxWorkloads")

    @property
    def sandbox_mode(self) -> str:
        """Who runs the virtual machines: ``kubevirt`` or ``kata``."""
        return str(self.block("sandboxWorkloads").get("mode") or "")

    @property
    def default_workload(self) -> str:
        """What the GPUs of a node are for that does not say it; a word that nobody knows means containers."""
        chosen = self.block("sandboxWorkloads").get("defaultWorkload") if self.sandbox else None
        return str(chosen) if chosen in WORKLOADS else WORKLOADS[0]

    @property
    def uses_driver_objects(self) -> bool:
        """Whether drivers come from NVIDIADriver objects."""
        driver = self.block("driver")
        return self.enabled("driver") and driver.get("useNvidiaDriverCRD") is True

    @property
    def upgrade_policy(self) -> Mapping[str, Any]:
        """How drivers are upgraded; empty without one, and then they are not."""
        return mapping(mapping(self.spec.get("driver")).get("upgradePolicy"))

    @property
    def upgrades(self) -> bool:
        """Whether the operator upgrades drivers by itself."""
        return self.enabled("driver") and self.upgrade_policy.get("autoUpgrade") is True and not self.sandbox

    @property
    def plugin_config(self) -> Mapping[str, Any]:
        """``{name, default}`` of the device plugin's ConfigMap; empty without a name."""
        config = mapping(self.block("devicePlugin").get("config"))
        return config if config.get("name") else {}

    def check(self) -> None:
        """Raise SpecError for switches that contradict each other."""
        if self.nri and not self.cdi:
            raise SpecError("cdi.nriPluginEnabled needs cdi.enabled")
        if self.nri and not self.enabled("toolkit"):
            raise SpecError("cdi.nriPluginEnabled needs toolkit.enabled")


class Followed:
    """The ClusterPolicy that the operator follows, taken apart once for each of its versions."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last: ClusterPolicy | None = None

    def now(self) -> ClusterPolicy | None:
        """The oldest one that there is."""
        found, last = oldest(self._world.all("ClusterPolicy")), self._last
        if found is None or (last is not None and last.object is found):
            return last if found is not None else None
        self._last = last = ClusterPolicy(found)
        return last


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def given_variables(block: Mapping[str, Any]) -> dict[str, str]:
    """The variables that a block adds to its container (``env``); those without a value are empty."""
    return {each["name"]: str(each.get("value") or "") for each in block.get("env") or ()}


def image_of(component: str, block: Mapping[str, Any]) -> str:
    """The image that repository, image and version make, the version being a tag or a digest. Raises SpecError."""
    repository, image, version = (str(block.get(key) or "") for key in ("repository", "image", "version"))
    version = version or VERSION
    if not image or not repository:
        raise SpecError(f"{component} names no image: repository {repository!r}, image {image!r}, version {version!r}")
    return f"{repository}/{image}@{version}" if version.startswith("sha256:") else f"{repository}/{image}:{version}"


def oldest(objects: Iterable[Object]) -> Object | None:
    """The object that a singleton's controller follows: the oldest, by name among equals; those being deleted count."""
    return min(
        objects, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]), default=None
    )
