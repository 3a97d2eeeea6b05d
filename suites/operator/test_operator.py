"""Operator: one GPU stack, complete, and configured as its owners declare.

Between a device and a pod stand a driver, a container runtime, a device plugin and whatever installs them. The whole
can say ready while it does nothing: an operator that knows of no GPU node has nothing left to do, and a second
ClusterPolicy beside the one that it reconciles is ignored.

The guide counts seven components and wants each of them Running. The number follows from the operator resource
(ClusterPolicy, GPUCluster) and from the hardware: no MIG manager without MIG, no driver pod where the node image brings
the driver. So what has to be there is derived, never taken from a list.
"""

from contextlib import suppress

from conformance.catalog import MUST, SHOULD, requirement
from conformance.deploy.helm.values import gpu_operator_values
from conformance.facts import Facts, Node, Resource
from conformance.gpu.labels import GPU_PRESENT
from conformance.gpu.operator_stack import StackKind
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, format_value
from suites._shared.device_plugin_configs import outside_kubernetes
from suites._shared.driver_objects import why_no_driver, why_unselected
from suites._shared.formatting import join_limited
from suites._shared.grace import every_driver_is_pre_installed, is_changing, is_recent
from suites._shared.installed_by import how_to_install, how_to_set, operator_deployments
from suites._shared.node_gpus import shows_gpus
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
from suites._shared.operands import DRIVER, Component, components_of, may_be_unknown, operator_workloads
from suites._shared.operator_resource import (
    NO_GPU_NODES,
    REASONS_WITHOUT_OPERANDS,
    RECONCILED,
    STARTING_REASONS,
    OperatorResource,
    declared_stack,
    find_operator_resource,
    operator_resource_there,
    require_operator_resource,
    require_operator_stack,
    without_stack,
)
from suites._shared.runtime_classes import create_the_class
from suites.operator.breaking_settings import breaking_settings
from suites.operator.consequences import what_to_do_first
from suites.operator.driver_resources import judge_driver_resources
from suites.operator.namespace_admission import (
    ENFORCE,
    admits_privileged,
    by_namespace,
    enforced_on,
    judge_missing_pods,
    judge_room,
    why_privileged,
)
from suites.operator.node_discovery import DiscoveryGap, discovery_gaps
from suites.operator.operator_settings import Setting, drivers_of, settings_of
from suites.operator.pod_health import pod_problems, stack_workloads, without_workloads
from suites.operator.stack_faults import (
    HIDDEN_BECAUSE,
    expected_stacks,
    faults_of,
    subject_of_fault,
)
from suites.operator.stack_version import deployed

_IN_THE_VALUES = (
    "Set the field in the Helm values and upgrade the release: the next upgrade reverts a patch of the resource."
)
_ALL_BRING_DRIVERS = ", and every node brings a driver of its own"
_HIDDEN_VALUES = "the snapshot leaves out values of environment variables, so that they cannot be compared"


@requirement(
    "OPER-01",
    "Exactly one GPU stack is installed, complete, and of the declared kind and version",
    level=MUST,
    sources=["guide-2", "operator-controllers", "operator-notes-26.7.0"],
    remedy="Keep every workload of the declared stack, and remove those of any other.",
)
def test_one_complete_stack_is_installed(facts: Facts, reference: Reference, judge: Judge) -> None:
    stack, found = declared_stack(reference), facts.stack
    if found.stack is StackKind.UNKNOWN:
        raise facts.unread_stack()
    wanted = expected_stacks(stack, reference)
    outside = outside_kubernetes(stack, facts)
    judge(
        stack,
        ok=found.stack in wanted or bool(outside),
        expected=format_value(wanted),
        actual=f"a {outside} outside Kubernetes" if outside else found.stack,
        cause=f"the objects of the cluster are those of: {found.stack}",
        hidden_because=("any stack may offer GPUs; the other requirements of this profile judge the declared one"),
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
            hidden_because=HIDDEN_BECAUSE[fault.fault],
            remedy=f"{fault.remedy[0].upper()}{fault.remedy[1:]}.",
        )
    for gap in _discovery_gaps(facts, reference) if stack.kind == "gpu-operator" else ():
        judge(
            gap.workload,
            ok=False,
            expected="Node Feature Discovery that labels new nodes",
            actual=gap.state,
            cause=f"{gap.workload}: {gap.state}",
            hidden_because="nodes keep their labels; the next GPU node gets none, and the operator ignores it",
            remedy=gap.remedy,
            inspect=f"kubectl get deployments,daemonsets -n {gap.workload.namespace}",
        )
    for each in deployed(stack, facts):
        if each.version is None:
            judge.pass_over(each.workload, "neither a label of its chart nor the tag of its image tells its version")
            continue
        judge(
            each.workload,
            ok=each.is_as_declared,
            expected=f"version {each.declared}, as declared for {stack}",
            actual=f"version {each.actual}",
            cause=f"{each.workload} was deployed from version {each.actual}",
            hidden_because="another version works as well; its operands, defaults and known defects are other ones",
            remedy=f"{how_to_install(each.workload, each.declared)}, or declare {each.actual} where that is meant.",
            inspect=f"kubectl get {each.workload.kind.lower()} -n {each.workload.namespace} {each.workload.name} "
            "-o jsonpath='{.metadata.labels}'",
        )
    if found.unread:
        raise facts.unread_stack()


