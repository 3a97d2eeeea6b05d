"""The labels by which the operator says which operands a node gets, and which driver object it belongs to.

Source: NVIDIA/gpu-operator v26.7.0, controllers/nodelabeling_controller.go and state_manager.go,
internal/nvidiadriver/nvidiadriver.go.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from conformance.simulator.clusterpolicy import WORKLOADS, ClusterPolicy, mapping
from conformance.simulator.nfd import PREFIX
from conformance.simulator.operands import CONTAINER_LABELS, DEPLOY, DRA_LABELS, SANDBOX_LABELS
from conformance.simulator.world import Object

PRESENT = "nvidia.com/gpu.present"
OPERANDS = f"{DEPLOY}operands"
OWNER = "nvidia.com/gpu-operator.driver.owner"
MIG_CAPABLE, MIG_CONFIG = "nvidia.com/mig.capable", "nvidia.com/mig.config"
UPGRADE_ENABLED = "nvidia.com/gpu-driver-upgrade-enabled"
UPGRADE_STATE, UPGRADE_SKIP = "nvidia.com/gpu-driver-upgrade-state", "nvidia.com/gpu-driver-upgrade.skip"
DONE = "upgrade-done"

_PCI = tuple(f"{PREFIX}pci-{device}.present" for device in ("10de", "0302_10de", "0300_10de"))
_MIG_MANAGER = f"{DEPLOY}mig-manager"
_WORKLOAD = "nvidia.com/gpu.workload.config"
_PRODUCT = "nvidia.com/gpu.product"
_OS_TREE = f"{PREFIX}system-os_release.OSTREE_VERSION"
_MIG_PRODUCTS = ("h100", "a100", "a30")
_NO_LAYOUT = "all-disabled"

_KATA = "kata-sandbox-device-plugin"
_OF_SANDBOXES = frozenset((*(end for ends in SANDBOX_LABELS.values() for end in ends), _KATA))
_EVERY_LABEL = frozenset(f"{DEPLOY}{end}" for end in (*CONTAINER_LABELS, *DRA_LABELS, *_OF_SANDBOXES)) | {_MIG_MANAGER}
_OF_DRA = frozenset(f"{DEPLOY}{end}" for end in DRA_LABELS)
# Both stacks use these two: a driver, and the manager of a host's vGPU driver.
_SHARED = frozenset(f"{DEPLOY}{end}" for end in ("driver", "vgpu-manager"))

Labels = Mapping[str, str]
WatchedLabels = tuple[str | bool | None, ...]
"""What of a node's labels the operator watches, see watched_labels."""


class DriverObject(msgspec.Struct, frozen=True):
    """As much of an NVIDIADriver as decides which nodes are its own; the default one gets those that no other wants."""

    name: str
    selector: Mapping[str, str] = {}
    default: bool = False
    upgrades: bool = False

    def wants(self, labels: Labels) -> bool:
        """Whether its selector matches a node's labels; an empty one matches every node."""
        return all(labels.get(key) == value for key, value in self.selector.items())


class Situation(msgspec.Struct, frozen=True):
    """What the labels of nodes depend on, beside the nodes: one of the two stacks, or none."""

    policy: ClusterPolicy | None = None
    dra: bool = False
    drivers: tuple[DriverObject, ...] = ()

    @property
    def has_one_stack(self) -> bool:
        """Whether there is one of the two, and neither none nor both."""
        return (self.policy is None) == self.dra

    @property
    def uses_driver_objects(self) -> bool:
        """Whether drivers come from NVIDIADriver objects."""
        return self.dra or (self.policy is not None and self.policy.uses_driver_objects)


def driver_objects(found: Iterable[Object]) -> tuple[DriverObject, ...]:
    """The NVIDIADrivers that count: those that are not being deleted."""
    return tuple(
        DriverObject(
            each["metadata"]["name"],
            {str(key): str(value) for key, value in mapping(mapping(each.get("spec")).get("nodeSelector")).items()},
            mapping(each.get("spec")).get("default") is True,
            upgrade_policy_of(each).get("autoUpgrade") is True,
        )
        for each in sorted(found, key=lambda each: str(each["metadata"]["name"]))
        if not each["metadata"].get("deletionTimestamp")
    )


def upgrade_policy_of(driver: Object) -> Mapping[str, Any]:
    """The upgrade policy of an NVIDIADriver; one that has none is upgraded by the operator, one node at a time."""
    given = mapping(driver.get("spec")).get("upgradePolicy")
    return mapping(given) if given is not None else {"autoUpgrade": True, "maxParallelUpgrades": 1}


def has_gpus(labels: Labels) -> bool:
    """Whether Node Feature Discovery has found an NVIDIA GPU."""
    return any(labels.get(label) == "true" for label in _PCI)


def concerns(labels: Labels) -> bool:
    """Whether the operator has, or ever had, to do with a node."""
    return has_gpus(labels) or PRESENT in labels or OWNER in labels or any(label.startswith(DEPLOY) for label in labels)


