"""Containers as the suites see them: what they ask for, what they may do, and how they fare."""

from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from conformance.facts.environment import is_kept
from conformance.facts.token_volume import TOKEN_MOUNT, is_alike, without_name
from conformance.facts.wire import Quantities, Requirements, Wire, texts
from conformance.gpu.requests import Asking, effective_requests
from conformance.gpu.stack_programs import program_of

_Items: TypeAlias = tuple[tuple[str, str | int | float], ...]
_Pairs: TypeAlias = tuple[tuple[str, str], ...]
_Mounts: TypeAlias = tuple[tuple[str | None, str | None], ...]


class Mount(msgspec.Struct, frozen=True, gc=False):
    """One place of a container's file system that a volume fills; ``volume`` is its name in the pod."""

    path: str
    volume: str


class Container(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One container: quantities are text, by resource name, as its author wrote them.

    ``env`` has the literal values that say how GPUs are given, ``claims`` the names of the pod's claims that the
    container uses, ``mounts`` everything but the API token, of which ``mounts_token`` tells. ``program`` is the one of
    NVIDIA's stack that its command starts (``stack_programs.program_of``), empty for any other.
    """

    name: str = ""
    image: str = ""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    claims: tuple[str, ...] = ()
    privileged: bool = False
    env: dict[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    restartable: bool = False
    mounts_token: bool = False
    program: str = ""

    def __hash__(self) -> int:
        """By name and image: what follows from containers is worked out once for the many pods that have the same."""
        return hash((self.name, self.image))

    @property
    def asking(self) -> Asking:
        """What the container asks for after defaulting requests from limits."""
        return Asking(effective_requests(self.requests, self.limits), self.restartable)


class DeviceHealth(msgspec.Struct, frozen=True, gc=False):
    """What a kubelet says of a device that a container has: Healthy, Unhealthy, or Unknown without its plugin.

    ``resource`` is the resource's name, or ``claim:<claim>/<request>`` (kubernetes.io: Device Plugins and DRA, health
    in the pod status; KEP-4680). ``message`` is why, where the driver says so.
    """

    resource: str
    device: str
    health: str
    message: str = ""


class ContainerStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a container fares, as its kubelet says. Reasons are empty, codes and times None where there is none.

    ``waiting``, ``terminated`` and ``exit_code`` are of its present state, ``last_terminated`` and ``last_exit_code``
    of the run before. ``devices`` are those whose health the kubelet reports.
    """

    name: str = ""
    init: bool = False
    ready: bool = False
    restarts: int = 0
    waiting: str = ""
    terminated: str = ""
    exit_code: int | None = None
    last_terminated: str = ""
    last_exit_code: int | None = None
    running_since: datetime | None = None
    devices: tuple[DeviceHealth, ...] = ()


class _Mount(Wire):
    name: str | None = None
    mount_path: str | None = None


class _Variable(Wire):
    name: str | None = None
    value: str | None = None


class _Security(Wire):
    privileged: bool | None = None


class _Claim(Wire):
    name: str = ""


class _ContainerRequirements(Wire):
    requests: Quantities | None = None
    limits: Quantities | None = None
    claims: tuple[_Claim, ...] | None = None


class WireContainer(Wire):
    """A container in JSON."""

    name: str | None = None
    image: str | None = None
    command: tuple[str | None, ...] | None = None
    args: tuple[str | None, ...] | None = None
    resources: _ContainerRequirements | None = None
    restart_policy: str | None = None
    volume_mounts: tuple[_Mount, ...] | None = None
    env: tuple[_Variable, ...] | None = None
    security_context: _Security | None = None

    def fact(self) -> Container:
        """The container as the suites see it."""
        resources = self.resources or _NO_REQUIREMENTS
        requests, limits, claims = resources.requests, resources.limits, resources.claims
        mounts = self.volume_mounts or ()
        # The volume of the token has another name in every pod; with it no two containers would be alike.
        other = tuple([(each.mount_path, each.name) for each in mounts if each.mount_path != TOKEN_MOUNT])
        return _container(
            self.name or "",
            self.image or "",
            tuple(requests.items()) if requests else (),
            tuple(limits.items()) if limits else (),
            tuple([claim.name for claim in claims]) if claims else (),
            self.security_context is not None and self.security_context.privileged is True,
            _kept(self.env) if self.env else (),
            other,
            self.restart_policy == "Always",
            len(other) < len(mounts),
            _program(self.command, self.args) if self.command or self.args else "",
        )


def _program(*lists: tuple[str | None, ...] | None) -> str:
    return program_of(word for words in lists for word in words or () if word)


