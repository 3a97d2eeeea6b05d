"""Which flavors of a ClusterQueue the pods of a Workload may be of: by labels and taints of the ResourceFlavor.

A flavor is refused only where every version of Kueue refuses it: of node selector and required affinity what is about
labels that the flavor itself has. Topologies are not judged. Sources:
https://kueue.sigs.k8s.io/docs/concepts/resource_flavor/, kubernetes-sigs/kueue (pkg/scheduler/flavorassigner:
checkFlavorForPodSets, flavorSelector).
"""

from typing import Any

from conformance.explaining.seen import Seen
from conformance.gpu.affinity import required_terms, term_matches
from conformance.gpu.placement import Manifest
from conformance.gpu.taints import taint_from, toleration_from, untolerated


def refusal(seen: Seen, flavor: str, template: Manifest) -> str:
    """Why pods of a template may not be of a flavor, in words; empty where they may, or it was not read."""
    found = seen.find("ResourceFlavor", "", flavor)
    if found is None:
        return ""
    stated, spec = found.get("spec") or {}, template.get("spec") or {}
    tolerations = [*(spec.get("tolerations") or ()), *(stated.get("tolerations") or ())]
    taints = [taint_from(each) for each in stated.get("nodeTaints") or ()]
    kept = list(untolerated([toleration_from(each) for each in tolerations], taints))
    if kept:
        return f"its taint {kept[0]} is not tolerated"
    labels = stated.get("nodeLabels") or {}
    for key, value in (spec.get("nodeSelector") or {}).items():
        if key in labels and labels[key] != value:
            return f"the pods want {key}={value}, its nodes have {labels[key]}"
    return _by_affinity((spec.get("affinity") or {}).get("nodeAffinity"), labels)


def _by_affinity(affinity: Manifest | None, labels: Manifest) -> str:
    """Only what is about labels of the flavor counts; a term that says nothing of them allows it."""
    terms: list[dict[str, Any]] = []
    for term in required_terms(affinity):
        about = [each for each in term.get("matchExpressions") or () if each.get("key") in labels]
        if not about:
            return ""
        terms.append({"matchExpressions": about})
    if not terms or any(term_matches(term, labels, "") for term in terms):
        return ""
    keys = sorted({str(each["key"]) for term in terms for each in term["matchExpressions"]})
    values = ", ".join(f"{key}={labels[key]}" for key in keys)
    return f"the required affinity of the pods is not met by its {values}"