@requirement(
    "OPER-02",
    "ClusterPolicy (or GPUCluster) and every NVIDIADriver are Ready, and GPU nodes have been detected",
    level=MUST,
    sources=["guide-2", "operator-policy-controller", "operator-conditions"],
    remedy="Fix what the message of the condition Error names.",
)
def test_the_operator_has_reconciled_its_resource(facts: Facts, reference: Reference, judge: Judge) -> None:
    operator_resource = operator_resource_there(facts, reference)
    judge_driver_resources(operator_resource, facts, judge)
    ready, error = operator_resource.condition("Ready"), operator_resource.condition("Error")
    reason = ready.reason if ready is not None and ready.status == "True" else error.reason if error else ""
    since = max((each.since for each in (ready, error) if each and each.since), default=None)
    if operator_resource.state != "ready" and reason in STARTING_REASONS:
        changing = next((f"{node}: {change}" for node in _with_gpus(facts) if (change := is_changing(node, facts))), "")
        if changing or is_recent(since, facts.taken_at):
            raise Inconclusive(
                f"{operator_resource} is {operator_resource.state} for now, as {changing or 'pods of it are starting'}"
            )
    message = error.message if error else ""
    right = (RECONCILED, NO_GPU_NODES) if _without_gpu_nodes(facts, reference) else (RECONCILED,)
    judge(
        operator_resource,
        ok=operator_resource.state == "ready" and (ready is None or (ready.status == "True" and ready.reason in right)),
        expected=f"state ready, for the reason {' or '.join(right)}",
        actual=f"state {operator_resource.state or 'missing'}" + (f", {reason}" if reason else ", without a condition"),
        cause=REASONS_WITHOUT_OPERANDS.get(reason) or message or "its conditions have no message",
        hidden_because="the state is ready also while the operator knows of no GPU node"
        if operator_resource.state == "ready"
        else "running pods keep running; the missing ones show on the next new nodes",
        remedy=_how_to_reconcile(reason, message),
        inspect=operator_resource.inspect,
    )


@requirement(
    "OPER-03",
    "Every enabled operand of the GPU Operator has its workload, and no disabled one has",
    level=MUST,
    sources=["guide-2", "operator-assets", "operator-manifests", "operator-states"],
    remedy="Read the operator's log for the operand; delete workloads that an older release of the operator left "
    "behind.",
)
def test_every_component_has_its_workload(facts: Facts, reference: Reference, judge: Judge) -> None:
    operator_resource = require_operator_resource(facts, reference)
    own = operator_workloads(facts, reference)
    if not _with_gpus(facts):
        if not _gpu_nodes(facts, reference):
            raise NotApplicable("no GPU pool has a node, and without GPU nodes the operator deploys nothing")
        judge(
            operator_resource,
            ok=False,
            expected=f"a node labelled {GPU_PRESENT}=true",
            actual="none",
            cause="no node is labelled as a GPU node, and without one the operator deploys no component",
            hidden_because="status.state is ready: there is nothing to deploy",
            remedy="Follow OPER-11: Node Feature Discovery comes first.",
            inspect=f"kubectl get nodes -L {GPU_PRESENT}",
        )
        return
    version = operator_version(own)
    for component in components_of(operator_resource):
        wanted = component.is_wanted(operator_resource, len(facts.nvidia_drivers))
        found = [str(each) for each in own if component.is_run_by(each)]
        if not found and may_be_unknown(component, version, reference):
            continue
        judge(
            component,
            ok=wanted == bool(found),
            expected=f"{component.kind.lower()} {component.name}" if wanted else "no workload: it is disabled",
            actual=found or "no workload",
            cause=_why_not_deployed(component, facts) if wanted else f"{join_limited(found)} is left over",
            hidden_because="the other components work without it" if wanted else "it runs beside what replaced it",
            remedy=_where_the_driver_is_judged(facts) if wanted and component is DRIVER else "",
            inspect=f"kubectl get {component.kind.lower()}s -A | grep {component.name}",
        )


