"""The rights that each mode of a run takes, asked of the API server one by one.

An audit lists what it judges; verify makes namespaces of its own and pods in them; full also changes nodes. A review of
one's own rights (SelfSubjectAccessReview) is a question: the server keeps nothing.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from conformance.doctor.answers import Answer, State
from conformance.doctor.needs import NEEDS
from conformance.facts.kinds import KINDS
from conformance.kube.client import Client
from conformance.kube.effects import Effect, Mode
from conformance.kube.errors import KubeError, NotFound
from conformance.kube.names import HOME_NAMESPACE
from conformance.kube.paths import path

_AT_ONCE = 8
_NAMED = 6
_CONFIG_MAP = "ConfigMap"
_NODE = "Node"
_BELOW = {Mode.VERIFY: Mode.AUDIT, Mode.FULL: Mode.VERIFY}

Effects = Mapping[str, Effect]


class Right(msgspec.Struct, frozen=True):
    """A verb on a resource, in all namespaces where none is named; ``requirements`` cannot be judged without it.

    A run that does not get a right that is ``indispensable`` cannot begin.
    """

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    requirements: tuple[str, ...] = ()
    indispensable: bool = False

    def __str__(self) -> str:
        resource, slash, subresource = self.resource.partition("/")
        full = f"{resource}.{self.group}" if self.group else resource
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {full}{slash}{subresource}{where}"


def rights_of(mode: Mode, effects: Effects) -> tuple[Right, ...]:
    """The rights that a mode takes beyond those of the modes below it. ``effects`` are those of all requirements."""
    return tuple({Mode.AUDIT: _audit, Mode.VERIFY: _verify, Mode.FULL: _full}[mode](effects))


def _audit(effects: Effects) -> Iterator[Right]:
    for kind in KINDS.values():
        needed = tuple(each for each in NEEDS.get(kind.name, ()) if each in effects)
        yield Right("list", kind.plural, kind.group, requirements=needed, indispensable=kind.name == _NODE)
    yield Right("create", "subjectaccessreviews", "authorization.k8s.io", requirements=("TEN-05", "TEN-06"))


def _verify(effects: Effects) -> Iterator[Right]:
    every = _with(effects, lambda effect: effect > Effect.READS)
    running = _with(effects, lambda effect: effect >= Effect.OCCUPIES_IDLE_GPUS)
    for verb in ("create", "patch", "delete"):
        yield Right(verb, "namespaces", requirements=every, indispensable=True)
        yield Right(verb, "leases", "coordination.k8s.io", HOME_NAMESPACE, every, indispensable=True)
        yield Right(verb, "configmaps", "", HOME_NAMESPACE, every, indispensable=True)
    yield Right("create", "serviceaccounts", requirements=every)
    yield Right("patch", "serviceaccounts", requirements=("TEN-04",))
    for verb in ("create", "watch", "delete"):
        yield Right(verb, "pods", requirements=every)
    # Clean-up takes finalizers off pods; without it a run would leave them, and their nodes as they are.
    yield Right("patch", "pods", requirements=every, indispensable=True)
    # The programs of probes lie in ConfigMaps beside their pods.
    yield Right("create", "configmaps", requirements=tuple(sorted({*running, *_of("ISO", every)})))
    for verb in ("create", "delete"):
        yield Right(verb, "priorityclasses", "scheduling.k8s.io", requirements=running)
        yield Right(verb, "jobs", "batch", requirements=running)
    yield Right("get", "pods/log", requirements=running)
    yield Right("create", "resourcequotas", requirements=_of("QUOTA", every))
    yield Right("create", "limitranges", requirements=("QUOTA-12",))
    yield Right("create", "deployments", "apps", requirements=("QUOTA-09",))
    yield Right("create", "serviceaccounts/token", requirements=("TEN-07", "TEN-08"))
    # A server may ask for either where a connection is upgraded (kubernetes.io: Authorization, WebSocket connections).
    for verb in ("get", "create"):
        yield Right(verb, "pods/portforward", requirements=_of("OBS", every))
    for verb in ("create", "patch"):
        yield Right(verb, "resourceclaims", "resource.k8s.io", requirements=_of("DRA", every))
        yield Right(verb, "resourceclaimtemplates", "resource.k8s.io", requirements=_of("DRA", every))


def _full(effects: Effects) -> Iterator[Right]:
    changing = _with(effects, lambda effect: effect >= Effect.PATCHES_NODES)
    yield Right("patch", "nodes", requirements=changing)
    yield Right("patch", "nodes/status", requirements=_of("PRIO", changing))
    yield Right("create", "poddisruptionbudgets", "policy", requirements=("PRIO-10",))
    yield Right("patch", "jobs", "batch", requirements=("PRIO-12",))


def refused(client: Client, wanted: Sequence[Right]) -> tuple[Right, ...]:
    """Those that the server does not grant us. Raises KubeError where it does not even answer."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="rights") as workers:
        granted = list(workers.map(lambda right: _is_granted(client, right), wanted))
    return tuple(right for right, is_granted in zip(wanted, granted, strict=True) if not is_granted)


