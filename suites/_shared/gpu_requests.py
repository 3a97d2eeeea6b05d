"""What a request for GPUs is, in one place: declared resources, NVIDIA's names, device claims, KAI's annotations.

Every requirement that tells GPU pods from others asks here. A request for GPUs takes one of four forms: a container
names a resource by which the set-up's pools offer their devices (whoever makes them: ``amd.com/gpu``,
``google.com/tpu``, ``aws.amazon.com/neuron``, ``volcano.sh/vgpu-number``, ``aliyun.com/gpu-mem``, a passthrough
device); or one of NVIDIA's device plugin; the pod claims devices (DRA), unless all of them are known to be something
else, such as network interfaces, or names the extended resource of a device class of accelerators; or its annotations
ask KAI for part of a GPU, which a reservation pod then holds on its behalf.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from conformance.facts import Facts, Pod
from conformance.facts.podspec import PodSpec
from conformance.gpu.labels import KAI_FRACTION, KAI_MEMORY
from conformance.gpu.resources import BY_DEVICE_CLASS, DRA_DRIVER, is_accelerator_driver, is_gpu_resource
from conformance.reference.expected import gpu_resources
from conformance.reference.model import Reference
from conformance.verdict import Inconclusive
from suites._shared.resource_slices import classes_asked, device_class, has_admin_access, requests_of

KAI_RESERVATION_NAMESPACES = ("kai-resource-reservation", "runai-reservation")
"""Where KAI keeps the pods that hold a whole GPU for those that asked for parts of it (charts of KAI and Run:ai)."""


def names_gpus(resource: str, reference: Reference) -> bool:
    """Whether a resource of this name is GPUs: declared for a pool, or one of NVIDIA's."""
    return is_gpu_resource(resource) or resource in gpu_resources(reference)


def resources_requested(spec: PodSpec, reference: Reference) -> dict[str, int]:
    """The devices that the scheduler reserves for a pod as counted resources, by name; counts of 0 left out."""
    return spec.gpu_requests(gpu_resources(reference))


def fraction_by_annotation(annotations: Mapping[str, str]) -> str:
    """The part of a GPU for which annotations ask KAI, as ``gpu-fraction=0.5``; empty for none."""
    return next((f"{key}={annotations[key]}" for key in (KAI_FRACTION, KAI_MEMORY) if annotations.get(key)), "")


def requests_gpus(spec: PodSpec, namespace: str, reference: Reference, facts: Facts) -> bool:
    """Whether a pod, or the pods of a template, of a namespace ask for GPUs in any of the four forms."""
    return bool(
        spec.gpu_requests(names_of_gpus(reference, facts))
        or (spec.claims and _claims_gpus(spec, namespace, facts))
        or fraction_by_annotation(spec.annotations)
    )


def holds_for_others(pod: Pod) -> bool:
    """Whether a pod holds a GPU on behalf of others, which are the ones that asked for it."""
    return pod.namespace in KAI_RESERVATION_NAMESPACES


# Several requirements ask; a run has one set of facts and one reference.
@lru_cache(maxsize=1)
def gpu_pods(facts: Facts, reference: Reference) -> tuple[Pod, ...]:
    """The pods that ask for GPUs themselves, finished ones included."""
    return tuple(
        pod for pod in facts.pods if requests_gpus(pod, pod.namespace, reference, facts) and not holds_for_others(pod)
    )


@lru_cache(maxsize=1)
def names_of_gpus(reference: Reference, facts: Facts) -> frozenset[str]:
    """The declared resources, and those by which classes of accelerators can be asked for without a claim.

    Source: kubernetes.io: Dynamic Resource Allocation, extended resource (extendedResourceName of a DeviceClass, and
    the name that every class has implicitly).
    """
    names: set[str] = set()
    with suppress(Inconclusive):
        for each in (device_class(found.body) for found in facts.device_classes):
            if is_accelerator_driver(each.driver) or DRA_DRIVER in " ".join(each.expressions):
                names |= {f"{BY_DEVICE_CLASS}{each.name}", each.resource} - {""}
    return gpu_resources(reference) | names


def _claims_gpus(spec: PodSpec, namespace: str, facts: Facts) -> bool:
    """Whether a device claim is for GPUs, or may be: claim, template, class or its driver are not known."""
    others = _claims_of_others(facts)
    return not all({(namespace, each.claim), (namespace, each.template)} & others for each in spec.claims)


@lru_cache(maxsize=1)
def _claims_of_others(facts: Facts) -> frozenset[tuple[str, str]]:
    """The claims and templates of claims, by namespace and name, that ask for no accelerators."""
    with suppress(Inconclusive):
        classes = classes_of_others(facts)
        asked = {
            **{(each.namespace, each.name): classes_asked(each.spec) for each in facts.resource_claims},
            **{
                (each.namespace, each.name): classes_asked(each.spec.get("spec") or {})
                for each in facts.resource_claim_templates
            },
        }
        return frozenset(place for place, names in asked.items() if names and classes.issuperset(names))
    return frozenset()


def classes_claimed(spec: PodSpec, namespace: str, facts: Facts) -> list[str]:
    """The device classes of the claims of a pod, by name, as far as claim or template are there; adminAccess left out.

    Raises Inconclusive where claims or templates could not be read.
    """
    if not spec.claims:
        return []
    bodies = _claims_and_templates(facts)
    places = [(namespace, name) for each in spec.claims for name in (each.claim, each.template) if name]
    asked = [_allocating(bodies[place]) for place in places if place in bodies]
    return list(dict.fromkeys(name for each in asked for name in classes_asked(each)))


def only_watches_gpus(spec: PodSpec, namespace: str, reference: Reference, facts: Facts) -> bool:
    """Whether a pod that asks for GPUs does so by claims with adminAccess only, which take no GPU from anybody."""
    if (
        not spec.claims
        or spec.gpu_requests(names_of_gpus(reference, facts))
        or fraction_by_annotation(spec.annotations)
    ):
        return False
    with suppress(Inconclusive):
        bodies, others = _claims_and_templates(facts), classes_of_others(facts)
        found = [bodies.get((namespace, each.claim)) or bodies.get((namespace, each.template)) for each in spec.claims]
        return all(body and others.issuperset(classes_asked(_allocating(body))) for body in found)
    return False


@lru_cache(maxsize=1)
def _claims_and_templates(facts: Facts) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The specs of claims and of what templates make, by namespace and name; the same name in both is the claim."""
    templates = {(each.namespace, each.name): each.spec.get("spec") or {} for each in facts.resource_claim_templates}
    return {**templates, **{(each.namespace, each.name): each.spec for each in facts.resource_claims}}


def _allocating(claim_spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """A claim without the requests that take no device from others."""
    return {"devices": {"requests": [each for each in requests_of(claim_spec) if not has_admin_access(each)]}}


@lru_cache(maxsize=1)
def classes_of_others(facts: Facts) -> frozenset[str]:
    """The device classes that name a driver of something else than accelerators. Raises Inconclusive where unread."""
    every = [device_class(each.body) for each in facts.device_classes]
    return frozenset(
        each.name
        for each in every
        if each.driver and not is_accelerator_driver(each.driver) and DRA_DRIVER not in " ".join(each.expressions)
    )
