"""What keeps a pod from running on its node: the kubelet refused it, images, the runtime, crashes."""

from collections.abc import Iterator
from typing import Any

import msgspec

from conformance.explaining import signs
from conformance.explaining.known_signs import Where
from conformance.gpu.placement import Manifest

# kubernetes/pkg/kubelet/lifecycle/predicate.go and pkg/kubelet/kubelet.go: why a kubelet refuses what is bound to it.
_REFUSALS = (
    "UnexpectedAdmissionError",
    "TopologyAffinityError",
    "NodeAffinity",
    "TaintToleration",
    "NodeShutdown",
    "PodOSNotSupported",
    "InPlacePodVerticalScaling",
)
_NO_ROOM = "OutOf"
_PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_SIGKILL, _SIGTERM = 137, 143
_WHERE_IT_SAYS_WHY, _XIDS = "Its log says why.", " XIDs are in the node's kernel log and in DCGM's metrics."
# NVIDIA/gpu-operator labels the pods of its operands so.
_MANAGED_BY, _OPERATOR = "app.kubernetes.io/managed-by", "gpu-operator"


class ContainerProblem(msgspec.Struct, frozen=True):
    """What is wrong with a container. ``ran`` where its program has run, or was to and could not.

    ``killed`` where a signal ended it that kubelets send; ``where`` says in whose words the cause is.
    """

    cause: str
    remedy: str
    inspect: str = ""
    ran: bool = False
    killed: bool = False
    where: Where = Where.PROGRAM


def is_refusal(reason: str) -> bool:
    """Whether a failed pod's reason says that a kubelet refused it."""
    return reason in _REFUSALS or reason.startswith(_NO_ROOM)


def refusal(pod: Manifest) -> tuple[str, str]:
    """Why a kubelet refused a pod, and what to do."""
    node, status = pod["spec"].get("nodeName"), pod["status"]
    reason, words = status["reason"], status.get("message") or "it says no more"
    cause = f"the kubelet of node {node} refused it ({reason}): {words}"
    sign = signs.read(words, Where.START)
    if sign is not None:
        return f"{cause}: {sign.means}", sign.remedy
    if reason == "UnexpectedAdmissionError":
        return cause, (
            "The device plugin could not give what the scheduler had counted: devices turned unhealthy, or the plugin "
            f"was restarting. Compare capacity and allocatable of node {node}, and read its device plugin's log; where "
            "the node offers enough that no pod holds, its kubelet counts devices of pods that are gone: restart the "
            "kubelet. The pod stays as it is; its owner makes another one."
        )
    if reason == "TopologyAffinityError":
        return cause, (
            "The kubelet wants its CPUs and devices on one NUMA node (topologyManagerPolicy), and the scheduler does "
            "not know of NUMA. Ask for amounts that fit one, or use pools for each number of GPUs."
        )
    return cause, f"The pod stays as it is; its owner makes another one. See what the message names on node {node}."


def problem_of(pod: Manifest) -> ContainerProblem | None:
    """What is wrong with the first container that is in trouble, None where none is."""
    found = next((found for each in _statuses(pod) if (found := _waiting(pod, each) or _ended(pod, each))), None)
    sign = signs.read(found.cause, found.where) if found is not None else None
    if found is None or sign is None:
        return found
    return msgspec.structs.replace(found, cause=f"{found.cause}: {sign.means}", remedy=sign.remedy)


def initialising(pod: Manifest) -> str:
    """The init container that the others wait for, empty where there is none; sidecars run on beside the others."""
    stated, status = pod["spec"].get("initContainers") or (), pod.get("status") or {}
    sidecars = {each["name"] for each in stated if each.get("restartPolicy") == "Always"}
    begun = ("running", "waiting") if status.get("phase") == "Running" else ("running",)
    for each in status.get("initContainerStatuses") or ():
        if each["name"] not in sidecars and any((each.get("state") or {}).get(state) for state in begun):
            return str(each["name"])
    return ""


def _statuses(pod: Manifest) -> Iterator[dict[str, Any]]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _is_init(pod: Manifest, status: Manifest) -> bool:
    return any(each.get("name") == status["name"] for each in pod["spec"].get("initContainers") or ())


