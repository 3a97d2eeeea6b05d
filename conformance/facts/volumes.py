"""Volumes of pods and the device claims that pods make, as the suites see them."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import msgspec

from conformance.facts.wire import Wire


class Volume(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One volume of a pod. ``kind`` is the member that says what fills it, such as ``hostPath`` or ``emptyDir``.

    ``source`` is the name of the ConfigMap, Secret or PersistentVolumeClaim; ``medium`` (``Memory`` for a tmpfs) and
    ``size_limit`` (a quantity) are those of an emptyDir. All are empty where they do not apply.
    """

    name: str
    kind: str
    host_path: str = ""
    medium: str = ""
    size_limit: str = ""
    source: str = ""


class PodClaim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One device claim of a pod: ``name`` is its name in the pod, ``claim`` that of the ResourceClaim.

    With ``template``, a ResourceClaimTemplate, the claim is made for the pod; ``claim`` is empty until it exists.
    """

    name: str
    claim: str = ""
    template: str = ""


class Source(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What fills a volume, in JSON; its members are those of several kinds of volume. Frozen, to be looked up."""

    path: str | None = None
    medium: str | None = None
    size_limit: str | int | float | None = None
    name: str | None = None
    secret_name: str | None = None
    claim_name: str | None = None


_Members: TypeAlias = dict[str, str | Source | None]
"""A volume in JSON: its name, and one member more, whose name is the kind; kinds come with every Kubernetes."""

# Made before any thread needs it; see decoding.py.
_MEMBERS = msgspec.json.Decoder(_Members, strict=False)


def volumes_from(raws: Sequence[msgspec.Raw] | None) -> tuple[Volume, ...]:
    """The volumes as the suites see them. Raises msgspec.ValidationError naming the one that is odd."""
    if not raws:
        return ()
    try:
        return tuple([_volume(raw) if _PROJECTED not in raw else _read(raw) for raw in map(bytes, raws)])
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{error} (a member of `$.spec.volumes`)") from error


class WirePodClaim(Wire):
    """An entry of ``spec.resourceClaims`` in JSON."""

    name: str = ""
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None

    def fact(self) -> PodClaim:
        """The claim as the suites see it."""
        return PodClaim(
            name=self.name,
            claim=self.resource_claim_name or "",
            template=self.resource_claim_template_name or "",
        )


def with_generated(claims: Sequence[PodClaim], generated: Mapping[str, str]) -> tuple[PodClaim, ...]:
    """The claims with the names of those that were made from templates, which are given by their names in the pod."""
    return tuple(
        msgspec.structs.replace(each, claim=each.claim or generated.get(each.name, "")) if each.template else each
        for each in claims
    )


# That of the API token is not kept for others: it has another name in every pod.
_PROJECTED = b'"projected"'


def _read(raw: bytes) -> Volume:
    members = _MEMBERS.decode(raw)
    name = members.get("name")
    if not isinstance(name, str):
        name = ""
    for kind, source in members.items():
        if isinstance(source, Source):
            return _filled(name, kind, source)
    return Volume(name=name, kind="")


# The pods of one workload are alike: what is equal in them is built and held once.
_volume = lru_cache(maxsize=4096)(_read)


def _filled(name: str, kind: str, source: Source) -> Volume:
    return Volume(
        name=name,
        kind=kind,
        host_path=source.path or "" if kind == "hostPath" else "",
        medium=source.medium or "",
        size_limit="" if source.size_limit is None else str(source.size_limit),
        source=source.name or source.secret_name or source.claim_name or "",
    )
