"""Where requirements come from: every source once, with a title and a place where it can be read.

A requirement cites ids of this table. A place is a page of the web or of this repository's docs, so that a report's
reader can follow it; GitHub's paths name a release where a requirement depends on it, and the newest state otherwise.
"""

import msgspec

__all__ = ["SOURCES", "Source"]

_DOCS = "docs/"
_WEB = "https://"
_KUBERNETES = "https://kubernetes.io/docs"
_NVIDIA = "https://docs.nvidia.com"
_OPERATOR = f"{_NVIDIA}/datacenter/cloud-native/gpu-operator/latest"
_DRA_DRIVER = "https://dra-driver-nvidia-gpu.sigs.k8s.io/docs"
_KUBERNETES_CODE = "kubernetes/kubernetes"
_OPERATOR_CODE = "NVIDIA/gpu-operator"
_RELEASE = "v26.7.0"
_PLUGIN = "NVIDIA/k8s-device-plugin"


class Source(msgspec.Struct, frozen=True, rename="camel"):
    """What a requirement rests on. ``url`` is https or a path of this repository below docs/, with its anchor."""

    id: str
    title: str
    url: str

    def __post_init__(self) -> None:
        if not self.id or not self.title or not self.url.startswith((_WEB, _DOCS)):
            raise ValueError(f"source {self.id!r} needs a title and a url that begins with {_WEB} or {_DOCS}: {self}")

    def __str__(self) -> str:
        return f"{self.title} ({self.url})"


def _guide(part: str, title: str) -> Source:
    return Source(f"guide-{part}", f"guide, part {part}: {title}", f"docs/guide.md#part-{part}")


def _kubernetes(name: str, title: str, path: str) -> Source:
    return Source(f"k8s-{name}", f"Kubernetes: {title}", f"{_KUBERNETES}/{path}")


def _nvidia(id: str, title: str, path: str) -> Source:
    return Source(id, f"NVIDIA {title}", f"{_NVIDIA}/{path}")


def _operator(name: str, title: str, page: str) -> Source:
    return Source(f"operator-{name}", f"NVIDIA GPU Operator: {title}", f"{_OPERATOR}/{page}")


def _issue(name: str, repository: str, number: int, kind: str = "issue") -> Source:
    folder = "pull" if kind == "pull request" else "issues"
    return Source(
        f"{name}-{number}", f"{repository} {kind} {number}", f"https://github.com/{repository}/{folder}/{number}"
    )


def _issues(name: str, repository: str, *numbers: int) -> tuple[Source, ...]:
    return tuple(_issue(name, repository, number) for number in numbers)


def _file(id: str, repository: str, path: str, *, part: str = "", ref: str = "HEAD", view: str = "blob") -> Source:
    release = "" if ref == "HEAD" else f" {ref}"
    title = f"{repository}{release}: {path}" + (f", {part}" if part else "")
    return Source(id, title, f"https://github.com/{repository}/{view}/{ref}/{path}")


def _folder(id: str, repository: str, path: str, *, part: str = "", ref: str = "HEAD") -> Source:
    return _file(id, repository, path, part=part, ref=ref, view="tree")


_GUIDE = (
    _guide("1", "GPU node pools, labels and taints"),
    _guide("2", "GPU Operator or device plugin"),
    _guide("3", "MIG, time-slicing and MPS"),
    _guide("4", "tolerations, affinity, requests and limits"),
    _guide("5", "RBAC and PriorityClasses"),
    _guide("6", "verifying the installation"),
    Source("guide-summary", "guide, summary", "docs/guide.md#summary"),
)

