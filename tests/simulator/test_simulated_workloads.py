"""When a pod with a known program ends: its log can be read by then."""

from pathlib import Path
from typing import Any

import pytest

from conformance.kube.errors import ApiError, WaitTimeout
from conformance.simulator import workloads
from conformance.simulator.annotations import EXIT_CODE
from conformance.simulator.settings import Settings
from conformance.simulator.workloads import Workloads

Object = dict[str, Any]

POD: Object = {
    "metadata": {"name": "looking", "namespace": "default", "uid": "uid-p"},
    "spec": {"nodeName": "n", "containers": [{"name": "main", "image": "i", "command": ["nvidia-smi", "-L"]}]},
    "status": {"phase": "Running"},
}


class Cluster:
    """One pod, and a KWOK that serves its log only from the time on that it is ``told``. World and client in one.

    It has to hear of ``changes`` of a rule: of fewer it keeps an older list of rules.
    """

    def __init__(self, *, told: bool, changes: int = 1) -> None:
        self.client = self
        self.told = told
        self.changes = changes
        self.applied: list[Object] = []
        self.patched: list[Object] = []

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        return POD if kind == "Pod" else None

    def apply(self, obj: Object, **_: Any) -> None:
        self.applied.append(obj)

    def patch(self, path: str, change: Object) -> None:
        self.patched.append(change)

    def request(self, method: str, path: str, **_: Any) -> bytes:
        heard = len({str(each) for each in self.applied})
        if not self.told or heard < self.changes:
            raise ApiError(400, "BadRequest", 'no logs found for container "main"', method, path)
        return Path(self.applied[-1]["spec"]["logs"][0]["logsFile"]).read_bytes()


def test_a_pod_ends_once_its_log_can_be_read(tmp_path: Path) -> None:
    cluster = Cluster(told=True)

    Workloads(cluster, Settings(tmp_path)).reconcile("default/looking")  # type: ignore[arg-type]

    [change] = cluster.patched
    assert change["metadata"]["uid"] == "uid-p"
    assert EXIT_CODE in change["metadata"]["annotations"]


def test_kwok_is_told_of_a_log_by_another_change_while_it_keeps_an_older_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workloads, "_LOG_PATIENCE", (0.01, 0.01, 0.05))
    cluster = Cluster(told=True, changes=3)

    Workloads(cluster, Settings(tmp_path)).reconcile("default/looking")  # type: ignore[arg-type]

    assert len(cluster.applied) == 3
    assert cluster.patched


def test_a_pod_runs_on_while_nobody_could_read_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "_LOG_PATIENCE", (0.05, 0.05))
    cluster = Cluster(told=False)
    part = Workloads(cluster, Settings(tmp_path))  # type: ignore[arg-type]

    with pytest.raises(WaitTimeout, match="KWOK knows the log"):
        part.reconcile("default/looking")
    assert not cluster.patched

    cluster.told = True
    part.reconcile("default/looking")
    assert cluster.patched
