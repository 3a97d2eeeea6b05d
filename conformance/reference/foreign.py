"""A set-up that describes another cluster than the one at hand: nobody may be held to what it declares.

What depends on a declaration finds that out by asking for it, as it does for objects that could not be read, and waits.
"""

from typing import Any, NoReturn

from conformance.reference.model import PriorityClass, Reference, Team
from conformance.verdict import Waits

_DECLARED = ("stack", "pools", "teams", "priority_classes", "workloads", "test_pods")


class _Declared:
    """A member of the set-up that raises Waits when it is asked for."""

    def __get__(self, reference: Any, _: object = None) -> NoReturn:
        raise Waits(reference.description)

    def __set__(self, _: object, __: object) -> NoReturn:
        raise AttributeError("a set-up is immutable")


class ForeignReference(Reference, frozen=True):
    """A set-up of which only name, GPU resource and platform may be asked; whatever it declares raises Waits.

    Nobody of this cluster is declared by it, so that it has no team, no class and no KAI of a given name.
    """

    def team(self, namespace: str) -> Team | None:
        """None: the team of such a namespace is that of another cluster."""
        return None

    def priority_class(self, name: str) -> PriorityClass | None:
        """None: the class of that name is that of another cluster."""
        return None

    @property
    def is_foreign(self) -> bool:
        """True."""
        return True

    @property
    def offered_resources(self) -> frozenset[str]:
        """The usual GPU resource alone."""
        return frozenset({self.gpu_resource})


for _name in _DECLARED:
    setattr(ForeignReference, _name, _Declared())


def foreign(reference: Reference, why: str) -> Reference:
    """``reference`` as that of another cluster: what asks for a declaration waits, and ``why`` is the cause."""
    return ForeignReference(reference.name, why, reference.gpu_resource, platform=reference.platform)
