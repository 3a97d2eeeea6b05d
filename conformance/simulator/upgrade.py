"""Driver upgrades: a node whose driver's pod is out of date goes from one step to the next until it is done.

The pods of drivers are only exchanged when somebody deletes them, and that is done here, node by node, as the upgrade
policy allows. The label of a node says where it stands; everything that must survive a restart stands on the node.

Source: NVIDIA/k8s-operator-libs, pkg/upgrade (upgrade_state.go, upgrade_inplace.go, common_manager.go,
validation_manager.go); NVIDIA/gpu-operator v26.7.0, controllers/upgrade_controller.go.
"""

import threading
import time
from collections.abc import Iterable, Iterator

from conformance.simulator.annotations import annotation
from conformance.simulator.clusterpolicy import Followed
from conformance.simulator.host import role_of
from conformance.simulator.nodelabels import OWNER, UPGRADE_SKIP, UPGRADE_STATE, upgrade_policy_of
from conformance.simulator.operands import DRIVER
from conformance.simulator.policy import Operators, is_operator
from conformance.simulator.upgrade_slots import (
    NOT_IN_PROGRESS,
    Step,
    UpgradePolicy,
    UpgradingNode,
    free_slots,
    policy_of,
)
from conformance.simulator.upgrade_steps import REQUESTED, VALIDATION_SECONDS, Case, Moves, is_upgraded, restart_only
from conformance.simulator.world import Object, World

STEP_SECONDS = 0.1
"""How long a node stays in a step at least, so that each can be seen; a real one takes seconds to minutes."""

_SLOTS, _NODE = "slots", "node/"
_SETTINGS = ("ClusterPolicy", "GPUCluster", "NVIDIADriver")


