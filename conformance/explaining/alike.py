"""Which pods without a node the scheduler cannot tell apart, so that what keeps one off a node keeps the others off."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from conformance.explaining.seen import Seen, condition
from conformance.gpu.neighbours import has_pod_rules
from conformance.gpu.placement import Manifest

_OF_SPEC = (
    "nodeSelector", "affinity", "tolerations", "topologySpreadConstraints", "priority", "priorityClassName",
    "preemptionPolicy", "schedulerName", "overhead", "resources", "runtimeClassName",
)  # fmt: skip
_DEFAULT = ("", "default-scheduler")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


class Alike:
    """Tells pods apart by what filters look at; ``seen`` has the pods whose anti-affinity is about labels of others."""

    def __init__(self, seen: Seen) -> None:
        every = (pod for pods in seen.occupancy.repelling.values() for pod in pods)
        self._labels = {key for pod in every for key in _keys_of_rules(pod)}

    def key(self, pod: Manifest) -> bytes:
        """The same for pods that are alike."""
        spec, metadata = pod["spec"], pod["metadata"]
        labels = metadata.get("labels") or {}
        ruled = has_pod_rules(pod) or spec.get("topologySpreadConstraints")
        parts: list[Any] = [
            metadata.get("namespace"),
            [spec.get(member) for member in _OF_SPEC],
            [_of_container(each) for each in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))],
            sorted(labels.items()) if ruled else sorted((key, labels[key]) for key in self._labels & labels.keys()),
            (pod.get("status") or {}).get("nominatedNodeName"),
        ]
        if _is_its_own(pod):
            parts.append(metadata.get("name"))
        if str(spec.get("schedulerName") or "") not in _DEFAULT:
            # Its scheduler says something of each: of its group, or of its queue.
            parts += [
                sorted(labels.items()),
                metadata.get("annotations"),
                condition(pod, "PodScheduled").get("message"),
            ]
        return msgspec.json.encode(parts)


def _of_container(container: Manifest) -> list[Any]:
    return [container.get("resources"), container.get("ports"), container.get("restartPolicy")]


def _is_its_own(pod: Manifest) -> bool:
    """Whether a pod has a volume or a claim, which may be of its own name."""
    volumes = pod["spec"].get("volumes") or ()
    return bool(pod["spec"].get("resourceClaims")) or any(
        each.get("persistentVolumeClaim") or each.get("ephemeral") for each in volumes
    )


def _keys_of_rules(pod: Manifest) -> Iterator[str]:
    terms: Iterable[Manifest] = pod["spec"]["affinity"]["podAntiAffinity"].get(_REQUIRED) or ()
    for term in terms:
        selector = term.get("labelSelector") or {}
        yield from selector.get("matchLabels") or {}
        yield from (str(each.get("key")) for each in selector.get("matchExpressions") or ())
