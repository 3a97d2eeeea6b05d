"""The part of docs/driver-knowledge.md on what goes with a driver, made from the tables."""

from collections.abc import Iterable, Iterator, Sequence

from conformance.gpu.driver_companions import (
    AUTO_CHOOSES_OPEN,
    DMA_BUF_KERNEL,
    DRA_DOMAINS_FLOOR,
    DRA_DRIVER_FLOOR,
    DRA_OPERATOR_FLOOR,
    DRA_SOURCE,
    DRIVER_MAY_TAKE,
    FABRIC_SOURCE,
    OPEN_ONLY_STORAGE,
    STARTUP_SOURCE,
    STORAGE_SOURCE,
    VGPU_BRANCHES,
    VGPU_SOURCES,
)
from conformance.gpu.kubernetes_apis import (
    API_SOURCES,
    DRA_GROUP,
    DRA_RELEASES,
    NEWEST,
    REMOVED_APIS,
    DraRelease,
)
from conformance.gpu.kubernetes_apis import READ as APIS_READ
from conformance.gpu.kubernetes_releases import KUBELET_SKEW, KUBERNETES_SOURCES, LAST_WITH_CONTAINERD_1
from conformance.gpu.operator_crds import CHART_CRDS, ChartCrds
from conformance.gpu.operator_crds import READ as CRDS_READ
from conformance.gpu.operator_releases import IGNORED_FIELDS, OPERATOR_RELEASES, OperatorRelease, written

UNKNOWN = "unknown"
_CHART = (
    "NVIDIA/gpu-operator, deployments/gpu-operator (crds, templates/upgrade_crd.yaml, values.yaml), v24.6.0 to v26.7.0"
)


