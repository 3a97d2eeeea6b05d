"""Why a pod that has a node does not run there, and why one that ends is still there."""

from typing import Any

from conformance.explaining import containers, operand_waits, signs
from conformance.explaining.explanation import Explanation, Stage
from conformance.explaining.known_signs import Where
from conformance.explaining.seen import Seen, condition, has_condition
from conformance.gpu.node_health import broken_conditions
from conformance.gpu.placement import Manifest, requests_of

# Warnings of kubelets and controllers that name what a pod waits for (kubernetes/pkg/kubelet/events/event.go).
_HOLDS = (
    "FailedCreatePodSandBox", "FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedPrepareDynamicResources",
    "FailedKillPod", "NetworkNotReady", "Failed", "BackOff", "ErrImageNeverPull", "InspectFailed", "FailedSync",
)  # fmt: skip
# kubernetes/pkg/kubelet/kubelet_pods.go, getPullSecretsForPod.
_PULLS_WITHOUT = "FailedToRetrieveImagePullSecret"
_MOST_CONDITIONS = 3
_PROBE = "A probe that asks before a model is loaded needs a startupProbe; see that port, path and timeout are right."


def on_node(seen: Seen, pod: Manifest) -> Explanation:
    """Explain a pod that is bound to a node and has not ended."""
    problem = containers.problem_of(pod)
    if problem is not None:
        return container_failure(seen, pod, problem)
    name, phase = str(pod["spec"]["nodeName"]), (pod.get("status") or {}).get("phase")
    lost = _lost(seen, name)
    if phase == "Running" and has_condition(pod, "Ready") and not lost:
        return _told(Stage.RUNNING, "it runs and is ready")
    if lost:
        stage = Stage.RUNNING if phase == "Running" else Stage.STARTING
        return _told(stage, lost, f"See what is wrong with node {name}; until its kubelet is back nobody knows more.")
    if phase == "Running" and not containers.initialising(pod):
        return _told(Stage.RUNNING, f"it runs and is not ready: {_not_ready(seen, pod)}", _PROBE)
    return _starting(seen, pod, name)


def _not_ready(seen: Seen, pod: Manifest) -> str:
    """The readiness gate that does not hold, or what a probe got."""
    gates = [str(each.get("conditionType")) for each in pod["spec"].get("readinessGates") or ()]
    closed = [each for each in gates if not has_condition(pod, each)]
    if closed:
        return f"its readiness gate {', '.join(closed)} is not true, which a controller has to set"
    return _of_probe(seen, pod) or "a readiness probe does not hold"


def _of_probe(seen: Seen, pod: Manifest) -> str:
    """What the kubelet said last of a probe of the pod; empty where it said nothing."""
    told = (str(each.get("message")) for each in seen.warnings_of(pod) if each.get("reason") == "Unhealthy")
    return next(told, "").strip()


def deleting(seen: Seen, pod: Manifest) -> Explanation | None:
    """Explain a pod that is being deleted, None for others."""
    if not pod["metadata"].get("deletionTimestamp"):
        return None
    kept, node = ", ".join(pod["metadata"].get("finalizers") or ()), str(pod["spec"].get("nodeName") or "")
    lost = _lost(seen, node) if node else ""
    by = _evicted_by(pod)
    if lost and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
        return _told(
            Stage.DELETING,
            f"it is being deleted{by}, and nobody reports that its containers have ended: {lost}",
            "Bring the node back, or remove its Node object once the machine is off for sure: only then is it safe "
            "that nothing of the pod runs on.",
        )
    if kept:
        return _told(
            Stage.DELETING,
            f"it is being deleted{by} and waits for the finalizer {kept}",
            "A finalizer is removed by whoever set it: see whether that controller still runs.",
        )
    remedy = "Wait for its grace period."
    if any("gpu" in resource for resource in requests_of(pod)):
        remedy += (
            " A process that hangs on a broken GPU cannot be killed: then cordon and reboot the node; deleting by "
        )
        remedy += "force only hides that the GPU is not free."
    return _told(
        Stage.DELETING,
        f"it is being deleted{by} and waits for its containers to end, which its kubelet reports",
        remedy,
    )


