"""From a ClusterPolicy or a GPUCluster to the objects of its operands, and what is said of it then.

Source: NVIDIA/gpu-operator v26.7.0, controllers/clusterpolicy_controller.go, gpucluster_controller.go and
state_manager.go.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from conformance.kube.errors import ApiError, Forbidden, Invalid
from conformance.kube.paths import path
from conformance.simulator import gpucluster
from conformance.simulator.chart.objects import PRIVILEGED
from conformance.simulator.clusterpolicy import ClusterPolicy, SpecError
from conformance.simulator.conditions import Reason, State, Verdict
from conformance.simulator.fleet import Seen
from conformance.simulator.manifests import objects_of, operator_service, runtime_classes, stands_on
from conformance.simulator.operands import DRIVER, OPERANDS, Operand
from conformance.simulator.rollout import bring, marked, not_rolled_out, owned_by, remove
from conformance.simulator.sandbox_operands import SANDBOX_OPERANDS, VGPU_MANAGER
from conformance.simulator.world import Object, World

_DRIVERS = (DRIVER, VGPU_MANAGER)
_EVERY_OPERAND = (*OPERANDS, *SANDBOX_OPERANDS)
_REFUSALS = (SpecError, Invalid, Forbidden)
# The one that operator.runtimeClass named before stays.
_RUNTIME_CLASSES_OF_CDI = ("nvidia-cdi", "nvidia-legacy")


class Wanted(msgspec.Struct, frozen=True):
    """What is to be there for a ClusterPolicy: what its operands share, and the objects of each that is deployed.

    ``basis`` is what all of it follows from.
    """

    basis: tuple[Any, ...]
    shared: list[Object]
    operands: dict[str, list[Object]]

    def daemon_sets(self, operand: Operand) -> list[str]:
        """The names of an operand's DaemonSets."""
        return [each["metadata"]["name"] for each in self.operands[operand.name] if each["kind"] == "DaemonSet"]


