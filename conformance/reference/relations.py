"""What the parts of a set-up owe each other: names that must exist, names that must not repeat, rules between parts.

The checks read plain values, not the model, so that a set-up with one malformed part still gets all its problems told.
"""

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

from conformance.gpu.drivers import DriverVersion
from conformance.reference.checking import Complaint, guess
from conformance.reference.model import BUILT_IN_KINDS
from conformance.reference.sources import Trail, path_text

# Deploymnt and Jobs are this close to a built-in kind; JobSet and CronJob are not.
_TYPO = 0.85

# Kubernetes makes these itself: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
SYSTEM_CLASSES = ("system-cluster-critical", "system-node-critical")
# Every namespace gets this service account from the control plane.
GIVEN_ACCOUNT = "default"

# Names that may occur once. A pattern is read within each match of its scope.
_UNIQUE = (
    ("", "pools.*.name"),
    ("", "teams.*.namespace"),
    ("", "priority_classes.*.name"),
    ("", "test_pods.*.name"),
    ("", "kai.queues.*.name"),
    ("teams.*", "service_accounts.*.name"),
    ("teams.*", "roles.*.name"),
    ("teams.*", "bindings.*.name"),
    ("teams.*", "quotas.*.name"),
    ("teams.*", "limit_ranges.*.name"),
)


class _Reference(NamedTuple):
    """Names that must be among other names of the same scope."""

    scope: str
    user: str
    target: str
    what: str
    always: tuple[str, ...] = ()


_REFERENCES = (
    _Reference("", "workloads.*.pools.*", "pools.*.name", "pool"),
    _Reference("", "test_pods.*.pools.*", "pools.*.name", "pool"),
    _Reference("", "workloads.*.namespace", "teams.*.namespace", "team's namespace"),
    _Reference("", "workloads.*.priority_class", "priority_classes.*.name", "priority class", SYSTEM_CLASSES),
    _Reference("", "kai.queues.*.parent", "kai.queues.*.name", "queue"),
    _Reference("", "priority_classes.*.preempts.*", "priority_classes.*.name", "priority class"),
    _Reference("", "teams.*.quotas.*.priority_classes.*", "priority_classes.*.name", "priority class", SYSTEM_CLASSES),
    _Reference(
        "teams.*", "bindings.*.service_accounts.*", "service_accounts.*.name", "service account", (GIVEN_ACCOUNT,)
    ),
)

# The stacks that give out devices of claims by themselves.
_WITH_CLAIMS = ("dra-driver", "simulated-plugin")


# The keys of a toleration, with the values that Kubernetes allows where it names them.
_TOLERATION: dict[str, tuple[str, ...]] = {
    "key": (),
    "operator": ("", "Exists", "Equal", "Lt", "Gt"),
    "value": (),
    "effect": ("", "NoSchedule", "PreferNoSchedule", "NoExecute"),
    "tolerationSeconds": (),
}


def complaints(setup: Any) -> Iterator[Complaint]:
    """Every broken relation in the plain value of a whole set-up, as a path and what is wrong there."""
    yield from _repeated(setup)
    for reference in _REFERENCES:
        yield from _dangling(setup, reference)
    yield from _roles_of_bindings(setup)
    yield from _accounts_of_workloads(setup)
    yield from _pools(setup)
    yield from _priority_classes(setup)
    yield from _workloads(setup)
    yield from _stack(setup)
    yield from _simulated(setup)


def matches(value: Any, pattern: str, path: Trail = ()) -> Iterator[tuple[Trail, Any]]:
    """All parts of ``value`` at a dotted pattern, ``*`` standing for every member of a list."""
    if not pattern:
        yield path, value
        return
    step, _, rest = pattern.partition(".")
    if step == "*" and isinstance(value, list):
        for index, member in enumerate(value):
            yield from matches(member, rest, (*path, index))
    elif isinstance(value, dict) and step in value:
        yield from matches(value[step], rest, (*path, step))


def _texts(value: Any, pattern: str, path: Trail = ()) -> Iterator[tuple[Trail, str]]:
    return ((place, text) for place, text in matches(value, pattern, path) if isinstance(text, str))


def _repeated(setup: Any) -> Iterator[Complaint]:
    for scope, pattern in _UNIQUE:
        for path, part in matches(setup, scope):
            yield from _repeated_in(_texts(part, pattern, path))
    yield from _repeated_in(
        (path, f"{workload.get('kind')} {workload.get('namespace')}/{workload.get('name')}")
        for path, workload in matches(setup, "workloads.*")
        if isinstance(workload, dict)
    )


def _repeated_in(named: Iterator[tuple[Trail, str]]) -> Iterator[Complaint]:
    first: dict[str, Trail] = {}
    for path, name in named:
        if name in first:
            yield path, f"{name!r} is already declared at {path_text(first[name])}"
        first.setdefault(name, path)


