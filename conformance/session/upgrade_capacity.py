"""What becomes of pods with GPUs while the nodes of an upgrade are away, for the report of a run before it."""

from conformance.reference.expected import gpu_resources
from conformance.session.of_cluster import OfCluster
from conformance.session.upgrades import Asked
from conformance.upgrading.forecast import Capacity, by_policy, foretell, one_by_one
from conformance.verdict import Inconclusive

_NOT_COMPUTED = "what becomes of pods while nodes are away was not computed"


def capacity_of(asked: Asked, run: OfCluster) -> tuple[Capacity | None, str]:
    """The forecast, and why there is none where it should be.

    Before an upgrade of the drivers nodes are away as the policy has it; one by one where no policy is about them, and
    before an upgrade of Kubernetes. One of the operator takes no node away by itself.
    """
    if asked.driver is None and asked.kubernetes is None:
        return None, ""
    names = gpu_resources(run.reference)
    try:
        groups = by_policy(run.facts, names) if asked.driver is not None else ()
        groups = groups or one_by_one(run.facts, names)
        return foretell(groups, run.facts, names), ""
    except (Inconclusive, ValueError) as error:
        return None, f"{_NOT_COMPUTED}: {error}"