def watched_labels(labels: Labels, selecting: Iterable[str]) -> WatchedLabels:
    """What has the operator label a node anew when it changes. ``selecting`` are keys by which its driver is selected.

    A ``nvidia.com/gpu.deploy.*`` label that somebody removes is none of it: it stays away until something else changes.
    """
    return (
        has_gpus(labels),
        labels.get(PRESENT),
        labels.get(OPERANDS) == "false",
        labels.get(_WORKLOAD),
        is_mig_capable(labels),
        labels.get(_OS_TREE),
        labels.get(OWNER),
        *(labels.get(key) for key in selecting),
    )


def wanted_changes(labels: Labels, situation: Situation) -> dict[str, str | None]:
    """The labels of a node that the operator sets, and with None those that it takes away. A value that is there stays.

    Without a stack, or with both, it does nothing.
    """
    if not situation.has_one_stack:
        return {}
    now = dict(labels)
    if has_gpus(now):
        now[PRESENT] = "true"
    elif now.get(PRESENT) == "true":
        now[PRESENT] = "false"
    if now.get(PRESENT) != "true":
        _drop(now, _EVERY_LABEL)
    elif situation.policy is None:
        _drop(now, _EVERY_LABEL - _OF_DRA - _SHARED)
        _add(now, DRA_LABELS)
    else:
        _label_for_policy(now, situation.policy)
    if situation.uses_driver_objects and now.get(PRESENT) == "true":
        _assign(now, situation.drivers)
    return _difference(labels, now)


def is_mig_capable(labels: Labels) -> bool:
    """Whether the operator takes a node's GPUs for capable of MIG: by GFD's label, before that by the product."""
    if labels.get("nvidia.com/vgpu.host-driver-version"):
        return False
    if MIG_CAPABLE in labels:
        return labels[MIG_CAPABLE] == "true"
    return any(product in labels.get(_PRODUCT, "").lower() for product in _MIG_PRODUCTS)


def upgrade_annotation(labels: Labels, situation: Situation) -> str | None:
    """The value of the annotation that tells a node's driver manager that drivers are upgraded by the operator."""
    if not situation.uses_driver_objects:
        return "true" if situation.policy is not None and situation.policy.upgrades else None
    upgraded = any(driver.upgrades for driver in situation.drivers if driver.name == labels.get(OWNER))
    return "true" if upgraded else None


def sees_to_upgrade_annotation(labels: Labels, situation: Situation) -> bool:
    """Whether the operator sets or takes away that annotation of a node.

    It stays on a node whose GPUs have gone, and where NVIDIADriver objects bring drivers, on one that belongs to none.
    """
    if not situation.has_one_stack:
        return False
    if situation.uses_driver_objects:
        return labels.get(OWNER) in {driver.name for driver in situation.drivers}
    return labels.get(PRESENT) == "true"


def _label_for_policy(now: dict[str, str], policy: ClusterPolicy) -> None:
    if now.get(OPERANDS) == "false":
        _drop(now, _EVERY_LABEL)
        return
    wanted = _ends(now, policy)
    containers = wanted == CONTAINER_LABELS
    kept = {f"{DEPLOY}{end}" for end in wanted} | ({_MIG_MANAGER} if containers else set())
    _drop(now, _EVERY_LABEL - kept)
    _add(now, wanted)
    if not is_mig_capable(now):
        return
    if containers:
        now.setdefault(_MIG_MANAGER, "true")
    default = mapping(policy.block("migManager").get("config")).get("default")
    if policy.enabled("migManager") and default == _NO_LAYOUT and not now.get(MIG_CONFIG):
        now[MIG_CONFIG] = _NO_LAYOUT


def _ends(labels: Labels, policy: ClusterPolicy) -> Sequence[str]:
    chosen = labels.get(_WORKLOAD)
    if chosen not in WORKLOADS:
        chosen = policy.default_workload
    if not policy.sandbox or chosen not in SANDBOX_LABELS:
        return CONTAINER_LABELS
    ends = SANDBOX_LABELS[str(chosen)]
    kata = policy.sandbox_mode == "kata" and chosen == "vm-passthrough"
    return tuple(_KATA if kata and end == "sandbox-device-plugin" else end for end in ends)


def _add(now: dict[str, str], ends: Iterable[str]) -> None:
    for end in ends:
        # An empty value is what a driver manager leaves of a label that was not there when it paused an operand.
        if not now.get(f"{DEPLOY}{end}"):
            now[f"{DEPLOY}{end}"] = "true"


def _drop(now: dict[str, str], labels: Iterable[str]) -> None:
    for label in labels:
        now.pop(label, None)


def _assign(now: dict[str, str], drivers: Sequence[DriverObject]) -> None:
    """Give a node to its NVIDIADriver. With two that claim it, or two default ones, everything stays as it is."""
    defaults = [driver for driver in drivers if driver.default]
    claiming = [driver for driver in drivers if not driver.default and driver.wants(now)]
    if len(defaults) > 1 or len(claiming) > 1:
        return
    owners = claiming or defaults
    if owners:
        now[OWNER] = owners[0].name
    else:
        now.pop(OWNER, None)


def _difference(before: Labels, after: Labels) -> dict[str, str | None]:
    changed: dict[str, str | None] = {key: value for key, value in after.items() if before.get(key) != value}
    return changed | {key: None for key in before if key not in after}
