"""To which set-up a cluster is held: one that was named for it, or the shipped one, which then binds nobody's names."""

from pathlib import Path

from conformance.options import Settings
from conformance.reference import Reference
from conformance.reference.foreign import foreign
from conformance.session.cluster import OpenCluster
from conformance.shipped import shipped

SHIPPED_REFERENCE = "corrected-guide"
"""By this name the shipped set-up can be named where a path is expected."""
_NONE_OF_YOURS = (
    "no set-up of your own: held to the shipped set-up {name}, to what does not depend on its names; "
    "`gpu-conformance init --cluster {cluster}` writes one of yours, --gpu-reference={name} judges all"
)


def chosen_path(settings: Settings, cluster: OpenCluster) -> Path:
    """The file or folder of the set-up: the option's, the cluster's, or the shipped one's."""
    chosen = Path(settings.value("reference") or cluster.reference or SHIPPED_REFERENCE)
    is_shipped = chosen == Path(SHIPPED_REFERENCE) and not chosen.exists()
    return shipped("fixtures/reference") if is_shipped else chosen


def held_to(reference: Reference, settings: Settings, cluster: OpenCluster, *, deploys: bool) -> Reference:
    """The set-up as requirements get it: what one declares may only be judged where it is the cluster's own.

    It is where somebody named it, where it is deployed, and on an embedded cluster.
    """
    if settings.value("reference") or cluster.reference or cluster.kind in ("embedded", "container") or deploys:
        return reference
    return foreign(reference, _NONE_OF_YOURS.format(name=reference.name, cluster=cluster.name))