def _image(pod: Manifest, status: Manifest) -> str:
    every = [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
    named = next((each.get("image") for each in every if each.get("name") == status["name"]), None)
    return str(named or status.get("image") or "")


def _waiting(pod: Manifest, status: Manifest) -> ContainerProblem | None:
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason, told = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    what, words = f"container {status['name']}", f": {told}" if told else ""
    if reason in _PULLING:
        what = f"init {what}" if _is_init(pod, status) else what
        return ContainerProblem(
            f"{what} waits for its image {_image(pod, status)} ({reason}){words}",
            "See that the image and its tag exist, that the node reaches the registry, and that the pull secret that "
            "the pod names is in its namespace.",
            where=Where.PULL,
        )
    if reason == "CreateContainerConfigError":
        return ContainerProblem(
            f"{what} cannot be configured{words}",
            "A Secret, ConfigMap or key that it names is missing.",
            where=Where.START,
        )
    if reason in ("CreateContainerError", "RunContainerError", "CreatePodSandboxError"):
        return ContainerProblem(
            f"{what} cannot be started by the runtime ({reason}){words}", _RUNTIME, where=Where.START
        )
    if reason == "CrashLoopBackOff":
        last = (status.get("lastState") or {}).get("terminated") or {}
        return _crash(pod, status, last, again=True)
    return None


_RUNTIME = (
    "With GPUs this is usually a RuntimeClass whose handler the node's containerd does not have, a CDI device that is "
    "not in its specification, or a toolkit that finds no driver. The pod's events have the runtime's words."
)


def _ended(pod: Manifest, status: Manifest) -> ContainerProblem | None:
    ended = (status.get("state") or {}).get("terminated") or {}
    return _crash(pod, status, ended, again=False) if ended.get("exitCode") else None


def _crash(pod: Manifest, status: Manifest, ended: Manifest, *, again: bool) -> ContainerProblem:
    name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace")
    logs = f"kubectl logs {name} -n {namespace} -c {status['name']}{' --previous' if again else ''}"
    reason, code, restarts = str(ended.get("reason") or ""), ended.get("exitCode"), int(status.get("restartCount") or 0)
    often = f", restarted {restarts} times" if restarts else ""
    said = f": {ended['message'].strip()}" if ended.get("message") else ""
    kind = "init container" if _is_init(pod, status) else "container"
    cause = f"{kind} {status['name']} ended with exit code {code} ({reason or 'no reason'}{often}){said}"
    if reason == "OOMKilled":
        cause = f"container {status['name']} used more memory than its limit and was killed (OOMKilled{often})"
        return ContainerProblem(
            cause, "Raise its memory limit, or let it use less. It is the node's memory, not the GPU's.", logs, True
        )
    if reason in ("StartError", "ContainerCannotRun"):
        words = f": {ended['message']}" if ended.get("message") else ""
        return ContainerProblem(
            f"container {status['name']} could not be started ({reason}){words}",
            _RUNTIME,
            logs,
            True,
            where=Where.START,
        )
    if code in (_SIGKILL, _SIGTERM):
        signal = "SIGKILL" if code == _SIGKILL else "SIGTERM"
        remedy = "A probe, an eviction or the node ended it; the pod's events say which."
        if code == _SIGKILL:
            # containerd can miss the kernel's event: then the reason is Error instead of OOMKilled.
            remedy += " Where none does, it may have been out of memory: the kernel log of the node says so."
        return ContainerProblem(f"{cause}: {signal}", remedy, logs, ran=True, killed=True)
    return ContainerProblem(cause, _WHERE_IT_SAYS_WHY + ("" if _computes_nothing(pod, status) else _XIDS), logs, True)


def _computes_nothing(pod: Manifest, status: Manifest) -> bool:
    """Whether a container runs nothing on a GPU that could fail there: an init container, or an operand's."""
    labels = pod["metadata"].get("labels") or {}
    return _is_init(pod, status) or labels.get(_MANAGED_BY) == _OPERATOR
