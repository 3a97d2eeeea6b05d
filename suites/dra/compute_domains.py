"""ComputeDomains: which nodes and pods belong to one, how its IMEX daemons fare, what is still being formed.

A ComputeDomain is formed by its workload. The kubelet plugin labels a node with the domain's UID when the first pod
with its channel gets there, the domain's DaemonSet starts a daemon on labelled nodes, and the pod waits for the daemon
of its node (or, with the gate IMEXDaemonsWithDNSNames off, for spec.numNodes of them). A domain without pods, or whose
pods have no node yet, is not Ready and as it should be. The controller writes status.status within seconds.

Sources: kubernetes-sigs/dra-driver-nvidia-gpu v0.4.0, api/nvidia.com/resource/v1beta1/computedomain.go,
cmd/compute-domain-controller (computedomain.go: calculateGlobalStatus; cdstatus.go; daemonset.go),
cmd/compute-domain-kubelet-plugin/computedomain.go, templates/compute-domain-daemon.tmpl.yaml,
deployments/helm (controller.yaml); issues 524 and 767.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod, Resource, Workload
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, NotApplicable
from suites._shared.formatting import join_limited
from suites._shared.grace import is_recent, why_unavailable
from suites._shared.operand_status import is_starting
from suites._shared.pod_status import what_to_do, why_not_ready

DOMAIN_LABEL = "resource.nvidia.com/computeDomain"
"""On nodes, and on a domain's DaemonSet and its pods: the UID of the ComputeDomain."""

_DEFINITION = "computedomains.resource.nvidia.com"
_CONTROLLER_CONTAINER = "compute-domain"
_READY = "Ready"
_STARTS_ALONE = "IMEXDaemonsWithDNSNames=true"
_HOST_RUNS_IT = (
    ". Where it says that the IMEX session is in use (NV_ERR_IN_USE) or cannot bind its address, the node runs "
    "nvidia-imex.service as well: one of the two has to go, as the driver's prerequisites say."
)


class Joined(NamedTuple):
    """A node with a pod or a daemon of a domain; the daemon is None where there is none."""

    node: Node
    daemon: Pod | None


class DomainFailure(NamedTuple):
    """What is wrong, as it is seen; its cause, and what to do about it."""

    seen: str
    cause: str
    remedy: str


class Domain(NamedTuple):
    """A ComputeDomain, its DaemonSet, the pods that use its channel, and the nodes that these have brought in."""

    resource: Resource
    daemon_set: Workload | None
    users: tuple[Pod, ...]
    joined: tuple[Joined, ...]

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.resource.subject

    def __str__(self) -> str:
        return str(self.resource)

    @property
    def status(self) -> str:
        """``Ready``, ``NotReady``, or empty where the controller has not looked at it."""
        return str(self.resource.status.get("status") or "")

    @property
    def wanted(self) -> int:
        """How many nodes it is to have: 0 (the default) for as many as its pods have."""
        return int(self.resource.spec.get("numNodes") or 0)

    @property
    def starts_alone(self) -> bool:
        """Whether each daemon gets Ready without the others, as far as the DaemonSet tells the gate."""
        containers = self.daemon_set.template.containers if self.daemon_set else ()
        return any(_STARTS_ALONE in each.env.get("FEATURE_GATES", "") for each in containers)

    @property
    def waiting_users(self) -> list[Pod]:
        """The pods of it that have no node."""
        return [pod for pod in self.users if not pod.node]

    @property
    def is_being_formed(self) -> bool:
        """Whether it waits for nodes that pods without a node are to bring in."""
        return len(self.joined) < self.wanted and (bool(self.waiting_users) or not self.users)


def compute_domains(facts: Facts) -> tuple[Domain, ...]:
    """The domains of a cluster. Raises NotApplicable where there are none, Waits where they could not be read."""
    if not _may_have_domains(facts) or not facts.compute_domains:
        raise NotApplicable("there is no ComputeDomain")
    sets: dict[str | None, Workload] = {}
    for daemon_set in (each for each in facts.workloads if each.kind == "DaemonSet"):
        for labels in (daemon_set.labels, daemon_set.template.labels):
            sets.setdefault(labels.get(DOMAIN_LABEL), daemon_set)
    daemons = [pod for pod in facts.pods if _is_daemon(pod)]
    return tuple(_domain(each, sets.get(each.uid), daemons, facts) for each in facts.compute_domains)