class Deployment:
    """Brings about what an operator resource asks for. Not to be used by two threads at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._wanted: Wanted | None = None

    def of_policy(self, policy: ClusterPolicy, seen: Seen, namespace: str, *, rival: Object | None) -> Verdict:
        """Bring every operand of a ClusterPolicy in order and say how it stands. Raises KubeError."""
        if rival is not None:
            # Of a GPUCluster the operator says PrerequisiteNotMet in the same case.
            return Verdict(State.NOT_READY, Reason.RECONCILE_FAILED, _rivalry(gpucluster.KIND, rival))
        try:
            policy.check()
            wanted = self._wanted_of(policy, seen, namespace)
            missing = list(self._bring(policy, wanted, seen, namespace))
        except _REFUSALS as error:
            return Verdict(State.NOT_READY, Reason.RECONCILE_FAILED, f"reconciling failed: {_told(error)}")
        return _verdict(policy, seen, missing)

    def of_cluster(self, cluster: Object, namespace: str, *, rival: Object | None) -> Verdict:
        """Bring every operand of a GPUCluster in order and say how it stands. Raises KubeError."""
        if rival is not None:
            return Verdict(State.NOT_READY, Reason.PREREQUISITE_NOT_MET, _rivalry("ClusterPolicy", rival))
        self._label_namespace(namespace, {gpucluster.ADMIN_ACCESS: "true"})
        asked = gpucluster.Cluster(cluster, namespace)
        owner = owned_by(gpucluster.KIND, cluster)
        try:
            wanted = asked.wanted()
            for each in wanted:
                bring(self._world, marked(each, owner))
        except _REFUSALS as error:
            return Verdict(State.NOT_READY, Reason.RECONCILE_FAILED, f"reconciling failed: {_told(error)}")
        for kind, name in asked.unwanted():
            remove(self._world, kind, name, namespace)
        names = [each["metadata"]["name"] for each in wanted if each["kind"] == "DaemonSet"]
        if late := not_rolled_out(self._world, namespace, names):
            return Verdict(State.NOT_READY, Reason.OPERAND_NOT_READY, f"waiting for the pods of {', '.join(late)}")
        return Verdict(State.READY, Reason.RECONCILED, "all operands are up to date")

    def _bring(self, policy: ClusterPolicy, wanted: Wanted, seen: Seen, namespace: str) -> Iterator[str]:
        """Bring every operand in order; yields the states that are not ready. Raises KubeError."""
        if policy.enabled("psa"):
            self._label_namespace(namespace, PRIVILEGED)
        for made in wanted.shared:
            bring(self._world, made)
        for name in {*_RUNTIME_CLASSES_OF_CDI} - {each["metadata"]["name"] for each in wanted.shared}:
            self._remove_own("RuntimeClass", name, policy)
        for operand in _EVERY_OPERAND:
            for each in wanted.operands[operand.name]:
                bring(self._world, each)
            names = wanted.daemon_sets(operand)
            # Without GPU nodes the operator deploys nothing, and leaves alone what is there.
            if seen.pools or not is_deployed(operand, policy):
                self._clear(operand, names, policy, namespace)
            if not_rolled_out(self._world, namespace, names):
                yield operand.state

    def _wanted_of(self, policy: ClusterPolicy, seen: Seen, namespace: str) -> Wanted:
        """Everything that is to be there for a policy, made once for each state of policy and fleet."""
        metadata = policy.object["metadata"]
        basis = (metadata["uid"], metadata["generation"], namespace, seen.pools)
        if self._wanted is None or self._wanted.basis != basis:
            owner = owned_by("ClusterPolicy", policy.object)
            shared = [marked(each, owner) for each in (*runtime_classes(policy), operator_service(namespace))]
            made = {each.name: list(_make(each, policy, namespace, seen, owner)) for each in _EVERY_OPERAND}
            self._wanted = Wanted(basis, shared, made)
        return self._wanted

    def _clear(self, operand: Operand, names: list[str], policy: ClusterPolicy, namespace: str) -> None:
        """Remove what an operand has left from other settings."""
        replaced = _is_left_to_driver_objects(operand, policy)
        if operand is DRIVER:
            for found in self._world.all("DaemonSet", namespace):
                name = found["metadata"]["name"]
                if name.startswith(DRIVER.name) and name not in names:
                    self._remove_own("DaemonSet", name, policy, namespace, keeps_pods=replaced)
        elif not names:
            self._remove_own("DaemonSet", operand.name, policy, namespace, keeps_pods=replaced)
        # Where NVIDIADriver objects bring drivers instead, what the old ones stand on stays, and they run on.
        if not names and not replaced:
            for each in stands_on(operand, policy, namespace):
                self._remove_own(each["kind"], each["metadata"]["name"], policy, namespace)

    def _remove_own(
        self, kind: str, name: str, policy: ClusterPolicy, namespace: str = "", *, keeps_pods: bool = False
    ) -> None:
        found = self._world.get(kind, name, namespace)
        owners = found["metadata"].get("ownerReferences") or () if found else ()
        if any(each["uid"] == policy.object["metadata"]["uid"] for each in owners):
            remove(self._world, kind, name, namespace, keeps_pods=keeps_pods)

    def _label_namespace(self, namespace: str, labels: Mapping[str, str]) -> None:
        found = self._world.get("Namespace", namespace)
        has = (found or {"metadata": {}})["metadata"].get("labels") or {}
        changed = {label: value for label, value in labels.items() if has.get(label) != value}
        if found is not None and changed:
            self._world.client.patch(path("Namespace", name=namespace), {"metadata": {"labels": changed}})


def is_deployed(operand: Operand, policy: ClusterPolicy) -> bool:
    """Whether a policy asks for an operand; for those of virtual machines it has to allow such machines."""
    of_mode = operand.mode in ("", policy.sandbox_mode)
    fits = not operand.for_virtual_machines or (policy.sandbox and of_mode)
    return fits and policy.enabled(operand.component)


def _is_left_to_driver_objects(operand: Operand, policy: ClusterPolicy) -> bool:
    return operand in _DRIVERS and policy.uses_driver_objects


def _make(operand: Operand, policy: ClusterPolicy, namespace: str, seen: Seen, owner: Object) -> Iterator[Object]:
    if not is_deployed(operand, policy) or _is_left_to_driver_objects(operand, policy):
        return
    # Without a GPU node nobody knows which driver image it takes, and so the operator deploys no DaemonSet at all.
    if not seen.pools:
        for each in stands_on(operand, policy, namespace):
            yield marked(each, owner)
    for tag, kernel in _variants(operand, policy, seen):
        for each in objects_of(operand, policy, namespace, tag, kernel):
            yield marked(each, owner)


def _variants(operand: Operand, policy: ClusterPolicy, seen: Seen) -> list[tuple[str, str]]:
    """Operating system and kernel of each DaemonSet of an operand. There is one, but for precompiled drivers."""
    if not seen.pools:
        return []
    if operand not in _DRIVERS:
        return [("", "")]
    tags = [pool.os_tag for pool in seen.pools if pool.os_tag]
    if not tags:
        raise SpecError("no GPU node says by its NFD labels which operating system it has")
    if operand is DRIVER and policy.block("driver").get("usePrecompiled") is True:
        return sorted({(tags[0], pool.kernel) for pool in seen.pools if pool.kernel})
    return [(tags[0], "")]


def _verdict(policy: ClusterPolicy, seen: Seen, missing: list[str]) -> Verdict:
    upgrading = policy.uses_driver_objects and seen.upgrading
    if missing or upgrading:
        return _not_ready(missing, "the upgrade of NVIDIADriver nodes is pending, in progress, or failed" * upgrading)
    if not seen.discovered:
        return Verdict(State.READY, Reason.NFD_LABELS_MISSING, "no node has a label of Node Feature Discovery")
    if not seen.pools:
        return Verdict(State.READY, Reason.NO_GPU_NODES, "no node has a GPU")
    return Verdict(State.READY, Reason.RECONCILED, "all operands are up to date")


def _not_ready(states: list[str], more: str = "") -> Verdict:
    named = f"states not ready: [{' '.join(states)}]" if states else ""
    text = "; ".join(part for part in ("ClusterPolicy is not ready", named, more) if part)
    return Verdict(State.NOT_READY, Reason.OPERAND_NOT_READY, text)


def _rivalry(kind: str, rival: Object) -> str:
    return f"{kind} {rival['metadata']['name']} exists, too; only one of the two objects can be followed"


def _told(error: Exception) -> str:
    return error.message if isinstance(error, ApiError) else str(error)
