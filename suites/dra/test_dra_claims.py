"""ResourceClaims: those that are there, the quotas that count them, and what becomes of new ones.

A pod that names a claim starts when the scheduler has allocated a device to the claim and the kubelet plugin has
prepared it. What goes wrong between the two shows in the claim's status alone, and quotas count claims by DeviceClass,
never by requests.nvidia.com/gpu.
"""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from conformance.catalog import (
    DISRUPTIVE,
    MAY,
    MUST,
    OCCUPIES_IDLE_GPUS,
    ON_NO_NODE,
    ON_PICKED_NODES,
    OWN_NAMESPACE,
    SHOULD,
    Owner,
    requirement,
)
from conformance.facts import Facts, ResourceQuota
from conformance.gpu.resources import GPU, quota_key
from conformance.lab import LabPod, RequirementLab
from conformance.lab.policies import LOWEST
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, expect
from suites._shared.claim_quotas import keys_counting, quotas_counting, quotas_kept_by_scopes
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.quota_namespace import ADMITTED, REFUSED, gpu_keys, outcome, refused_in_time
from suites._shared.resource_slices import Device, DeviceClass, Published, device_class, without_chosen_devices
from suites.dra.device_claims import (
    DELETION_MAY_TAKE,
    OF_TAINTS,
    ClaimingNode,
    claim_names,
    claim_object,
    claiming_node,
    claims_of,
    gpu_claims,
    is_kept_by_taints,
    is_old,
    is_queued,
    is_untried,
    waiting_claims,
    why_deletion_is_stuck,
    why_not_allocated,
)
from suites.dra.dra_nodes import version
from suites.dra.unprepared_claims import never_started, why_it_hangs, why_not_told_here

# KEP-5690 is written and not merged; tried with the schedulers of 1.36.3 and 1.37.2.
LAST_WITHOUT_PREEMPTION = (1, 37)


# --- Where scenarios claim devices -------------------------------------------------------------------------------


@pytest.fixture
def claiming(dra_nodes: tuple[GpuPoolNode, ...], gpu_class: DeviceClass, lab: RequirementLab) -> ClaimingNode:
    """A node of a DRA pool with two devices that are allocated to no claim."""
    return claiming_node(lab, [node for _, node, _ in dra_nodes], gpu_class, devices=2)


# --- Existing claims ---------------------------------------------------------------------------------------------


@requirement(
    "DRA-08",
    "No ResourceClaim of GPUs is stuck in deletion",
    level=MUST,
    sources=["operator-dra", "dra-driver"],
    remedy="Bring the kubelet plugin of the node back, so that it can unprepare the devices; remove finalizers only "
    "when the node is gone for good.",
)
def test_no_claim_is_stuck_in_its_deletion(slices: dict[str, Published], facts: Facts, judge: Judge) -> None:
    claims = gpu_claims(facts)
    stuck = [each for each in claims if is_old(each.deletion, facts.taken_at, DELETION_MAY_TAKE)]
    judge(
        ObjectReference.many("ResourceClaim", f"{len(claims)} claims of GPUs"),
        ok=not stuck,
        expected="none stuck in its deletion",
        actual=stuck or "none",
    )
    for claim in stuck:
        judge(
            claim,
            ok=False,
            expected=f"deleted within {DELETION_MAY_TAKE.seconds // 60} minutes",
            actual=f"being deleted since {claim.deletion:%Y-%m-%d %H:%M} UTC",
            cause=why_deletion_is_stuck(claim, facts),
            hidden_because="its devices stay allocated; the events of the next pod say only that none is free",
            inspect=f"kubectl get resourceclaim -n {claim.namespace} {claim.name} -o yaml",
        )


@requirement(
    "DRA-09",
    "No pod waits for a ResourceClaim that gets no device",
    level=SHOULD,
    owner=Owner.UNKNOWN,
    sources=["dra-driver-46", "dra-driver-150", "k8s-dra"],
    remedy="Correct the class or the selector of the claim, or delete the pod.",
)
def test_no_pod_waits_for_a_claim(slices: dict[str, Published], facts: Facts, judge: Judge) -> None:
    stuck = []
    for waiting in waiting_claims(facts):
        if not is_queued(waiting, facts):
            stuck.append(waiting)
        elif is_untried(waiting.claim, facts):
            judge.pass_over(
                waiting.pod,
                f"other claims have the devices that {waiting.claim} may request; its selectors were not tested",
            )
    judge(
        ObjectReference.many("ResourceClaim", f"{len(gpu_claims(facts))} claims of GPUs"),
        ok=not stuck,
        expected="none that a pod waits for although its devices could be allocated",
        actual=[str(each.claim) for each in stuck] or "none",
    )
    for claim, pod in stuck:
        judge(
            pod,
            ok=False,
            expected=f"{claim} to be allocated",
            actual=f"Pending since {pod.created:%Y-%m-%d %H:%M} UTC",
            cause=why_not_allocated(claim, facts),
            remedy=OF_TAINTS if is_kept_by_taints(claim, facts) else "",
            hidden_because="the scheduler's event says that it cannot allocate all claims, not which one and why",
            inspect=f"kubectl describe pod -n {pod.namespace} {pod.name}",
        )


