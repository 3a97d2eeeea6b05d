"""Whose pods are whose: chains of owners, also through objects of kinds that are not read.

A custom kind makes its pods through others: MPIJob through a Job, LeaderWorkerSet through StatefulSets whose owners are
pods, a JobSet through Jobs. Where an object between the two is of a kind that nobody reads (RayCluster of a RayJob),
labels that controllers put on pods lead on, and so does the pod group that KAI makes for the topmost owner.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from conformance.facts.pods import Pod
from conformance.facts.resources import Resource
from conformance.facts.workloads import ReplicaSet, Workload
from conformance.gpu.labels import DYNAMO_GRAPH

POD_GROUP_ANNOTATION = "pod-group-name"
"""With this annotation KAI marks a pod as one of a pod group (kai-scheduler/KAI-Scheduler: pkg/common/constants)."""

OWNER_LABELS: Mapping[str, str] = {
    # ray-project/kuberay: ray-operator/controllers/ray/utils/constant.go; ray.io/originated-from-crd has the kind.
    "RayJob": "ray.io/originated-from-cr-name",
    "RayService": "ray.io/originated-from-cr-name",
    # kserve/kserve: pkg/constants/constants.go, on the pods of every deployment mode.
    "InferenceService": "serving.kserve.io/inferenceservice",
    # kubernetes-sigs/jobset: api/jobset/v1alpha2; the JobSet of a TrainJob has its name (kubeflow/trainer).
    "JobSet": "jobset.sigs.k8s.io/jobset-name",
    "TrainJob": "jobset.sigs.k8s.io/jobset-name",
    # ai-dynamo/dynamo: deploy/operator/internal/consts, on its pods under Deployments, LeaderWorkerSets and Grove.
    "DynamoGraphDeployment": DYNAMO_GRAPH,
    # ai-dynamo/grove: operator/api/common/labels.go; a PodGang groups pods and makes none.
    "PodCliqueSet": "app.kubernetes.io/part-of",
    "PodCliqueScalingGroup": "grove.io/podcliquescalinggroup",
    # NVIDIA/k8s-nim-operator: api/apps/v1alpha1 (GetStandardLabels); over several nodes through a LeaderWorkerSet.
    "NIMService": "app.kubernetes.io/name",
    # kserve/kserve: pkg/controller/v1alpha1/llmisvc (GetWorkloadLabelSelector); through a LeaderWorkerSet as well.
    "LLMInferenceService": "app.kubernetes.io/name",
    # knative/serving: pkg/apis/serving/register.go; a Service of Knative, for one of Kubernetes makes no pods.
    "Service": "serving.knative.dev/service",
    # kubevirt/kubevirt: api/core/v1 (VirtualMachineNameLabel), on the virt-launcher pods of a VirtualMachine.
    "VirtualMachine": "vm.kubevirt.io/name",
}
"""The label with the owner's name on pods that an owner of this kind makes through objects that are not read."""
_LABELS = tuple(dict.fromkeys(OWNER_LABELS.values()))
_RAY_KIND = "ray.io/originated-from-crd"
_MANAGED_BY, _PART_OF = "app.kubernetes.io/managed-by", "app.kubernetes.io/part-of"
_ONLY_WITH: Mapping[str, Mapping[str, str]] = {
    "PodCliqueSet": {_MANAGED_BY: "grove-operator"},
    "NIMService": {_MANAGED_BY: "k8s-nim-operator", _PART_OF: "nim-service"},
    "LLMInferenceService": {_PART_OF: "llminferenceservice"},
}
"""What pods carry beside a label that everybody uses, where it names an owner of this kind."""


class Owner(NamedTuple):
    """Kind and name of what makes pods, in their namespace."""

    kind: str
    name: str