def _may_have_domains(facts: Facts) -> bool:
    """Whether the CustomResourceDefinition is there; so, too, where that is not known."""
    try:
        return "computedomains" not in facts.unreadable or any(each.name == _DEFINITION for each in facts.crds)
    except Inconclusive:
        return True


def _domain(resource: Resource, daemon_set: Workload | None, daemons: Iterable[Pod], facts: Facts) -> Domain:
    own = {pod.node: pod for pod in daemons if pod.labels[DOMAIN_LABEL] == resource.uid}
    users = tuple(_users(resource, facts))
    there = {*own, *(pod.node for pod in users)}
    joined = tuple(Joined(node, own.get(node.name)) for node in facts.nodes if node.name in there)
    return Domain(resource, daemon_set, users, joined)


def _is_daemon(pod: Pod) -> bool:
    is_there = not pod.finished and not pod.deleting
    return is_there and pod.owner_kind == "DaemonSet" and DOMAIN_LABEL in pod.labels


def _users(resource: Resource, facts: Facts) -> Iterator[Pod]:
    channel = resource.spec.get("channel")
    template = (channel.get("resourceClaimTemplate") or {}).get("name") if isinstance(channel, Mapping) else None
    for pod in facts.pods_in(resource.namespace):
        if not pod.finished and not pod.deleting and any(each.template == template for each in pod.claims):
            yield pod


def why_not_judged(each: Joined, domain: Domain, facts: Facts) -> str:
    """Why the daemon of a node is not judged now; empty where it is."""
    if changing := why_unavailable(each.node, facts):
        return changing
    if each.daemon is None:
        here = [pod for pod in domain.users if pod.node == each.node.name and not pod.ready]
        if not here:
            return f"no pod of {domain} waits here"
        return f"{here[0]} came just now" if all(is_recent(pod.created, facts.taken_at) for pod in here) else ""
    if each.daemon.ready:
        return ""
    if is_starting(each.daemon, facts.taken_at):
        return f"{each.daemon} is starting ({why_not_ready(each.daemon)})"
    if domain.is_being_formed and not domain.starts_alone and _waits_for_others(each.daemon):
        return f"{len(domain.joined)} of the {domain.wanted} nodes of {domain} have joined, and its daemons may wait"
    return ""


def _waits_for_others(daemon: Pod) -> bool:
    return all(each.running_since is not None and not each.restarts for each in daemon.statuses)


def failures_on_nodes(domain: Domain, facts: Facts) -> Iterator[tuple[Joined, DomainFailure]]:
    """What is wrong with the daemons of a domain, node by node.

    Without DaemonSet there are none: the hosts run IMEX themselves, or the controller has not made it.
    """
    if domain.daemon_set is None or domain.resource.deletion is not None:
        return
    for each in domain.joined:
        failure = _failure_on(each, domain, facts)
        if failure is not None:
            yield each, failure


def _failure_on(each: Joined, domain: Domain, facts: Facts) -> DomainFailure | None:
    """What is wrong with the daemon of a node; None where it is Ready."""
    if each.daemon is None:
        return _without_daemon(each.node, domain)
    if each.daemon.ready:
        return None
    return DomainFailure(
        f"{each.daemon} is not Ready",
        f"the IMEX daemon of {domain} does not get Ready here: {why_not_ready(each.daemon)}",
        what_to_do(each.daemon, facts) + _HOST_RUNS_IT,
    )


def _without_daemon(node: Node, domain: Domain) -> DomainFailure:
    seen = f"no daemon of {domain} here"
    if node.labels.get(DOMAIN_LABEL) != domain.resource.uid:
        other = node.labels.get(DOMAIN_LABEL)
        what = f"the label {DOMAIN_LABEL} of another one ({other})" if other else f"no label {DOMAIN_LABEL}"
        return DomainFailure(
            seen,
            f"{node} has {what}: the kubelet plugin did not label it for the pods of {domain} that wait here",
            f"Read the log of container compute-domains of the DRA driver's kubelet plugin on {node.name}: it says why "
            "the claim cannot be prepared. A node is in one ComputeDomain at a time.",
        )
    made_by = domain.daemon_set
    events = f"kubectl describe daemonset -n {made_by.namespace} {made_by.name}" if made_by else ""
    return DomainFailure(seen, f"{made_by} has no pod on {node}", f"{events}: its events say what keeps the pod away.")


