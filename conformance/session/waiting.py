"""Why the GPU pods of the judged cluster wait or fail: what a run with --gpu-explain-pods adds to its report."""

from contextlib import nullcontext

import msgspec

from conformance.explaining import WaitingPods, waiting_pods
from conformance.facts import snapshot
from conformance.facts.snapshot import SnapshotError
from conformance.kube.errors import KubeError
from conformance.reference.expected import gpu_resources
from conformance.report.model import Report
from conformance.session.explaining_pods import held_in, read_everything, understood
from conformance.session.garbage import kept_from_the_collector
from conformance.session.of_cluster import OfCluster


def with_waiting_pods(report: Report, run: OfCluster) -> Report:
    """The report with the pods that wait or fail; where they cannot be read a note says why there are none."""
    try:
        found = _found(run)
    except SnapshotError as error:
        return _without(report, str(error))
    except KubeError as error:
        return _without(report, f"the cluster could not be read: {error}")
    except Exception as error:  # the verdicts of a run are worth more than what is told beside them
        return _without(
            report, f"of an error in gpu-conformance itself, {type(error).__name__}: {error}; please report it"
        )
    return msgspec.structs.replace(report, waiting_pods=found)


def _without(report: Report, why: str) -> Report:
    return msgspec.structs.replace(report, notes=(*report.notes, f"why pods wait was not explained, because {why}"))


def _found(run: OfCluster) -> WaitingPods:
    now = run.facts.taken_at
    with kept_from_the_collector():
        if run.cluster.snapshot is not None:
            seen = held_in(snapshot.open_file(run.cluster.snapshot))
        else:
            now = run.client.server_time()
            seen = read_everything(run.client)
        with understood(seen, run.cluster.snapshot) if run.cluster.snapshot is not None else nullcontext():
            return waiting_pods(seen, gpu_resources(run.reference), now)
