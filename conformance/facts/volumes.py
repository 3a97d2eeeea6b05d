"""Volumes of pods and the device claims that pods make, as the suites see them."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import msgspec

from conformance.facts.token_volume import is_alike, without_name
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
_VOLUMES = msgspec.json.Decoder(tuple[_Members, ...] | None, strict=False)

_TOKEN = b',"projected":'


def volumes_from(raw: msgspec.Raw) -> tuple[Volume, ...]:
    """The volumes as the suites see them. Raises msgspec.ValidationError where one is odd."""
    whole = bytes(raw)
    text, name = without_name(whole, _TOKEN)
    if text == whole:
        return _read_once(whole) if is_alike(whole) else _read(whole)
    volumes = _read_once(text) if is_alike(text) else _read(text)
    return tuple([each if each.name else Volume(name=name, kind=each.kind) for each in volumes])


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


def _read(text: bytes) -> tuple[Volume, ...]:
    return tuple([_volume(members) for members in _VOLUMES.decode(text) or ()])


# The pods of one workload are alike: what is equal in them is decoded and held once.
_read_once = lru_cache(maxsize=4096)(_read)


def _volume(members: _Members) -> Volume:
    name = members.get("name")
    if not isinstance(name, str):
        name = ""
    for kind, source in members.items():
        if isinstance(source, Source):
            return _filled(name, kind, source)
    return Volume(name=name, kind="")


def _filled(name: str, kind: str, source: Source) -> Volume:
    return Volume(
        name=name,
        kind=kind,
        host_path=source.path or "" if kind == "hostPath" else "",
        medium=source.medium or "",
        size_limit="" if source.size_limit is None else str(source.size_limit),
        source=source.name or source.secret_name or source.claim_name or "",
    )