def _why_not_deployed(component: Component, facts: Facts) -> str:
    told = why_no_driver(facts) or _selects_nothing(facts) if component is DRIVER else ""
    return told or "the operator did not deploy it"


def _where_the_driver_is_judged(facts: Facts) -> str:
    """The requirement that tells what to do about a driver that the operator did not deploy; empty for any other."""
    return "Follow OPER-02." if why_no_driver(facts) else "Follow OPER-13." if _selects_nothing(facts) else ""


def _with_gpus(facts: Facts) -> tuple[Node, ...]:
    """The nodes on which Node Feature Discovery, or their owners, say that there are GPUs."""
    return facts.nodes_with({GPU_PRESENT: "true"})


def _selects_nothing(facts: Facts) -> str:
    """That no node with GPUs is selected by an NVIDIADriver, as text; empty where one is, or where there is none."""
    nodes = _with_gpus(facts)
    unselected = [why for node in nodes if (why := why_unselected(node, facts))]
    return unselected[0] if nodes and len(unselected) == len(nodes) else ""


@requirement(
    "OPER-04",
    "ClusterPolicy, GPUCluster and NVIDIADriver have the declared settings",
    level=MUST,
    sources=["guide-2", "operator-values"],
    remedy=_IN_THE_VALUES,
)
def test_the_operator_resource_has_the_declared_settings(facts: Facts, reference: Reference, judge: Judge) -> None:
    operator_resource = require_operator_resource(facts, reference)
    described = [(operator_resource.resource, setting) for setting in settings_of(operator_resource, reference)]
    for resource, setting in [*described, *drivers_of(operator_resource, facts, reference)]:
        if setting.is_hidden:
            judge.pass_over(resource.subject.only(setting.path), _HIDDEN_VALUES)
            continue
        unused = not setting.agrees and _leaves_drivers_alone(setting, facts, reference)
        judge(
            resource.subject.only(setting.path),
            ok=setting.agrees or unused,
            expected=_as_yaml(setting.shown(setting.declared)),
            actual=_as_yaml(setting.shown(setting.configured)) + (_ALL_BRING_DRIVERS if unused else ""),
            cause=f"{setting.path} of {resource} is not what the owners declare",
            hidden_because="the operator accepts one value as well as the other",
            remedy="" if setting.agrees or unused else _how_to_change(setting, resource, facts),
            inspect=f"kubectl get {resource.kind.lower()} {resource.name} -o yaml",
        )


@requirement(
    "OPER-05",
    "Pods of the GPU stack neither crash repeatedly nor stay waiting",
    level=MUST,
    sources=["operator-troubleshooting", "operator-1726", "operator-2509"],
    remedy="Read the log of the container's last run.",
)
def test_the_pods_of_the_stack_neither_crash_nor_wait(facts: Facts, reference: Reference, judge: Judge) -> None:
    workloads = stack_workloads(facts, reference)
    if not workloads:
        raise without_workloads(facts, reference)
    for workload, found in pod_problems(workloads, facts):
        if not found:
            judge(workload, ok=True, expected="pods that neither crash nor wait", actual="only such pods")
        for problem in found:
            judge(
                problem.pod,
                ok=False,
                expected="neither crashes nor waits",
                actual=problem.what,
                cause=problem.what,
                hidden_because="between two crashes the pod is Running, and kubectl get pods then shows no problem",
                remedy=problem.remedy,
                inspect=f"kubectl describe pod -n {problem.pod.namespace} {problem.pod.name}",
            )


