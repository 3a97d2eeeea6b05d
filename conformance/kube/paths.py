"""Where objects live in the API: paths from kinds and from objects, and the one spelling in which paths are sent."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from conformance.kube.errors import KubeError, UnclearPath


class UnknownKind(KubeError):
    """A kind that the table below lacks. Client.apply finds such kinds by discovery."""


class Place(msgspec.Struct, frozen=True):
    """Where the objects of one kind live."""

    group_version: str
    plural: str
    namespaced: bool

    def path(self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path of an object, or of the collection when ``name`` is None.

        Without ``namespace`` the collection of a namespaced kind spans all namespaces. Raises ValueError for an
        object of a namespaced kind without namespace, a namespace for a cluster-scoped kind, and for a name that
        could not be a name.
        """
        if namespace is not None and not self.namespaced:
            raise ValueError(f"{self.plural} have no namespace, yet {namespace!r} was given")
        if name is not None and namespace is None and self.namespaced:
            raise ValueError(f"{self.plural} {name!r} needs a namespace")
        if subresource is not None and name is None:
            raise ValueError(f"the subresource {subresource!r} of {self.plural} needs a name")
        root = "api" if "/" not in self.group_version else "apis"
        parts = [root, *self.group_version.split("/")]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "".join(f"/{segment(part)}" for part in parts)


def _core(plural: str, namespaced: bool = True) -> Place:
    return Place("v1", plural, namespaced)


def _group(group_version: str, plural: str, namespaced: bool = True) -> Place:
    return Place(group_version, plural, namespaced)


_ADMISSION = "admissionregistration.k8s.io/v1"
_AUTHORIZATION = "authorization.k8s.io/v1"
_RBAC = "rbac.authorization.k8s.io/v1"
_DRA = "resource.k8s.io/v1"
_NVIDIA = "nvidia.com"
_KAI = "scheduling.run.ai"
_KUEUE = "kueue.x-k8s.io"
_RAY = "ray.io"
_VOLCANO, _VOLCANO_JOBS = "scheduling.volcano.sh", "batch.volcano.sh"
_KARPENTER = "karpenter.sh"