class DriverUpgrades:
    """The upgrade controller. A key is ``node/<name>``, or ``slots`` for who may begin."""

    name = "upgrade"
    watches = (*_SETTINGS, "Node", "Pod", "DaemonSet", "ResourceClaim")

    def __init__(self, world: World, *, step_seconds: float = STEP_SECONDS) -> None:
        self._world = world
        self._step_seconds = step_seconds
        self._operators = Operators()
        self._followed = Followed(world)
        self._moves = Moves(world)
        self._lock = threading.Lock()
        self._drivers: dict[str, set[tuple[str, str]]] = {}
        self._standing: dict[str, tuple[str, bool, bool]] = {}
        self._waiting: set[str] = set()
        self._versions: dict[str, tuple[int, int]] = {}

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """What a change bears on: one node, who may begin, or every node with a driver."""
        if kind == "Node":
            return list(self._keys_of_node(obj, deleted))
        if kind == "Pod":
            return list(self._keys_of_pod(obj, deleted))
        if kind == "ResourceClaim":
            return ()
        news = self._is_news(obj, deleted)
        if kind == "DaemonSet":
            return self._all_keys() if news and role_of(obj) == DRIVER.name else ()
        return self._all_keys() if news else ()

    def reconcile(self, key: str) -> float | None:
        """Take a node one step further if it may go there, or let nodes begin."""
        if self._operators.namespace is None:
            return None
        if key == _SLOTS:
            return self._begin()
        return self._advance(key.removeprefix(_NODE))

    def _keys_of_node(self, node: Object, deleted: bool) -> Iterator[str]:
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        now = (labels.get(UPGRADE_STATE, ""), _is_unavailable(node), labels.get(UPGRADE_SKIP) == "true")
        with self._lock:
            before = self._standing.pop(name, None)
            concerned = name in self._drivers or bool(now[0])
            self._waiting.discard(name)
            if not deleted and concerned:
                self._standing[name] = now
                if now[0] == Step.UPGRADE_REQUIRED:
                    self._waiting.add(name)
            news = before != now and bool(self._waiting)
        if concerned and not deleted:
            yield f"{_NODE}{name}"
        if news:
            yield _SLOTS

    def _keys_of_pod(self, pod: Object, deleted: bool) -> Iterator[str]:
        if is_operator(pod) and self._operators.take_in(pod, deleted):
            yield from self._all_keys()
        node = pod["spec"].get("nodeName")
        if not node:
            return
        if role_of(pod) == DRIVER.name:
            self._note_driver(node, pod, deleted)
            yield f"{_NODE}{node}"
        elif self._standing.get(node, ("",))[0] not in NOT_IN_PROGRESS:
            yield f"{_NODE}{node}"

    def _note_driver(self, node: str, pod: Object, deleted: bool) -> None:
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        with self._lock:
            pods = self._drivers.setdefault(node, set())
            if deleted:
                pods.discard(key)
            else:
                pods.add(key)
            if not pods:
                del self._drivers[node]

    def _all_keys(self) -> list[str]:
        with self._lock:
            names = {*self._drivers, *self._standing}
        return [_SLOTS, *(f"{_NODE}{name}" for name in names)]

    def _is_news(self, obj: Object, deleted: bool) -> bool:
        """Whether what an object asks for has changed, or was taken up by its controller."""
        uid = obj["metadata"]["uid"]
        if deleted:
            self._versions.pop(uid, None)
            return True
        observed = (obj.get("status") or {}).get("observedGeneration") or 0
        now, before = (obj["metadata"].get("generation") or 0, observed), self._versions.get(uid)
        self._versions[uid] = now
        return now != before

    def _advance(self, name: str) -> float | None:
        node = self._moves.node(name)
        if node is None:
            return None
        step = (node["metadata"].get("labels") or {}).get(UPGRADE_STATE, "")
        policy = self._policy_of(node)
        if policy is None:
            if step:
                self._moves.change(name, {"labels": {UPGRADE_STATE: None}})
            return None
        if step and (pause := self._pause_of(name)) > 0:
            return pause
        driver = self._driver_on(name)
        if driver is None:
            return None
        case = Case(node, step, driver, policy, self._validation_seconds(), self._uses_driver_objects())
        return self._moves.advance(case)

    def _begin(self) -> float | None:
        """Let nodes that wait for their upgrade begin it, as many as their policy allows; first by name.

        Those that have only begun to wait are looked at again in as many seconds as are returned.
        """
        groups: dict[str, tuple[UpgradePolicy, list[Object]]] = {}
        with self._lock:
            names = sorted(self._drivers)
        for name in names:
            node = self._moves.node(name)
            policy = self._policy_of(node) if node is not None else None
            if node is not None and policy is not None:
                owner = (node["metadata"].get("labels") or {}).get(OWNER, "") if self._uses_driver_objects() else ""
                groups.setdefault(owner, (policy, []))[1].append(node)
        pauses = [pause for policy, nodes in groups.values() if (pause := self._begin_some(policy, nodes))]
        return min(pauses, default=None)

    def _begin_some(self, policy: UpgradePolicy, nodes: list[Object]) -> float:
        waiting = [node for node in nodes if _waits(node)]
        pause = max((self._pause_of(node["metadata"]["name"]) for node in waiting), default=0.0)
        if pause > 0:
            return pause
        free = free_slots(policy, [_standing_of(node) for node in nodes])
        for node in waiting:
            # A node that somebody has cordoned costs nobody anything.
            if free > 0 or node["spec"].get("unschedulable") is True:
                self._begin_one(node)
                free -= 1
        return 0.0

    def _pause_of(self, name: str) -> float:
        """How long (seconds) a node has to stay in its step yet."""
        return self._moves.since(name) + self._step_seconds - time.monotonic()

    def _begin_one(self, node: Object) -> None:
        name, requested = node["metadata"]["name"], annotation(node, REQUESTED) == "true"
        driver = self._driver_on(name)
        change: Object = {"labels": {UPGRADE_STATE: str(Step.CORDON_REQUIRED)}}
        spec: Object = {}
        if driver is not None and not requested and restart_only(self._world, driver):
            change = {"labels": {UPGRADE_STATE: str(Step.POD_RESTART_REQUIRED)}}
            spec = {"unschedulable": True}
        if requested:
            change["annotations"] = {REQUESTED: None}
        self._moves.change(name, change, spec)

    def _driver_on(self, node: str) -> Object | None:
        """The driver's pod on a node, if it is one to be upgraded; while one replaces another, the one that stays."""
        pods = [pod for pod in self._world.pods_on(node) if role_of(pod) == DRIVER.name]
        pods = [pod for pod in pods if is_upgraded(self._world, pod)]
        return min(pods, key=lambda pod: bool(pod["metadata"].get("deletionTimestamp")), default=None)

    def _uses_driver_objects(self) -> bool:
        followed = self._followed.now()
        return followed is None or followed.uses_driver_objects

    def _policy_of(self, node: Object) -> UpgradePolicy | None:
        """The policy by which a node is upgraded: the followed ClusterPolicy's, or that of its NVIDIADriver."""
        followed = self._followed.now()
        if followed is not None and not followed.uses_driver_objects:
            return policy_of(followed.upgrade_policy) if followed.upgrades else None
        owner = self._world.get("NVIDIADriver", (node["metadata"].get("labels") or {}).get(OWNER, ""))
        return policy_of(upgrade_policy_of(owner)) if owner is not None else None

    def _validation_seconds(self) -> float | None:
        """What the followed ClusterPolicy's annotation says instead of the constant of the real operator."""
        followed = self._followed.now()
        text = annotation(followed.object, VALIDATION_SECONDS) if followed else ""
        return float(text) if text.replace(".", "", 1).isdigit() else None


def _is_unavailable(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return node["spec"].get("unschedulable") is True or any(
        each["type"] == "Ready" and each["status"] != "True" for each in conditions
    )


def _waits(node: Object) -> bool:
    labels = node["metadata"].get("labels") or {}
    return labels.get(UPGRADE_STATE) == Step.UPGRADE_REQUIRED and labels.get(UPGRADE_SKIP) != "true"


def _standing_of(node: Object) -> UpgradingNode:
    metadata = node["metadata"]
    return UpgradingNode(metadata["name"], (metadata.get("labels") or {}).get(UPGRADE_STATE, ""), _is_unavailable(node))