@requirement(
    "DRA-20",
    "Every pod whose ResourceClaims have devices of NVIDIA's DRA driver is started by its node",
    level=SHOULD,
    owner=Owner.UNKNOWN,
    sources=["dra-driver", "dra-driver-1278", "k8s-dra"],
    remedy="Read what the pod's kubelet says (gpu-conformance explain-pod, or FailedPrepareDynamicResources in the "
    "events of the pod), then the log of container gpus of the kubelet plugin on its node.",
)
def test_every_pod_with_devices_is_started(slices: dict[str, Published], facts: Facts, judge: Judge) -> None:
    hanging = []
    for each, node in never_started(facts):
        if told_elsewhere := why_not_told_here(each, node, facts):
            judge.pass_over(each.pod, told_elsewhere)
        else:
            hanging.append((each, node))
    judge(
        ObjectReference.many("ResourceClaim", f"{len(gpu_claims(facts))} claims of GPUs"),
        ok=not hanging,
        expected="none whose pod has a node and does not start there",
        actual=[str(each.claim) for each, _ in hanging] or "none",
    )
    for each, node in hanging:
        pod = each.pod
        judge(
            pod,
            ok=False,
            expected=f"started by {node}",
            actual=f"ContainerCreating since {pod.started or pod.created:%Y-%m-%d %H:%M} UTC",
            cause=why_it_hangs(each, node, facts),
            hidden_because="the claim is allocated and the pod has its node, so that nobody else gets the devices",
            inspect=f"kubectl describe pod -n {pod.namespace} {pod.name}",
        )


# --- Quotas ------------------------------------------------------------------------------------------------------


@requirement(
    "DRA-10",
    "Every DeviceClass that can give a team GPUs is counted by a ResourceQuota of the team",
    level=MUST,
    sources=["k8s-quotas", "k8s-code-quota-claims"],
    remedy="Add <class>.deviceclass.resource.k8s.io/devices to a quota without scopes, 0 for teams that must have "
    "none.",
)
def test_every_device_class_is_covered_by_quotas(
    slices: dict[str, Published], reference: Reference, facts: Facts, judge: Judge
) -> None:
    every = (device for each in slices.values() for device in each.devices)
    # Classes choose by type and product, of which a fleet has few.
    devices = {(device.kind, device.product): device for device in every}.values()
    classes = [device_class(each.body) for each in facts.device_classes]
    giving = [each for each in classes if any(each.may_choose(device) for device in devices)]
    if not giving:
        raise without_chosen_devices(slices)
    for team in _limited_teams(reference, giving, facts):
        there = facts.quotas_in(team)
        for each in giving:
            covering, scoped = quotas_counting(each, there, facts), quotas_kept_by_scopes(each, there, facts)
            judge(
                ObjectReference.of("Namespace", team).only(str(each)),
                ok=bool(covering),
                expected=f"a quota without scopes that counts {' or '.join(keys_counting(each, facts))}",
                actual=covering or (f"{scoped[0]} with scopes" if scoped else "no quota counts it"),
                cause=_why_claims_are_not_counted(each, scoped, facts),
                hidden_because="the key is in its status.used, and stays at 0"
                if scoped
                else "the quota of pods' requests still looks effective",
                remedy=_WITHOUT_SCOPES if scoped else "",
                inspect=f"kubectl describe quota -n {team}",
            )


def _why_claims_are_not_counted(chosen: DeviceClass, scoped: Sequence[ResourceQuota], facts: Facts) -> str:
    """Why no quota counts the claims of a class; ``scoped`` are those that have a key for them and scopes."""
    if scoped:
        return f"ResourceClaims have no scope: {scoped[0]} counts pods only"
    gpu = quota_key(GPU)
    if gpu in keys_counting(chosen, facts):
        return "no quota of the namespace has one of these keys"
    return f"ResourceClaims are not pods' requests: {gpu} does not count them"


_WITHOUT_SCOPES = (
    "Put the key into a ResourceQuota without scopes and scopeSelector: a priority class of the pods limits no claims."
)


