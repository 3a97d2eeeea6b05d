"""Objects that an API server does not take at once."""

from typing import Any

import pytest
from lab_runs import rule

from conformance.kube.effects import Effect
from conformance.kube.errors import ApiError, Forbidden
from conformance.kube.guard import Guard
from conformance.lab.object_factory import Maker
from conformance.lab.pod_effects import PodPriority

RUN = "abcd1234"
CLASS = f"gpuc-{RUN}-above-1"


class Server:
    """Refuses the first pods, as one whose admission has not heard of something yet."""

    guard = Guard(Effect.DISRUPTIVE, RUN)

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.created: list[dict[str, Any]] = []

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.refusals:
            raise ApiError.from_status({"message": self.refusals.pop(0), "reason": "Forbidden"}, "POST", path, code=403)
        self.created.append(body)
        return body


class Run:
    """What the requirements of a run share."""

    run_id = RUN
    gpu_resource = "nvidia.com/gpu"
    tolerations = ()
    preferred_nodes = frozenset[str]()

    def harmless_priority(self) -> str:
        return CLASS

    def pod_priority(self, name: str) -> PodPriority:
        return PodPriority(-2_000_000_000, preempts=False)


def pod(priority: str) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": f"gpuc-{RUN}-x"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"priorityClassName": priority}}


def maker(server: Server) -> Maker:
    return Maker(server, Run(), rule(rule_id="PRIO-06"), ())  # type: ignore[arg-type]


def test_a_pod_waits_until_admission_knows_the_class_of_the_run() -> None:
    server = Server(f"no PriorityClass with name {CLASS} was found", f"no PriorityClass with name {CLASS} was found")

    assert maker(server).create(pod(CLASS))["metadata"]["name"] == "p"
    assert len(server.created) == 1


@pytest.mark.parametrize("refusal", ["exceeded quota: gpus", "no PriorityClass with name somebody-elses was found"])
def test_every_other_refusal_is_told_at_once(refusal: str) -> None:
    server = Server(refusal, refusal)

    with pytest.raises(Forbidden, match=r"quota|somebody"):
        maker(server).create(pod(CLASS))
    assert len(server.refusals) == 1