@requirement(
    "OPER-06",
    "Pod Security and quotas of the operator's namespaces admit its pods",
    level=MUST,
    sources=["operator-security", "operator-gke", "operator-660"],
    remedy="Label the namespace pod-security.kubernetes.io/enforce=privileged, and raise its quotas where they refuse "
    "pods.",
)
def test_the_namespaces_admit_the_pods_of_the_stack(facts: Facts, reference: Reference, judge: Judge) -> None:
    workloads = stack_workloads(facts, reference)
    if not workloads:
        raise without_workloads(facts, reference)
    for namespace, members in by_namespace(workloads).items():
        level = enforced_on(namespace, facts)
        privileged = [(each, why) for each in members if (why := why_privileged(each.template))]
        judge(
            ObjectReference.of("Namespace", namespace),
            ok=admits_privileged(level) or not privileged,
            expected="admits privileged pods" if privileged else "admits its pods",
            actual=f"{ENFORCE}={level}" if level else "no Pod Security level of its own",
            cause=f"{privileged[0][0]} has {privileged[0][1]}, which {level} refuses" if privileged else "",
            hidden_because="pods that were admitted before the label keep running; the next one is refused",
            remedy=f"kubectl label namespace {namespace} {ENFORCE}=privileged --overwrite",
            inspect=f"kubectl get namespace {namespace} --show-labels",
        )
        for quota in facts.quotas_in(namespace):
            judge_room(quota, members, judge)
        for workload in members:
            judge_missing_pods(workload, facts, judge)


@requirement(
    "OPER-07",
    "Every RuntimeClass that pods of the GPU stack name exists",
    level=MUST,
    sources=["operator-cdi", "device-plugin"],
    remedy="Let the operator create the RuntimeClass (operator.runtimeClass), create it, or drop runtimeClassName.",
)
def test_every_runtime_class_exists(facts: Facts, reference: Reference, judge: Judge) -> None:
    named: dict[str, list[str]] = {}
    for workload in stack_workloads(facts, reference):
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
            remedy="" if name in existing or reference.is_foreign else create_the_class(reference, name),
            hidden_because="running pods keep running; a new node gets none",
            inspect="kubectl get runtimeclasses",
        )


@requirement(
    "OPER-08",
    "Container toolkit and GPU Operator have versions without a known container escape (CVE)",
    level=MUST,
    sources=["operator-security", "cve-2025-23266", "cve-2025-23359", "cve-2024-0132"],
    remedy="Upgrade the operator, which brings the toolkit along; where toolkit.version is set, raise it.",
)
def test_no_program_has_a_known_way_out_of_a_container(facts: Facts, reference: Reference, judge: Judge) -> None:
    require_operator_stack(reference)
    workloads = operator_workloads(facts, reference)
    if not any(running(TOOLKIT, workloads)):
        _toolkit_expected(facts, reference)
    programs = deciding(workloads)
    if not programs:
        if not workloads:
            raise without_stack(facts, "the cluster has no workload of the GPU Operator")
        raise Inconclusive("no image tag or label has the version of the container toolkit or of the operator")
    for program in programs:
        flaws = program.flaws
        judge(
            program,
            ok=not flaws,
            expected="a version without known container escapes",
            actual=dotted(program.version),
            cause="; ".join(f"{flaw.advisory}: fixed in {dotted(flaw.fixed)}" for flaw in flaws),
            hidden_because="everything works; the flaw shows when somebody runs an image that exploits it",
            inspect=f"kubectl get {program.workload.kind.lower()} -n {program.workload.namespace} "
            f"{program.workload.name} -o jsonpath='{{.spec.template.spec.containers[*].image}}'",
        )


@requirement(
    "OPER-09",
    "No GPU Operator setting or container toolkit version in use is known to break pods",
    level=SHOULD,
    sources=[
        "operator-1876",
        "operator-2115",
        "operator-notes-25.10.1",
        "toolkit-visible-devices",
        "toolkit-troubleshooting",
        "compliantkubernetes-2473",
    ],
    remedy="Let device plugin and container toolkit agree on how devices are handed over, and use a toolkit without "
    "the defect.",
)
def test_no_setting_is_known_to_break_pods(facts: Facts, reference: Reference, judge: Judge) -> None:
    operator_resource = require_operator_resource(facts, reference)
    own = operator_workloads(facts, reference)
    by_cdi = _may_have_cdi(operator_resource, operator_version(own))
    breaking = list(breaking_settings(operator_resource, by_cdi=by_cdi))
    if not breaking:
        judge(operator_resource, ok=True, expected="no setting that is known to break pods", actual="none")
    for setting in breaking:
        judge(
            operator_resource.subject.only(setting.what),
            ok=False,
            expected=f"not beside {setting.beside}",
            actual=f"{setting.what} beside {setting.beside}",
            cause=setting.effect,
            hidden_because=setting.hidden_because,
            remedy=setting.remedy,
            inspect=operator_resource.inspect,
        )
    for program in running(TOOLKIT, own):
        judge(
            program,
            ok=program.version != OVERWRITES_CONTAINERD,
            expected=f"any version but {dotted(OVERWRITES_CONTAINERD)}",
            actual=dotted(program.version),
            cause="this version overwrites the list of imports in containerd's configuration",
            hidden_because="GPUs work; settings of other containerd files are lost, for example registry mirrors",
            remedy="Upgrade to toolkit 1.18.1 or later, and restore the imports.",
        )


