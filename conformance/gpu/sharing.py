"""Sharing of GPUs by NVIDIA's device plugin: what a node must advertise, how it is labelled, which requests it admits.

Everything here follows from what was declared (GPUs, MIG layouts, replicas), never from a node that is being judged.
Sources: NVIDIA/k8s-device-plugin v0.20.0, internal/rm (device_map.go, rm.go), internal/lm (mig-strategy.go,
resource.go, nvml.go), api/config/v1 (sharing.go, replicas.go), cmd/nvidia-device-plugin/main.go.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from conformance.gpu.labels import MIG_STRATEGY, MPS_CAPABLE
from conformance.gpu.resources import GPU, mig_resource

SHARED_SUFFIX = ".shared"
"""What renameByDefault appends to a resource's name (api/config/v1/consts.go)."""

MPS_MAX_REPLICAS = 48
MPS_MAX_REPLICAS_BEFORE_7_5 = 16
"""The most clients of one MPS server, from compute capability 7.5 on and below (cmd/mps-control-daemon/mps)."""

MPS_FULL_CAPABILITY = (7, 5)

# A profile whose compute slices are fewer than its GPU slices, such as 1c.3g.20gb: nothing is offered for it.
_PART_OF_AN_INSTANCE = re.compile(r"[0-9]+c\.")
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9\-_. ]")


class MigStrategy(StrEnum):
    """How the plugin offers MIG devices: not at all, as whole GPUs, or each profile under its own name."""

    NONE = "none"
    SINGLE = "single"
    MIXED = "mixed"


class SharingStrategy(StrEnum):
    """How several pods come to share one device; the values are those of the label gpu.sharing-strategy."""

    NONE = "none"
    TIME_SLICING = "time-slicing"
    MPS = "mps"


class ReplicatedResource(msgspec.Struct, frozen=True):
    """One resource that is offered ``replicas`` times for each device."""

    resource: str
    replicas: int


class Sharing(msgspec.Struct, frozen=True):
    """How the plugin is configured to share. Without resources nothing is shared."""

    strategy: SharingStrategy = SharingStrategy.NONE
    resources: tuple[ReplicatedResource, ...] = ()
    rename_by_default: bool = False
    fail_requests_greater_than_one: bool | None = None
    """As configured; None leaves it to the strategy."""

    @property
    def refuses_more_than_one(self) -> bool:
        """Whether a request for more than one replica is refused: by default with MPS, not with time-slicing."""
        if self.fail_requests_greater_than_one is None:
            return self.strategy is SharingStrategy.MPS
        return self.fail_requests_greater_than_one

    def replicas_of(self, resource: str) -> int:
        """Replicas of each device of a resource; 1 when it is not shared. Of two entries the larger counts."""
        return max((each.replicas for each in self.resources if each.resource == resource), default=1)

    def name_of(self, resource: str) -> str:
        """The name under which a resource is offered: renameByDefault renames what is shared and nothing else."""
        renamed = self.rename_by_default and any(each.resource == resource for each in self.resources)
        return f"{resource}{SHARED_SUFFIX}" if renamed else resource


NOT_SHARED = Sharing()


class NodeGpus(msgspec.Struct, frozen=True):
    """The GPUs of one node, all of one model.

    ``whole`` counts the GPUs with MIG off. ``mig`` has one member for each GPU with MIG on: its MIG devices by
    profile (``1g.10gb+me``), empty when none were made, None when the layout is not known.
    """

    product: str
    whole: int = 0
    mig: tuple[Mapping[str, int] | None, ...] = ()
    compute_capability: tuple[int, int] | None = None

    @property
    def physical(self) -> int:
        """All GPUs of the node, whatever their mode."""
        return self.whole + len(self.mig)

    @property
    def layouts_known(self) -> bool:
        """Whether the layout of every GPU with MIG on is known."""
        return None not in self.mig

    def devices(self) -> dict[str, int]:
        """MIG devices of the node by profile, unknown layouts left out."""
        total: dict[str, int] = {}
        for layout in self.mig:
            for profile, count in (layout or {}).items():
                if count > 0:
                    total[profile] = total.get(profile, 0) + count
        return total


class Offer(msgspec.Struct, frozen=True):
    """What a node must advertise, by resource name. ``resources`` is None when that cannot be known from what is given.

    ``problems`` say why nothing is offered, why it is unknown, or what in the declaration has no effect.
    """

    resources: Mapping[str, int] | None
    problems: tuple[str, ...] = ()

    def count(self, resource: str) -> int | None:
        """Devices or replicas of one resource; 0 for what is not offered, also after a rename; None when unknown."""
        return None if self.resources is None else self.resources.get(resource, 0)


