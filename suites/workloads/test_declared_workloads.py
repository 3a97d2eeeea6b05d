"""Declared GPU workloads: whether they fit on the pools that they are for, and their images run on the drivers there.

Both can be told from what is declared and what the nodes are, before anybody starts such a pod: one stays Pending for
ever, the other starts, shows its GPU, and fails at the first CUDA call.
"""

from typing import Any

from conformance.catalog import MUST, Owner, requirement
from conformance.facts import Facts
from conformance.facts.podspec import PodSpec
from conformance.gpu.drivers import (
    Compatibility,
    CudaVersion,
    DriverVersion,
    Forward,
    ForwardCompatibility,
    Runs,
    forward_compatibility,
    is_data_center,
    runs,
)
from conformance.reference.expected import driver_of
from conformance.reference.model import Pool, Reference, TestPod
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, format_value
from suites._shared.declared_workloads import declared_in, lacking
from suites._shared.formatting import join_limited
from suites._shared.gpu_holders import (
    cuda_of,
    images_with_gpus,
)
from suites._shared.node_gpus import driver, product
from suites._shared.pool_nodes import Members, set_aside, without_nodes

_MAY_HELP = (Forward.WITH_PACKAGE, Forward.UNKNOWN)


@requirement(
    "WORK-08",
    "Every declared test pod fits on a node of its pools",
    level=MUST,
    sources=["guide-6", "k8s-taints"],
    remedy="Give the test pod one toleration for each taint of its pools, and requests that a node can meet.",
)
def test_every_test_pod_fits_somewhere(reference: Reference, facts: Facts, members: Members, judge: Judge) -> None:
    if not reference.test_pods:
        raise NotApplicable(f"{reference} declares no test pod")
    for test_pod in reference.test_pods:
        spec = _spec_of(test_pod, facts)
        nodes = [node for pool in _pools_of(test_pod, reference) for node in members(pool)]
        if not nodes:
            set_aside(judge, test_pod, without_nodes(_pools_of(test_pod, reference), reference, members))
            continue
        obstacles = {node.name: _obstacles(spec, node) for node in nodes}
        fitting = [name for name, reasons in obstacles.items() if not reasons]
        nearest = min(obstacles, key=lambda name: len(obstacles[name]))
        judge(
            test_pod,
            ok=bool(fitting),
            expected=f"a node of {format_value(_pools_of(test_pod, reference))} that it can be scheduled to",
            actual=join_limited(fitting) or f"none of {len(nodes)} nodes does: it stays Pending",
            cause=f"node {nearest}: {'; '.join(obstacles[nearest])}",
            hidden_because="a Pending test pod looks like a cluster without free GPUs",
            inspect=f"kubectl get node {nearest} -o jsonpath='{{.spec.taints}}'",
        )


@requirement(
    "WORK-09",
    "The CUDA version in the images of declared GPU workloads runs on the drivers of their pools",
    level=MUST,
    owner=Owner.UNKNOWN,
    sources=["guide-6", "cuda-compatibility", "operator-1947", "toolkit-152"],
    remedy="Upgrade the driver of the pool, or take an image with an older CUDA.",
)
def test_images_run_on_the_driver(reference: Reference, facts: Facts, members: Members, judge: Judge) -> None:
    pairs = [
        (subject, image, cuda_of(image), found)
        for subject, spec, pools in _declared_specs(reference, facts)
        for image in images_with_gpus(spec, reference)
        for found in sorted(_drivers_of(pools, reference, members).items())
    ]
    if not pairs:
        raise NotApplicable(f"{reference} declares no GPU workload on a pool with a known driver")
    if not any(members(pool) for pool in reference.gpu_pools):
        raise without_nodes(reference.gpu_pools, reference, members)
    known = [(subject, image, cuda, found) for subject, image, cuda, found in pairs if cuda is not None]
    if not known:
        raise NotApplicable(
            f"no image tag has a CUDA version: {join_limited(sorted({image for _, image, _, _ in pairs}))}"
        )
    for subject, image, cuda, (found, products) in known:
        verdict = _runs_on(cuda, found)
        ways = _ways_out(cuda, found, products) if verdict.runs is Runs.NOT else []
        not_judged = _why_unknown(verdict, ways)
        if not_judged:
            judge.pass_over(subject.only(f"image {image} on driver {found}"), not_judged)
            continue
        judge(
            subject,
            ok=verdict.runs is not Runs.NOT,
            expected=f"image {image} runs on driver {found}",
            actual=verdict,
            cause="; ".join([verdict.reason, *_why_none_helps(ways)]),
            hidden_because="the pod starts and nvidia-smi works in it: only the first CUDA call fails",
        )