# Versions as served by Kubernetes 1.34 and later; an older server needs objects that say their own apiVersion.
# Custom kinds: NVIDIA/gpu-operator v26.7.0 (api/nvidia), kubernetes-sigs/dra-driver-nvidia-gpu v0.4.0 (api),
# kubernetes-sigs/node-feature-discovery v0.19.0 (api/nfd), kai-scheduler/KAI-Scheduler v0.17.0
# (deployments/kai-scheduler/crds). Queue and PodGroup are KAI's; those of Volcano
# (volcano-sh/apis, pkg/apis/scheduling/v1beta1) have the names of OTHER_NAMES here.
# kubernetes-sigs/kueue (apis/kueue/v1beta1, which v0.15 still serves beside v1beta2), openshift/api (quota/v1).
# kubernetes-sigs/jobset and lws, kubeflow/training-operator, mpi-operator and trainer, ray-project/kuberay (api, v1).
# kubernetes-sigs/karpenter (pkg/apis/v1).
PLACES: Mapping[str, Place] = {
    "ConfigMap": _core("configmaps"),
    "Event": _core("events"),
    "LimitRange": _core("limitranges"),
    "Namespace": _core("namespaces", namespaced=False),
    "Node": _core("nodes", namespaced=False),
    "Pod": _core("pods"),
    "ResourceQuota": _core("resourcequotas"),
    "PersistentVolume": _core("persistentvolumes", namespaced=False),
    "PersistentVolumeClaim": _core("persistentvolumeclaims"),
    "Secret": _core("secrets"),
    "Service": _core("services"),
    "ServiceAccount": _core("serviceaccounts"),
    "DaemonSet": _group("apps/v1", "daemonsets"),
    "Deployment": _group("apps/v1", "deployments"),
    "ReplicaSet": _group("apps/v1", "replicasets"),
    "StatefulSet": _group("apps/v1", "statefulsets"),
    "Job": _group("batch/v1", "jobs"),
    "CronJob": _group("batch/v1", "cronjobs"),
    "Lease": _group("coordination.k8s.io/v1", "leases"),
    "PodDisruptionBudget": _group("policy/v1", "poddisruptionbudgets"),
    "StorageClass": _group("storage.k8s.io/v1", "storageclasses", namespaced=False),
    "CSINode": _group("storage.k8s.io/v1", "csinodes", namespaced=False),
    "PriorityClass": _group("scheduling.k8s.io/v1", "priorityclasses", namespaced=False),
    "RuntimeClass": _group("node.k8s.io/v1", "runtimeclasses", namespaced=False),
    "Role": _group(_RBAC, "roles"),
    "RoleBinding": _group(_RBAC, "rolebindings"),
    "ClusterRole": _group(_RBAC, "clusterroles", namespaced=False),
    "ClusterRoleBinding": _group(_RBAC, "clusterrolebindings", namespaced=False),
    "LocalSubjectAccessReview": _group(_AUTHORIZATION, "localsubjectaccessreviews"),
    "SelfSubjectAccessReview": _group(_AUTHORIZATION, "selfsubjectaccessreviews", namespaced=False),
    "SelfSubjectRulesReview": _group(_AUTHORIZATION, "selfsubjectrulesreviews", namespaced=False),
    "SubjectAccessReview": _group(_AUTHORIZATION, "subjectaccessreviews", namespaced=False),
    "SelfSubjectReview": _group("authentication.k8s.io/v1", "selfsubjectreviews", namespaced=False),
    "ResourceClaim": _group(_DRA, "resourceclaims"),
    "ResourceClaimTemplate": _group(_DRA, "resourceclaimtemplates"),
    "DeviceClass": _group(_DRA, "deviceclasses", namespaced=False),
    "ResourceSlice": _group(_DRA, "resourceslices", namespaced=False),
    "DeviceTaintRule": _group(_DRA, "devicetaintrules", namespaced=False),
    "CustomResourceDefinition": _group("apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False),
    "ClusterPolicy": _group(f"{_NVIDIA}/v1", "clusterpolicies", namespaced=False),
    "GPUCluster": _group(f"{_NVIDIA}/v1alpha1", "gpuclusters", namespaced=False),
    "NVIDIADriver": _group(f"{_NVIDIA}/v1alpha1", "nvidiadrivers", namespaced=False),
    "ComputeDomain": _group("resource.nvidia.com/v1beta1", "computedomains"),
    "NodeFeature": _group("nfd.k8s-sigs.io/v1alpha1", "nodefeatures"),
    "Queue": _group(f"{_KAI}/v2", "queues", namespaced=False),
    "PodGroup": _group(f"{_KAI}/v2alpha2", "podgroups"),
    "ClusterQueue": _group(f"{_KUEUE}/v1beta1", "clusterqueues", namespaced=False),
    "Cohort": _group(f"{_KUEUE}/v1beta1", "cohorts", namespaced=False),
    "ResourceFlavor": _group(f"{_KUEUE}/v1beta1", "resourceflavors", namespaced=False),
    "Workload": _group(f"{_KUEUE}/v1beta1", "workloads"),
    "LocalQueue": _group(f"{_KUEUE}/v1beta1", "localqueues"),
    "JobSet": _group("jobset.x-k8s.io/v1alpha2", "jobsets"),
    "LeaderWorkerSet": _group("leaderworkerset.x-k8s.io/v1", "leaderworkersets"),
    "MPIJob": _group("kubeflow.org/v2beta1", "mpijobs"),
    "PyTorchJob": _group("kubeflow.org/v1", "pytorchjobs"),
    "TrainJob": _group("trainer.kubeflow.org/v1alpha1", "trainjobs"),
    "RayCluster": _group(f"{_RAY}/v1", "rayclusters"),
    "RayJob": _group(f"{_RAY}/v1", "rayjobs"),
    "RayService": _group(f"{_RAY}/v1", "rayservices"),
    "VolcanoQueue": _group(f"{_VOLCANO}/v1beta1", "queues", namespaced=False),
    "VolcanoPodGroup": _group(f"{_VOLCANO}/v1beta1", "podgroups"),
    "VolcanoJob": _group(f"{_VOLCANO_JOBS}/v1alpha1", "jobs"),
    "NodePool": _group(f"{_KARPENTER}/v1", "nodepools", namespaced=False),
    "NodeClaim": _group(f"{_KARPENTER}/v1", "nodeclaims", namespaced=False),
    "ClusterResourceQuota": _group("quota.openshift.io/v1", "clusterresourcequotas", namespaced=False),
    "APIService": _group("apiregistration.k8s.io/v1", "apiservices", namespaced=False),
    "MutatingAdmissionPolicy": _group(_ADMISSION, "mutatingadmissionpolicies", namespaced=False),
    "MutatingAdmissionPolicyBinding": _group(_ADMISSION, "mutatingadmissionpolicybindings", namespaced=False),
    "MutatingWebhookConfiguration": _group(_ADMISSION, "mutatingwebhookconfigurations", namespaced=False),
    "ValidatingAdmissionPolicy": _group(_ADMISSION, "validatingadmissionpolicies", namespaced=False),
    "ValidatingAdmissionPolicyBinding": _group(_ADMISSION, "validatingadmissionpolicybindings", namespaced=False),
    "ValidatingWebhookConfiguration": _group(_ADMISSION, "validatingwebhookconfigurations", namespaced=False),
}

OTHER_NAMES: Mapping[tuple[str, str], str] = {
    (_VOLCANO, "Queue"): "VolcanoQueue",
    (_VOLCANO, "PodGroup"): "VolcanoPodGroup",
    (_VOLCANO_JOBS, "Job"): "VolcanoJob",
}
"""How kinds are called in PLACES that another API group has under the same name, by group and kind."""


_KINDS = {name: kind for (_, kind), name in OTHER_NAMES.items()}


def kind_in_api(name: str) -> str:
    """What the objects of a kind say of themselves: ``Queue`` for ``VolcanoQueue``."""
    return _KINDS.get(name, name)


def name_in_places(api_version: str, kind: str) -> str:
    """How a kind is called in PLACES, by what its objects say."""
    return OTHER_NAMES.get((api_version.partition("/")[0], kind), kind)


def resource_of(name: str) -> str:
    """The plural of a kind, with its group where another kind has the same one: ``queues.scheduling.volcano.sh``."""
    place = PLACES[name]
    group = place.group_version.partition("/")[0]
    return f"{place.plural}.{group}" if name in OTHER_NAMES.values() else place.plural


def path(kind: str, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    """Return the path of a kind's collection, of one object, or of its subresource, as Place.path does.

    Raises UnknownKind for a kind that the table lacks.
    """
    return place(kind).path(namespace=namespace, name=name, subresource=subresource)


def place(kind: str, api_version: str | None = None) -> Place:
    """Where the objects of ``kind`` live, at the version that the object names if it names one of the same group.

    Raises UnknownKind for a kind that the table lacks or that it knows from another group.
    """
    known = PLACES.get(kind)
    if known is None:
        raise UnknownKind(f"kind {kind!r} is not in the table of conformance.kube.paths")
    if api_version is None or api_version == known.group_version:
        return known
    if _group_of(api_version) != _group_of(known.group_version):
        raise UnknownKind(f"kind {kind!r} of {api_version} is not in the table of conformance.kube.paths")
    return msgspec.structs.replace(known, group_version=api_version)


def path_of(obj: Mapping[str, Any]) -> str:
    """Return the path of an object by its own apiVersion, kind, namespace and name.

    Raises UnknownKind for kinds outside the table and ValueError for an object without name, or without namespace
    where its kind has one: we never let the server fill in ``default``.
    """
    return path_at(place(str(obj.get("kind", "")), str(obj.get("apiVersion", ""))), obj)


def path_at(where: Place, obj: Mapping[str, Any]) -> str:
    """Return the path of an object whose place is known. Raises ValueError as path_of does."""
    metadata = obj.get("metadata") or {}
    name = metadata.get("name")
    if not name:
        raise ValueError(f"a {obj.get('kind')} without metadata.name has no path")
    namespace = metadata.get("namespace") if where.namespaced else None
    return where.path(namespace=namespace, name=name)


# What RFC 3986 allows in a segment without encoding; `.` and `..` alone are handled apart.
_PLAIN = ":@!$&'()*+,;=~"
_FORBIDDEN = re.compile(r"[/\\%?#\x00-\x1f\x7f]")
# Nearly all names are; each request spells and reads its path several times.
_SPELLED_AS_IT_IS = re.compile(rf"[\w.{re.escape(_PLAIN)}-]+", re.ASCII)


def segment(text: str) -> str:
    """One path segment, percent-encoded where needed. Raises ValueError for what no object name may be.

    Kubernetes refuses names that are ``.`` or ``..`` or contain ``/`` or ``%``
    (apimachinery: pkg/api/validation/path), and a server or proxy could read them as another path.
    """
    if text in {"", ".", ".."} or _FORBIDDEN.search(text):
        raise ValueError(f"{text!r} cannot be part of a path")
    return text if _SPELLED_AS_IT_IS.fullmatch(text) else quote(text, safe=_PLAIN)


def segments(path: str) -> tuple[str, ...]:
    """Take apart a path that has exactly one reading; the segments are decoded.

    Raises UnclearPath for every other one: dot segments, empty segments, encoded slashes or dots, queries,
    fragments, and characters encoded without need. What a server sees is then what the guard judged.
    """
    if not path.startswith("/"):
        raise UnclearPath(path, "it does not start with a slash")
    found = []
    for part in path[1:].split("/"):
        plain = unquote(part, errors="replace")
        try:
            spelled = segment(plain)
        except ValueError as error:
            raise UnclearPath(path, f"the segment {error}" if part else "it has an empty segment") from None
        if spelled != part:
            raise UnclearPath(path, f"the segment {part!r} is not spelled {spelled!r}")
        found.append(plain)
    return tuple(found)


def _group_of(group_version: str) -> str:
    return group_version.rpartition("/")[0]
