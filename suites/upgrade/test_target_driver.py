"""The target driver: whether images, GPU models and MIG layouts of the cluster go with it.

A driver that does not know a GPU fails on the first node, and the upgrade stops there. A driver that is too old for an
image, or that has a defect, is installed without an error on all of them: pods fail after the last node is done.
What NVIDIA publishes is entered with its source in docs/driver-knowledge.md; what is not known there is not judged.
"""

from collections.abc import Iterable

from conformance.catalog import MUST, SHOULD, Owner, requirement
from conformance.facts import Facts, Node
from conformance.gpu.driver_hardware import Modules, why_not_driven
from conformance.gpu.drivers import (
    CudaVersion,
    DriverVersion,
    Forward,
    Runs,
    Support,
    forward_compatibility,
    is_data_center,
    known_regressions,
    lifecycle,
    runs,
)
from conformance.gpu.labels import GPU_COMPUTE, GPU_PRODUCT, MIG_CONFIG, MIG_CONFIG_STATE
from conformance.gpu.resources import MIG_PREFIX
from conformance.reference.model import Reference
from conformance.verdict import Judge, NotApplicable, Unsupported
from suites._shared.driver_defects import is_affected
from suites._shared.gpu_holders import Holder, cuda_of, holders, images_with_gpus
from suites._shared.node_gpus import driver, product
from suites._shared.operator_resource import require_operator_resource
from suites.upgrade.driver_settings import architecture_on, modules_asked
from suites.upgrade.target_nodes import TargetNodes
from suites.upgrade.upgrade_groups import UpgradeGroup

_SUCCESS = "success"


@requirement(
    "UPG-06",
    "The CUDA version in the images of GPU pods runs on the driver that is to be installed",
    level=MUST,
    owner=Owner.UNKNOWN,
    sources=["cuda-compatibility"],
    remedy="Take a driver of a branch that runs the CUDA of the image, or an image with an older CUDA.",
)
def test_images_run_on_the_target_driver(
    facts: Facts, reference: Reference, meant: TargetNodes, target_driver: DriverVersion, judge: Judge
) -> None:
    judge.without_subjects(NotApplicable("no pod or workload of the cluster requests GPUs"))
    older = _why_not_newer(target_driver, meant.nodes)
    products = {name for node in meant.nodes if (name := product(node))}
    for holder in holders(facts, reference):
        for image in images_with_gpus(holder.spec, reference):
            cuda = cuda_of(image)
            if cuda is None:
                _judge_unnamed(holder, image, older, target_driver, judge)
                continue
            verdict = runs(cuda, target_driver)
            unknown = verdict.reason if verdict.runs is Runs.UNKNOWN else ""
            if verdict.runs is Runs.NOT:
                unknown = _what_may_help(cuda, target_driver, products)
            if unknown:
                judge.pass_over(holder.subject.only(f"image {image}"), unknown)
                continue
            judge(
                holder,
                ok=verdict.runs is not Runs.NOT,
                expected=f"image {image} runs on driver {target_driver}",
                actual=verdict,
                cause=verdict.reason,
                hidden_because="the upgrade succeeds and the pod starts: only the first CUDA call fails",
                inspect=holder.inspect,
            )


@requirement(
    "UPG-07",
    "The driver that is to be installed is of a branch that NVIDIA maintains",
    level=SHOULD,
    sources=["driver-branches"],
    remedy="Take a driver of a Production or Long Term Support branch that is maintained.",
)
def test_the_target_branch_is_maintained(
    facts: Facts, meant: TargetNodes, target_driver: DriverVersion, judge: Judge
) -> None:
    today = facts.taken_at.date()
    support = lifecycle(target_driver, today)
    if support.support is Support.UNKNOWN:
        raise Unsupported(f"whether the branch of driver {target_driver} is maintained is unknown: {support.reason}")
    for source in meant.sources:
        judge(
            source,
            ok=support.support is Support.SUPPORTED,
            expected=f"a driver of a branch that is maintained on {today}",
            actual=f"{target_driver}: {support.reason}",
            cause=support.reason,
            hidden_because="the driver works; its defects are no longer fixed",
        )


@requirement(
    "UPG-08",
    "The driver that is to be installed has no known defect in the features that its GPU nodes use",
    level=MUST,
    sources=["operator-troubleshooting", "operator-1361", "operator-notes-25.3.2"],
    remedy="Take the first driver without the defect.",
)
def test_the_target_has_no_defect_that_matters_here(
    reference: Reference, meant: TargetNodes, target_driver: DriverVersion, judge: Judge
) -> None:
    for pool, node in meant.members:
        found = known_regressions(target_driver, product(node) or (pool.gpu.product if pool.gpu else ""))
        defects = [each for each in found if is_affected(each.id, reference, pool, node)]
        judge(
            node,
            ok=not defects,
            expected="a driver without a known defect in the features that the node uses",
            actual=f"driver {target_driver}" + "".join(f"; {each.id}" for each in defects),
            cause="; ".join(each.effect for each in defects),
            hidden_because="the upgrade and the validator succeed; only pods of this kind of node fail",
            remedy="; ".join(each.remedy for each in defects),
        )


