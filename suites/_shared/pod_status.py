"""Why a pod is not Ready, by its containers' states, and what to look at: an image that cannot be pulled has no log."""

from conformance.facts import Container, ContainerStatus, Facts, Pod

_IMAGE = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull")
_NEVER_STARTED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
STUCK = ("CrashLoopBackOff", *_IMAGE, *_NEVER_STARTED)
"""Waiting reasons of a container that do not end by themselves."""


def why_not_ready(pod: Pod) -> str:
    """The container that keeps a pod from being Ready, and its state, as text."""
    broken = holding_up(pod)
    if broken is None:
        return f"phase {pod.phase or 'unknown'}" + (f", {pod.reason}" if pod.reason else "")
    kind = "init container" if broken.init else "container"
    state = broken.waiting or broken.terminated or ("running, not ready" if broken.running_since else "not started")
    image = f" of {image_of(pod, broken)}" if broken.waiting in _IMAGE else ""
    ended = f", last ended with {broken.last_terminated}" if broken.last_terminated else ""
    code = f" (exit code {broken.last_exit_code})" if broken.last_terminated and broken.last_exit_code else ""
    return f"{kind} {broken.name}: {state}{image}{ended}{code}"


def holding_up(pod: Pod) -> ContainerStatus | None:
    """The container that keeps a pod from being Ready; None where no container's state tells."""
    stuck = next((each for each in pod.statuses if each.waiting in STUCK), None)
    return stuck or next((each for each in pod.statuses if not each.ready and not _is_done(each)), None)


def image_of(pod: Pod, status: ContainerStatus) -> str:
    """The image of a container as the pod asks for it."""
    containers: tuple[Container, ...] = (*pod.init_containers, *pod.containers)
    return next((each.image for each in containers if each.name == status.name), "") or "an unknown image"


def what_to_do(pod: Pod, facts: Facts, *, ending: ContainerStatus | None = None) -> str:
    """What to look at, or to change, so that a pod becomes Ready; ``ending`` is a container that ends repeatedly."""
    broken = ending or holding_up(pod)
    if broken is not None and broken.waiting in _IMAGE:
        return _about_the_image(pod, image_of(pod, broken), facts)
    if broken is None or broken.waiting in _NEVER_STARTED:
        return f"Read why it cannot be started: kubectl describe pod -n {pod.namespace} {pod.name}"
    if broken.waiting in STUCK or ending:
        return f"kubectl logs -n {pod.namespace} {pod.name} -c {broken.name} --previous"
    return f"kubectl logs -n {pod.namespace} {pod.name} --all-containers --prefix"


def _about_the_image(pod: Pod, image: str, facts: Facts) -> str:
    node = facts.node(pod.node) if pod.node else None
    # NVIDIA GPU Operator: Precompiled Driver Containers: one image for each kernel that NVIDIA builds for.
    if node is not None and node.kernel and node.kernel in image:
        return (
            f"{image} is a driver that was built for kernel {node.kernel} of {node}: if the registry has none for that "
            "kernel, keep the node on a kernel that it has one for, or turn usePrecompiled off."
        )
    return f"Look whether the registry has {image}, and whether the node reaches it with the pull secret of the pod."


def _is_done(status: ContainerStatus) -> bool:
    return status.init and status.exit_code == 0
