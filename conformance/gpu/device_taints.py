"""Taints of devices: those that drivers publish in ResourceSlices, those that DeviceTaintRules add, who tolerates them.

A DeviceTaintRule adds one taint to the devices that it selects, and their ResourceSlices show nothing of it. Effect
None (and any effect that is not known) keeps nobody off and evicts nobody. An empty deviceSelector selects every
device. So does none: the API says that it selects no device, and that is what eviction does, but kube-scheduler keeps
claims off all of them (tried with 1.36.3). deviceClassName and selectors were there up to Kubernetes 1.34. A
DeviceClass has no tolerations, only requests and their alternatives have.

Sources: kubernetes.io, Device Taints and Tolerations; kubernetes/kubernetes, staging/src/k8s.io: api/resource
(v1alpha3 in 1.33, v1beta2 in 1.36, v1 in 1.37), dynamic-resource-allocation/resourceslice/tracker (applyPatches),
resourceclaim (ToleratesTaint), structured (taintPreventsAllocation).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from conformance.gpu.device_selectors import Match, Matching, expressions

Manifest: TypeAlias = Mapping[str, Any]

_PREVENTS_ALLOCATION = ("NoSchedule", "NoExecute")


class DeviceTaint(NamedTuple):
    """One taint of a device; ``rule`` is the DeviceTaintRule that adds it, empty for one of its ResourceSlice."""

    key: str
    value: str
    effect: str
    rule: str = ""

    def __str__(self) -> str:
        taint = f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"
        return f"{taint} of DeviceTaintRule {self.rule}" if self.rule else taint

    @property
    def prevents_allocation(self) -> bool:
        """Whether a claim without toleration cannot get the device."""
        return self.effect in _PREVENTS_ALLOCATION

    def is_tolerated(self, tolerations: Iterable[Manifest]) -> bool:
        """Whether one of the tolerations of a request is for this taint."""
        return any(self._is_tolerated_by(each) for each in tolerations)

    def _is_tolerated_by(self, toleration: Manifest) -> bool:
        if toleration.get("effect") and toleration["effect"] != self.effect:
            return False
        if toleration.get("key") and toleration["key"] != self.key:
            return False
        operator = toleration.get("operator") or "Equal"
        return operator == "Exists" or (operator == "Equal" and str(toleration.get("value") or "") == self.value)


class TaintRules:
    """The DeviceTaintRules of a cluster, asked for the taints of one device after the other."""

    def __init__(self, rules: Iterable[Manifest] = (), classes: Iterable[Manifest] = ()) -> None:
        self._selectors = {
            str(each["metadata"]["name"]): expressions((each.get("spec") or {}).get("selectors") or ())
            for each in classes
        }
        self._rules = [each for each in map(self._read, rules) if each is not None]

    def taints_of(self, driver: str, pool: str, device: Manifest) -> tuple[DeviceTaint, ...]:
        """The taints that prevent the allocation of a device of a ResourceSlice, those that rules add included.

        A rule whose selectors are not understood adds none.
        """
        # resource.k8s.io/v1beta1, which is what Kubernetes 1.32 serves, has one level more.
        body = device.get("basic") or device
        own = [_taint(each) for each in body.get("taints") or ()]
        place = (driver, pool, str(device.get("name")))
        added = [each.taint for each in self._rules if each.selects(place, body)]
        return tuple([each for each in (*own, *added) if each.prevents_allocation])

    def _read(self, rule: Manifest) -> "_Rule | None":
        spec = rule.get("spec") or {}
        selector = spec.get("deviceSelector") or {}
        taint = _taint(spec.get("taint") or {}, str(rule["metadata"]["name"]))
        if not taint.prevents_allocation:
            return None
        named = str(selector.get("deviceClassName") or "")
        if named and named not in self._selectors:
            return None
        stated = (*self._selectors.get(named, ()), *expressions(selector.get("selectors") or ()))
        wanted = tuple([str(selector.get(each) or "") for each in ("driver", "pool", "device")])
        return _Rule(wanted, Matching(stated) if stated else None, taint)


class _Rule(NamedTuple):
    """Driver, pool and device that a rule names, empty for any; its selectors, and its taint."""

    wanted: tuple[str, ...]
    matching: Matching | None
    taint: DeviceTaint

    def selects(self, place: Sequence[str], body: Manifest) -> bool:
        if any(wanted not in ("", found) for wanted, found in zip(self.wanted, place, strict=True)):
            return False
        return self.matching is None or self.matching.of(place[0], body) is Match.YES


def _taint(stated: Manifest, rule: str = "") -> DeviceTaint:
    return DeviceTaint(
        str(stated.get("key") or ""), str(stated.get("value") or ""), str(stated.get("effect") or ""), rule
    )
