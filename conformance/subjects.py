"""Subjects: what a finding is about, as a reference to an object and a text made from it.

A reader of a report, ours included, gets the object from the reference; the text is for people only.
"""

import re
from functools import lru_cache
from typing import Protocol, runtime_checkable

import msgspec

from conformance.kube.paths import PLACES

_WORD_STARTS = re.compile(r"(?<=[a-z])(?=[A-Z])")


class ObjectReference(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    """One judged subject: an object of the cluster, or an entry of the reference set-up (``declared``).

    ``node`` says where a pod is, ``container`` which of its containers is meant, ``field`` what of the object is
    judged where it is not the whole. Several objects judged as one have the kind of their list (PodList) and no name,
    and so have expectations of a scenario that are about no single object (Scenario).
    """

    kind: str
    name: str = ""
    namespace: str = ""
    node: str = ""
    container: str = ""
    field: str = ""
    declared: bool = False
    api_version: str = ""
    text: str = ""

    @classmethod
    def of(
        cls,
        kind: str,
        name: str,
        *,
        namespace: str = "",
        node: str = "",
        text: str = "",
        api_version: str = "",
        declared: bool = False,
    ) -> "ObjectReference":
        """An object. Kinds of Kubernetes need no ``api_version``; ``text`` is made from the reference when absent."""
        place = PLACES.get(kind) if not api_version else None
        return cls(
            kind=kind,
            name=name,
            namespace=namespace,
            node=node,
            declared=declared,
            api_version=place.group_version if place else api_version,
            text=text or f"{words_of(kind)} {f'{namespace}/{name}' if namespace else name}",
        )

    @classmethod
    def many(cls, kind: str, text: str) -> "ObjectReference":
        """Several objects of one kind that are judged as one; ``text`` says which."""
        place = PLACES.get(kind)
        return cls(f"{kind}List", api_version=place.group_version if place else "", text=text)

    @classmethod
    def scenario(cls, text: str) -> "ObjectReference":
        """What a scenario expects of no single object."""
        return cls("Scenario", text=text)

    def only(self, field: str, *, container: str = "") -> "ObjectReference":
        """The same object where only a part of it is judged: a field, a resource, a container."""
        whole = f"{self.field}, {field}" if self.field else field
        return msgspec.structs.replace(self, field=whole, container=container, text=f"{self.text}, {field}")

    @property
    def subject(self) -> "ObjectReference":
        """Itself."""
        return self

    def __str__(self) -> str:
        return self.text


@runtime_checkable
class HasSubject(Protocol):
    """Whatever can be judged: facts, entries of the reference set-up, objects of the lab."""

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""


def subject_of(judged: object) -> ObjectReference:
    """What is judged, as a subject. Raises TypeError for what does not say which object it is, a sentence above all."""
    found = getattr(judged, "subject", None)
    if isinstance(found, ObjectReference):
        return found
    raise TypeError(
        f"{judged!r} names no object: judge facts, entries of the reference set-up, or a "
        "conformance.subjects.ObjectReference"
    )


# Kinds are few, and the subjects of a fleet are thousands.
@lru_cache(maxsize=256)
def words_of(kind: str) -> str:
    """A kind as people write it: ``runtime class`` for RuntimeClass."""
    return _WORD_STARTS.sub(" ", kind).lower()