_KUBERNETES_PAGES = (
    Source(
        "k8s-api-lifecycle",
        "kubernetes/api: when a type goes (zz_generated.prerelease-lifecycle.go)",
        "https://github.com/kubernetes/api/blob/v0.36.0/resource/v1beta1/zz_generated.prerelease-lifecycle.go",
    ),
    _kubernetes("deprecation-guide", "Deprecated API Migration Guide", "reference/using-api/deprecation-guide/"),
    Source("k8s-skew", "Kubernetes: Version Skew Policy", "https://kubernetes.io/releases/version-skew-policy/"),
    Source(
        "k8s-1.35-release",
        "Kubernetes v1.35: the release",
        "https://kubernetes.io/blog/2025/12/17/kubernetes-v1-35-release/",
    ),
    _kubernetes("affinity", "Assigning Pods to Nodes", "concepts/scheduling-eviction/assign-pod-node/"),
    _kubernetes("daemonset", "DaemonSet", "concepts/workloads/controllers/daemonset/"),
    _kubernetes(
        "deployment-failed",
        "Deployments, failed deployment",
        "concepts/workloads/controllers/deployment/#failed-deployment",
    ),
    _kubernetes("disruptions", "Disruptions", "concepts/workloads/pods/disruptions/"),
    _kubernetes("dra", "Dynamic Resource Allocation", "concepts/scheduling-eviction/dynamic-resource-allocation/"),
    _kubernetes("gpus", "Schedule GPUs", "tasks/manage-gpus/scheduling-gpus/"),
    _kubernetes("limit-ranges", "Limit Ranges", "concepts/policy/limit-range/"),
    _kubernetes("node-shutdowns", "Node Shutdowns", "concepts/cluster-administration/node-shutdown/"),
    _kubernetes(
        "pod-failure-policy", "Jobs, pod failure policy", "concepts/workloads/controllers/job/#pod-failure-policy"
    ),
    _kubernetes("pod-lifecycle", "Pod Lifecycle", "concepts/workloads/pods/pod-lifecycle/"),
    _kubernetes("pod-security", "Pod Security Standards", "concepts/security/pod-security-standards/"),
    _kubernetes("preemption", "Pod Priority and Preemption", "concepts/scheduling-eviction/pod-priority-preemption/"),
    _kubernetes(
        "priority-class",
        "API reference, PriorityClass",
        "reference/kubernetes-api/workload-resources/priority-class-v1/",
    ),
    _kubernetes("quotas", "Resource Quotas", "concepts/policy/resource-quotas/"),
    _kubernetes(
        "quotas-priority",
        "Resource Quotas, resource quota per PriorityClass",
        "concepts/policy/resource-quotas/#resource-quota-per-priorityclass",
    ),
    _kubernetes("rbac", "Using RBAC Authorization", "reference/access-authn-authz/rbac/"),
    _kubernetes("runtime-class", "Runtime Class", "concepts/containers/runtime-class/"),
    _kubernetes(
        "service-account",
        "API reference, ServiceAccount",
        "reference/kubernetes-api/authentication-resources/service-account-v1/",
    ),
    _kubernetes(
        "service-account-tokens",
        "Configure Service Accounts for Pods",
        "tasks/configure-pod-container/configure-service-account/",
    ),
    _kubernetes("taints", "Taints and Tolerations", "concepts/scheduling-eviction/taint-and-toleration/"),
)

_KUBERNETES_FILES = (
    _file(
        "k8s-code-limit-defaults", _KUBERNETES_CODE, "pkg/apis/core/v1/defaults.go", part="SetDefaults_LimitRangeItem"
    ),
    _file("k8s-code-quota-claims", _KUBERNETES_CODE, "pkg/quota/v1/evaluator/core/resource_claims.go"),
    _file("k8s-code-quota-pods", _KUBERNETES_CODE, "pkg/quota/v1/evaluator/core/pods.go"),
    _folder("k8s-code-limit-ranger", _KUBERNETES_CODE, "plugin/pkg/admission/limitranger", part="maxConstraint"),
    _folder("k8s-code-priority", _KUBERNETES_CODE, "plugin/pkg/admission/priority"),
    *_issues("k8s", _KUBERNETES_CODE, 28272, 72124, 81256, 84869, 97131, 125579, 130145),
    Source(
        "kep-4680",
        "KEP-4680: resource health in the pod status",
        "https://github.com/kubernetes/enhancements/issues/4680",
    ),
    Source("kep-5004", "KEP-5004: extended resources by DRA", "https://github.com/kubernetes/enhancements/issues/5004"),
    Source("kep-5690", "KEP-5690: preemption for DRA", "https://github.com/kubernetes/enhancements/issues/5690"),
)

_OPERATOR_PAGES = (
    _operator("cdi", "Container Device Interface", "cdi.html"),
    _operator("dra", "DRA Driver for NVIDIA GPUs", "dra-intro-install.html"),
    _operator("gke", "with Google GKE", "google-gke.html"),
    _operator("matrix", "Component Matrix", "life-cycle-policy.html"),
    _operator("mig", "with MIG", "gpu-operator-mig.html"),
    _operator("platforms", "Platform Support", "platform-support.html"),
    _operator("precompiled", "Precompiled Driver Containers", "precompiled-drivers.html"),
    _operator("rdma", "GPUDirect RDMA and GPUDirect Storage", "gpu-operator-rdma.html"),
    _operator("security", "Security Considerations", "security.html"),
    _operator("time-slicing", "Time-Slicing GPUs in Kubernetes", "gpu-sharing.html"),
    _operator("troubleshooting", "Troubleshooting", "troubleshooting.html"),
    _operator("upgrade", "Upgrading the NVIDIA GPU Operator", "upgrade.html"),
    _operator("upgrades", "GPU Driver Upgrades", "gpu-driver-upgrades.html"),
    *(
        _operator(f"notes-{version}", f"release notes of v{version}", "release-notes.html")
        for version in ("25.3.2", "25.10.0", "25.10.1", "26.3.2", "26.7.0")
    ),
)