def why_still_forming(domain: Domain, facts: Facts) -> str:
    """Why a domain that is not Ready is not judged now; empty where it is."""
    now = facts.taken_at
    if is_recent(domain.resource.deletion, now):
        return "it is being deleted"
    if is_recent(domain.resource.created, now):
        return "it was created just now"
    if domain.daemon_set is None:
        return ""
    placed = [pod for pod in domain.users if pod.node]
    if not placed and not domain.joined:
        return "no pod of it has a node yet"
    if domain.is_being_formed:
        return f"{len(domain.joined)} of its {domain.wanted} nodes have joined, and others of its pods have no node yet"
    if len(domain.joined) < domain.wanted and placed and all(pod.ready for pod in placed):
        return f"its pods are Ready on {len(domain.joined)} nodes, fewer than its numNodes ({domain.wanted})"
    newest = [each.daemon for each in domain.joined if each.daemon] + placed
    if any(is_recent(pod.created, now) for pod in newest):
        return "its pods have come just now"
    if any(is_recent(status.running_since, now) for pod in newest for status in pod.statuses):
        return "a daemon or a pod of it has been started anew just now"
    return ""


def failure_with(domain: Domain, facts: Facts) -> DomainFailure | None:
    """Why a domain is not Ready although all daemons that it has are; None where it is."""
    if domain.resource.deletion is not None:
        if domain.users:
            return None
        seen = f"being deleted since {domain.resource.deletion:%Y-%m-%d %H:%M} UTC"
        finalizers = ", ".join(domain.resource.finalizers) or "no finalizer"
        return DomainFailure(
            seen, f"{finalizers} is left, and no pod uses it; {_of_the_controller(facts)[0]}", _until_it_is_gone(facts)
        )
    if domain.status == _READY:
        return None
    seen = domain.status or "no status"
    if domain.daemon_set is None:
        cause, remedy = _of_the_controller(facts)
        return DomainFailure(seen, f"no DaemonSet was made for it: {cause}", remedy)
    if len(domain.joined) < domain.wanted:
        return DomainFailure(
            seen,
            f"its numNodes is {domain.wanted}, and all of its pods are on {len(domain.joined)} nodes",
            "Create it anew with the number of nodes that its pods are on, or with numNodes 0, which is the default; "
            "the spec cannot be changed.",
        )
    return _stale(domain, facts)


def _stale(domain: Domain, facts: Facts) -> DomainFailure:
    """That the status of a domain is not what its daemons are."""
    listed = [each for each in domain.resource.status.get("nodes") or () if isinstance(each, Mapping)]
    joined = {each.node.name for each in domain.joined}
    not_ready = {str(each.get("name")) for each in listed if each.get("status") != _READY}
    missing = joined - {str(each.get("name")) for each in listed}
    parts = [
        f"its status {what} {join_limited(sorted(names))}, {though}"
        for what, names, though in (
            ("calls NotReady", not_ready & joined, "whose daemons are Ready"),
            ("lacks", missing, "whose daemons are Ready"),
            ("still lists", not_ready - joined, "where it has no daemon"),
        )
        if names
    ]
    what = "; ".join(parts) or "its status was not brought up to date"
    cause, remedy = _of_the_controller(facts)
    return DomainFailure(
        domain.status or "no status",
        f"{what}; {cause}",
        f"{remedy} Daemons write which nodes they are on into ComputeDomainCliques: kubectl get computedomaincliques "
        "-A -o yaml",
    )


def _until_it_is_gone(facts: Facts) -> str:
    return f"{_of_the_controller(facts)[1]} It removes the finalizer when the daemons and their claims are gone."


def _of_the_controller(facts: Facts) -> tuple[str, str]:
    """How the controller of ComputeDomains fares, and what to do about it."""
    found = [
        each
        for each in facts.workloads
        if each.kind == "Deployment"
        and any(container.name == _CONTROLLER_CONTAINER for container in each.template.containers)
    ]
    if not found:
        return (
            "the cluster has no Deployment of the DRA driver's controller",
            "Install the controller (resources.computeDomains.enabled of the chart, draDriver.computeDomains of a "
            "GPUCluster).",
        )
    controller = found[0]
    pods = facts.pods_of(controller)
    broken = next((pod for pod in pods if not pod.ready and not pod.finished), None)
    if broken is not None and not any(pod.ready for pod in pods):
        return f"{broken} of its controller is not Ready: {why_not_ready(broken)}", what_to_do(broken, facts)
    log = f"Read the controller's log: kubectl logs -n {controller.namespace} deployment/{controller.name}."
    if not pods:
        events = f"kubectl describe deployment -n {controller.namespace} {controller.name}"
        return f"{controller}, its controller, has no pod", events
    return f"{controller}, its controller, runs", log