def companions() -> Sequence[str]:
    """The sections, one after the other."""
    storage = ".".join(map(str, OPEN_ONLY_STORAGE))
    return (
        "## Releases of the GPU Operator",
        "Drivers are those that the component matrix lists for any patch of a release; Kubernetes and containerd are "
        "what it was validated with, over all operating systems. Programs are those of the newest patch.",
        table(
            ("operator", "drivers", "Kubernetes", "containerd", "programs", "maintained", "sources"),
            map(_release, OPERATOR_RELEASES),
        ),
        "An upgrade goes to a patch of the same release or to the next release. These fields of a ClusterPolicy have "
        "no effect any more; none was taken out of its CRD.",
        table(
            ("field", "since", "instead", "sources"),
            ((each.path, f"v{written(each.since)}", each.instead, "; ".join(each.sources)) for each in IGNORED_FIELDS),
        ),
        "The CRDs of its chart: a hook (`operator.upgradeCRD`, on unless turned off) applies some of them before an "
        "upgrade, and Helm changes none of the others. Where Node Feature Discovery is installed by itself "
        "(`nfd.enabled: false`), its CRDs are not applied, either. Not known: whether an installation turned the hook "
        f"off, which no object shows. Source: {_CHART}, read on {CRDS_READ}.",
        table(("operator", "hook", "applied by the hook", "left as they are", "chart of NFD"), map(_crds, CHART_CRDS)),
        "## Kubernetes",
        f"Kubernetes {written(LAST_WITH_CONTAINERD_1)} is the last release that supports containerd 1.x. A kubelet may "
        f"be {KUBELET_SKEW} minor releases older than the API server, and never newer; the control plane goes one "
        f"minor release at a time. Sources: {' and '.join(f'<{each}>' for each in KUBERNETES_SOURCES)}. Not known: "
        "which release of Kueue or KAI goes with which Kubernetes, and who writes objects of a kind that is not read "
        "through an API that will go.",
        f"API versions that GPU set-ups use and that go. UPG-31 judges those of {DRA_GROUP}, by the managed fields of "
        f"its objects. Read on {APIS_READ}; sources: {'; '.join(API_SOURCES)}. About releases after "
        f"{written(NEWEST)} nothing is known.",
        table(
            ("API version", "kinds", "not served from", "instead"),
            ((each.version, ", ".join(each.kinds), written(each.gone_in), each.instead) for each in REMOVED_APIS),
        ),
        f"API versions of {DRA_GROUP} by which the chart of NVIDIA's DRA driver creates DeviceClasses. Source: "
        "kubernetes-sigs/dra-driver-nvidia-gpu, deployments/helm, tags v25.3.0 to v25.12.0 and v0.4.0. Not known: "
        "whether an API server serves the beta versions, which are off unless its `--runtime-config` says so.",
        table(("DRA driver", "API versions", "Kubernetes", "which"), map(_dra_release, DRA_RELEASES)),
        "## Precompiled drivers",
        "Kernels for which NVIDIA builds images; for a single kernel the registry may lack one all the same. They have "
        "neither vGPU nor GPUDirect Storage. An image is there for every release of the operator.",
        table(("operator", "operating system", "kernels", "flavors", "branches"), _precompiled()),
        "## vGPU",
        "A host takes guests of its own branch, of the branch before it, and as a long term branch of the long term "
        f"branch before it; it never takes a newer one. Sources: {' and '.join(f'<{each}>' for each in VGPU_SOURCES)}.",
        table(
            ("vGPU", "driver", "long term"),
            ((str(each.number), f"R{each.driver}", "yes" if each.long_term else "no") for each in VGPU_BRANCHES),
        ),
        "## Modules and services beside the driver",
        table(
            ("what", "needs", "source"),
            (
                (
                    f"nvidia-fs (GPUDirect Storage) from {storage}",
                    "the open kernel modules; kernelModuleType auto chooses them by the GPU with "
                    f"{AUTO_CHOOSES_OPEN[0]}, and from {AUTO_CHOOSES_OPEN[1]}",
                    STORAGE_SOURCE,
                ),
                (
                    "nvidia-peermem (GPUDirect RDMA by rdma.enabled)",
                    "MLNX_OFED or DOCA-OFED; the driver pod waits for it on nodes with an adapter of Mellanox",
                    STORAGE_SOURCE,
                ),
                (
                    "DMA-BUF (GPUDirect RDMA without it)",
                    f"the open kernel modules, Turing or newer, Linux {written(DMA_BUF_KERNEL)} or newer",
                    STORAGE_SOURCE,
                ),
                ("Fabric Manager", "exactly the version of the driver; driver pods bring their own", FABRIC_SOURCE),
                ("DRA driver", f"driver {DRA_DRIVER_FLOOR} or newer", DRA_SOURCE),
                ("DRA driver, compute domains", f"driver {DRA_DOMAINS_FLOOR} or newer", DRA_SOURCE),
                (
                    "a driver that loads",
                    f"up to {DRIVER_MAY_TAKE:,} seconds, of which 60 before the first look; its pod fails after that",
                    STARTUP_SOURCE,
                ),
                ("GPUCluster", f"driver {DRA_OPERATOR_FLOOR} or newer", DRA_SOURCE),
            ),
        ),
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _release(each: OperatorRelease) -> Sequence[str]:
    return (
        str(each),
        ", ".join(each.drivers),
        " to ".join(map(written, each.kubernetes)),
        " to ".join(map(written, each.containerd)),
        ", ".join(f"{name} {version}" for name, version in each.programs.items()),
        "yes" if each.supported else "no",
        "; ".join(each.sources),
    )


def _crds(each: ChartCrds) -> Sequence[str]:
    hook = "on by default" if each.hook_by_default else "off by default"
    return f"v{written(each.release)}", hook, ", ".join(each.applied), ", ".join(each.left) or "-", each.discovery


def _dra_release(each: DraRelease) -> Sequence[str]:
    oldest = f"{written(each.kubernetes)} or newer" if each.kubernetes else UNKNOWN
    return f"from v{'.'.join(map(str, each.first))}", ", ".join(each.apis), oldest, each.note


def _precompiled() -> Iterator[Sequence[str]]:
    for release in OPERATOR_RELEASES:
        for each in release.precompiled:
            branches = ", ".join(f"R{number}" for number in each.branches)
            yield str(release), each.system, ", ".join(map(written, each.kernels)), ", ".join(each.flavors), branches
