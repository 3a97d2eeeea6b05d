"""Why a pod is not Ready, by its containers' states, and what to look at: an image that cannot be pulled has no log."""

import re

from conformance.facts import Container, ContainerStatus, Facts, Pod
from conformance.gpu.resources import is_gpu_resource
from suites._shared.formatting import join_limited

DRIVER_MANAGER = "k8s-driver-manager"
"""The init container of a driver's pod that takes GPU pods and operands off the node and unloads the driver."""

OUT_OF_MEMORY = "OOMKilled"
"""Why a container ended that its memory limit killed."""

_IMAGE = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull")
_NEVER_STARTED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
STUCK = ("CrashLoopBackOff", *_IMAGE, *_NEVER_STARTED)
"""Waiting reasons of a container that do not end by themselves."""

# Systems by the id in /etc/os-release, which ends the tag of a driver image. Sources: NVIDIA/gpu-operator issue 1623
# and docs.nvidia.com: NVIDIA GPU Operator with Google GKE (cos); aws-samples/comfyui-on-eks issue 26 and
# docs.aws.amazon.com: EKS, AL2023 and Bottlerocket NVIDIA AMIs (amzn, bottlerocket); siderolabs/talos issue 8402.
_WITHOUT_IMAGES = {
    "cos": "Container-Optimized OS",
    "amzn": "Amazon Linux",
    "bottlerocket": "Bottlerocket",
    "talos": "Talos Linux",
}
_NO_IMAGES = re.compile(rf"/driver:[^/@]*-(?P<system>{'|'.join(_WITHOUT_IMAGES)})v?[\d.]*$")


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
    if OUT_OF_MEMORY in (broken.terminated, broken.last_terminated) and (broken.waiting in STUCK or ending):
        return (
            f"It used more memory than resources.limits.memory of container {broken.name} and was killed: raise that "
            f"limit where the pod is configured, or find out why it needs more: kubectl top pod -n {pod.namespace} "
            f"{pod.name} --containers"
        )
    if broken.waiting in STUCK or ending:
        log = f"kubectl logs -n {pod.namespace} {pod.name} -c {broken.name} --previous"
        return f"{log}{_who_keeps_the_driver(pod, facts)}" if broken.name == DRIVER_MANAGER else log
    if not any(each.running_since or each.exit_code is not None for each in pod.statuses):
        return f"No container of it has started, so read its events: kubectl describe pod -n {pod.namespace} {pod.name}"
    return f"kubectl logs -n {pod.namespace} {pod.name} --all-containers --prefix"


def _who_keeps_the_driver(pod: Pod, facts: Facts) -> str:
    """The pods for which the driver manager before a driver cannot unload the one that was there, as text."""
    users = [
        str(each)
        for each in facts.pods_on(pod.node)
        if not each.finished and any(is_gpu_resource(name) for name in each.requests())
    ]
    if not users:
        return ""
    return (
        f". Where it says that the driver is in use: these use GPUs of {pod.node}: {join_limited(users)}. They have to "
        "end first, when their owners are ready for it."
    )


def _about_the_image(pod: Pod, image: str, facts: Facts) -> str:
    node = facts.node(pod.node) if pod.node else None
    # NVIDIA GPU Operator: Precompiled Driver Containers: one image for each kernel that NVIDIA builds for.
    if node is not None and node.kernel and node.kernel in image:
        return (
            f"{image} is a driver that was built for kernel {node.kernel} of {node}: if the registry has none for that "
            "kernel, keep the node on a kernel that it has one for, or turn usePrecompiled off."
        )
    if found := _NO_IMAGES.search(image):
        return (
            f"NVIDIA publishes no driver images for {_WITHOUT_IMAGES[found['system']]}: set driver.enabled to false, "
            "and let the node image, or the platform's own installer, bring the driver."
        )
    return f"Look whether the registry has {image}, and whether the node reaches it with the pull secret of the pod."


def _is_done(status: ContainerStatus) -> bool:
    return status.init and status.exit_code == 0