def advertised(gpus: NodeGpus, sharing: Sharing = NOT_SHARED, strategy: MigStrategy | None = MigStrategy.NONE) -> Offer:
    """What the device plugin must offer on a node; ``strategy`` None means that it is not known.

    An empty ``resources`` means that the plugin refuses to start, or that there is nothing to offer.
    """
    if strategy is None and gpus.mig:
        return Offer(None, ("the MIG strategy is not known and MIG is on",))
    refusal = _mps_refusal(gpus, sharing, strategy)
    if refusal is not None:
        return refusal
    physical = _before_sharing(gpus, strategy or MigStrategy.NONE)
    if physical.resources is None or not physical.resources:
        return physical
    shared = {
        sharing.name_of(resource): count * sharing.replicas_of(resource)
        for resource, count in physical.resources.items()
    }
    return Offer(shared, (*physical.problems, *_replicas_of_nothing(sharing, physical.resources)))


def _mps_refusal(gpus: NodeGpus, sharing: Sharing, strategy: MigStrategy | None) -> Offer | None:
    if sharing.strategy is not SharingStrategy.MPS:
        return None
    if strategy is MigStrategy.MIXED:
        return Offer({}, ("MPS is refused with the MIG strategy mixed: the plugin does not start",))
    if gpus.mig:
        return Offer(None, ("MPS is not supported next to MIG devices",))
    replicas = sharing.replicas_of(GPU)
    if replicas > MPS_MAX_REPLICAS:
        return Offer({}, (f"MPS allows at most {MPS_MAX_REPLICAS} replicas of a GPU, not {replicas}",))
    if replicas <= MPS_MAX_REPLICAS_BEFORE_7_5:
        return None
    below = f"MPS allows at most {MPS_MAX_REPLICAS_BEFORE_7_5} replicas below compute capability 7.5, not {replicas}"
    if gpus.compute_capability is None:
        return Offer(None, (f"{below}; the compute capability is not known",))
    return Offer({}, (below,)) if gpus.compute_capability < MPS_FULL_CAPABILITY else None


def _before_sharing(gpus: NodeGpus, strategy: MigStrategy) -> Offer:
    if strategy is MigStrategy.NONE or not gpus.mig:
        return Offer({GPU: gpus.physical} if gpus.physical else {})
    if strategy is MigStrategy.SINGLE:
        return _single(gpus)
    return _mixed(gpus)


def _single(gpus: NodeGpus) -> Offer:
    invalid = _not_uniform(gpus)
    if invalid:
        return Offer({}, (f"the MIG strategy single offers nothing here: {invalid}",))
    if not gpus.layouts_known:
        return Offer(None, ("the MIG layout of at least one GPU is not known",))
    return Offer({GPU: sum(gpus.devices().values())})


def _not_uniform(gpus: NodeGpus) -> str:
    """Why the strategy single cannot work on a node; empty when it can, as far as the layouts are known."""
    if gpus.whole and gpus.mig:
        return f"MIG is on for {len(gpus.mig)} GPUs and off for {gpus.whole}"
    if any(layout is not None and not any(layout.values()) for layout in gpus.mig):
        return "a GPU has MIG on and no MIG devices"
    profiles = sorted(gpus.devices())
    return f"more than one profile: {', '.join(profiles)}" if len(profiles) > 1 else ""


def _mixed(gpus: NodeGpus) -> Offer:
    devices = gpus.devices()
    parts = sorted(profile for profile in devices if _PART_OF_AN_INSTANCE.match(profile))
    if parts:
        return Offer({}, (f"no resource exists for {', '.join(parts)}: the plugin does not start",))
    if not gpus.layouts_known:
        return Offer(None, ("the MIG layout of at least one GPU is not known",))
    whole = {GPU: gpus.whole} if gpus.whole else {}
    empty = sum(1 for layout in gpus.mig if layout is not None and not any(layout.values()))
    problems = (f"{empty} GPUs have MIG on and no MIG devices: they offer nothing",) if empty else ()
    return Offer(whole | {mig_resource(profile): count for profile, count in devices.items()}, problems)


def _replicas_of_nothing(sharing: Sharing, offered: Mapping[str, int]) -> tuple[str, ...]:
    idle = sorted({each.resource for each in sharing.resources} - set(offered))
    return tuple(f"{resource} is to be shared, but this node offers none of it" for resource in idle)


