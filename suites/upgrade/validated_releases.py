"""The GPU Operator that is installed, and the releases of Kubernetes that an operator was validated with."""

from conformance.facts import Facts
from conformance.gpu.kubernetes_releases import release_in
from conformance.gpu.operator_releases import Minor, OperatorRelease, written
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge
from suites._shared.operand_versions import Version, operator_version


def installed_operator(facts: Facts) -> Version | None:
    """The version of the operator; None where no image tag or label tells it.

    The validator has the operator's image, too, and is upgraded after it.
    """
    return operator_version(tuple(each for each in facts.workloads if each.kind == "Deployment"))


def running_kubernetes(facts: Facts) -> tuple[Minor, bool]:
    """The release of the API server, and whether it is told; else that of the newest kubelet, which is never newer.

    Raises Inconclusive where neither tells a version.
    """
    told = release_in(facts.server_version)
    if told is not None:
        return told, True
    kubelets = [release for node in facts.nodes if (release := release_in(node.kubelet)) is not None]
    if not kubelets:
        raise Inconclusive("neither the API server nor a kubelet tells its version")
    return max(kubelets), False


def judge_kubernetes(subject: ObjectReference, operator: OperatorRelease, running: Minor, judge: Judge) -> None:
    """Judge whether a release of the operator was validated with a release of Kubernetes."""
    first, last = operator.kubernetes
    judge(
        subject,
        ok=first <= running <= last,
        expected=f"Kubernetes {written(first)} to {written(last)}, with which operator {operator} was validated",
        actual=f"Kubernetes {written(running)}",
        cause=f"operator {operator} was validated with Kubernetes {written(first)} to {written(last)}",
        hidden_because="it is installed on any Kubernetes; what it was never tried with fails later",
        inspect="kubectl version",
    )
