"""Operator: one GPU stack, complete, and set up as its owners declare.

Between a device and a pod stand a driver, a container runtime, a device plugin and whatever installs them. The whole
can say ready while it does nothing: an operator that knows of no GPU node has nothing left to do, and nobody reads a
second object beside the one that the operator follows.

The guide counts seven components and wants each of them Running. The number follows from the operator's own object and
from the hardware: no MIG manager without MIG, no driver pod where the node image brings the driver. So what has to be
there is derived, never taken from a list.
"""

from conformance.catalog import MUST, SHOULD, requirement
from conformance.deploy.helm.values import gpu_operator_values
from conformance.facts import Facts
from conformance.gpu.operator_stack import Stack
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, format_value
from suites._shared.formatting import join_limited
from suites._shared.operand_status import PRESENT, young
from suites._shared.operand_versions import (
    CDI_BY_DEFAULT,
    OVERWRITES_CONTAINERD,
    TOOLKIT,
    Version,
    deciding,
    dotted,
    operator_version,
    running,
)
from suites._shared.operands import components_of, may_be_unknown, operator_workloads
from suites._shared.operator_resource import (
    NO_GPU_NODES,
    RECONCILED,
    STARTING_REASONS,
    WHAT_A_REASON_HIDES,
    Root,
    declared_stack,
    found_root,
    operated_stack,
    root_of,
)
from suites._shared.upgrade_states import is_changing
from suites.operator.namespace_admission import (
    ENFORCE,
    admits_privileged,
    by_namespace,
    enforced_on,
    not_created,
    why_not_created,
    why_privileged,
)
from suites.operator.operator_settings import drivers_of, settings_of, settings_that_break
from suites.operator.pod_health import ailments, resting_workloads, without_workloads
from suites.operator.stack_faults import (
    WHY_IT_HIDES,
    expected_stacks,
    faults_of,
    is_outside_kubernetes,
    subject_of_fault,
)

GUIDE = "guide part 2"
OPERATOR = "NVIDIA/gpu-operator v26.7.0"
TROUBLESHOOTING = "NVIDIA GPU Operator: Troubleshooting"


@requirement(
    "OPER-01",
    "Exactly one GPU stack is installed, complete, and the declared one",
    level=MUST,
    sources=[GUIDE, f"{OPERATOR}: controllers", "NVIDIA GPU Operator: release notes of v26.7.0"],
    remedy="Keep the parts of the declared stack, all of them, and remove those of any other.",
)
def test_one_complete_stack_is_installed(facts: Facts, reference: Reference, judge: Judge) -> None:
    stack, found = declared_stack(reference), facts.stack
    if found.stack is Stack.UNKNOWN:
        raise Inconclusive(f"what tells of a GPU stack could not be read: {format_value(found.unread)}")
    wanted = expected_stacks(stack, reference)
    outside = is_outside_kubernetes(stack, facts)
    judge(
        stack,
        ok=found.stack in wanted or outside,
        expected=format_value(wanted),
        actual="a device plugin outside Kubernetes" if outside else found.stack,
        cause=f"the objects of the cluster are those of: {found.stack}",
        hidden_because=(
            "whatever stack there is may offer GPUs, too; the rest of this chapter looks for the declared one"
        ),
        inspect=(
            "kubectl get clusterpolicies,gpuclusters; kubectl get daemonsets,deployments -A | grep -i -e nvidia -e gpu"
        ),
    )
    for fault in faults_of(stack, facts):
        judge(
            subject_of_fault(fault),
            ok=False,
            expected="one stack, complete",
            actual=fault.fault,
            cause=f"{fault.subject} {fault.text}",
            hidden_because=WHY_IT_HIDES[fault.fault],
            remedy=f"{fault.remedy[0].upper()}{fault.remedy[1:]}.",
        )
    if found.unread:
        raise Inconclusive(f"a part of what tells of a stack could not be read: {format_value(found.unread)}")


