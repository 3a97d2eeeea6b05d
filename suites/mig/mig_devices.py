"""MIG devices: their resource names, the labels that count them, and the requests for them."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod
from conformance.facts.pods import pod_from
from conformance.gpu.labels import GPU_COUNT, MIG_STRATEGY
from conformance.gpu.quantities import as_count
from conformance.gpu.resources import GPU, MIG_PREFIX, mig_resource
from conformance.gpu.sharing import MigStrategy, advertised
from conformance.reference.expected import gpus_of, mig_strategy_of, offer_of
from conformance.reference.model import Pool, Reference
from conformance.subjects import ObjectReference
from conformance.verdict import NotApplicable, Waits
from suites._shared.declared_workloads import declared_in
from suites.mig.layouts import MigNodes


def counts_devices_as_gpus(node: Node) -> bool:
    """Whether the label that counts GPUs counts MIG devices on a node, as it does with the strategy single."""
    return node.labels.get(MIG_STRATEGY) == MigStrategy.SINGLE.value


def why_the_devices_differ(there: Mapping[str, int], expected: Mapping[str, int]) -> str:
    """How the MIG devices that a node offers differ from those of its layout."""
    if set(there).isdisjoint(expected):
        return f"the devices are offered as {', '.join(there)}, and {', '.join(expected)} is declared"
    differing = sorted(name for name in {*there, *expected} if there.get(name, 0) != expected.get(name, 0))
    return "; ".join(f"{there.get(name, 0)} {name}, not {expected.get(name, 0)}" for name in differing)


def counts_by_label(reference: Reference, pool: Pool) -> dict[str, str]:
    """The labels that count MIG devices, by the layout; empty where the strategy sets none."""
    gpus, strategy = gpus_of(reference, pool), mig_strategy_of(reference, pool)
    if gpus is None or not gpus.layouts_known or not gpus.mig:
        return {}
    if strategy is MigStrategy.MIXED:
        return {f"{mig_resource(profile)}.count": str(count) for profile, count in gpus.devices().items()}
    if strategy is MigStrategy.SINGLE and advertised(gpus, strategy=strategy).resources:
        return {GPU_COUNT: str(sum(gpus.devices().values()))}
    return {}


def has_no_mig_devices(reference: Reference, pool: Pool) -> bool:
    """Whether the layout of a pool is known to make no MIG devices, as all-disabled does."""
    gpus = gpus_of(reference, pool)
    return gpus is not None and gpus.layouts_known and not gpus.mig


def counts_devices(label: str) -> bool:
    """Whether a label counts the MIG devices of one profile."""
    return label.startswith(MIG_PREFIX) and label.endswith(".count")


class DeviceRequest(NamedTuple):
    """A request for MIG devices by name, its subject, and the pools that could offer them; none for any pool."""

    subject: ObjectReference
    resource: str
    pools: tuple[Pool, ...]
    inspect: str


def mig_device_requests(reference: Reference, facts: Facts) -> Iterator[DeviceRequest]:
    """Requests for MIG devices by name, of declared workloads, test pods, quotas and Pending pods."""
    for workload in declared_in(reference, facts):
        for resource in _mig_names(workload.template.requests()):
            yield DeviceRequest(workload.subject, resource, workload.pools, workload.inspect)
    for test_pod in reference.test_pods:
        pools = tuple(pool for pool in reference.pools if pool.name in test_pod.pools)
        for resource in _mig_names(pod_from(test_pod.manifest).requests()):
            yield DeviceRequest(test_pod.subject, resource, pools, "the set-up")
    for quota in facts.quotas:
        inspect = f"kubectl describe quota -n {quota.namespace} {quota.name}"
        for key, amount in quota.hard.items():
            resource = key.removeprefix("requests.")
            if resource != key and resource.startswith(MIG_PREFIX) and as_count(amount):
                yield DeviceRequest(quota.subject, resource, (), inspect)
    for pods in _pending_by_owner(facts).values():
        first, others = pods[0], len(pods) - 1
        subject = first.of_owner if others else first.subject
        for resource in _mig_names(first.gpu_requests()):
            yield DeviceRequest(subject, resource, (), f"kubectl describe pod -n {first.namespace} {first.name}")


def _pending_by_owner(facts: Facts) -> dict[tuple[str, ...], list[Pod]]:
    """The pods without node that request GPUs, by owner."""
    groups: dict[tuple[str, ...], list[Pod]] = {}
    for pod in facts.pods:
        if not pod.node and not pod.finished and not pod.deleting and pod.gpu_requests():
            owner = (pod.owner_kind, pod.owner_name) if pod.owner_name else ("Pod", pod.name)
            groups.setdefault((pod.namespace, *owner, *pod.gpu_requests()), []).append(pod)
    return groups


def _mig_names(requests: Mapping[str, object]) -> list[str]:
    return sorted(name for name, amount in requests.items() if name.startswith(MIG_PREFIX) and amount)


def why_the_name_is_not_offered(reference: Reference, resource: str, offered: set[str]) -> str:
    """Why no node offers a device under the requested name."""
    names = sorted(name for name in offered if name.startswith(MIG_PREFIX))
    if names:
        return f"no layout creates a device of that name; offered are {', '.join(names)}"
    strategies = {mig_strategy_of(reference, pool).value for pool in reference.gpu_pools if pool.mig_layout}
    named = f"the MIG strategy is {', '.join(sorted(strategies))}" if strategies else "no pool has a MIG layout"
    return f"{named}: no device is offered as {resource}, but as {GPU}"


def offered_devices(mig_nodes: MigNodes) -> Iterator[tuple[Pool, str, int, list[Node]]]:
    """The resources of each pool that its strategy offers for MIG devices, and the nodes that offer all of them.

    Raises NotApplicable where no strategy offers any, Waits where no node does.
    """
    found = False
    for pool, _ in mig_nodes.pools:
        gpus, strategy = gpus_of(mig_nodes.reference, pool), mig_strategy_of(mig_nodes.reference, pool)
        if gpus is None or not gpus.mig or strategy is MigStrategy.NONE:
            continue
        for resource, count in (offer_of(mig_nodes.reference, pool).resources or {}).items():
            if strategy is MigStrategy.MIXED and not resource.startswith(MIG_PREFIX):
                continue
            own = [node for other, node, _ in mig_nodes.configured if other.name == pool.name]
            nodes = [each for each in own if each.gpus(resource) == count and each.ready and not each.unschedulable]
            if not nodes:
                raise Waits(f"no node of {pool} takes pods and offers {count} {resource}", on="POOL-04")
            found = True
            yield pool, resource, count, nodes
    if not found:
        raise NotApplicable(
            "no pool with a MIG layout offers MIG devices: its strategy is none, or its layout creates none"
        )