def _told(stage: Stage, cause: str, remedy: str = "", inspect: str = "") -> Explanation:
    return Explanation(subject="", stage=stage, cause=cause, remedy=remedy, inspect=inspect)


def container_failure(seen: Seen, pod: Manifest, problem: containers.ContainerProblem) -> Explanation:
    """Explain a pod whose container is in trouble, with what its node says of its GPUs."""
    ended = (pod.get("status") or {}).get("phase") == "Failed"
    stage = Stage.CRASHED if problem.ran or ended else Stage.STARTING
    cause, remedy = problem.cause, problem.remedy
    broken = _gpu_failures(seen, pod) if problem.ran else ""
    if broken:
        cause = f"{cause}; {broken}"
        remedy = (
            "Look at the node's GPUs first: NVIDIA's catalogue of XIDs says which errors are of the program itself."
        )
    elif problem.where is Where.PULL and (lacking := _missing_pull_secret(seen, pod)):
        cause, remedy = f"{cause}; {lacking}", "Make the Secret in the pod's namespace, or name one that there is."
    elif not problem.ran:
        cause += _last_words(seen, pod, cause)
    elif problem.killed and (words := _of_probe(seen, pod)):
        cause, remedy = f"{cause}; the kubelet had said: {words}", f"The kubelet ended it for its probe. {_PROBE}"
    return _told(stage, cause, remedy, problem.inspect)


def _gpu_failures(seen: Seen, pod: Manifest) -> str:
    """What conditions and warnings of a GPU pod's node say of broken GPUs; empty where nothing does."""
    name = str(pod["spec"].get("nodeName") or "")
    node = seen.nodes.get(name)
    asks = pod["spec"].get("resourceClaims") or any("/" in resource for resource in requests_of(pod))
    if node is None or not asks:
        return ""
    stated = {each.get("type", ""): each for each in (node.get("status") or {}).get("conditions") or ()}
    broken = broken_conditions({kind: str(each.get("status")) for kind, each in stated.items()})
    if broken:
        words = stated[broken[0].partition("=")[0]].get("message") or "no message"
        return f"node {name} reports broken GPUs: {', '.join(broken[:_MOST_CONDITIONS])} ({words})"
    told = (str(each.get("message")) for each in seen.warnings_of(node, pod))
    signed = ((words, signs.read(words, Where.PROGRAM)) for words in told)
    return next((f"node {name} reports: {words}" for words, sign in signed if sign and sign.hardware), "")


def _lost(seen: Seen, name: str) -> str:
    """Why a node does not answer, empty where it does, or nodes are not known."""
    node = seen.nodes.get(name)
    if node is None:
        return f"its node {name} is gone" if seen.nodes else ""
    ready = condition(node, "Ready")
    if ready.get("status") in (None, "True"):
        return ""
    return f"node {name} is not ready ({ready.get('message') or ready.get('reason') or 'it does not say why'})"


def _starting(seen: Seen, pod: Manifest, node: str) -> Explanation:
    words = _held_by(seen, pod)
    if words:
        sign = signs.read(words, Where.START)
        means = f": {sign.means}" if sign is not None else ""
        remedy = sign.remedy if sign is not None else "The message names what its kubelet waits for."
        return _told(Stage.STARTING, f"it is bound to node {node}, whose kubelet reports: {words}{means}", remedy)
    running = containers.initialising(pod)
    if running:
        return _initialising(seen, pod, node, running)
    lacking = _missing_runtime_class(seen, pod)
    if lacking:
        return _told(Stage.STARTING, lacking, "Make the RuntimeClass, or name one that there is.")
    return _told(
        Stage.STARTING,
        f"it is bound to node {node}, whose kubelet has started none of its containers yet",
        "The pod's events say what its kubelet waits for (image, volume, claim).",
    )


