"""What keeps a reference set-up from being deployed, in words for those who asked for it."""

from collections.abc import Sequence

from conformance.reference.errors import ReferenceError, counted


class ForeignObject(ReferenceError):
    """The cluster holds what the set-up would have to overwrite, or pods that it would evict. Nothing was written.

    ``conflicts`` names each of them, why it is in the way, and what to do about it.
    """

    def __init__(self, reference: str, conflicts: Sequence[str]) -> None:
        head = f"the reference set-up {reference} was not deployed, {counted(len(conflicts))}, nothing was written:"
        super().__init__("\n".join([head, *(f"  {conflict}" for conflict in conflicts)]))
        self.conflicts = tuple(conflicts)
