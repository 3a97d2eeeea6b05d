"""A report as metrics: how a run ended, and how each requirement did, for alerts and dashboards.

OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), and of its types only gauges, without times of
their own: so Prometheus' older text format is the same text, which Pushgateway and the textfile collector of the node
exporter ask for. Labels are what the catalogue and the clusters file name; no object of a cluster is one.
docs/reports.md has all names, which stay.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import product

import msgspec

from conformance.explaining import Stage, WaitingPods
from conformance.report.comparing.changes import Change, Turn
from conformance.report.model import EXIT_INCOMPLETE, SEVERITY, Decision, ProfileResult, Report, Upgrade, Verdict
from conformance.report.outcome import moment
from conformance.report.visible import visible
from conformance.verdict import Status

PREFIX = "gpu_conformance_"
# A name of a cluster is what somebody called it; a label is kept for years.
_LONGEST = 200

Labels = Mapping[str, str]


class Family(msgspec.Struct, frozen=True):
    """A metric with all its samples. A unit is the end of its name."""

    name: str
    help: str
    samples: tuple[tuple[Labels, float], ...]
    unit: str = ""


def render(report: Report) -> str:
    """The metrics, each with its samples."""
    return "".join(_family(each) for each in families(report) if each.samples) + "# EOF\n"


def families(report: Report) -> tuple[Family, ...]:
    """All metrics of a report. Every label has few values, however large the cluster is."""
    return (
        *_of_run(report),
        *_of_cluster(report),
        *_of_profiles(report),
        *_of_requirements(report),
        *_since_baseline(report),
    )


def verdict_of(report: Report) -> str:
    """How the run ended: one of VERDICTS."""
    if report.exit_code == EXIT_INCOMPLETE:
        return "incomplete"
    return "failed" if report.exit_code else "passed"


VERDICTS = ("passed", "failed", "incomplete")


def _of_run(report: Report) -> Iterable[Family]:
    run, cluster = report.run, {"cluster": report.cluster.name}
    ended = verdict_of(report)
    info = {
        **cluster,
        "mode": run.mode,
        "evidence": str(report.cluster.evidence),
        "reference": report.reference,
        "version": run.version,
        "server_version": report.cluster.server_version,
    }
    yield Family("run_info", "The last run: its mode, evidence, reference set-up and versions.", ((info, 1),))
    verdicts = tuple(({**cluster, "verdict": each}, float(each == ended)) for each in VERDICTS)
    yield Family("run_verdict", "1 for how the last run ended, 0 for the others.", verdicts)
    yield _one("run_exit_code", "The exit code: 0, 1 failed, 10 incomplete.", cluster, report.exit_code)
    if isinstance(report.upgrade, Upgrade):
        told = tuple(({**cluster, "decision": str(each)}, float(each is report.upgrade.decision)) for each in Decision)
        yield Family("upgrade_decision", "1 for what the last run said of the upgrade, 0 for the others.", told)
        yield from _of_capacity(report.upgrade, cluster)
    started, finished = moment(run.started), moment(run.finished)
    if started and finished:
        yield _one("run_started_timestamp_seconds", "When the run began.", cluster, started.timestamp(), "seconds")
        yield _one("run_finished_timestamp_seconds", "When the run ended.", cluster, finished.timestamp(), "seconds")
        took = (finished - started).total_seconds()
        yield _one("run_duration_seconds", "How long the run took.", cluster, took, "seconds")


def _of_capacity(upgrade: Upgrade, cluster: dict[str, str]) -> Iterable[Family]:
    """What becomes of pods with GPUs while nodes are away, where that was foretold."""
    capacity = upgrade.capacity
    if capacity is not None:
        fates = ("moves", "preempts", "waits", "lost", "unknown")
        told = tuple(({**cluster, "fate": each}, float(getattr(capacity, each))) for each in fates)
        yield Family("upgrade_pods", "GPU pods by what becomes of them while the nodes of an upgrade are away.", told)
        yield _one("upgrade_jobs_stopped", "Jobs that an upgrade starts over or fails.", cluster, len(capacity.stopped))


def _of_cluster(report: Report) -> Iterable[Family]:
    cluster = {"cluster": report.cluster.name}
    yield _one("nodes", "The nodes of the cluster.", cluster, report.cluster.nodes)
    yield _one("gpu_nodes", "The nodes that offer GPUs.", cluster, report.cluster.gpu_nodes)
    unreadable = len(report.cluster.unreadable)
    yield _one("unreadable_kinds", "The kinds of objects that could not be read.", cluster, unreadable)
    if isinstance(report.waiting_pods, WaitingPods):
        by_stage = Counter[str]()
        for group in report.waiting_pods.groups:
            by_stage[group.stage] += group.pods
        told = tuple(({**cluster, "stage": str(stage)}, float(by_stage[stage])) for stage in Stage)
        yield Family("waiting_pods", "GPU pods that wait or fail, by how far they came.", told)
    yield _one("causes", "The causes for which requirements wait.", cluster, len(report.causes))


def _of_profiles(report: Report) -> Iterable[Family]:
    results = tuple(
        ({"cluster": report.cluster.name, "profile": each.name, "result": str(result)}, float(each.result is result))
        for each in report.profiles
        for result in ProfileResult
    )
    yield Family("profile_result", "1 for the result of the profile, 0 for the others.", results)
    counted = Counter((each.profile, str(each.level), each.status) for each in report.requirements)
    kinds = sorted({(profile, level) for profile, level, _ in counted})
    counts = tuple(
        (
            {"cluster": report.cluster.name, "profile": profile, "level": level, "status": str(status)},
            counted[profile, level, status],
        )
        for (profile, level), status in product(kinds, SEVERITY)
    )
    yield Family("requirements", "The requirements of a profile and level that ended in a status.", counts)


def _of_requirements(report: Report) -> Iterable[Family]:
    def family(name: str, help: str, values: Iterable[float], unit: str = "") -> Family:
        return Family(name, help, tuple(zip(labels, values, strict=True)), unit)

    every = report.requirements
    labels = [_labels(report, each) for each in every]
    status = tuple(({**own, "status": str(each.status)}, 1.0) for own, each in zip(labels, every, strict=True))
    yield Family("requirement_status", "1 for the status in which the requirement ended.", status)
    failed = (float(each.status is Status.FAILED) for each in every)
    yield family("requirement_failed", "1 where the requirement failed, else 0.", failed)
    yield family("requirement_judged_subjects", "The subjects that were judged.", (each.judged for each in every))
    yield family("requirement_broken_subjects", "The subjects that are broken.", (each.broken for each in every))
    yield family("requirement_unseen_subjects", "The subjects not looked at.", (each.unseen for each in every))
    causes = (len(each.causes) for each in every)
    yield family("requirement_findings", "The groups of broken subjects, one for each cause.", causes)
    took = (each.duration for each in every)
    yield family("requirement_duration_seconds", "How long judging took.", took, "seconds")


def _since_baseline(report: Report) -> Iterable[Family]:
    """What the run differs in from its baseline; nothing where it has none."""
    since = report.baseline
    if since is None:
        return
    cluster = {"cluster": report.cluster.name}
    if began := moment(since.old[-1].started):
        name, help = "baseline_started_timestamp_seconds", "When the run began that is the baseline."
        yield _one(name, help, cluster, began.timestamp(), "seconds")
    findings = tuple(({**cluster, "change": str(change)}, float(since.count(change))) for change in Change)
    yield Family("baseline_findings", "The broken subjects by what became of them since the baseline.", findings)
    verdicts = tuple(({**cluster, "turn": str(turn)}, float(len(since.turned(turn)))) for turn in Turn)
    yield Family("baseline_requirements", "The requirements whose verdicts changed since the baseline.", verdicts)
    every = report.requirements
    new = tuple((_labels(report, each), float(sum(group.new or 0 for group in each.causes))) for each in every)
    yield Family("requirement_new_subjects", "The broken subjects that the baseline does not have.", new)


def _labels(report: Report, verdict: Verdict) -> Labels:
    return {
        "cluster": report.cluster.name,
        "requirement": verdict.requirement,
        "profile": verdict.profile,
        "level": str(verdict.level),
    }


def _one(name: str, help: str, labels: Labels, value: float, unit: str = "") -> Family:
    return Family(name, help, ((labels, value),), unit)


def _family(family: Family) -> str:
    name = PREFIX + family.name
    unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    head = f"# TYPE {name} gauge\n{unit}# HELP {name} {family.help}\n"
    return head + "".join(f"{name}{{{_written(labels)}}} {value:.15g}\n" for labels, value in family.samples)


def _written(labels: Labels) -> str:
    return ",".join(f'{name}="{_value(value)}"' for name, value in labels.items())


def _value(text: str) -> str:
    """A value of a label: backslash, quote and line feed are escaped, what cannot be seen is named."""
    short = visible(text)[:_LONGEST].replace("\t", " ")
    return short.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