_OPERATOR_FILES = (
    _folder("operator-assets", _OPERATOR_CODE, "assets", ref=_RELEASE),
    _file("operator-conditions", _OPERATOR_CODE, "internal/conditions/consts.go", ref=_RELEASE),
    _folder("operator-controllers", _OPERATOR_CODE, "controllers", ref=_RELEASE),
    _file("operator-policy-controller", _OPERATOR_CODE, "controllers/clusterpolicy_controller.go", ref=_RELEASE),
    _file("operator-labelling", _OPERATOR_CODE, "controllers/nodelabeling_controller.go", ref=_RELEASE),
    _folder("operator-manifests", _OPERATOR_CODE, "manifests", ref=_RELEASE),
    _file(
        "operator-mig-manager",
        _OPERATOR_CODE,
        "controllers/object_controls.go",
        part="TransformMIGManager and applyMIGConfiguration",
    ),
    _folder("operator-mps-daemon", _OPERATOR_CODE, "assets/state-mps-control-daemon"),
    _file("operator-states", _OPERATOR_CODE, "controllers/state_manager.go", ref=_RELEASE),
    _folder("operator-validation", _OPERATOR_CODE, "assets/state-operator-validation", ref=_RELEASE),
    _folder("operator-validator", _OPERATOR_CODE, "cmd/nvidia-validator", ref=_RELEASE),
    _file("operator-policy-types", _OPERATOR_CODE, "api/nvidia/v1/clusterpolicy_types.go", ref=_RELEASE),
    _file("operator-values", _OPERATOR_CODE, "deployments/gpu-operator/values.yaml", ref=_RELEASE),
    *_issues(
        "operator",
        _OPERATOR_CODE,
        26,
        360,
        367,
        397,
        412,
        416,
        421,
        423,
        603,
        660,
        668,
        700,
        898,
        1043,
        1361,
        1588,
        1726,
        1876,
        1947,
        2115,
        2166,
        2509,
    ),
    _folder("operator-upgrade-library", "NVIDIA/k8s-operator-libs", "pkg/upgrade"),
)

_DEVICE_PLUGIN = (
    _file("device-plugin", _PLUGIN, "README.md"),
    _file("device-plugin-sharing", _PLUGIN, "README.md#shared-access-to-gpus"),
    _file("device-plugin-mps", _PLUGIN, "README.md#with-cuda-mps"),
    _file("device-plugin-config", _PLUGIN, "api/config/v1/config.go", part="NewConfig"),
    _folder("device-plugin-mps-daemon", _PLUGIN, "cmd/mps-control-daemon"),
    _file("device-plugin-mig-labels", _PLUGIN, "internal/lm/mig-strategy.go"),
    _file("device-plugin-device-map", _PLUGIN, "internal/rm/device_map.go"),
    _file("device-plugin-requests", _PLUGIN, "internal/rm/rm.go"),
    _file("gpu-feature-discovery", _PLUGIN, "docs/gpu-feature-discovery/README.md"),
    *_issues("device-plugin", _PLUGIN, 87, 211, 231, 234, 321, 336, 426, 519, 712, 990, 1132, 1433, 2038),
)

