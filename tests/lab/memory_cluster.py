"""A cluster in memory behind the real client and guard: objects, preconditions, a small scheduler, and accidents.

It does what the lab relies on: optimistic locking, merge and JSON patches, label selectors, finalizers, dry runs,
namespaces that take their contents along, quota, and pods that are bound where there is room for them.
"""

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from copies import copied

from conformance.gpu.placement import obstacles, requests_of
from conformance.gpu.quantities import quantity
from conformance.kube.client import Client
from conformance.kube.clock import ServerClock
from conformance.kube.effects import Effect
from conformance.kube.guard import Guard
from conformance.kube.paths import OTHER_NAMES, PLACES
from conformance.kube.timeouts import Timeouts

KIND_OF = {place.plural: kind for kind, place in PLACES.items() if kind not in OTHER_NAMES.values()}
QUICK = Timeouts(hold=0.03, scheduled=0.3, running=0.5, evicted=0.3, condition=0.3, deleted=0.5, namespace_deleted=0.5)


class Killed(BaseException):
    """The process that was talking to the cluster is no more."""


class Refused(Exception):
    """An answer with an error status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


@dataclass
class Target:
    """What a path points at."""

    kind: str
    namespace: str | None
    name: str | None
    subresource: str | None


@dataclass
class MemoryCluster:
    """Objects by kind, namespace and name. ``accident`` is called with the number of each request, before and after."""

    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    accident: Callable[[int, str], None] = lambda number, when: None
    requests: list[str] = field(default_factory=list)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    allowed: Callable[[dict[str, Any]], bool] = lambda attributes: True
    scheduler_runs: bool = True

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)

    def client(self, run_id: str | None = None, limit: Effect = Effect.DISRUPTIVE) -> Client:
        """A client whose every request passes the real guard and lands here."""
        connection = SimpleNamespace(
            server="https://memory",
            headers=dict,
            pool=SimpleNamespace(urlopen=self._urlopen),
            is_local=True,
            renew=lambda refused: False,
            clock=ServerClock(),
        )
        connection.with_token = lambda token: connection
        return Client(connection, Guard(limit, run_id), QUICK)  # type: ignore[arg-type]

    def add(self, kind: str, name: str, namespace: str | None = None, **parts: Any) -> dict[str, Any]:
        """Put an object there, as somebody else would."""
        metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **parts.pop("metadata", {})}
        obj = {"apiVersion": PLACES[kind].group_version, "kind": kind, "metadata": metadata, **parts}
        with self._lock:
            return self._put(obj, new=True)

    def node(self, name: str, *, gpus: int = 0, taints: tuple[dict[str, str], ...] = (), **labels: str) -> None:
        """Add a ready node."""
        amounts = {"cpu": "16", "memory": "64Gi", "pods": "110", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
        self.add(
            "Node",
            name,
            metadata={"labels": {"kubernetes.io/hostname": name, **labels}},
            spec={"taints": list(taints)} if taints else {},
            status={
                "capacity": dict(amounts),
                "allocatable": dict(amounts),
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        )

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        """An object as it is now."""
        return self.objects[kind, namespace, name]

    def of(self, kind: str) -> list[str]:
        """The names of the objects of a kind."""
        return sorted(name for found, _, name in self.objects if found == kind)

    def everything(self) -> dict[tuple[str, str, str], str]:
        """All objects without what changes by itself, to compare two moments."""
        with self._lock:
            return {key: _essence(obj) for key, obj in self.objects.items()}

    # The API server.

    def _urlopen(self, method: str, url: str, *, body: bytes | None, headers: dict[str, str], **_: Any) -> Any:
        parts = urlsplit(url)
        with self._lock:
            number = len(self.requests)
            self.requests.append(f"{method} {parts.path}")
            self.accident(number, "before")
            try:
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                code, answer = 200, self._answer(method, parts.path, query, json.loads(body) if body else None, headers)
            except Refused as refusal:
                code = refusal.code
                answer = {"kind": "Status", "code": code, "reason": refusal.reason, "message": str(refusal)}
            self.accident(number, "after")
        headers_back = {"Date": format_datetime(self.clock())}
        return SimpleNamespace(status=code, data=json.dumps(answer).encode(), headers=headers_back)

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any, headers: dict[str, str]) -> Any:
        target = _target(path)
        if (method, target.kind) in self.forbidden:
            raise Refused(403, "Forbidden", f"cannot {method} {target.kind}")
        if target.kind.endswith("Review"):
            return {**body, "status": {"allowed": self.allowed(body["spec"]["resourceAttributes"])}}
        if target.subresource == "token":
            return {"status": {"token": "secret"}}
        dry = query.get("dryRun") == "All"
        match method:
            case "GET" if target.name is None:
                return {"kind": f"{target.kind}List", "metadata": {}, "items": self._list(target, query)}
            case "GET":
                return self._found(target)
            case "POST":
                return self._create(target, body, dry)
            case "PATCH":
                return self._patch(target, body, headers["Content-Type"])
            case "DELETE":
                return self._delete(target, body or {})
        raise Refused(405, "MethodNotAllowed", method)

    def _list(self, target: Target, query: dict[str, str]) -> list[dict[str, Any]]:
        fields = dict(part.split("=") for part in query.get("fieldSelector", "").split(",") if part)
        return [
            copied(obj)
            for (kind, namespace, _), obj in sorted(self.objects.items())
            if kind == target.kind
            and target.namespace in (None, namespace)
            and _selected(obj, query.get("labelSelector", ""))
            and fields.get("spec.nodeName") in (None, obj.get("spec", {}).get("nodeName"))
        ]

    def _found(self, target: Target) -> dict[str, Any]:
        key = target.kind, target.namespace or "", target.name or ""
        if key not in self.objects:
            raise Refused(404, "NotFound", f"{target.kind} {target.name} not found")
        return self.objects[key]

    def _create(self, target: Target, body: dict[str, Any], dry: bool) -> dict[str, Any]:
        obj = copied(body)
        obj["metadata"].setdefault("name", obj["metadata"].get("generateName", "") + "x")
        if target.namespace:
            home = self.objects.get(("Namespace", "", target.namespace))
            if home is None:
                raise Refused(404, "NotFound", f"namespace {target.namespace} not found")
            obj["metadata"]["namespace"] = target.namespace
        if (target.kind, target.namespace or "", obj["metadata"]["name"]) in self.objects:
            raise Refused(409, "AlreadyExists", "already exists")
        if target.kind == "Pod":
            self._admit(obj)
        if dry:
            return {**obj, "metadata": {**obj["metadata"], "creationTimestamp": self._now()}}
        made = self._put(obj, new=True)
        self._control(made)
        return made

    def _patch(self, target: Target, body: Any, content_type: str) -> dict[str, Any]:
        before = self._found(target)
        after = copied(before)
        if "json-patch" in content_type:
            for operation in body:
                *parents, last = (part.replace("~1", "/") for part in operation["path"].split("/")[1:])
                holder = after
                for parent in parents:
                    holder = holder[parent]
                if last not in holder:
                    raise Refused(422, "Invalid", f"no {last}")
                del holder[last]
        else:
            wanted = body.get("metadata", {}).get("resourceVersion")
            if wanted not in (None, before["metadata"]["resourceVersion"]):
                raise Refused(409, "Conflict", "the object has been modified")
            after = _merged(after, body)
        return self._put(after)

    def _delete(self, target: Target, options: dict[str, Any]) -> dict[str, Any]:
        obj = self._found(target)
        for key, wanted in (options.get("preconditions") or {}).items():
            if obj["metadata"].get(key) != wanted:
                raise Refused(409, "Conflict", f"precondition failed: {key}")
        if options.get("dryRun"):
            return obj
        self._remove(obj)
        return {"kind": "Status", "status": "Success"}

    # Storage and controllers.

    def _put(self, obj: dict[str, Any], *, new: bool = False) -> dict[str, Any]:
        metadata = obj["metadata"]
        if new:
            metadata |= {"uid": f"uid-{next(self._uids)}", "creationTimestamp": self._now()}
        metadata["resourceVersion"] = str(next(self._versions))
        if obj["kind"] == "Lease":
            metadata["managedFields"] = [{"manager": "gpu-conformance", "time": self._now()}]
        key = obj["kind"], metadata.get("namespace", ""), metadata["name"]
        self.objects[key] = obj
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            del self.objects[key]
        return copied(obj)

    def _remove(self, obj: dict[str, Any]) -> None:
        metadata = obj["metadata"]
        if metadata.get("finalizers"):
            obj["metadata"]["deletionTimestamp"] = self._now()
            return
        self.objects.pop((obj["kind"], metadata.get("namespace", ""), metadata["name"]), None)
        if obj["kind"] == "Namespace":
            for key in [key for key in self.objects if key[1] == metadata["name"]]:
                del self.objects[key]
        for other in [*self.objects.values()]:
            owners = [owner["uid"] for owner in other["metadata"].get("ownerReferences") or ()]
            if metadata["uid"] in owners:
                self._remove(other)

    def evict(self, namespace: str, name: str, reason: str = "PreemptionByScheduler") -> None:
        """Take a pod away as the scheduler does with a victim, or somebody else for another reason."""
        with self._lock:
            pod = self.objects["Pod", namespace, name]
            pod["status"].setdefault("conditions", []).append(
                {"type": "DisruptionTarget", "status": "True", "reason": reason}
            )
            self._remove(pod)

    def _admit(self, pod: dict[str, Any]) -> None:
        namespace, asked = pod["metadata"]["namespace"], requests_of(pod)
        for quota in [obj for obj in self.objects.values() if obj["kind"] == "ResourceQuota"]:
            if quota["metadata"]["namespace"] != namespace:
                continue
            for key, hard in quota["spec"]["hard"].items():
                used = quantity(quota["status"]["used"][key])
                if used + asked.get(key.removeprefix("requests."), Fraction(0)) > quantity(hard):
                    raise Refused(403, "Forbidden", f"exceeded quota: {quota['metadata']['name']}")
        name = pod["spec"].get("priorityClassName")
        if name and ("PriorityClass", "", name) not in self.objects:
            raise Refused(403, "Forbidden", f"no PriorityClass with name {name} was found")
        if name:
            pod["spec"]["priority"] = self.get("PriorityClass", name)["value"]

    def _control(self, obj: dict[str, Any]) -> None:
        match obj["kind"]:
            case "ResourceQuota":
                hard = obj["spec"]["hard"]
                self._put({**obj, "status": {"hard": hard, "used": dict.fromkeys(hard, "0")}})
            case "PodDisruptionBudget":
                self._put({**obj, "status": {"disruptionsAllowed": 0}})
            case "Pod":
                self._count(obj)
                self.schedule(obj)
            case "Deployment":
                owner = {"kind": "ReplicaSet", "uid": obj["metadata"]["uid"]}
                template = obj["spec"]["template"]
                for number in range(obj["spec"]["replicas"]):
                    metadata = {
                        **template["metadata"],
                        "name": f"{obj['metadata']['name']}-{number}",
                        "namespace": obj["metadata"]["namespace"],
                        "ownerReferences": [owner],
                    }
                    self.schedule(
                        self._put(
                            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]},
                            new=True,
                        )
                    )
                self._put({**obj, "status": {"availableReplicas": obj["spec"]["replicas"]}})

    def _count(self, pod: dict[str, Any]) -> None:
        for quota in [obj for obj in self.objects.values() if obj["kind"] == "ResourceQuota"]:
            if quota["metadata"]["namespace"] == pod["metadata"]["namespace"]:
                for key in quota["spec"]["hard"]:
                    more = requests_of(pod).get(key.removeprefix("requests."), Fraction(0))
                    used = quota["status"]["used"]
                    used[key] = str(int(quantity(used[key]) + more))

    def schedule(self, pod: dict[str, Any]) -> None:
        """Bind the pod to the first node that nothing rules out, and let it run; else say that it is unscheduled."""
        if not self.scheduler_runs:
            self._put({**pod, "status": {"phase": "Pending"}})
            return
        nodes = [obj for obj in self.objects.values() if obj["kind"] == "Node"]
        bound: dict[str, list[dict[str, Any]]] = {}
        for other in self.objects.values():
            if other["kind"] == "Pod" and self._is_in_the_way(other):
                bound.setdefault(other["spec"]["nodeName"], []).append(other)
        gated = bool(pod["spec"].get("schedulingGates"))
        fitting = [] if gated else [node for node in nodes if not obstacles(pod, node, nodes, bound)]
        if fitting:
            spec = {**pod["spec"], "nodeName": fitting[0]["metadata"]["name"]}
            self._put({**pod, "spec": spec, "status": {"phase": "Running"}})
            return
        reason = "SchedulingGated" if gated else "Unschedulable"
        condition = {"type": "PodScheduled", "status": "False", "reason": reason}
        self._put({**pod, "status": {"phase": "Pending", "conditions": [condition]}})

    def _is_in_the_way(self, pod: dict[str, Any]) -> bool:
        return bool(pod["spec"].get("nodeName"))

    def _now(self) -> str:
        return self.clock().strftime("%Y-%m-%dT%H:%M:%SZ")


def _target(path: str) -> Target:
    parts = [unquote(part) for part in path.strip("/").split("/")]
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, None, None)[:3]
    return Target(KIND_OF.get(str(plural), str(plural)), namespace, name, subresource)


def _selected(obj: dict[str, Any], selector: str) -> bool:
    labels = obj["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        key, equals, value = part.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def _merged(base: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _essence(obj: dict[str, Any]) -> str:
    metadata = {
        key: value
        for key, value in obj["metadata"].items()
        if key not in ("resourceVersion", "managedFields") and value not in ({}, None)
    }
    spec = {key: value for key, value in (obj.get("spec") or {}).items() if value not in ([], None)}
    return json.dumps({**obj, "metadata": metadata, "spec": spec}, sort_keys=True)


def killed_after(number: int) -> Callable[[int, str], None]:
    """A kill when request ``number`` has taken effect: its answer is lost, and no later request gets through."""

    def accident(now: int, when: str) -> None:
        if now > number or (now == number and when == "after"):
            raise Killed

    return accident


def later(seconds: float) -> Callable[[], datetime]:
    """The clock of a server that is ahead of ours."""
    return lambda: datetime.now(UTC) + timedelta(seconds=seconds)
