"""What a request for GPUs is, in one place: declared resources, NVIDIA's names, device claims, KAI's annotations.

Every requirement that tells GPU pods from others asks here. A request for GPUs takes one of four forms: a container
names a resource by which the set-up's pools offer their devices (whoever makes them: ``amd.com/gpu``,
``google.com/tpu``, ``aws.amazon.com/neuron``, ``volcano.sh/vgpu-number``, ``aliyun.com/gpu-mem``, a passthrough
device); or one of NVIDIA's device plugin; the pod claims devices (DRA); or its annotations ask KAI for part of a GPU,
which a reservation pod then holds on its behalf.
"""

from collections.abc import Iterable, Mapping

from conformance.facts import Pod
from conformance.facts.podspec import PodSpec
from conformance.gpu.labels import KAI_FRACTION, KAI_MEMORY
from conformance.gpu.resources import is_gpu_resource
from conformance.reference.expected import gpu_resources
from conformance.reference.model import Reference

KAI_RESERVATION_NAMESPACE = "kai-resource-reservation"
"""Where KAI keeps the pods that hold a whole GPU for those that asked for parts of it (its value in the chart)."""


def names_gpus(resource: str, reference: Reference) -> bool:
    """Whether a resource of this name is GPUs: declared for a pool, or one of NVIDIA's."""
    return is_gpu_resource(resource) or resource in gpu_resources(reference)


def resources_requested(spec: PodSpec, reference: Reference) -> dict[str, int]:
    """The devices that the scheduler reserves for a pod as counted resources, by name; counts of 0 left out."""
    return spec.gpu_requests(gpu_resources(reference))


def fraction_by_annotation(annotations: Mapping[str, str]) -> str:
    """The part of a GPU for which annotations ask KAI, as ``gpu-fraction=0.5``; empty for none."""
    return next((f"{key}={annotations[key]}" for key in (KAI_FRACTION, KAI_MEMORY) if annotations.get(key)), "")


def requests_gpus(spec: PodSpec, reference: Reference) -> bool:
    """Whether a pod, or the pods of a template, ask for GPUs in any of the four forms."""
    return bool(resources_requested(spec, reference) or spec.claims or fraction_by_annotation(spec.annotations))


def holds_for_others(pod: Pod) -> bool:
    """Whether a pod holds a GPU on behalf of others, which are the ones that asked for it."""
    return pod.namespace == KAI_RESERVATION_NAMESPACE


def gpu_pods(pods: Iterable[Pod], reference: Reference) -> tuple[Pod, ...]:
    """The pods that ask for GPUs themselves, finished ones included."""
    return tuple(pod for pod in pods if requests_gpus(pod, reference) and not holds_for_others(pod))
