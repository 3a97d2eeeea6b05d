"""What CNCF's Kubernetes AI Conformance requires, by version of Kubernetes, and what our suites show of it.

Ids, sections and levels are those of the programme:
https://github.com/kubernetes-sigs/ai-conformance/tree/main/conformance-versions
"""

from collections.abc import Mapping

import msgspec

MUST, SHOULD = "MUST", "SHOULD"
VERSIONS = ("1.34", "1.35", "1.36", "1.37")


class Proof(msgspec.Struct, frozen=True):
    """What of a requirement of the programme ours show.

    Each member of ``ways`` is one way to meet it: all of its requirements together show it, on every node that they
    judge. ``not_shown`` says what remains for others to show; empty where nothing does.
    """

    ways: tuple[tuple[str, ...], ...]
    not_shown: str = ""


class Entry(msgspec.Struct, frozen=True):
    """A requirement of the programme: its level by version; it is absent from the versions that do not have it."""

    id: str
    section: str
    levels: Mapping[str, str]
    proof: Proof | None = None


def of_version(version: str) -> tuple[tuple[Entry, str], ...]:
    """The requirements of a version such as 1.36, each with its level there."""
    return tuple((entry, entry.levels[version]) for entry in ENTRIES if version in entry.levels)


def _since(first: str, level: str) -> dict[str, str]:
    return dict.fromkeys(VERSIONS[VERSIONS.index(first) :], level)


_ALWAYS = _since("1.34", MUST)

ENTRIES = (
    Entry(
        "dra_support", "accelerators", {"1.34": MUST, "1.35": MUST},
        Proof((("DRA-01", "DRA-03", "DRA-12", "DRA-14"),)),
    ),
    Entry(
        "driver_runtime_management", "accelerators", _since("1.35", SHOULD),
        Proof((("OPER-15", "WORK-02", "WORK-03"),), "that an upgrade replaces drivers and runtime configuration"),
    ),
    Entry(
        "gpu_sharing", "accelerators", _since("1.35", SHOULD),
        Proof((("TS-04", "TS-07"), ("MPS-06", "MPS-08"), ("MIG-06", "MIG-10"))),
    ),
    Entry("virtualized_accelerator", "accelerators", _since("1.35", SHOULD)),
    Entry("ai_inference", "networking", _ALWAYS),
    Entry("advanced_inference_ingress", "networking", _since("1.36", SHOULD)),
    Entry("high_performance_networking", "networking", _since("1.36", SHOULD)),
    Entry("disaggregated_inference", "networking", _since("1.36", SHOULD)),
    Entry("gang_scheduling", "schedulingOrchestration", _ALWAYS),
    Entry("cluster_autoscaling", "schedulingOrchestration", _ALWAYS),
    Entry("pod_autoscaling", "schedulingOrchestration", _ALWAYS),
    Entry(
        "accelerator_metrics", "observability", _ALWAYS,
        Proof((("OBS-01", "OBS-02", "OBS-03"),), "that utilisation changes under load"),
    ),
    Entry("ai_service_metrics", "observability", _ALWAYS),
    Entry(
        "secure_accelerator_access", "security", _ALWAYS,
        Proof((("WORK-01", "ISO-01", "ISO-04", "ISO-05"),)),
    ),
    Entry("workload_sandboxing", "security", {"1.37": SHOULD}),
    Entry("robust_controller", "operator", _ALWAYS),
)  # fmt: skip