def labels(
    gpus: NodeGpus, sharing: Sharing = NOT_SHARED, strategy: MigStrategy | None = MigStrategy.NONE
) -> dict[str, str] | None:
    """The labels by which GPU Feature Discovery must tell of counts and sharing; None when they cannot be known.

    ``gpu.count`` is never multiplied by the replicas. With MIG on and a strategy other than single it counts physical
    GPUs of both modes, and ``gpu.replicas`` is 0 when no GPU has MIG off.
    """
    if strategy is None or not gpus.layouts_known or (sharing.strategy is SharingStrategy.MPS and gpus.mig):
        return None
    if not gpus.physical:
        return {}
    found = _gpu_labels(gpus, sharing)
    found[MPS_CAPABLE] = "true" if sharing.strategy is SharingStrategy.MPS else "false"
    if strategy is not MigStrategy.NONE:
        found[MIG_STRATEGY] = strategy.value
    if strategy is MigStrategy.SINGLE and gpus.mig:
        found |= _single_labels(gpus, sharing)
    if strategy is MigStrategy.MIXED:
        for profile, count in gpus.devices().items():
            name = profile.replace("+", ".")
            found |= _described(mig_resource(profile), count, sharing, gpus.product, "MIG", name)
    return found


def _gpu_labels(gpus: NodeGpus, sharing: Sharing) -> dict[str, str]:
    if gpus.whole:
        return _described(GPU, gpus.physical, sharing, gpus.product)
    unshared = _described(GPU, gpus.physical, NOT_SHARED, gpus.product)
    return unshared | {f"{GPU}.replicas": "0"}


def _single_labels(gpus: NodeGpus, sharing: Sharing) -> dict[str, str]:
    devices = gpus.devices()
    if not _not_uniform(gpus):
        (profile,) = devices
        return _described(GPU, devices[profile], sharing, gpus.product, "MIG", profile.replace("+", "."))
    return {
        f"{GPU}.product": _product((gpus.product, "MIG", "INVALID")),
        f"{GPU}.count": "0",
        f"{GPU}.replicas": "0",
        f"{GPU}.sharing-strategy": "",
        f"{GPU}.memory": "0",
    }


def _described(resource: str, count: int, sharing: Sharing, *parts: str) -> dict[str, str]:
    # Of two entries for one resource GPU Feature Discovery reads the first, while the plugin serves the larger.
    replicas = next((each.replicas for each in sharing.resources if each.resource == resource), 1)
    shared = replicas > 1
    suffix = ("SHARED",) if shared and not sharing.rename_by_default else ()
    return {
        f"{resource}.product": _product((*parts, *suffix)),
        f"{resource}.count": str(count),
        f"{resource}.replicas": str(replicas),
        f"{resource}.sharing-strategy": (sharing.strategy if shared else SharingStrategy.NONE).value,
    }


def _product(parts: tuple[str, ...]) -> str:
    """Parts joined as a label value: characters that labels lack are dropped, blanks become one dash."""
    return "-".join("-".join(_NOT_IN_LABELS.sub("", part).split()) for part in parts if part)


class Answer(StrEnum):
    """What becomes of a container that asks for GPUs on one node."""

    ADMITTED = "admitted"
    REFUSED_BY_PLUGIN = "refused by the device plugin"
    DOES_NOT_FIT = "does not fit"
    UNKNOWN = "unknown"


class Outcome(msgspec.Struct, frozen=True):
    """An answer and its reason in words. A refused pod fails with the reason UnexpectedAdmissionError."""

    answer: Answer
    reason: str


def request(resource: str, count: int, offer: Offer, sharing: Sharing = NOT_SHARED) -> Outcome:
    """What becomes of a container that asks an otherwise idle node for ``count`` of a resource.

    The scheduler knows nothing of failRequestsGreaterThanOne: a request that fits is bound first, and refused by the
    plugin on the node, so its pod is Failed and not Pending.
    """
    available = offer.count(resource)
    if count <= 0:
        return Outcome(Answer.ADMITTED, f"it asks for no {resource}")
    if available is None:
        return Outcome(Answer.UNKNOWN, "; ".join(offer.problems) or f"the offer of {resource} is not known")
    if count > available:
        return Outcome(Answer.DOES_NOT_FIT, f"{count} {resource} were asked for and the node offers {available}")
    shared = any(sharing.name_of(each.resource) == resource and each.replicas > 1 for each in sharing.resources)
    if not shared or count == 1:
        return Outcome(Answer.ADMITTED, f"the node offers {available} {resource}")
    if sharing.refuses_more_than_one:
        return Outcome(
            Answer.REFUSED_BY_PLUGIN, f"the maximum request size for shared resources is 1, and {count} were asked for"
        )
    return Outcome(Answer.ADMITTED, f"{count} replicas may be of one GPU and give no larger part of it")