def _dangling(setup: Any, reference: _Reference) -> Iterator[Complaint]:
    for scope, part in matches(setup, reference.scope):
        known = [name for _, name in _texts(part, reference.target)]
        for path, name in _texts(part, reference.user, scope):
            if name not in known and name not in reference.always:
                yield path, _no_such(reference.what, name, known)


def _no_such(what: str, name: str, known: list[str]) -> str:
    declared = f"Declared: {', '.join(known)}" if known else "None is declared"
    return f"no {what} is named {name!r}.{guess(name, known)} {declared}"


def _roles_of_bindings(setup: Any) -> Iterator[Complaint]:
    for scope, team in matches(setup, "teams.*"):
        known = [name for _, name in _texts(team, "roles.*.name")]
        for path, binding in matches(team, "bindings.*", scope):
            role = binding.get("role") if isinstance(binding, dict) else None
            if isinstance(role, str) and binding.get("role_kind", "Role") == "Role" and role not in known:
                yield (*path, "role"), _no_such("role of this team", role, known)


def _accounts_of_workloads(setup: Any) -> Iterator[Complaint]:
    accounts = {
        namespace: [name for _, name in _texts(team, "service_accounts.*.name")]
        for _, team in matches(setup, "teams.*")
        for _, namespace in _texts(team, "namespace")
    }
    for path, workload in matches(setup, "workloads.*"):
        if not isinstance(workload, dict):
            continue
        known = accounts.get(str(workload.get("namespace")))
        account = workload.get("service_account")
        if known is not None and isinstance(account, str) and account not in (*known, GIVEN_ACCOUNT):
            yield (
                (*path, "service_account"),
                _no_such(f"service account of {workload['namespace']}", account, known),
            )


def _pools(setup: Any) -> Iterator[Complaint]:
    selectors = [
        (path, pool["selector"])
        for path, pool in matches(setup, "pools.*")
        if isinstance(pool, dict) and isinstance(pool.get("selector"), dict) and pool["selector"]
    ]
    for path, selector in selectors:
        for other, wider in selectors:
            if path != other and wider.items() <= selector.items() and (wider != selector or other < path):
                yield (*path, "selector"), f"every node of it also belongs to {path_text(other)}: a node has one pool"
    for path, pool in matches(setup, "pools.*"):
        if isinstance(pool, dict):
            yield from _labels_of(pool, path)
            yield from _taints_of(pool, path)
            yield from _sharing_of(setup, pool, path)


def _labels_of(pool: dict[str, Any], path: Trail) -> Iterator[Complaint]:
    labels, selector = pool.get("labels"), pool.get("selector")
    if isinstance(labels, dict) and isinstance(selector, dict):
        for key in labels.keys() & selector.keys():
            if labels[key] != selector[key]:
                yield (
                    (*path, "labels", key),
                    f"differs from the pool's selector ({selector[key]!r}): the node would leave",
                )


def _taints_of(pool: dict[str, Any], path: Trail) -> Iterator[Complaint]:
    # A node may carry one taint for each key and effect; the API server refuses a second.
    yield from _repeated_in(
        (place, f"{taint.get('key')}:{taint.get('effect')}")
        for place, taint in matches(pool, "taints.*", path)
        if isinstance(taint, dict)
    )


def _sharing_of(setup: Any, pool: dict[str, Any], path: Trail) -> Iterator[Complaint]:
    gpu = pool.get("gpu")
    if not isinstance(gpu, dict):
        return
    replicas, shared_by = gpu.get("replicas", 1), gpu.get("shared_by")
    if isinstance(replicas, int) and replicas > 1 and shared_by is None:
        yield (*path, "gpu", "replicas"), "needs 'shared_by' beside it: time-slicing, mps or other"
    if shared_by is not None and replicas == 1:
        yield (*path, "gpu", "shared_by"), "needs 'replicas' beside it, from 2 on"
    stack = setup.get("stack") if isinstance(setup, dict) else None
    without_driver = isinstance(stack, dict) and stack.get("kind") not in _WITH_CLAIMS and not stack.get("dra")
    if gpu.get("allocated_by") == "dra" and without_driver:
        yield (*path, "gpu", "allocated_by"), "is dra, and the stack declares no 'dra' driver"


def _stack(setup: Any) -> Iterator[Complaint]:
    for path, configs in matches(setup, "stack.plugin_configs"):
        known = configs.get("configs") if isinstance(configs, dict) else None
        default = configs.get("default") if isinstance(configs, dict) else None
        if isinstance(known, dict) and isinstance(default, str) and default and default not in known:
            yield (*path, "default"), _no_such("configuration", default, [str(key) for key in known])
    for path, toleration in matches(setup, "stack.tolerations.*"):
        if isinstance(toleration, dict):
            yield from _toleration(toleration, path)
    for pattern in ("stack.driver", "pools.*.gpu.driver"):
        for path, driver in _texts(setup, pattern):
            if driver and not _is_driver_version(driver):
                yield path, _why_no_driver_version(driver)