@requirement(
    "OPER-02",
    "The operator has reconciled its object with GPU nodes in sight",
    level=MUST,
    sources=[GUIDE, f"{OPERATOR}: controllers/clusterpolicy_controller.go, internal/conditions/consts.go"],
    remedy="Read the message of the condition Error; the first state that is not ready is the one to look at.",
)
def test_the_operator_has_reconciled_its_object(facts: Facts, reference: Reference, judge: Judge) -> None:
    root = root_of(facts, reference)
    ready, error = root.condition("Ready"), root.condition("Error")
    reason = ready.reason if ready is not None and ready.status == "True" else error.reason if error else ""
    since = max((each.since for each in (ready, error) if each and each.since), default=None)
    if root.state != "ready" and reason in STARTING_REASONS:
        changing = next((f"{node}: {change}" for node in facts.nodes if (change := is_changing(node))), "")
        if changing or young(since, facts.taken_at):
            raise Inconclusive(f"{root} is {root.state} for now, as {changing or 'pods of it are starting'}")
    nothing_there = not any(pool.nodes for pool in reference.gpu_pools) and not _gpu_nodes(facts, reference)
    right = (RECONCILED, NO_GPU_NODES) if nothing_there else (RECONCILED,)
    judge(
        root,
        ok=root.state == "ready" and (ready is None or (ready.status == "True" and ready.reason in right)),
        expected=f"state ready, for the reason {' or '.join(right)}",
        actual=f"state {root.state or 'missing'}" + (f", {reason}" if reason else ", without a condition"),
        cause=WHAT_A_REASON_HIDES.get(reason) or (error.message if error else "") or "it says no more",
        hidden_because="the state says ready also while the operator knows of no GPU node"
        if root.state == "ready"
        else "what runs goes on running; what is not ready shows on the nodes that come next",
        inspect=root.inspect,
    )


@requirement(
    "OPER-03",
    "Every component that is switched on has its workload, and none that is switched off",
    level=MUST,
    sources=[GUIDE, f"{OPERATOR}: assets, manifests, controllers/state_manager.go"],
    remedy="Read the operator's log for the component; delete what an older release of the operator left behind.",
)
def test_every_component_has_its_workload(facts: Facts, reference: Reference, judge: Judge) -> None:
    root = root_of(facts, reference)
    own = operator_workloads(facts, reference)
    if not any(node.labels.get(PRESENT) == "true" for node in facts.nodes):
        if not _gpu_nodes(facts, reference):
            raise NotApplicable("no GPU pool has a node, and without one the operator deploys nothing")
        judge(
            root,
            ok=False,
            expected=f"a node labelled {PRESENT}=true",
            actual="none",
            cause="no GPU node is discovered, and without one the operator deploys no component",
            hidden_because="the object says ready: there is nothing to do",
            remedy="Let feature discovery find the nodes first.",
            inspect=f"kubectl get nodes -L {PRESENT}",
        )
        return
    version = operator_version(own)
    for component in components_of(root):
        wanted = component.is_wanted(root, len(facts.nvidia_drivers))
        found = [str(each) for each in own if component.is_run_by(each)]
        if not found and may_be_unknown(component, version, reference):
            continue
        judge(
            component,
            ok=wanted == bool(found),
            expected=f"{component.kind.lower()} {component.name}" if wanted else "no workload: it is switched off",
            actual=found or "no workload",
            cause="the operator did not deploy it" if wanted else f"{join_limited(found)} is left over",
            hidden_because="the other components work without it" if wanted else "it works beside what replaced it",
            inspect=f"kubectl get {component.kind.lower()}s -A | grep {component.name}",
        )


@requirement(
    "OPER-04",
    "The operator's object has the declared settings",
    level=MUST,
    sources=[GUIDE, f"{OPERATOR}: deployments/gpu-operator/values.yaml"],
    remedy="Set it in the Helm values and upgrade the release: a patch of the object is lost with the next upgrade.",
)
def test_the_object_has_the_declared_settings(facts: Facts, reference: Reference, judge: Judge) -> None:
    root = root_of(facts, reference)
    described = [(root.resource, setting) for setting in settings_of(root, reference)]
    for resource, setting in [*described, *drivers_of(root, facts, reference)]:
        judge(
            resource.subject.only(setting.path),
            ok=setting.agrees,
            expected=_as_yaml(setting.declared),
            actual=_as_yaml(setting.said),
            cause=f"{setting.path} of {resource} is not what the owners declare",
            hidden_because="the operator is as content with one value as with the other",
            inspect=f"kubectl get {resource.kind.lower()} {resource.name} -o yaml",
        )