# Made before any thread needs it; see decoding.py.
_CONTAINERS = msgspec.json.Decoder(tuple[WireContainer, ...] | None, strict=False)

# What follows the name of the token's volume in a mount whose name nobody keeps (below).
_MOUNTED = f',"readOnly":true,"mountPath":"{TOKEN_MOUNT}"'.encode()


def containers_from(raw: msgspec.Raw) -> tuple[Container, ...]:
    """The containers as the suites see them. Raises msgspec.ValidationError where one is odd."""
    text, _ = without_name(bytes(raw), _MOUNTED)
    return _read_once(text) if is_alike(text) else _read(text)


def _read(text: bytes) -> tuple[Container, ...]:
    return tuple([container.fact() for container in _CONTAINERS.decode(text) or ()])


# The pods of one workload are alike: what is equal in them is decoded and held once. Known by a digest, because the
# text has the whole environment, of which no credential is kept.
_KNOWN: dict[bytes, tuple[Container, ...]] = {}
_MOST_KNOWN = 4096


def _read_once(text: bytes) -> tuple[Container, ...]:
    digest = blake2b(text, digest_size=16).digest()
    found = _KNOWN.get(digest)
    if found is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        found = _KNOWN[digest] = _read(text)
    return found


class _Waiting(Wire):
    reason: str | None = None


class _Running(Wire):
    started_at: datetime | None = None


class _Terminated(Wire):
    reason: str | None = None
    exit_code: int | None = None


class _State(Wire):
    waiting: _Waiting | None = None
    running: _Running | None = None
    terminated: _Terminated | None = None


class _Health(Wire):
    device: str | None = msgspec.field(name="resourceID", default=None)
    health: str | None = None
    message: str | None = None


class _Allocated(Wire):
    name: str | None = None
    resources: tuple[_Health, ...] | None = None


class WireContainerStatus(Wire):
    """An entry of ``status.containerStatuses`` or ``status.initContainerStatuses`` in JSON."""

    name: str | None = None
    ready: bool | None = None
    restart_count: int | None = None
    state: _State | None = None
    last_state: _State | None = None
    allocated_resources_status: tuple[_Allocated, ...] | None = None

    def fact(self, init: bool) -> ContainerStatus:
        """The status as the suites see it."""
        state, last = self.state or _NO_STATE, self.last_state or _NO_STATE
        ended, ended_before = state.terminated or _NOT_TERMINATED, last.terminated or _NOT_TERMINATED
        return ContainerStatus(
            name=self.name or "",
            init=init,
            ready=self.ready is True,
            restarts=self.restart_count or 0,
            waiting=state.waiting.reason or "" if state.waiting else "",
            terminated=ended.reason or "",
            exit_code=ended.exit_code,
            last_terminated=ended_before.reason or "",
            last_exit_code=ended_before.exit_code,
            running_since=state.running.started_at if state.running else None,
            devices=_healths(self.allocated_resources_status) if self.allocated_resources_status else (),
        )


def _healths(statuses: tuple[_Allocated, ...]) -> tuple[DeviceHealth, ...]:
    return tuple(
        DeviceHealth(allocated.name or "", each.device or "", each.health or "", each.message or "")
        for allocated in statuses
        for each in allocated.resources or ()
    )


_NO_REQUIREMENTS = _ContainerRequirements()
_NO_STATE = _State()
_NOT_TERMINATED = _Terminated()


def requested(resources: Requirements | None) -> dict[str, str]:
    """What a pod-level ``resources`` asks for after defaulting requests from limits."""
    return {} if resources is None else effective_requests(texts(resources.requests), texts(resources.limits))


def _kept(variables: tuple[_Variable, ...]) -> _Pairs:
    return tuple([(each.name, each.value) for each in variables if each.name and each.value and is_kept(each.name)])


# The pods of one workload are alike: what is equal in them is built and held once.
@lru_cache(maxsize=4096)
def _container(
    name: str,
    image: str,
    requests: _Items,
    limits: _Items,
    claims: tuple[str, ...],
    privileged: bool,
    env: _Pairs,
    mounts: _Mounts,
    restartable: bool,
    mounts_token: bool,
    program: str,
) -> Container:
    return Container(
        name=name,
        image=image,
        requests=texts(dict(requests)),
        limits=texts(dict(limits)),
        claims=claims,
        privileged=privileged,
        env=dict(env),
        mounts=tuple(Mount(path or "", volume or "") for path, volume in mounts),
        restartable=restartable,
        mounts_token=mounts_token,
        program=program,
    )
