"""A cluster in memory that also runs programs: Indexed Jobs make pods, which end with a log, and all is watched."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from memory_cluster import MemoryCluster, Refused

from conformance.lab.probe_results import MARK


def line(**record: Any) -> str:
    """The one line of a probe, between others."""
    return f"warming up\n{MARK} {json.dumps({'probe': 'devices', 'version': 1, 'error': None, **record})}\nbye\n"


@dataclass
class Ending:
    """How a program ends on a node; ``phase`` Running for one that stays."""

    log: str = ""
    exit_code: int | None = 0
    phase: str = "Succeeded"
    status: dict[str, Any] = field(default_factory=dict)


@dataclass
class ProgramCluster(MemoryCluster):
    """``plays`` says how the program of a pod ends, given the pod; ``logs_refused`` are pods without readable log.

    ``logs_late`` is how many more questions for a log are answered by an error, as of a container that just started.
    """

    plays: Callable[[dict[str, Any]], Ending] = lambda pod: Ending(line(node=pod["spec"]["nodeName"]))
    logs_refused: bool = False
    logs_late: int = 0
    jobs_make_pods: bool = True
    ended_make_room: bool = False
    """As in a cluster whose programs are quicker than its scheduler: ended pods keep no other one away."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.history: list[tuple[int, str, dict[str, Any]]] = []
        self.logs: dict[str, str] = {}

    def history_of(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """The newest state of an object that may be gone."""
        found = [obj for _, _, obj in self.history if obj["kind"] == kind and obj["metadata"]["name"] == name]
        return next(obj for obj in reversed(found) if obj["metadata"].get("namespace") == namespace)

    def _put(self, obj: dict[str, Any], *, new: bool = False) -> dict[str, Any]:
        stored = super()._put(obj, new=new)
        version = int(stored["metadata"]["resourceVersion"])
        self.history.append((version, "ADDED" if new else "MODIFIED", stored))
        return stored

    def _remove(self, obj: dict[str, Any]) -> None:
        super()._remove(obj)
        self.history.append((int(obj["metadata"]["resourceVersion"]), "DELETED", obj))

    def _control(self, obj: dict[str, Any]) -> None:
        if obj["kind"] != "Job" or "completionMode" not in obj["spec"]:
            super()._control(obj)
            return
        for index in range(obj["spec"]["completions"] if self.jobs_make_pods else 0):
            template, owner = obj["spec"]["template"], obj["metadata"]
            metadata = {
                **template["metadata"],
                "name": f"{owner['name']}-{index}-xxxxx",
                "namespace": owner["namespace"],
                "ownerReferences": [{"kind": "Job", "name": owner["name"], "uid": owner["uid"]}],
            }
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            self.schedule(self._put(pod, new=True))
            self._end(self.get("Pod", metadata["name"], owner["namespace"]))

    def _is_in_the_way(self, pod: dict[str, Any]) -> bool:
        ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        return super()._is_in_the_way(pod) and not (self.ended_make_room and ended)

    def _end(self, pod: dict[str, Any]) -> None:
        if not pod["spec"].get("nodeName"):
            return
        ending = self.plays(pod)
        self.logs[pod["metadata"]["name"]] = ending.log
        state = {} if ending.exit_code is None else {"terminated": {"exitCode": ending.exit_code, "reason": "Ended"}}
        containers = [{"name": "probe", "state": state}] if state else []
        self._put({**pod, "status": {"phase": ending.phase, "containerStatuses": containers, **ending.status}})

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any, headers: dict[str, str]) -> Any:
        if path.endswith("/log"):
            if self.logs_refused:
                raise Refused(502, "BadGateway", "the kubelet does not answer")
            if self.logs_late:
                self.logs_late -= 1
                raise Refused(400, "BadRequest", "no logs found for container probe")
            return self.logs[path.split("/")[-2]]
        answer = super()._answer(method, path, query, body, headers)
        if "items" in answer:
            answer["metadata"]["resourceVersion"] = str(self.history[-1][0])
        return answer

    def _urlopen(self, method: str, url: str, **options: Any) -> Any:
        query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        if query.get("watch"):
            return self._stream(query)
        answer = super()._urlopen(method, url, **options)
        if urlsplit(url).path.endswith("/log") and answer.status == 200:
            answer.data = json.loads(answer.data).encode()
        return answer

    def _stream(self, query: dict[str, str]) -> Any:
        """What happened to pods since a version, and then the end of the stream."""
        since, selector = int(query["resourceVersion"]), query.get("labelSelector", "=")
        key, _, value = selector.partition("=")
        events = [
            json.dumps({"type": kind, "object": obj})
            for version, kind, obj in self.history
            if version > since and obj["kind"] == "Pod" and obj["metadata"].get("labels", {}).get(key) == value
        ]
        chunks = [("\n".join(events) + "\n").encode()] if events else []
        read = lambda size: chunks.pop() if chunks else b""  # noqa: E731
        return SimpleNamespace(
            status=200, read1=read, data=b"", close=lambda: None, release_conn=lambda: None, headers={}
        )