@requirement(
    "UPG-09",
    "The driver that is to be installed drives every GPU model, with the kernel modules that are asked for",
    level=MUST,
    sources=["driver-kernel-modules", "driver-branches"],
    remedy="Take a driver of a branch that still has this GPU, give its nodes a driver of their own (NVIDIADriver), or "
    "set kernelModuleType to auto.",
)
def test_the_target_drives_every_gpu(
    facts: Facts, meant: TargetNodes, target_driver: DriverVersion, judge: Judge
) -> None:
    for pool, node in meant.members:
        architecture = architecture_on(node, pool.gpu)
        if architecture is None:
            judge.pass_over(node, f"neither {GPU_COMPUTE[0]} nor a product tells an architecture that the tables know")
            continue
        operator = meant.operator_resource
        modules = modules_asked(node, operator, facts) if operator is not None else Modules.AUTO
        obstacle = why_not_driven(architecture, target_driver, modules, product(node))
        judge(
            node,
            ok=not obstacle,
            expected=f"driver {target_driver} with kernel modules {modules} drives {architecture.name}",
            actual=obstacle or "nothing that is known speaks against it",
            cause=obstacle,
            hidden_because="the driver is only loaded when the node is upgraded; then its pod fails, and the upgrade "
            "stops at the node",
            inspect=f"kubectl get node {node.name} -L nvidia.com/gpu.product,{GPU_COMPUTE[0]}",
        )


@requirement(
    "UPG-10",
    "The MIG layout of every GPU node is one that MIG manager makes again after the driver is loaded anew",
    level=MUST,
    sources=["operator-mig", "mig-profiles"],
    remedy="Give the node the label nvidia.com/mig.config with the layout that it has, and wait until "
    "nvidia.com/mig.config.state is success.",
)
def test_mig_layouts_come_back(
    facts: Facts, reference: Reference, groups: tuple[UpgradeGroup, ...], judge: Judge
) -> None:
    judge.without_subjects(NotApplicable("no node whose driver the operator manages offers MIG devices"))
    manages = require_operator_resource(facts, reference).enabled("migManager")
    for node in (node for group in groups for node in group.nodes if _has_mig_devices(node)):
        if not manages:
            judge.pass_over(node, "MIG manager is off, and who else makes the layout is not known")
            continue
        layout, state = node.labels.get(MIG_CONFIG, ""), node.labels.get(MIG_CONFIG_STATE, "")
        cause = "" if layout else f"nothing asks for its MIG devices: it has no label {MIG_CONFIG}"
        if layout and state not in ("", _SUCCESS):
            cause = f"its layout {layout} has not been made: {MIG_CONFIG_STATE} is {state}"
        judge(
            node,
            ok=not cause,
            expected=f"label {MIG_CONFIG}, and {MIG_CONFIG_STATE}={_SUCCESS}",
            actual=f"{MIG_CONFIG}={layout or 'not set'}, {MIG_CONFIG_STATE}={state or 'not set'}",
            cause=cause,
            hidden_because="MIG devices are gone when the driver is unloaded; the node then comes back with whole GPUs",
            inspect=f"kubectl get node {node.name} -L {MIG_CONFIG},{MIG_CONFIG_STATE}",
        )


def _judge_unnamed(holder: Holder, image: str, older: str, target: DriverVersion, judge: Judge) -> None:
    """Judge an image whose name tells no CUDA version: a driver runs whatever an older one ran."""
    if older:
        judge.pass_over(
            holder.subject.only(f"image {image}"),
            f"the name of the image tells no CUDA version, and whether the driver gets newer is not known: {older}",
        )
        return
    judge(
        holder,
        ok=True,
        expected=f"image {image} runs on driver {target}",
        actual="its CUDA is not known; a newer driver runs what the older one runs",
    )


def _why_not_newer(target: DriverVersion, nodes: Iterable[Node]) -> str:
    """Why the target is not known to be the driver of a node, or a newer one; empty where it is, on each of them."""
    for node in nodes:
        told = driver(node)
        try:
            if DriverVersion.parse(told) > target:
                return f"{node} has driver {told}, which is newer than {target}"
        except ValueError:
            return f"no label tells the driver of {node}"
    return ""


def _what_may_help(cuda: CudaVersion, driver: DriverVersion, products: Iterable[str]) -> str:
    """What keeps one from saying that an image does not run: a compatibility package that it may have; else empty."""
    ways = [forward_compatibility(cuda, driver, is_data_center(each)) for each in sorted(products)]
    ways = ways or [forward_compatibility(cuda, driver, None)]
    helping = [each for each in ways if each.forward in (Forward.WITH_PACKAGE, Forward.UNKNOWN)]
    return f"it runs only with {helping[0].package} in the image, which no name tells" if helping else ""


def _has_mig_devices(node: Node) -> bool:
    # With the strategy single MIG devices have the name of whole GPUs.
    if "-MIG-" in node.labels.get(GPU_PRODUCT, ""):
        return True
    return any(name.startswith(MIG_PREFIX) and node.gpu_capacity(name) for name in node.gpu_resources)