def _toleration(toleration: dict[str, Any], path: Trail) -> Iterator[Complaint]:
    """What the API server would refuse in a toleration (kubernetes: pkg/apis/core/validation, ValidateTolerations)."""
    for key, value in toleration.items():
        if key not in _TOLERATION:
            yield (*path, str(key)), f"is no key of a toleration. Allowed: {', '.join(_TOLERATION)}"
        elif (allowed := _TOLERATION[key]) and value not in allowed:
            yield (*path, key), f"is {value!r}. Allowed: {', '.join(filter(None, allowed))}"
    operator = toleration.get("operator") or "Equal"
    if not toleration.get("key") and operator != "Exists":
        yield (*path, "operator"), "needs to be Exists where no key is named"
    if operator == "Exists" and toleration.get("value"):
        yield (*path, "value"), "must be absent with the operator Exists"
    if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
        yield (*path, "tolerationSeconds"), "goes with the effect NoExecute only"


def _simulated(setup: Any) -> Iterator[Complaint]:
    """The simulated plugin gives out whole GPUs, by count or as claims, and nothing else can be asked of it."""
    stack = setup.get("stack") if isinstance(setup, dict) else None
    kind = stack.get("kind") if isinstance(stack, dict) else None
    for path, _ in matches(setup, "stack.image") if kind != "simulated-plugin" else ():
        yield path, "is of the kind simulated-plugin only; the images of a chart are named in 'values'"
    if kind != "simulated-plugin":
        return
    for pattern, what in (
        ("stack.plugin_configs", "a configuration of NVIDIA's device plugin"),
        ("stack.mig_layouts", "MIG layouts"),
        ("stack.dra", "NVIDIA's DRA driver"),
        ("pools.*.gpu.shared_by", "GPUs that are shared"),
        ("pools.*.labels.nvidia.com/mig.config", "MIG devices"),
    ):
        for path, _ in matches(setup, pattern):
            yield path, f"is {what}, and the stack is simulated-plugin, which offers whole GPUs only"


def _is_driver_version(text: str) -> bool:
    try:
        DriverVersion.parse(text)
    except ValueError:
        return False
    return True


def _why_no_driver_version(text: str) -> str:
    bare = text.removeprefix("v")
    if bare != text and _is_driver_version(bare):
        return f"is {text!r}: NVIDIA writes driver versions without a v, and no node could ever equal it; write {bare}"
    return f"is {text!r}; nodes report a whole version such as 580.95.05, and a branch or a tag equals none of them"


def _priority_classes(setup: Any) -> Iterator[Complaint]:
    defaults = [path for path, default in matches(setup, "priority_classes.*.global_default") if default is True]
    for path in defaults[1:]:
        yield path, f"only one class can be the default, and {path_text(defaults[0][:-1])} already is"
    for path, name in _texts(setup, "priority_classes.*.name"):
        if name.startswith("system-"):
            yield path, f"is {name!r}; names that begin with 'system-' belong to Kubernetes"


def _workloads(setup: Any) -> Iterator[Complaint]:
    for path, workload in matches(setup, "workloads.*"):
        if not isinstance(workload, dict) or not isinstance(workload.get("kind"), str):
            continue
        if _is_built_in(workload):
            if workload.get("selector"):
                yield (*path, "selector"), f"is for kinds that are not read; the pods of a {workload['kind']} are known"
            if isinstance(workload.get("manifest"), dict):
                yield from _manifest_of(workload, (*path, "manifest"))
        else:
            yield from _of_another_kind(workload, path)


def _is_built_in(workload: dict[str, Any]) -> bool:
    group = str(workload.get("api_version") or "").partition("/")[0]
    return workload["kind"] in BUILT_IN_KINDS and group in ("", "apps", "batch")


def _of_another_kind(workload: dict[str, Any], path: Trail) -> Iterator[Complaint]:
    """A kind that is judged by its pods; one that looks like a built-in kind and has no api_version is a typo."""
    kind = workload["kind"]
    meant = difflib.get_close_matches(kind, BUILT_IN_KINDS, n=1, cutoff=_TYPO)
    if meant and not workload.get("api_version"):
        yield (
            (*path, "kind"),
            f"is {kind!r}. Did you mean {meant[0]}? A kind of that name needs 'api_version' beside it",
        )
    elif workload.get("manifest") is not None:
        kinds = ", ".join(BUILT_IN_KINDS)
        yield (*path, "manifest"), f"is for {kinds}: a {kind} is deployed by others; leave it out"


def _manifest_of(workload: dict[str, Any], path: Trail) -> Iterator[Complaint]:
    manifest = workload["manifest"]
    if "apiVersion" not in manifest:
        yield path, "needs 'apiVersion': it must be a whole Kubernetes object"
    for key, pattern in (("kind", "kind"), ("namespace", "metadata.namespace"), ("name", "metadata.name")):
        seen = next((value for _, value in matches(manifest, pattern)), None)
        if seen != workload.get(key):
            yield (
                (*path, *pattern.split(".")),
                f"is {seen!r}, but the workload declares {key} {workload.get(key)!r}",
            )
