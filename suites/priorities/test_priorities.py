"""Priorities: which pods may preempt which when GPUs run out.

Kubernetes decides twice. At admission a pod's class becomes a priority, and a pod without class gets the default one.
When no node has room, the scheduler compares priorities: a pod whose preemptionPolicy allows it preempts as few pods of
lower priority as needed. Three facts about this are often missed: `preemptionPolicy: Never` protects no pod (it only
makes a new pod wait), a default class applies to every new pod of the cluster, and a pod keeps the priority that it was
created with, whatever happens to its class.

This module judges the classes and their pods, and creates pods to judge admission. The module on preemption uses up
GPUs.
"""

from itertools import pairwise

import pytest

from conformance.catalog import MUST, ON_NO_NODE, OWN_NAMESPACE, SHOULD, Owner, requirement
from conformance.facts import Facts, Pod
from conformance.facts import PriorityClass as LiveClass
from conformance.lab import Rejected, RequirementLab
from conformance.reference.model import PriorityClass, Reference, Workload
from conformance.reference.platform import platform_of_class
from conformance.verdict import Judge, NotApplicable, expect
from suites._shared.declared_workloads import not_deployed, pods_of, without_pods
from suites._shared.gpu_requests import gpu_pods
from suites._shared.priority_order import Preemption, declared_classes, declared_preemptions, live_class

FORBIDDEN = 403
NO_POLICY = "with preemptionPolicy Never its pods wait and preempt no pod"


# --- What the owners declared ------------------------------------------------------------------------------------


@pytest.fixture
def classes(reference: Reference) -> tuple[PriorityClass, ...]:
    """The declared classes, the highest first."""
    return declared_classes(reference)


@pytest.fixture
def preemptions(reference: Reference) -> tuple[Preemption, ...]:
    """The declared preemptions."""
    return declared_preemptions(reference)


@pytest.fixture
def classified(reference: Reference) -> tuple[Workload, ...]:
    """The declared workloads that must carry a priority class."""
    declared = tuple(workload for workload in reference.workloads if workload.priority_class)
    if not declared:
        raise NotApplicable(f"{reference} declares no workload with a priority class")
    return declared


# --- The classes and their pods ----------------------------------------------------------------------------------


@requirement(
    "PRIO-01",
    "Declared PriorityClasses exist with their value, preemptionPolicy and globalDefault",
    level=MUST,
    sources=["guide-5", "k8s-priority-class"],
    remedy="Apply the declared class. value and preemptionPolicy are immutable: delete the class and create it again; "
    "pods keep the priority that they were admitted with until they are replaced.",
)
def test_declared_classes_exist_as_declared(classes: tuple[PriorityClass, ...], facts: Facts, judge: Judge) -> None:
    for declared in classes:
        live = facts.priority_class(declared.name)
        expected, actual = _class_fields(declared), _class_fields(live)
        differing = [name for name in expected if expected[name] != actual.get(name)]
        judge(
            declared,
            ok=live is not None and not differing,
            expected=expected,
            actual=actual or "no class of this name",
            cause=f"{', '.join(differing)} of {declared} differ" if live and differing else "",
            hidden_because="" if live else "a pod that names it is refused at admission, so no Pending pod exists",
            inspect=f"kubectl get priorityclass {declared.name} -o yaml",
        )


@requirement(
    "PRIO-02",
    "PriorityClass values follow the declared order, and only classes of the platform are above the highest",
    level=MUST,
    sources=["guide-5", "k8s-preemption"],
    remedy="Space the values apart and keep the highest for pods that must not be evicted: their only protection is "
    "that no class but those of the platform has a higher value.",
)
def test_the_declared_order_holds_and_nothing_stands_above_it(
    classes: tuple[PriorityClass, ...], reference: Reference, facts: Facts, judge: Judge
) -> None:
    there = [live_class(facts, declared) for declared in classes]
    for higher, lower in pairwise(there):
        judge(
            higher,
            ok=higher.value > lower.value,
            expected=f"a value above {lower} ({lower.value})",
            actual=higher.value,
            cause="equal values never preempt each other" if higher.value == lower.value else "",
            inspect="kubectl get priorityclass --sort-by=.value",
        )
    top = there[0]
    of_others = [other for other in facts.priority_classes if not platform_of_class(other.name, reference)]
    above = [other for other in of_others if other.value > top.value]
    judge(
        top,
        ok=not above,
        expected="only classes of the platform above it",
        actual=[f"{other.name} ({other.value})" for other in above] or "only such",
        cause=f"{above[0]} may preempt its pods" if above and above[0].may_preempt else "",
        hidden_because=_why_never_is_no_protection(top) if above else "",
        remedy="Lower the value of the class where it is yours. One that whoever runs the cluster brings is declared "
        "under platform.priority_classes."
        if above
        else "",
        inspect="kubectl get priorityclass --sort-by=.value",
    )


