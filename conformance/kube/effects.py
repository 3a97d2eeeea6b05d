"""How far a request may reach: effects, from reading to disrupting, and the modes that bound them."""

from enum import IntEnum, StrEnum


class Effect(IntEnum):
    """What a requirement does to the cluster, ordered from harmless to disruptive."""

    READS = 0
    OWN_NAMESPACE = 1
    OCCUPIES_IDLE_GPUS = 2
    OWN_CLUSTER_OBJECTS = 3
    PATCHES_NODES = 4
    DISRUPTIVE = 5

    @property
    def label(self) -> str:
        """The word that options and reports use, such as ``own-namespace``."""
        return self.name.lower().replace("_", "-")


class Landing(StrEnum):
    """Where the pods of a scenario may get to: decides which other scenarios may act at the same time.

    Of a scenario whose pods may get anywhere, no other one is ever beside it. Those without devices may be beside each
    other, but beside none that has nodes of its own: a node on which they are is not idle.
    """

    ANYWHERE = "anywhere"
    WITHOUT_DEVICES = "anywhere, without devices"
    ON_BORROWED_NODES = "on nodes that it has borrowed"
    ON_PICKED_NODES = "on nodes that it has picked"
    NOWHERE = "on no node"

    def allows(self, other: "Landing") -> bool:
        """Whether a scenario whose pods land here may act beside one whose pods land on ``other``."""
        both = {self, other}
        if Landing.ANYWHERE in both:
            return False
        return Landing.NOWHERE in both or Landing.WITHOUT_DEVICES not in both or len(both) == 1


class Mode(StrEnum):
    """How far a run may go on a cluster."""

    AUDIT = "audit"
    VERIFY = "verify"
    FULL = "full"

    @property
    def limit(self) -> Effect:
        """The greatest effect that the mode allows."""
        return _LIMITS[self]


_LIMITS = {Mode.AUDIT: Effect.READS, Mode.VERIFY: Effect.OWN_CLUSTER_OBJECTS, Mode.FULL: Effect.DISRUPTIVE}
