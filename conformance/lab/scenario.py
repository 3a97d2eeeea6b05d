"""What one requirement may do to the cluster: everything goes through here, carries the run id, and is cleaned up."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from conformance.gpu.placement import bound_by_node, requests_of
from conformance.gpu.quantities import as_count
from conformance.gpu.taints import Taint
from conformance.kube.effects import Effect
from conformance.kube.names import DOMAIN, own_prefix
from conformance.kube.paths import path, path_of
from conformance.kube.scraping import scrape
from conformance.lab import access, borrowing, policies, probe_jobs
from conformance.lab.cleanup.undo import Step, interrupts_deferred
from conformance.lab.namespaces import delete_pods_of, empty_namespace, make_namespace
from conformance.lab.object_factory import Maker, PodOptions, collection_of, dns_name
from conformance.lab.pods import LabPod, LabPods, at_once
from conformance.lab.podspec import HOLD_FINALIZER, Named
from conformance.lab.probe_results import ProbeResult
from conformance.lab.refusals import Answer, answer_to
from conformance.lab.run_context import RunContext
from conformance.lab.watching import Watch
from conformance.lab.workloads import LabDeployment, LabJob, workload_object
from conformance.timeline import Timeline
from conformance.verdict import Inconclusive

if TYPE_CHECKING:
    from conformance.catalog import Requirement

__all__ = ["PodOptions", "RequirementLab"]

_Node = TypeVar("_Node", bound=Named)


class RequirementLab:
    """The lab of one requirement. A context manager: leaving it cleans everything up, last done first."""

    def __init__(self, run: RunContext, requirement: "Requirement") -> None:
        self.requirement = requirement
        self.client = run.client.for_requirement(requirement.id, requirement.effect, run.stopped)
        self.run_id = run.run_id
        self.timeouts = run.timeouts
        self._run = run
        self._undoing = run.new_undoing()
        self._lock = threading.RLock()
        self._numbers: dict[str, int] = {}
        self._default_namespace: str | None = None
        self._namespaces: list[str] = []
        self._borrowed: dict[str, tuple[borrowing.BorrowedNode, Step]] = {}
        self._mirrors: dict[str, str] = {}
        self._workloads: list[str] = []
        self.watch = Watch(Timeline())
        self._maker = Maker(self.client, run, requirement, self._borrowed.keys())

    def __enter__(self) -> "RequirementLab":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Undo whatever was done. What cannot be undone is kept in ``Lab.left_behind``; safe to repeat."""
        if self._undoing.pending:
            self._undo()
        self._run.reservations.release(self.requirement.id)

    def _undo(self) -> None:
        with interrupts_deferred(f"undoing what {self.requirement.id} did", self._run.what_is_left):
            self._run.left_behind += self._undoing.undo_all()
        self._namespaces.clear()
        self._borrowed.clear()
        self._mirrors.clear()
        self._default_namespace = None

    # Namespaces and what lives in them.

    def namespace(self, *, labels: Mapping[str, str] | None = None, name_hint: str = "") -> str:
        """A new namespace and its name. Without it, pods and other objects share one of the requirement."""
        name = self._own_name(name_hint or "ns")
        self._undoing.will(f"namespace {name}", lambda: self._done_with(name))
        self._namespaces.append(name)
        make_namespace(self.client, name, {**(labels or {}), **self.labels}, self._run.pull_secret())
        return name

    def pod(self, **options: Unpack[PodOptions]) -> LabPod:
        """Create one pod; see PodOptions. What refuses it passes through as an ApiError."""
        return self._create_pod(options, self._numbered(options.get("name_hint") or "pod"))

    def pods(self, count: int, **options: Unpack[PodOptions]) -> LabPods:
        """Create ``count`` equal pods at the same time."""
        hint = options.get("name_hint") or "pod"
        names = [self._numbered(hint) for _ in range(count)]
        self._namespace_of(options)
        return LabPods(at_once(lambda name: self._create_pod(options, name), names))

    def fill(
        self,
        node: Named,
        *,
        gpus_each: int = 1,
        count: int | None = None,
        **options: Unpack[PodOptions],
    ) -> LabPods:
        """Fill the node's free devices with running pods of ``gpus_each``, or make ``count`` of them.

        They tolerate the node's taints. A preparation, not an expectation: raises Inconclusive when there is no room or
        they do not come to run.
        """
        wanted = options.get("resource") or self._run.gpu_resource
        free = self.free(node, wanted)
        number = free // gpus_each if count is None else count
        if number == 0 or number * gpus_each > free:
            raise Inconclusive(
                f"node {node.name} has {free} {wanted} free, too few to fill it with pods of {gpus_each}"
            )
        taints = borrowing.live_taints(self.client.get(path("Node", name=node.name)))
        tolerated = [taint for taint in taints if not taint.is_lifecycle]
        options = {"name_hint": "filler", **options}
        options |= {"gpus": gpus_each, "resource": wanted, "on": node.name, "tolerates": tolerated}
        return self.pods(number, **options).require_running()

    def free(self, node: Named, resource: str | None = None) -> int:
        """How many devices of the resource no unfinished pod on the node asks for."""
        wanted = resource or self._run.gpu_resource
        found = self.client.get(path("Node", name=node.name))
        pods = self.client.list(path("Pod"), field_selector=f"spec.nodeName={node.name}")
        used = sum(int(requests_of(pod).get(wanted, 0)) for pod in bound_by_node(pods).get(node.name, ()))
        return as_count(str((found["status"].get("allocatable") or {}).get(wanted, "0"))) - used

    def deployment(self, *, replicas: int = 1, **options: Unpack[PodOptions]) -> LabDeployment:
        """Create a Deployment of such pods."""
        template, namespace = self._maker.template(options), self._namespace_of(options)
        name = self._numbered(options.get("name_hint") or "deployment")
        obj = workload_object("Deployment", namespace, name, template, self.labels, replicas=replicas)
        return LabDeployment(self.client, self.timeouts, self._create_workload(obj), self.watch)

    def job(self, *, parallelism: int = 1, completions: int | None = None, **options: Unpack[PodOptions]) -> LabJob:
        """Create a Job of such pods that does not retry. Its pods run until they are deleted."""
        template, namespace = self._maker.template(options), self._namespace_of(options)
        template["spec"].setdefault("restartPolicy", "Never")
        name = self._numbered(options.get("name_hint") or "job")
        body = {"parallelism": parallelism, "completions": completions or parallelism, "backoffLimit": 0}
        obj = workload_object("Job", namespace, name, template, self.labels, **body)
        return LabJob(self.client, self.timeouts, self._create_workload(obj), self.watch)

    def run_on_nodes(
        self, nodes: Sequence[Named], probe: str, **options: Unpack[probe_jobs.ProbeOptions]
    ) -> dict[str, ProbeResult]:
        """Run a probe of docs/probes.md once on each node; what each said, or why it said nothing, by node."""
        [results] = self.run_programs([probe_jobs.Program(nodes, probe, options)])
        return results

    def run_programs(self, wanted: Sequence[probe_jobs.Program]) -> list[dict[str, ProbeResult]]:
        """Several such at the same time, which cost hardly more time than one."""
        return probe_jobs.run_programs(self._bench(), wanted)

    @contextmanager
    def held_on_nodes(
        self, nodes: Sequence[Named], probe: str, **options: Unpack[probe_jobs.ProbeOptions]
    ) -> Iterator[dict[str, ProbeResult]]:
        """As run_on_nodes for a ``with`` block, during which the pods keep their devices."""
        with self.held_programs([probe_jobs.Program(nodes, probe, options)]) as [results]:
            yield results

    def held_programs(
        self, wanted: Sequence[probe_jobs.Program]
    ) -> AbstractContextManager[list[dict[str, ProbeResult]]]:
        """Several such at the same time."""
        return probe_jobs.held_programs(self._bench(), wanted)

    def quota(
        self, namespace: str, hard: Mapping[str, object], *, priority_classes: Sequence[str] = ()
    ) -> policies.LabQuota:
        """A ResourceQuota in a namespace of the lab, enforced when this returns."""
        name = self._numbered("quota")
        self._maker.create(policies.quota_object(namespace, name, hard, tuple(priority_classes), self.labels))
        return policies.LabQuota(self.client, self.timeouts, namespace, name).require_enforced(hard)

    def limit_range(self, namespace: str, items: Iterable[Mapping[str, Any]]) -> str:
        """A LimitRange with raw items in a namespace of the lab; returns its name."""
        name = self._numbered("limits")
        self._maker.create(policies.limit_range_object(namespace, name, [dict(item) for item in items], self.labels))
        return name

    def disruption_budget(self, namespace: str, match_labels: Mapping[str, str], min_available: int) -> str:
        """A PodDisruptionBudget in a namespace of the lab; returns its name once its controller has counted."""
        name = self._numbered("budget")
        budget = policies.budget_object(namespace, name, match_labels, min_available, self.labels)
        self._maker.create(budget)
        policies.require_counted(self.client, self.timeouts, budget)
        return name

    def apply(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply an object in a namespace of the lab, with the run's labels."""
        applied = self.client.apply(self._maker.own(self._placed(obj)))
        self.watch.created(applied)
        return applied

    @property
    def pause_image(self) -> str:
        """The image of pods that only hold a place, where this cluster pulls it."""
        return self._maker.pause_image

    def create_or_refusal(self, obj: Mapping[str, Any]) -> Answer:
        """Create an object in a namespace of the lab, or learn why it is refused.

        Without namespace it goes into the requirement's own. An ungated pod without class gets the run's.
        """
        own = self._maker.own(self._placed(obj))
        return answer_to(self.client, own, lambda: self.client.create(collection_of(own), own))

    def dry_run(self, obj: Mapping[str, Any]) -> Answer:
        """What the API server would say to the object, admission and quota included. Nothing is created.

        The object may name any namespace; its pods are taken as they are.
        """
        body = self._placed(obj)
        return answer_to(self.client, body, lambda: self.client.create(collection_of(body), body, dry_run=True))

    # Priorities.

    def priority_class(self, hint: str, *, value: int, preemption_policy: str = "PreemptLowerPriority") -> str:
        """A PriorityClass of the run, never the global default; returns its name."""
        name = self._own_name(hint)
        description = f"Made by gpu-conformance for {self.requirement.id}; gone when the run ends."
        obj = policies.priority_class_object(
            name, value=value, preemption_policy=preemption_policy, description=description, labels=self.labels
        )
        self._undoing.will(f"priority class {name}", lambda: self._run.delete_priority_class(name))
        self._run.create_priority_class(self.client, obj)
        return name

    def below_zero(self, priority: policies.Priority) -> str:
        """A mirror of a real PriorityClass: same policy, value lower by two thousand million; returns its name.

        Mirrors are to each other as the real ones are, and none of them can push out a real workload.
        """
        if priority.name not in self._mirrors:
            value = policies.below_zero_value(priority)
            policy = priority.preemption_policy
            self._mirrors[priority.name] = self.priority_class(priority.name, value=value, preemption_policy=policy)
        return self._mirrors[priority.name]

    # Access.

    def can(
        self,
        subject: access.Account,
        verb: str,
        resource: str,
        *,
        group: str = "",
        namespace: str = "",
        name: str = "",
        subresource: str = "",
    ) -> bool:
        """Whether the authorizer allows it to a service account; an empty namespace means the whole cluster."""
        return access.can(
            self.client,
            subject,
            verb,
            resource,
            group=group,
            namespace=namespace,
            name=name,
            subresource=subresource,
        )

    def as_service_account(self, namespace: str, name: str) -> access.ServiceAccountView:
        """The cluster as a service account sees it, by real requests with a token of its own."""
        return access.view_as(self.client, namespace, name)

    # Reading what the API server does not hold.

    def metrics_page(self, namespace: str, pod: str, port: int) -> str:
        """The metrics page of a pod, whosesoever it is, read as a Prometheus would; see kube.scraping.scrape."""
        return scrape(self.client, namespace, pod, port)

    # Nodes.

    def borrow(self, node: Named, *, taints: Iterable[Taint] | None = None) -> borrowing.BorrowedNode:
        """Fence an idle node and have it to ourselves, with exactly ``taints`` if they are given.

        Given back when its ``with`` block or the requirement ends. Raises Inconclusive when it is not idle.
        """
        if node.name in self._borrowed:
            raise ValueError(f"node {node.name} is borrowed already by this requirement")
        self._run.reservations.take(node.name, self.requirement.id)
        borrowed = borrowing.BorrowedNode(
            self.client,
            self._run.journal,
            self.timeouts,
            node.name,
            self.run_id,
            may_evict=self.requirement.effect >= Effect.DISRUPTIVE,
        )
        borrowed.before_giving_back = lambda: self._before_giving_back(node.name)
        borrowed.noted = lambda did, detail: self.watch.timeline.add(did, borrowed.subject, detail=detail)
        self._borrowed[node.name] = (borrowed, self._undoing.will(f"node {node.name} as it was", borrowed.give_back))
        try:
            borrowed.put_up_fence()
        except Inconclusive:
            self._borrowed.pop(node.name, None)
            raise
        if taints is not None:
            borrowed.set_taints(taints)
        return borrowed

    def fake_gpus(self, node: Named, count: int) -> str:
        """Give a node ``count`` devices that nobody else asks for; returns the resource's name, one for each run.

        The node is borrowed for the rest of the requirement unless it is already.
        """
        borrowed = self._borrowed[node.name][0] if node.name in self._borrowed else self.borrow(node)
        resource = f"{DOMAIN}/fake-{self.run_id}"
        borrowed.add_resource(resource, count)
        return resource

    def pick_idle(self, nodes: Iterable[_Node], count: int = 1) -> list[_Node]:
        """The first ``count`` of these nodes that are idle, ready, schedulable and not borrowed, preferred ones first.

        They are the requirement's until it ends: what runs beside it does not get them. A requirement that needs
        several picks them at once. Raises Inconclusive that says of each what is wrong with it when there are too few;
        before that it waits for those that the run itself has in use, for a preferred one in any case.
        """
        preferred = self._run.preferred_nodes
        by_name = {node.name: node for node in sorted(nodes, key=lambda node: node.name not in preferred)}
        awaited = preferred & by_name.keys()

        def idle(taken: Collection[str]) -> tuple[str, ...]:
            free = [name for name in by_name if name not in taken]
            return borrowing.idle_nodes(self.client, free, count, self.run_id)

        chosen = self._run.reservations.pick(self.requirement.id, by_name.keys(), idle, awaited=awaited)
        return [by_name[name] for name in chosen]

    def pick(self, nodes: Iterable[_Node], choose: Callable[[Sequence[_Node]], _Node]) -> _Node:
        """The node that ``choose`` takes of those which no other requirement has in use; it need not be idle.

        As with pick_idle, it is the requirement's until it ends. ``choose`` raises Inconclusive where none will do, and
        is asked again when others let go of theirs.
        """
        by_name = {node.name: node for node in nodes}

        def chosen(taken: Collection[str]) -> tuple[str, ...]:
            return (choose([node for name, node in by_name.items() if name not in taken]).name,)

        [name] = self._run.reservations.pick(self.requirement.id, by_name.keys(), chosen)
        return by_name[name]

    def let_go(self, node: Named) -> None:
        """Delete the pods on a node that it has picked, wait until they are gone, and leave the node to others."""
        borrowing.delete_pods_on(self.client, node.name, self.run_id, self.timeouts)
        self._run.reservations.release(self.requirement.id, node.name)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of everything that this requirement creates."""
        return self._maker.labels

    @property
    def pending(self) -> list[Step]:
        """What is still to be undone."""
        return self._undoing.pending

    def _bench(self) -> probe_jobs.Bench:
        return probe_jobs.Bench(
            client=self.client,
            timeouts=self.timeouts,
            maker=self._maker,
            namespace=self._namespace_of({}),
            image=self._run.images.reference("python"),
            gpu_resource=self._run.gpu_resource,
            gpu_runtime_class=self._run.gpu_runtime_class,
            numbered=self._numbered,
            create_workload=self._create_workload,
        )

    def _create_pod(self, options: PodOptions, name: str) -> LabPod:
        template = self._maker.template(options)
        metadata = {**template["metadata"], "name": name, "namespace": self._namespace_of(options)}
        if options.get("held"):
            metadata["finalizers"] = [HOLD_FINALIZER]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        created = self._maker.create(pod)
        self.watch.created(created)
        return LabPod(self.client, self.timeouts, created, self.watch)

    def _create_workload(self, obj: dict[str, Any]) -> dict[str, Any]:
        # Known before it exists: what nobody knows of would go on making pods on a node that is to be given back.
        self._workloads.append(path_of(obj))
        created = self._maker.create(obj)
        self.watch.created(created)
        return created

    def _placed(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """The object, in the requirement's own namespace if it names none."""
        if obj["metadata"].get("namespace"):
            return dict(obj)
        return {**obj, "metadata": {**obj["metadata"], "namespace": self._namespace_of({})}}

    def _namespace_of(self, options: PodOptions) -> str:
        given = options.get("namespace")
        if given:
            return given
        with self._lock:
            if self._default_namespace is None:
                self._default_namespace = self.namespace(name_hint="default")
            return self._default_namespace

    def _done_with(self, namespace: str) -> None:
        """Delete a namespace, or all that the requirement has in it where it goes with the cluster anyway."""
        made = self._maker.made
        if self._run.disposable and made.can_be_removed(namespace):
            try:
                made.remove(self._run.client, namespace)
            finally:
                delete_pods_of(namespace, self._run.client, self.timeouts)
        else:
            empty_namespace(self._run.client, namespace, self.timeouts)

    def _before_giving_back(self, node: str) -> None:
        """Delete the workloads that would put pods on the node again."""
        for workload in self._workloads:
            self.client.delete(workload)
        self._borrowed.pop(node, None)

    def _numbered(self, hint: str) -> str:
        with self._lock:
            self._numbers[hint] = self._numbers.get(hint, 0) + 1
            return f"{dns_name(hint)}-{self._numbers[hint]}"

    def _own_name(self, hint: str) -> str:
        """A name that this run never uses again, because a namespace that is going blocks its name for a while."""
        return self._run.unique(f"{own_prefix(self.run_id)}{self.requirement.id.lower()}-{dns_name(hint)}")
