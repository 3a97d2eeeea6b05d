"""Which API versions a release of Kubernetes no longer serves, and which of them NVIDIA's DRA driver speaks.

A snapshot read on ``READ``. When an API goes is written in the types themselves: kubernetes/api, in each group
``zz_generated.prerelease-lifecycle.go``, of the tags v0.32.0 to v0.36.0; older ones are those of the Deprecated API
Migration Guide. A release newer than ``NEWEST`` may take more away than is known here.
"""

import msgspec

from conformance.gpu.operator_releases import Minor

READ = "2026-11-29"
"""The day on which the sources were read."""

NEWEST: Minor = (1, 39)
"""The last release about which the types of Kubernetes 1.36 and the branch after it say what it will take away."""

API_SOURCES = (
    "https://github.com/kubernetes/api (zz_generated.prerelease-lifecycle.go, v0.32.0 to v0.36.0)",
    "https://kubernetes.io/docs/reference/using-api/deprecation-guide/",
)
DRA_GROUP = "resource.k8s.io"


class RemovedApi(msgspec.Struct, frozen=True):
    """An API version, the kinds that it had, the first release that does not serve them, and what takes its place."""

    version: str
    kinds: tuple[str, ...]
    gone_in: Minor
    instead: str


_DRA = ("DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice")
_FLOW = ("FlowSchema", "PriorityLevelConfiguration")
_VALIDATING = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
_MUTATING = ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")

REMOVED_APIS: tuple[RemovedApi, ...] = (
    RemovedApi("policy/v1beta1", ("PodDisruptionBudget",), (1, 25), "policy/v1"),
    RemovedApi("batch/v1beta1", ("CronJob",), (1, 25), "batch/v1"),
    RemovedApi("autoscaling/v2beta2", ("HorizontalPodAutoscaler",), (1, 26), "autoscaling/v2"),
    RemovedApi("flowcontrol.apiserver.k8s.io/v1beta2", _FLOW, (1, 29), "flowcontrol.apiserver.k8s.io/v1"),
    RemovedApi("flowcontrol.apiserver.k8s.io/v1beta3", _FLOW, (1, 32), "flowcontrol.apiserver.k8s.io/v1"),
    # The types say 1.37; the tag v0.34.0 has them no more.
    RemovedApi(f"{DRA_GROUP}/v1alpha3", _DRA, (1, 34), f"{DRA_GROUP}/v1"),
    RemovedApi("admissionregistration.k8s.io/v1beta1", _VALIDATING, (1, 34), "admissionregistration.k8s.io/v1"),
    RemovedApi("scheduling.k8s.io/v1alpha1", ("Workload",), (1, 36), "scheduling.k8s.io/v1alpha2"),
    RemovedApi("storage.k8s.io/v1beta1", ("VolumeAttributesClass",), (1, 37), "storage.k8s.io/v1"),
    RemovedApi(f"{DRA_GROUP}/v1beta1", _DRA, (1, 38), f"{DRA_GROUP}/v1"),
    RemovedApi("admissionregistration.k8s.io/v1alpha1", _MUTATING, (1, 38), "admissionregistration.k8s.io/v1"),
    RemovedApi(f"{DRA_GROUP}/v1beta2", _DRA, (1, 39), f"{DRA_GROUP}/v1"),
    RemovedApi(f"{DRA_GROUP}/v1alpha3", ("DeviceTaintRule",), (1, 39), f"{DRA_GROUP}/v1beta2"),
)


class DraRelease(msgspec.Struct, frozen=True):
    """A release of NVIDIA's DRA driver: ``first`` patch, what its chart creates DeviceClasses by, its Kubernetes."""

    first: tuple[int, int, int]
    apis: tuple[str, ...]
    kubernetes: Minor | None
    note: str


DRA_RELEASES: tuple[DraRelease, ...] = (
    DraRelease((25, 3, 0), ("v1beta1",), None, "its chart knows no other version, whatever the cluster serves"),
    DraRelease((25, 3, 2), ("v1", "v1beta2", "v1beta1"), (1, 32), "the first of these that the cluster serves"),
)
"""By the tags of kubernetes-sigs/dra-driver-nvidia-gpu (NVIDIA/k8s-dra-driver-gpu), deployments/helm, up to v0.4.0: a
release goes on until the next row. After v25.12.0 came v0.4.0."""


def taken_away(kind: str, running: Minor, target: Minor) -> dict[str, RemovedApi]:
    """The API versions of a kind that one release of Kubernetes may serve and another one does not, by version."""
    return {each.version: each for each in REMOVED_APIS if kind in each.kinds and running < each.gone_in <= target}