@requirement(
    "OPER-05",
    "The pods of the stack come to rest",
    level=MUST,
    sources=[TROUBLESHOOTING, "NVIDIA/gpu-operator issues 1726 and 2509"],
    remedy="Read the log of the container's last run.",
)
def test_the_pods_of_the_stack_come_to_rest(facts: Facts, reference: Reference, judge: Judge) -> None:
    workloads = resting_workloads(facts, reference)
    if not workloads:
        raise without_workloads(facts, reference)
    for workload, found in ailments(workloads, facts):
        if not found:
            judge(workload, ok=True, expected="pods that neither crash nor wait", actual="only such pods")
        for ailment in found:
            judge(
                ailment.pod,
                ok=False,
                expected="neither crashes nor waits",
                actual=ailment.what,
                cause=ailment.what,
                hidden_because="between two crashes the pod is Running, and whoever looks then sees nothing",
                remedy=ailment.remedy,
                inspect=f"kubectl describe pod -n {ailment.pod.namespace} {ailment.pod.name}",
            )


@requirement(
    "OPER-06",
    "The namespaces of the stack let its pods in",
    level=MUST,
    sources=["NVIDIA GPU Operator: Security Considerations", "NVIDIA GPU Operator with GKE", "NVIDIA/gpu-operator#660"],
    remedy="Label the namespace pod-security.kubernetes.io/enforce=privileged, and give it what its quotas lack.",
)
def test_the_namespaces_of_the_stack_let_its_pods_in(facts: Facts, reference: Reference, judge: Judge) -> None:
    workloads = resting_workloads(facts, reference)
    if not workloads:
        raise without_workloads(facts, reference)
    for namespace, members in by_namespace(workloads).items():
        level = enforced_on(namespace, facts)
        needy = [(each, why) for each in members if (why := why_privileged(each.template))]
        judge(
            ObjectReference.of("Namespace", namespace),
            ok=admits_privileged(level) or not needy,
            expected="admits privileged pods" if needy else "admits its pods",
            actual=f"{ENFORCE}={level}" if level else "no level of Pod Security of its own",
            cause=f"{needy[0][0]} has {needy[0][1]}, which {level} refuses" if needy else "",
            hidden_because="pods that were admitted before the label go on running; the next one is refused",
            remedy=f"kubectl label namespace {namespace} {ENFORCE}=privileged --overwrite",
            inspect=f"kubectl get namespace {namespace} --show-labels",
        )
        for workload in members:
            missing = not_created(workload, facts)
            if missing:
                link, remedy = why_not_created(workload, facts)
                judge(
                    workload,
                    ok=False,
                    expected=f"{workload.replicas} pods",
                    actual=f"{workload.scheduled}",
                    cause=f"{missing} pods are not created: {link}",
                    hidden_because="a pod that was never created is in no list of pods; only an event tells",
                    remedy=remedy,
                    inspect=f"kubectl describe daemonset -n {namespace} {workload.name}",
                )


@requirement(
    "OPER-07",
    "Every runtime class that the stack's pods name exists",
    level=MUST,
    sources=["NVIDIA GPU Operator: Container Device Interface", "NVIDIA/k8s-device-plugin: README"],
    remedy="Let the operator make it (operator.runtimeClass), create it, or take runtimeClassName out of the pods.",
)
def test_every_runtime_class_exists(facts: Facts, reference: Reference, judge: Judge) -> None:
    named: dict[str, list[str]] = {}
    for workload in resting_workloads(facts, reference):
        if workload.template.runtime_class:
            named.setdefault(workload.template.runtime_class, []).append(str(workload))
    if not named:
        raise NotApplicable("no pod of the stack names a runtime class")
    existing = {each.name for each in facts.runtime_classes}
    for name, users in named.items():
        judge(
            ObjectReference.of("RuntimeClass", name),
            ok=name in existing,
            expected=f"exists, as {join_limited(users)} names it",
            actual="exists" if name in existing else f"there are only: {format_value(existing)}",
            cause=f"the API server refuses every new pod that names runtime class {name}",
            hidden_because="running pods stay; a node that joins gets none",
            inspect="kubectl get runtimeclasses",
        )