@requirement(
    "PRIO-14",
    "A PriorityClass declared to preempt others has preemptionPolicy PreemptLowerPriority and a higher value",
    level=MUST,
    sources=["guide-5", "k8s-preemption", "koordinator-2389"],
    remedy="Set preemptionPolicy PreemptLowerPriority and a higher value for a class that is to preempt; or declare "
    "that the class waits for free GPUs.",
)
def test_a_class_that_shall_preempt_is_able_to(preemptions: tuple[Preemption, ...], facts: Facts, judge: Judge) -> None:
    for declared in preemptions:
        winner, loser = live_class(facts, declared.winner), live_class(facts, declared.loser)
        judge(
            winner,
            ok=winner.preempts(loser),
            expected=f"policy PreemptLowerPriority and a value above {loser} ({loser.value})",
            actual=f"policy {winner.preemption_policy} and value {winner.value}",
            cause="" if winner.may_preempt else NO_POLICY,
            hidden_because=""
            if winner.may_preempt
            else "it works while GPUs are free; once they are not, its pods stay "
            "Pending and no event says that they could have preempted",
            inspect=f"kubectl get priorityclass {winner.name} {loser.name}",
        )


@requirement(
    "PRIO-09",
    "The globalDefault PriorityClass has preemptionPolicy Never, or a value of 0 or less",
    level=SHOULD,
    sources=["k8s-preemption"],
    remedy="Give the default class preemptionPolicy Never: delete and create it again, because the field is immutable.",
)
def test_the_default_class_does_not_preempt(facts: Facts, judge: Judge) -> None:
    defaults = [known for known in facts.priority_classes if known.global_default]
    if not defaults:
        raise NotApplicable("the cluster has no default priority class (globalDefault)")
    for default in defaults:
        judge(
            default,
            ok=not default.may_preempt or default.value <= 0,
            expected="preemptionPolicy Never",
            actual=f"preemptionPolicy {default.preemption_policy} and value {default.value}",
            cause="every new pod without a class may preempt pods with priority 0",
            hidden_because="pods that are older than the class keep priority 0 until they are evicted",
            inspect=f"kubectl get priorityclass {default.name} -o jsonpath='{{.preemptionPolicy}}'",
        )


@requirement(
    "PRIO-13",
    "Declared workloads and their pods carry the declared priorityClassName and its value",
    level=MUST,
    owner=Owner.WORKLOAD,
    sources=["guide-5"],
    remedy="Set priorityClassName in the pod template and let the controller replace its pods: a pod's priority is "
    "set at admission only.",
)
def test_declared_workloads_carry_their_class(classified: tuple[Workload, ...], facts: Facts, judge: Judge) -> None:
    for declared in classified:
        for pod in pods_of(declared, facts):
            if not pod.finished:
                _judge_priority(judge, pod, facts.priority_class(declared.priority_class or ""), facts)
        if not declared.built_in:
            continue  # The template is not read: its pods tell.
        if absent := not_deployed(declared, facts):
            judge.pass_over(declared, absent)
            continue
        workload = facts.workload(declared.kind, declared.namespace, declared.name)
        carried = facts.template_of_its_pods(workload).priority_class if workload else ""
        judge(
            declared,
            ok=carried == declared.priority_class,
            expected=f"priorityClassName {declared.priority_class} in its pod template, or by admission",
            actual=carried or ("no priorityClassName" if workload else "no such workload"),
            cause=_what_the_default_does(facts) if workload and not carried else "",
            hidden_because="its pods run as long as GPUs are free; the class matters only when they are not",
            inspect=f"kubectl get {declared.kind.lower()} -n {declared.namespace} {declared.name} "
            "-o jsonpath='{.spec.template.spec.priorityClassName}'",
        )
    judge.without_subjects(without_pods(classified))