def _how_to_reconcile(reason: str, message: str) -> str:
    """What to do about an operator resource that is not Ready; empty where the requirement's own remedy says it."""
    if reason in REASONS_WITHOUT_OPERANDS:
        return (
            "Let Node Feature Discovery run on the GPU nodes: the operator knows them by its labels of PCI devices "
            "(OPER-10 tells which taints keep it off)."
        )
    if reason in STARTING_REASONS:
        return "Follow OPER-13: it tells on which nodes the operands of these states do not work, and why."
    return "" if message else "Read the operator's log: it says what it could not do, if it runs at all (OPER-01)."


def _without_gpu_nodes(facts: Facts, reference: Reference) -> bool:
    """Whether there is no GPU node and none is declared; where no set-up is the cluster's own, by the nodes alone."""
    if reference.is_foreign:
        return not any(shows_gpus(node, reference, facts) for node in facts.nodes)
    return not any(pool.nodes for pool in reference.gpu_pools) and not _gpu_nodes(facts, reference)


def _gpu_nodes(facts: Facts, reference: Reference) -> bool:
    return bool(_declared_nodes(facts, reference))


def _discovery_gaps(facts: Facts, reference: Reference) -> tuple[DiscoveryGap, ...]:
    """What keeps Node Feature Discovery from labelling new nodes; nothing where nodes or workloads cannot be read.

    The stack itself is told by other kinds, and stays judged without them.
    """
    with suppress(Inconclusive):
        return tuple(discovery_gaps(facts, _declared_nodes(facts, reference)))
    return ()


def _declared_nodes(facts: Facts, reference: Reference) -> tuple[Node, ...]:
    """The nodes of the declared GPU pools."""
    return tuple(node for pool in reference.gpu_pools for node in facts.nodes_with(pool.selector))


def _toolkit_expected(facts: Facts, reference: Reference) -> None:
    """Raise NotApplicable where the operator is declared not to install the container toolkit.

    Raises Inconclusive where it is declared to, and the ClusterPolicy disables the toolkit.
    """
    operator_resource = find_operator_resource(facts)
    if operator_resource is None or operator_resource.kind != "ClusterPolicy" or operator_resource.enabled("toolkit"):
        return
    if not gpu_operator_values(reference)["toolkit"]["enabled"]:
        raise NotApplicable(
            "the container toolkit is part of the node image; its version is in no object of the cluster"
        )
    raise Inconclusive(
        f"{operator_resource} disables the toolkit (OPER-04); the version of another one is in no object of the cluster"
    )


def _how_to_change(setting: Setting, resource: Resource, facts: Facts) -> str:
    """How a setting gets its declared value; empty where the requirement's own remedy says it."""
    version = operator_version(operator_deployments(facts))
    first, then = what_to_do_first(setting.path, setting.declared, version), how_to_set(resource, facts)
    return f"{first} Then: {then or _IN_THE_VALUES}" if first else then


def _leaves_drivers_alone(setting: Setting, facts: Facts, reference: Reference) -> bool:
    """Whether the operator may install drivers and installs none, because it has found one on each GPU node."""
    said = (reference.stack.values.get("driver") or {}).get("enabled") if reference.stack is not None else None
    return setting.path == "driver.enabled" and said is None and every_driver_is_pre_installed(facts, reference)


def _may_have_cdi(operator_resource: OperatorResource, version: Version | None) -> bool:
    """Whether pods get their devices by CDI; where cdi.enabled is not set, the operator's version decides."""
    if operator_resource.at("cdi.enabled") is not None:
        return operator_resource.enabled("cdi")
    return version is None or version >= CDI_BY_DEFAULT


def _as_yaml(value: object) -> str:
    """A setting as an owner writes it."""
    return str(value).lower() if isinstance(value, bool) else format_value(value)