def _initialising(seen: Seen, pod: Manifest, node: str, running: str) -> Explanation:
    name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace")
    logs = f"kubectl logs {name} -n {namespace} -c {running}"
    work = operand_waits.work_before(running)
    if work is None:
        cause = f"its init container {running} has not ended, and the others start after it"
        upgrade = operand_waits.upgrade_by(seen, node, running)
        if upgrade[0]:
            return _told(Stage.STARTING, f"{cause}: {upgrade[0]}", upgrade[1], logs)
        return _told(Stage.STARTING, cause, "Its log says for what it waits.", logs)
    waits = f"its init container {running} waits for {work.words} of node {node}"
    worker = operand_waits.worker_on(seen, node, work)
    if worker is None:
        why, remedy = operand_waits.nobody_works(seen, node, work)
        return _told(Stage.STARTING, f"{waits}: {why}", remedy, logs)
    other = f"{worker['metadata'].get('namespace')}/{worker['metadata']['name']}"
    found = deleting(seen, worker) or on_node(seen, worker)
    if found.stage is Stage.RUNNING and has_condition(worker, "Ready"):
        return _told(
            Stage.STARTING,
            f"{waits}, whose pod {other} is ready: so what the init container tries fails",
            "Its log says what it has tried, and how that ended.",
            logs,
        )
    return _told(Stage.STARTING, f"{waits}, and of pod {other} there: {found.cause}", found.remedy, found.inspect)


def why_nothing_is_offered(seen: Seen, node: str) -> tuple[str, str]:
    """What the pod of the device plugin on a node says of its offering no GPU, and what to do where that is known."""
    plugin = operand_waits.device_plugin_on(seen, node)
    if installer := operand_waits.driver_installer_on(seen, node):
        found = deleting(seen, installer) or on_node(seen, installer)
        name = f"{installer['metadata'].get('namespace')}/{installer['metadata']['name']}"
        return f"on node {node} pod {name} has not installed the driver: {found.cause}", found.remedy
    if plugin is None:
        return f"on node {node} is no pod of NVIDIA's device plugin", ""
    name = f"{plugin['metadata'].get('namespace')}/{plugin['metadata']['name']}"
    found = deleting(seen, plugin) or on_node(seen, plugin)
    if found.stage is Stage.RUNNING and has_condition(plugin, "Ready"):
        if missing := operand_waits.runtime_class_missing(seen, plugin):
            return (
                f"on node {node} its pod {name} is ready and offers none; it has no runtimeClassName, and there is "
                f"RuntimeClass {missing}: where that is not the default runtime, it gets neither driver nor devices",
                f"Where its log says that NVML or a library of the driver was not found, set runtimeClassName: "
                f"{missing} in its pod template: kubectl logs {plugin['metadata']['name']} "
                f"-n {plugin['metadata'].get('namespace')}.",
            )
        return (
            f"on node {node} its pod {name} is ready, and offers none",
            f"Its log says which devices it found and why it offers none: kubectl logs {plugin['metadata']['name']} "
            f"-n {plugin['metadata'].get('namespace')}.",
        )
    return f"on node {node} its pod {name} does not run: {found.cause}", found.remedy


def _held_by(seen: Seen, pod: Manifest) -> str:
    told = (each for each in seen.warnings_of(pod) if each.get("reason") in _HOLDS)
    return next((f"{each['reason']}: {each.get('message')}" for each in told), "")


def _missing_pull_secret(seen: Seen, pod: Manifest) -> str:
    """What the kubelet said of Secrets for pulling that it does not find; empty where it said nothing."""
    told = (str(each.get("message")) for each in seen.warnings_of(pod) if each.get("reason") == _PULLS_WITHOUT)
    words = next(told, "")
    return f"its kubelet says before that: {words}" if words else ""


def _last_words(seen: Seen, pod: Manifest, cause: str) -> str:
    """The newest warning that says more than the container's status does."""
    words = _held_by(seen, pod)
    return f" ({words})" if words and words.partition(": ")[2] not in cause and "Back-off" not in words else ""


def _missing_runtime_class(seen: Seen, pod: Manifest) -> str:
    name = str(pod["spec"].get("runtimeClassName") or "")
    if not name or "RuntimeClass" not in seen.objects or seen.find("RuntimeClass", "", name) is not None:
        return ""
    return f"it names the RuntimeClass {name}, there is none"


def _evicted_by(pod: Manifest) -> str:
    """Who wanted it gone (KEP-3329, condition DisruptionTarget)."""
    found: Any = condition(pod, "DisruptionTarget")
    return f" ({found.get('reason')}: {found.get('message')})" if found.get("status") == "True" else ""
