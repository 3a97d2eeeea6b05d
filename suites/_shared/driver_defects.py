"""Which known defects of drivers a node is affected by."""

from conformance.facts import Node
from conformance.gpu.resources import GPU, MIG_PREFIX
from conformance.reference.expected import gpus_of
from conformance.reference.model import Pool, Reference


def is_affected(defect: str, reference: Reference, pool: Pool, node: Node) -> bool:
    """Whether a node uses what a defect breaks; an unknown defect affects every node.

    Mixed is a node that is declared to have GPUs with and without MIG, and one that offers both whatever is declared.
    """
    gpus = gpus_of(reference, pool)
    if defect == "cdmm-580":
        return gpus is not None and bool(gpus.mig)
    if defect != "mixed-mig-570":
        return True
    offered = [name for name in node.gpu_resources if node.gpus(name)]
    offers_both = GPU in offered and any(name.startswith(MIG_PREFIX) for name in offered)
    return offers_both or (gpus is not None and bool(gpus.mig) and gpus.whole > 0)