def _is_granted(client: Client, right: Right) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {"verb": right.verb, "group": right.group, "resource": resource, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {**attributes, "namespace": right.namespace}},
    }
    answer = client.create(path("SelfSubjectAccessReview"), review)
    return bool((answer.get("status") or {}).get("allowed"))


def answers(client: Client, mode: Mode, effects: Effects, user: str, config_namespace: str = "") -> Iterator[Answer]:
    """What the server grants for each mode; one answer for each right that ``mode`` lacks.

    ``user`` is who we are to the server; ``config_namespace`` is where the declared stack has its ConfigMaps, which may
    be granted there alone.
    """
    for each in Mode:
        wanted = rights_of(each, effects)
        try:
            lacking = _without_unserved(client, refused(client, wanted), config_namespace)
        except KubeError as error:
            yield Answer(f"rights {each}", State.ATTENTION, f"the server does not say: {error}")
            continue
        if not lacking:
            yield Answer(f"rights {each}", State.OK, f"all {len(wanted)} rights are granted")
        elif each.limit > mode.limit:
            text = f"mode {mode} does without: {_some([str(right) for right in _by_resource(lacking)])}"
            yield Answer(f"rights {each}", State.NOTE, text)
        else:
            weighed = sorted(_by_resource(lacking), key=_weight, reverse=True)
            yield from (_lacking(right, each, user) for right in weighed)


def _by_resource(rights: Iterable[Right]) -> list[Right]:
    """Rights to one resource as one, its verbs listed."""
    verbs: dict[Right, list[str]] = {}
    for right in rights:
        verbs.setdefault(msgspec.structs.replace(right, verb=""), []).append(right.verb)
    return [msgspec.structs.replace(right, verb=_either(each)) for right, each in verbs.items()]


def _either(verbs: Sequence[str]) -> str:
    *first, last = verbs
    return f"{', '.join(first)} or {last}" if first else last


def _weight(right: Right) -> tuple[bool, int]:
    """How much a run loses without a right."""
    return right.indispensable, len(right.requirements)


def _lacking(right: Right, mode: Mode, user: str) -> Answer:
    ids = right.requirements
    counted = "1 requirement" if len(ids) == 1 else f"{len(ids)} requirements"
    lost = f"{counted} cannot be judged ({_some(ids)})" if ids else "nothing of the shipped set-up needs it"
    state = State.BLOCKED if right.indispensable else State.ATTENTION if ids else State.NOTE
    return Answer(f"rights {mode}", state, f"may not {right}: {lost}", _remedy(mode, user), ids)


def _remedy(mode: Mode, user: str) -> str:
    _, _, account = user.partition("system:serviceaccount:")
    who = f"--serviceaccount={account}" if account else f"--user={user or 'USER'}"
    name = f"gpu-conformance-{mode}"
    bind = f"kubectl create clusterrolebinding {name} --clusterrole={name} {who}"
    chosen = "" if mode is Mode.AUDIT else f" --mode {mode}"
    grant = f"Have an administrator run: gpu-conformance rbac{chosen} | kubectl apply -f - && {bind}"
    return grant if mode is Mode.AUDIT else f"{grant}; or run in mode {_BELOW[mode]}"


def _without_unserved(client: Client, lacking: Iterable[Right], config_namespace: str) -> tuple[Right, ...]:
    """Those that matter: kinds of API groups that the server lacks need no right, ConfigMaps that of one namespace."""
    optional = {(kind.group, kind.plural) for kind in KINDS.values() if kind.optional}
    left = []
    for right in lacking:
        if right.verb == "list" and (right.group, right.resource) in optional and not _is_served(client, right.group):
            continue
        if right.resource == KINDS[_CONFIG_MAP].plural and right.verb == "list" and config_namespace:
            there = msgspec.structs.replace(right, namespace=config_namespace)
            if not refused(client, [there]):
                continue
            right = there
        left.append(right)
    return tuple(left)


def _is_served(client: Client, group: str) -> bool:
    try:
        client.get(f"/apis/{group}")
    except NotFound:
        return False
    except KubeError:
        return True
    return True


def _with(effects: Effects, holds: Callable[[Effect], bool]) -> tuple[str, ...]:
    return tuple(sorted(each for each, effect in effects.items() if holds(effect)))


def _of(prefix: str, ids: Collection[str]) -> tuple[str, ...]:
    return tuple(each for each in ids if each.startswith(f"{prefix}-"))


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more
