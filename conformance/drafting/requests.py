"""Who asks for GPUs: pods and templates, by resources, by ResourceClaims, or by KAI's annotations."""

from collections.abc import Iterable

from conformance.drafting.accelerators import is_accelerator
from conformance.facts import Facts, PodSpec, Resource
from conformance.gpu.labels import KAI_FRACTION, KAI_MEMORY
from conformance.verdict import Inconclusive

_NVIDIA_CLASS = "nvidia.com"


class GpuRequests:
    """What the pods of a cluster ask for, claims looked up once."""

    def __init__(self, facts: Facts) -> None:
        self._claims = _classes(_members(facts, "resource_claims"))
        self._templates = _classes(_members(facts, "resource_claim_templates"))

    def asks(self, pod: PodSpec, namespace: str) -> bool:
        """Whether a pod or a template asks for GPUs."""
        return bool(resources(pod)) or self._by_annotation(pod) or self._by_claim(pod, namespace)

    def by_claim_only(self, pod: PodSpec, namespace: str) -> bool:
        """Whether it asks by a ResourceClaim and by no resource, so that nodes that offer a count are not meant."""
        return not resources(pod) and self._by_claim(pod, namespace)

    def _by_annotation(self, pod: PodSpec) -> bool:
        """Such a pod names no GPU among its resources."""
        return KAI_FRACTION in pod.annotations or KAI_MEMORY in pod.annotations

    def _by_claim(self, pod: PodSpec, namespace: str) -> bool:
        classes: set[str] = set()
        for claim in pod.claims:
            classes |= self._claims.get((namespace, claim.claim), set())
            classes |= self._templates.get((namespace, claim.template), set())
        return any(name.endswith(_NVIDIA_CLASS) for name in classes)


def resources(pod: PodSpec) -> tuple[str, ...]:
    """The accelerators that a pod names among its requests and limits, sorted."""
    names = {name for each in pod.every_container for name in (*each.limits, *each.requests)}
    return tuple(sorted(name for name in names if is_accelerator(name)))


def _members(facts: Facts, kind: str) -> Iterable[Resource]:
    try:
        found: Iterable[Resource] = getattr(facts, kind)
    except Inconclusive:
        return ()
    return found


def _classes(claims: Iterable[Resource]) -> dict[tuple[str, str], set[str]]:
    """The device classes that each claim or template of claims asks for."""
    found: dict[tuple[str, str], set[str]] = {}
    for each in claims:
        spec = each.spec.get("spec") if each.kind == "ResourceClaimTemplate" else each.spec
        asked = ((spec or {}).get("devices") or {}).get("requests") or ()
        exact = [one.get("exactly") or one for one in asked if isinstance(one, dict)]
        choices = [choice for one in asked if isinstance(one, dict) for choice in one.get("firstAvailable") or ()]
        names = {str(one.get("deviceClassName") or "") for one in (*exact, *choices)}
        found[each.namespace, each.name] = names - {""}
    return found