class Ownership:
    """The chains of owners among the objects that were read."""

    def __init__(
        self,
        pods: Iterable[Pod],
        controllers: Iterable[Workload | ReplicaSet],
        pod_groups: Iterable[Resource],
    ) -> None:
        # Of several with one name, which a snapshot may hold, the first one counts.
        self._pods: dict[tuple[str, Owner], Pod] = {}
        self._made: dict[tuple[str, Owner], list[Owner]] = defaultdict(list)
        self._above: dict[tuple[str, Owner], Owner] = {}
        self._labelled: dict[tuple[str, str, str], list[Pod]] = defaultdict(list)
        self._workloads: dict[tuple[str, Owner], Workload] = {}
        for pod in pods:
            self._add_pod(pod)
        for each in controllers:
            own = Owner(each.kind if isinstance(each, Workload) else "ReplicaSet", each.name)
            self._link(each.namespace, own, Owner(each.owner_kind, each.owner_name))
            if isinstance(each, Workload):
                self._workloads[each.namespace, own] = each
        for group in pod_groups:
            for owner in (group.body.get("metadata") or {}).get("ownerReferences") or ():
                above = Owner(str(owner.get("kind")), str(owner.get("name")))
                self._made[group.namespace, above].append(Owner("PodGroup", group.name))

    def pods_below(self, kind: str, namespace: str, name: str) -> tuple[Pod, ...]:
        """The pods that an object makes, itself or through others, finished ones included, each once."""
        found: dict[str, Pod] = {}
        for owner in self._below(namespace, Owner(kind, name)):
            if pod := self._pods.get((namespace, owner)):
                found.setdefault(pod.name, pod)
        label = OWNER_LABELS.get(kind, "")
        for pod in self._labelled.get((namespace, label, name), ()):
            if _names_owners_of(kind, pod.labels):
                found.setdefault(pod.name, pod)
        return tuple(found.values())

    def workloads_below(self, kind: str, namespace: str, name: str) -> tuple[Workload, ...]:
        """The workloads that were read and that an object makes, itself or through others."""
        below = self._below(namespace, Owner(kind, name))
        return tuple(self._workloads[namespace, owner] for owner in below if (namespace, owner) in self._workloads)

    def top_of(self, pod: Pod) -> Owner:
        """The topmost owner that is known of a pod; of a pod that nobody owns the pod itself."""
        owner = Owner("Pod", pod.name)
        seen: set[Owner] = set()
        while owner not in seen and (above := self._owner_of(pod.namespace, owner)):
            seen.add(owner)
            owner = above
        for kind, label in OWNER_LABELS.items():
            named = pod.labels.get(label, "") if _names_owners_of(kind, pod.labels) else ""
            if named and owner.kind in _BETWEEN.get(kind, ()):
                return Owner(kind, named)
        return owner

    def _add_pod(self, pod: Pod) -> None:
        namespace, own = pod.namespace, Owner("Pod", pod.name)
        self._pods.setdefault((namespace, own), pod)
        if pod.owner_kind:
            self._made[namespace, Owner(pod.owner_kind, pod.owner_name)].append(own)
        group = pod.annotations.get(POD_GROUP_ANNOTATION, "")
        if group:
            self._made[namespace, Owner("PodGroup", group)].append(own)
        for label in _LABELS:
            if name := pod.labels.get(label):
                self._labelled[namespace, label, name].append(pod)

    def _owner_of(self, namespace: str, made: Owner) -> Owner | None:
        """What has made an object, as far as is known; a pod says it itself."""
        pod = self._pods.get((namespace, made))
        if pod is None:
            return self._above.get((namespace, made))
        return Owner(pod.owner_kind, pod.owner_name) if pod.owner_kind else None

    def _link(self, namespace: str, made: Owner, above: Owner) -> None:
        if above.kind:
            self._made[namespace, above].append(made)
            self._above[namespace, made] = above

    def _below(self, namespace: str, top: Owner) -> Iterable[Owner]:
        """An owner and everything below it, each once: a chain that runs in a circle ends."""
        found = {top: None}
        waiting = [top]
        while waiting:
            for made in self._made.get((namespace, waiting.pop()), ()):
                if made not in found:
                    found[made] = None
                    waiting.append(made)
        return tuple(found)


def _names_owners_of(kind: str, labels: Mapping[str, str]) -> bool:
    """Whether the label that names owners of a kind does so on a pod with these labels."""
    return labels.get(_RAY_KIND, kind) == kind and _ONLY_WITH.get(kind, {}).items() <= labels.items()


_BETWEEN: Mapping[str, tuple[str, ...]] = {
    "RayJob": ("RayCluster", "Job"),
    "RayService": ("RayCluster",),
    "InferenceService": ("Revision", "Deployment", "ReplicaSet"),
    "DynamoGraphDeployment": ("PodClique", "DynamoComponentDeployment", "LeaderWorkerSet", "Deployment"),
    "PodCliqueScalingGroup": ("PodClique",),
    "PodCliqueSet": ("PodClique", "PodCliqueScalingGroup"),
    "NIMService": ("LeaderWorkerSet",),
    "LLMInferenceService": ("LeaderWorkerSet",),
    "Service": ("Revision",),
    "VirtualMachine": ("VirtualMachineInstance",),
}
"""The kinds at which a chain ends below an owner, because the object between them is not read."""