def _limited_teams(reference: Reference, classes: Sequence[DeviceClass], facts: Facts) -> list[str]:
    """The namespaces of teams whose GPUs a declared quota limits, by requests or by classes that give GPUs.

    Raises NotApplicable when there are none.
    """
    keys = {key for each in classes for key in keys_counting(each, facts)}
    limited = [
        team.namespace
        for team in reference.teams
        if any(gpu_keys(quota.hard, reference) or keys & quota.hard.keys() for quota in team.quotas)
    ]
    if not limited:
        raise NotApplicable(f"no team of {reference} declares a quota of GPUs")
    return limited


@requirement(
    "DRA-11",
    "A ResourceQuota on a DeviceClass counts ResourceClaims and refuses those beyond its limit",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["k8s-quotas"],
    remedy="Keep the ResourceQuota admission plugin on, and let no webhook or policy rewrite claims.",
)
def test_a_quota_counts_claims(gpu_class: DeviceClass, lab: RequirementLab) -> None:
    namespace = lab.namespace()
    quota = lab.quota(namespace, {gpu_class.quota_key: 2})

    def claim(name: str, count: int) -> dict[str, Any]:
        made = claim_object(name, gpu_class.name, count=count)
        made["metadata"]["namespace"] = namespace
        return made

    def refused(name: str, count: int) -> str:
        return outcome(refused_in_time(lab, claim(name, count)))

    expect(refused("two-too-many", 3), "a claim of 3 devices").equals(REFUSED, because=f"{quota} allows 2")
    both = lab.create_or_refusal(claim("both", 2))
    expect(outcome(both), "a claim of 2 devices").equals(ADMITTED, because=f"{quota} allows 2")
    quota.wait_until_used({gpu_class.quota_key: 2}, because="the claim counts whether or not a pod uses it")
    expect(refused("one-more", 1), "one more device").equals(REFUSED, because=f"{quota} is used up")


# --- New claims --------------------------------------------------------------------------------------------------


@requirement(
    "DRA-12",
    "Two pods with claims from one ResourceClaimTemplate run, each with an allocated device of its own",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    sources=["dra-driver", "k8s-dra"],
    remedy="Look at the claims' status, then into the log of the node's kubelet plugin; a policy may rewrite pods.",
)
def test_each_pod_gets_a_device_of_its_own(
    claiming: ClaimingNode, dra_nodes: tuple[GpuPoolNode, ...], lab: RequirementLab
) -> None:
    template = claiming.template()
    first = claiming.pod(template=template).wait_until_running(because=f"{claiming} has {len(claiming.free)} free")
    [own] = _expected_one(claiming, first)

    claims = claims_of(template=template)
    with lab.held_on_nodes([claiming.node], "devices", gpus=0, claims=claims) as results:
        result = results[claiming.node.name]
        if result.failure:
            raise Inconclusive(f"the second pod on {claiming} has no result: {result.failure}")
        inside = [each["uuid"] for device in result.found["devices"] for each in device.get("mig") or (device,)]

    expect(inside, f"the second pod on {claiming}").has_length(1, because="its claim requests one device")
    expect(inside[0], f"the second pod on {claiming}").satisfies(
        lambda uuid: uuid != own.uuid, f"another device than {own.uuid}", because="the first pod has that one"
    )
    expect(inside[0], f"the second pod on {claiming}").is_among(
        [each.uuid for each in claiming.free], because="these were free, and the driver publishes them by UUID"
    )


@requirement(
    "DRA-13",
    "Pods that reference one ResourceClaim run with the same device",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    sources=["dra-driver", "k8s-dra"],
    remedy="Look at status.reservedFor of the claim: both pods have to be in it.",
)
def test_pods_that_share_a_claim_share_its_device(claiming: ClaimingNode) -> None:
    claim = claiming.claim()
    pods = [claiming.pod(claim=claim) for _ in range(2)]

    for pod in pods:
        pod.wait_until_running(because="every pod that names a claim may use it")
    devices = {each for pod in pods for each in claiming.devices_of(pod)}
    expect([str(each) for each in devices], f"claim {claim} of both pods").has_length(
        1, because="it is one claim", remedy=claiming.advice(pods[0])
    )


@requirement(
    "DRA-14",
    "A CEL selector chooses the matching device, and one that matches none leaves the pod Pending",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    sources=["dra-driver-attributes", "dra-driver-46", "dra-driver-150"],
    remedy="Compare the selector with the attributes in the node's ResourceSlice: names and types have to agree.",
)
def test_a_selector_chooses_among_devices(claiming: ClaimingNode) -> None:
    wanted = claiming.free[-1]
    chosen = claiming.pod(template=claiming.template(_is("uuid", wanted.uuid)))
    other = claiming.pod(template=claiming.template(_is("productName", "No Such Product")))

    chosen.wait_until_running(because=f"{wanted} is free and has UUID {wanted.uuid}")
    expect([each.uuid for each in claiming.devices_of(chosen)], chosen).equals(
        [wanted.uuid], because="its selector names this device", remedy=claiming.advice(chosen)
    )
    other.stays_pending(because="no device is of the product that its selector names")