def _spec_of(test_pod: TestPod, facts: Facts) -> PodSpec:
    """The pod as admission would take it."""
    pods = Facts.from_objects([test_pod.manifest]).pods
    if not pods:
        raise Inconclusive(f"the manifest of {test_pod} is not a Pod")
    return facts.as_admitted(pods[0])


def _pools_of(test_pod: TestPod, reference: Reference) -> tuple[Pool, ...]:
    named_pools = tuple(pool for pool in reference.pools if pool.name in test_pod.pools)
    return named_pools or reference.gpu_pools


def _obstacles(spec: PodSpec, node: Any) -> list[str]:
    """Why a pod cannot run on a node even when it is idle."""
    repelling = [taint for taint in node.untolerated(spec.tolerations) if taint in node.lasting_taints]
    obstacles = [f"taint {taint} is not tolerated" for taint in repelling]
    if not spec.selects(node):
        obstacles.append("its required affinity or nodeSelector is not met")
    return [*obstacles, *lacking(spec, node).values()]


def _declared_specs(reference: Reference, facts: Facts) -> list[tuple[ObjectReference, PodSpec, tuple[Pool, ...]]]:
    """The declared workloads and test pods with the GPU pools on which they may run."""
    found: list[tuple[ObjectReference, PodSpec, tuple[Pool, ...]]] = [
        (workload.subject, workload.template, workload.pools) for workload in declared_in(reference, facts)
    ]
    found += [
        (test_pod.subject, _spec_of(test_pod, facts), _pools_of(test_pod, reference))
        for test_pod in reference.test_pods
    ]
    return [(subject, spec, tuple(pool for pool in pools if pool.gpu)) for subject, spec, pools in found]


def _drivers_of(pools: tuple[Pool, ...], reference: Reference, members: Members) -> dict[str, set[str]]:
    """The drivers that are declared for pools and those that their nodes have, with the products that each drives."""
    found: dict[str, set[str]] = {}
    for pool in pools:
        declared = pool.gpu.product if pool.gpu is not None else ""
        found.setdefault(driver_of(reference, pool), set()).add(declared)
        for node in members(pool):
            found.setdefault(driver(node), set()).add(product(node) or declared)
    found.pop("", None)
    return found


def _runs_on(cuda: CudaVersion, driver: str) -> Compatibility:
    try:
        return runs(cuda, DriverVersion.parse(driver))
    except ValueError as error:
        return Compatibility(Runs.UNKNOWN, str(error))


def _ways_out(cuda: CudaVersion, driver: str, products: set[str]) -> list[ForwardCompatibility]:
    """Whether compatibility libraries in the image would help, different answers for several products each once.

    NVIDIA's images bring them, and the container toolkit puts them before the driver's (nvidia-container-toolkit pull
    request 1055); an image's name does not show whether it has them.
    """
    version = DriverVersion.parse(driver)
    answers = (forward_compatibility(cuda, version, is_data_center(each)) for each in sorted(products))
    return list(dict.fromkeys(answers))


def _why_none_helps(ways: list[ForwardCompatibility]) -> list[str]:
    """Why compatibility libraries do not help on some GPU that the image may run on; empty where they may."""
    return [way.reason for way in ways if way.forward not in _MAY_HELP]


def _why_unknown(verdict: Compatibility, ways: list[ForwardCompatibility]) -> str:
    """Why it is unknown whether an image runs on a driver; empty when it is known."""
    if verdict.runs is Runs.UNKNOWN:
        return verdict.reason
    if not ways or _why_none_helps(ways):
        return ""
    unsure = {way.reason for way in ways if way.forward is Forward.UNKNOWN}
    return "; ".join([f"{verdict.reason}, or {ways[0].package} in the image, which its name does not show", *unsure])