@requirement(
    "PRIO-15",
    "No GPU pod has priority 0 and no class where the globalDefault PriorityClass is positive",
    level=SHOULD,
    owner=Owner.WORKLOAD,
    sources=["k8s-preemption"],
    remedy="Set priorityClassName in the pod's template and replace the pod.",
)
def test_no_gpu_pod_lacks_the_positive_default_class(facts: Facts, reference: Reference, judge: Judge) -> None:
    default = facts.default_priority_class
    if default is None or default.value <= 0:
        raise NotApplicable("the cluster has no default priority class with a positive value")
    living = [pod for pod in gpu_pods(facts, reference) if not pod.finished]
    if not living:
        raise NotApplicable("no pod of the cluster requests GPUs")
    for pod in living:
        judge(
            pod,
            ok=bool(pod.priority_class) or bool(pod.priority),
            expected=f"a priority class: every new pod gets at least {default.name} ({default.value})",
            actual=f"{pod.priority_class or 'no class'} and priority {pod.priority or 0}",
            cause=f"it is older than {default}, so every pod that was created since has a higher priority",
            hidden_because="it keeps its GPU until the first new pod finds none free",
            inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.spec.priority}}'",
        )


# --- What admission does -----------------------------------------------------------------------------------------


@requirement(
    "PRIO-07",
    "New pods without a class get the globalDefault PriorityClass; all other pods keep their priority",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["guide-5", "k8s-preemption"],
    remedy="Declare exactly one class with globalDefault and keep the Priority admission plugin on.",
)
def test_the_default_class_reaches_every_new_pod_without_class(
    classes: tuple[PriorityClass, ...], reference: Reference, facts: Facts, lab: RequirementLab
) -> None:
    default = reference.default_priority_class
    if default is None:
        raise NotApplicable(f"{reference} declares no default priority class")

    newcomer = lab.pod(gated=True)

    spec = newcomer.created["spec"]
    given = spec.get("priorityClassName"), spec.get("priority"), spec.get("preemptionPolicy")
    expect(given, newcomer).equals(
        (default.name, default.value, default.preemption_policy),
        because="a new pod that names no class gets the default",
    )
    for other in (declared for declared in classes if declared is not default):
        classed = lab.pod(gated=True, priority=other.name)
        expect(classed.priority, classed).equals(
            other.value, because=f"it names {other}, which admission does not change"
        )
    earlier = [pod for pod in facts.pods if not pod.priority_class]
    expect({pod.priority or 0 for pod in earlier} - {0}, f"{len(earlier)} pods without a class").is_empty(
        because="the default class changes no pod that is older"
    )


@requirement(
    "PRIO-08",
    "The API server refuses a second PriorityClass with globalDefault",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["k8s-preemption", "k8s-code-priority"],
    remedy="Keep the Priority admission plugin on. With two defaults the lower value applies.",
)
def test_a_second_default_class_is_refused(facts: Facts, lab: RequirementLab) -> None:
    default = facts.default_priority_class
    if default is None:
        raise NotApplicable("the cluster has no default priority class, so there can be no second one")

    # Server-side dry runs only: a second default class would apply to every new pod of the cluster.
    first = lab.dry_run(_another_class(default=False))
    second = lab.dry_run(_another_class(default=True))

    expect(str(first), "another class (dry run)").equals("accepted", because="it is no default")
    expect(second.status if isinstance(second, Rejected) else "accepted", "a second default class (dry run)").equals(
        FORBIDDEN, because=f"{default} is the default"
    )


# --- Formatting and helpers --------------------------------------------------------------------------------------


def _class_fields(known: PriorityClass | LiveClass | None) -> dict[str, object]:
    if known is None:
        return {}
    return {
        "value": known.value,
        "preemptionPolicy": known.preemption_policy,
        "globalDefault": str(known.global_default).lower(),
    }


def _another_class(*, default: bool) -> dict[str, object]:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"generateName": "gpuc-dry-run-"},
        "value": -1,
        "globalDefault": default,
    }


def _judge_priority(judge: Judge, pod: Pod, wanted: LiveClass | None, facts: Facts) -> None:
    judge(
        pod,
        ok=wanted is not None and (pod.priority_class, pod.priority) == (wanted.name, wanted.value),
        expected=f"{wanted.name} ({wanted.value})" if wanted else "a class that the cluster has",
        actual=f"{pod.priority_class or 'no class'} ({pod.priority or 0})",
        cause=_what_the_default_does(facts)
        if wanted and pod.priority_class != wanted.name
        else "it was created when the class had another value",
        inspect=f"kubectl get pod -n {pod.namespace} {pod.name} "
        "-o jsonpath='{.spec.priorityClassName} {.spec.priority}'",
    )


def _why_never_is_no_protection(top: LiveClass) -> str:
    if top.may_preempt:
        return ""
    return f"preemptionPolicy Never of {top} looks like protection and is none"


def _what_the_default_does(facts: Facts) -> str:
    default = facts.default_priority_class
    if default is None:
        return "without priorityClassName and default class the priority is 0"
    return f"without priorityClassName admission gives its pods the default, {default.name} ({default.value})"