@requirement(
    "DRA-15",
    "A ResourceClaim made from a template is deleted with its pod, and its device can be claimed again",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    sources=["dra-driver", "k8s-dra"],
    remedy="Look at finalizers and status.reservedFor of the claim, and whether the kubelet plugin runs on the node.",
)
def test_a_device_can_be_claimed_again(claiming: ClaimingNode) -> None:
    wanted = claiming.free[0]
    template = claiming.template(_is("uuid", wanted.uuid))
    first = claiming.pod(template=template).wait_until_running(because=f"{wanted} is free")
    claims = claim_names(first.read() or {})
    expect(claims, first).has_length(1, because=f"{template} makes one for each pod", remedy=claiming.advice(first))
    second = claiming.pod(template=template).stays_pending(because=f"{first} has the one device that it asks for")

    first.delete(wait=True)

    claiming.wait_until_released(first.namespace, claims[0])
    second.wait_until_running(because=f"{wanted} is free again")


@requirement(
    "DRA-16",
    "A pod that requests the extendedResourceName of a DeviceClass gets one device of that class",
    level=MAY,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    feature="extended-resource",
    sources=["kep-5004", "dra-driver-tests"],
    remedy="Check DRAExtendedResource on API server, scheduler and kubelet, and that one class has the resource. When "
    "another class with it was deleted, change anything about the one that is left: until then the scheduler serves "
    "the resource no more (seen with 1.36).",
)
def test_a_request_by_count_gets_a_device(claiming: ClaimingNode, gpu_class: DeviceClass, lab: RequirementLab) -> None:
    if not gpu_class.resource:
        raise Unsupported(f"{gpu_class} has no extendedResourceName: its devices are available by claims only")

    pod = lab.pod(gpus=1, resource=gpu_class.resource, on=claiming.node, tolerates=claiming.node)

    pod.wait_until_running(because=f"{gpu_class} serves {gpu_class.resource}, and {claiming} has devices free")
    _expected_one(claiming, pod)


@requirement(
    "DRA-17",
    "A pod preempts the lower-priority pod that holds the device it claims, and no other pod",
    level=MAY,
    effect=DISRUPTIVE,
    feature="preemption",
    sources=["kep-5690", "operator-dra", "k8s-dra"],
    remedy="Leave preemption to kube-scheduler's DefaultPreemption, and report what it does to Kubernetes.",
)
def test_a_higher_pod_preempts_for_devices(
    dra_nodes: tuple[GpuPoolNode, ...], gpu_class: DeviceClass, facts: Facts, lab: RequirementLab
) -> None:
    if not facts.server_version:
        raise Inconclusive("the version of the API server is unknown, and with it whether DRA preempts")
    if version(facts.server_version)[:2] <= LAST_WITHOUT_PREEMPTION:
        raise Unsupported(
            f"the scheduler of Kubernetes {facts.server_version} does not preempt for devices of DRA (KEP-5690): a pod "
            "that claims one waits, whatever its priority"
        )
    [node] = lab.pick_idle([node for _, node, _ in dra_nodes])
    claiming = claiming_node(lab, [node], gpu_class, devices=2)
    wanted = claiming.free[0]
    template = claiming.template(_is("uuid", wanted.uuid))
    low, high = lab.priority_class("low", value=LOWEST), lab.priority_class("high", value=LOWEST + 1)
    with lab.borrow(node):
        holder = claiming.pod(template=template, priority=low).require_running()
        neighbour = claiming.pod(template=claiming.template(), priority=low).require_running()
        newcomer = claiming.pod(template=template, priority=high)
        if not claiming.is_evicted(holder):
            raise Unsupported(f"{newcomer} waits: the scheduler of this cluster does not preempt for devices of DRA")

        newcomer.wait_until_running(because=f"{wanted} is free now")
        neighbour.keeps_running(because="its device is not the one that was claimed")


# --- Helpers -----------------------------------------------------------------------------------------------------


def _is(attribute: str, value: str) -> str:
    """A CEL expression that holds for devices of which an attribute has this value."""
    return f"device.attributes['gpu.nvidia.com'].{attribute} == '{re.sub(chr(39), '', value)}'"


def _expected_one(claiming: ClaimingNode, pod: LabPod) -> tuple[Device, ...]:
    """The one device of a pod; expects that it has one, and one that was free."""
    devices = claiming.devices_of(pod)
    expect([str(each) for each in devices], pod).has_length(
        1, because="its claim is for one device", remedy=claiming.advice(pod)
    )
    expect(str(devices[0]), pod).is_among([str(each) for each in claiming.free], because="these were free")
    return devices