_OTHER_NVIDIA = (
    _nvidia("cuda-compatibility", "CUDA Compatibility", "deploy/cuda-compatibility/"),
    _nvidia(
        "driver-kernel-modules",
        "Driver Installation Guide: Kernel Modules",
        "datacenter/tesla/driver-installation-guide/kernel-modules.html",
    ),
    _nvidia("cuda-errors", "CUDA Driver API: CUresult", "cuda/cuda-driver-api/group__CUDA__TYPES.html"),
    _nvidia("dcgm-fields", "DCGM: field identifiers", "datacenter/dcgm/latest/dcgm-api/dcgm-api-field-ids.html"),
    _nvidia(
        "driver-branches",
        "Data Center Drivers: Supported Drivers and CUDA Toolkit Versions",
        "datacenter/tesla/drivers/620/supported-drivers-and-cuda-toolkit-versions.html",
    ),
    _nvidia(
        "mig-profiles",
        "Multi-Instance GPU User Guide: Supported MIG Profiles",
        "datacenter/tesla/mig-user-guide/supported-mig-profiles.html",
    ),
    _nvidia("fabric-manager", "Fabric Manager User Guide", "datacenter/tesla/fabric-manager-user-guide/index.html"),
    _nvidia(
        "vgpu-compatibility",
        "Virtual GPU Software Release Notes: vGPU Manager and Guest VM Driver",
        "vgpu/19.0/grid-vgpu-release-notes-vmware-vsphere/index.html",
    ),
    _nvidia("xid-errors", "XID Errors", "deploy/xid-errors/analyzing-xid-catalog.html"),
    Source("dcgm-exporter", "NVIDIA/dcgm-exporter", "https://github.com/NVIDIA/dcgm-exporter"),
    _file("dcgm-exporter-counters", "NVIDIA/dcgm-exporter", "etc/default-counters.csv"),
    *_issues("dcgm-exporter", "NVIDIA/dcgm-exporter", 58, 138, 250, 272),
    _file(
        "toolkit-envvar",
        "NVIDIA/nvidia-container-toolkit",
        "internal/config/config.go",
        part="accept-nvidia-visible-devices-envvar-when-unprivileged",
    ),
    _file(
        "toolkit-visible-devices",
        "NVIDIA/nvidia-container-toolkit",
        "internal/config/image/cuda_image.go",
        part="VisibleDevices",
    ),
    _nvidia(
        "toolkit-troubleshooting",
        "Container Toolkit: Troubleshooting",
        "datacenter/cloud-native/container-toolkit/latest/troubleshooting.html",
    ),
    *_issues("toolkit", "NVIDIA/nvidia-container-toolkit", 48, 152, 648),
    _issue("compliantkubernetes", "elastisys/compliantkubernetes-apps", 2473, kind="pull request"),
    _file("mig-parted-spec", "NVIDIA/mig-parted", "api/spec/v1/spec.go"),
    _folder("mig-parted-config", "NVIDIA/mig-parted", "pkg/mig/config"),
    _file("mig-parted-reconfigure", "NVIDIA/mig-parted", "pkg/mig/reconfigure/reconfigure.go"),
    _issue("aicr", "NVIDIA/aicr", 1327),
    *_issues("nccl", "NVIDIA/nccl", 290, 525),
    _issue("nvidia-docker", "NVIDIA/nvidia-docker", 1553),
    *(
        Source(f"cve-{number}", f"CVE-{number}", f"https://nvd.nist.gov/vuln/detail/CVE-{number}")
        for number in ("2024-0132", "2025-23266", "2025-23359")
    ),
)

_DRA_PAGES = (
    Source("dra-driver", "NVIDIA DRA driver: documentation", f"{_DRA_DRIVER}/"),
    Source(
        "dra-driver-attributes",
        "NVIDIA DRA driver: ResourceSlice device attributes",
        f"{_DRA_DRIVER}/reference/resourceslice-attributes/",
    ),
    Source("dra-driver-install", "NVIDIA DRA driver: installation", f"{_DRA_DRIVER}/install/"),
    _folder("dra-driver-tests", "kubernetes-sigs/dra-driver-nvidia-gpu", "tests/bats"),
    *_issues("dra-driver", "kubernetes-sigs/dra-driver-nvidia-gpu", 46, 150, 289, 524, 767, 1278),
)

_COMMUNITY = (
    _file(
        "cncf-secure-access",
        "cncf/k8s-ai-conformance",
        "docs/AIConformance-1.36.yaml",
        part="secure_accelerator_access",
    ),
    _file("kar-0049", "kubernetes-sigs/ai-conformance", "kars/0049-secure-accelerator-access/README.md"),
    _file("k3s-runtimes", "k3s-io/docs", "docs/advanced.md"),
    _file("kai-batch", "kai-scheduler/KAI-Scheduler", "docs/batch/README.md"),
    _file("kai-priority", "kai-scheduler/KAI-Scheduler", "docs/priority/README.md"),
    _file("kai-queues", "kai-scheduler/KAI-Scheduler", "docs/queues/README.md"),
    _issue("kai", "kai-scheduler/KAI-Scheduler", 612),
    _issue("kubeflow-bundle", "canonical/bundle-kubeflow", 599),
    *_issues("koordinator", "koordinator-sh/koordinator", 872, 2389),
    _issue("kube-batch", "kubernetes-retired/kube-batch", 158),
    _issue("kubeflow", "kubeflow/kubeflow", 6451),
    _issue("kubeflow-website", "kubeflow/website", 2460, kind="pull request"),
)


def _table(*groups: tuple[Source, ...]) -> dict[str, Source]:
    """The sources by id. Raises ValueError for an id that two of them have."""
    table: dict[str, Source] = {}
    for source in (source for group in groups for source in group):
        if source.id in table:
            raise ValueError(f"two sources have the id {source.id!r}")
        table[source.id] = source
    return table


SOURCES = _table(
    _GUIDE,
    _KUBERNETES_PAGES,
    _KUBERNETES_FILES,
    _OPERATOR_PAGES,
    _OPERATOR_FILES,
    _DEVICE_PLUGIN,
    _OTHER_NVIDIA,
    _DRA_PAGES,
    _COMMUNITY,
)
"""Every source by its id."""