@requirement(
    "OPER-08",
    "No program of the stack has a known way out of a container",
    level=MUST,
    sources=["NVIDIA GPU Operator: Security Considerations", "CVE-2025-23266", "CVE-2025-23359", "CVE-2024-0132"],
    remedy="Upgrade the operator, which brings the toolkit along; where toolkit.version is set by hand, raise that.",
)
def test_no_program_has_a_known_way_out_of_a_container(facts: Facts, reference: Reference, judge: Judge) -> None:
    operated_stack(reference)
    workloads = operator_workloads(facts, reference)
    if not any(running(TOOLKIT, workloads)):
        _toolkit_expected(facts, reference)
    programs = deciding(workloads)
    if not programs:
        raise Inconclusive("no image tag or label tells the version of the container toolkit or of the operator")
    for program in programs:
        flaws = program.flaws
        judge(
            program,
            ok=not flaws,
            expected="a version without known escapes",
            actual=dotted(program.version),
            cause="; ".join(f"{flaw.advisory}: fixed in {dotted(flaw.fixed)}" for flaw in flaws),
            hidden_because="everything works; the flaw shows when somebody brings an image that uses it",
            inspect=f"kubectl get {program.workload.kind.lower()} -n {program.workload.namespace} "
            f"{program.workload.name} -o jsonpath='{{.spec.template.spec.containers[*].image}}'",
        )


@requirement(
    "OPER-09",
    "No setting or version that is known to break pods is in use",
    level=SHOULD,
    sources=["NVIDIA/gpu-operator issues 1876 and 2115", "NVIDIA GPU Operator: release notes of v25.10.1"],
    remedy="Leave the ways of handing devices over to CDI, and take a toolkit without the defect.",
)
def test_no_setting_is_known_to_break_pods(facts: Facts, reference: Reference, judge: Judge) -> None:
    root = root_of(facts, reference)
    own = operator_workloads(facts, reference)
    breaking = list(settings_that_break(root)) if _may_have_cdi(root, operator_version(own)) else []
    if not breaking:
        judge(root, ok=True, expected="no setting that is known to break pods", actual="none")
    for what, effect, remedy in breaking:
        judge(
            root.subject.only(what),
            ok=False,
            expected="not beside cdi.enabled",
            actual=f"{what} beside cdi.enabled",
            cause=effect,
            hidden_because="it worked before the operator turned CDI on by itself (v25.10)",
            remedy=remedy,
            inspect=root.inspect,
        )
    for program in running(TOOLKIT, own):
        judge(
            program,
            ok=program.version != OVERWRITES_CONTAINERD,
            expected=f"any version but {dotted(OVERWRITES_CONTAINERD)}",
            actual=dotted(program.version),
            cause="this version overwrites the list of imports in containerd's configuration",
            hidden_because="GPUs work; what other files of containerd said is gone, registry mirrors for one",
            remedy="Upgrade to toolkit 1.18.1 or later, and restore the imports.",
        )


def _gpu_nodes(facts: Facts, reference: Reference) -> bool:
    return any(pool.holds(node.labels) for pool in reference.gpu_pools for node in facts.nodes)


def _toolkit_expected(facts: Facts, reference: Reference) -> None:
    """Raise NotApplicable where the operator is declared to bring no container toolkit.

    Raises Inconclusive where it is declared to, and its object switches the toolkit off.
    """
    root = found_root(facts)
    if root is None or root.kind != "ClusterPolicy" or root.enabled("toolkit"):
        return
    if not gpu_operator_values(reference)["toolkit"]["enabled"]:
        raise NotApplicable("the container toolkit comes with the node image; nothing in the cluster tells its version")
    raise Inconclusive(f"{root} switches the toolkit off (OPER-04); nothing tells the version of another one")


def _may_have_cdi(root: Root, version: Version | None) -> bool:
    """Whether pods get their devices by CDI; where the object says nothing of it, the operator's version decides."""
    said = root.at("cdi.enabled") is not None
    return said or version is None or version >= CDI_BY_DEFAULT


def _as_yaml(value: object) -> str:
    """A setting as an owner writes it."""
    return str(value).lower() if isinstance(value, bool) else format_value(value)
