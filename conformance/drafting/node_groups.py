"""By which label each platform marks the nodes of one group, which labels nobody chose, and where that is written.

The first key of ``NODE_GROUPS`` that a node carries names its group. Extend the tables here, with a source.
"""

from typing import NamedTuple

from conformance.gpu.labels import DEPLOY_OPERANDS, DEVICE_PLUGIN_CONFIG, GPU_PRODUCT, MIG_CONFIG


class GroupLabel(NamedTuple):
    """A label by which a platform marks the nodes of one group.

    ``scales`` says that the group makes and removes nodes by itself, so that no number of them is right for long;
    ``made_for_pods`` how the names begin of groups that the platform itself makes and removes.
    """

    key: str
    platform: str
    source: str
    scales: bool = False
    made_for_pods: str = ""


NODE_GROUPS = (
    GroupLabel("eks.amazonaws.com/nodegroup", "an EKS managed node group", "Amazon EKS: Managed node groups"),
    GroupLabel("alpha.eksctl.io/nodegroup-name", "a node group of eksctl", "eksctl.io: Nodegroups"),
    GroupLabel(
        "sagemaker.amazonaws.com/instance-group-name",
        "an instance group of SageMaker HyperPod",
        "aws/sagemaker-hyperpod-cli: instance groups",
    ),
    GroupLabel("karpenter.sh/nodepool", "a NodePool of Karpenter", "karpenter.sh: NodePools", scales=True),
    GroupLabel(
        "karpenter.sh/provisioner-name",
        "a Provisioner of Karpenter before 0.32",
        "karpenter.sh: Migrating",
        scales=True,
    ),
    GroupLabel(
        "cloud.google.com/gke-nodepool",
        "a GKE node pool",
        "GKE: About node pools, About node pool auto-creation",
        made_for_pods="nap-",
    ),
    GroupLabel("kubernetes.azure.com/agentpool", "an AKS node pool", "AKS: Use labels in a cluster, reserved labels"),
    GroupLabel("agentpool", "an AKS node pool", "AKS: Use labels in a cluster, reserved labels"),
    GroupLabel(
        "oke.oraclecloud.com/pool.name", "an OKE node pool of the Terraform module", "oracle/terraform-oci-oke: workers"
    ),
    GroupLabel("hypershift.openshift.io/nodePool", "a NodePool of OpenShift with hosted control planes", "HyperShift"),
    GroupLabel(
        "machine.openshift.io/cluster-api-machineset",
        "an OpenShift MachineSet that hands this label on to its nodes",
        "OpenShift: Machine management, spec.template.spec.metadata.labels",
    ),
    GroupLabel(
        "node.cluster.x-k8s.io/machine-deployment",
        "a MachineDeployment of Cluster API that hands this label on to its nodes",
        "Cluster API book: Metadata propagation (prefix node.cluster.x-k8s.io/)",
    ),
    GroupLabel("cluster.x-k8s.io/deployment-name", "a MachineDeployment of Cluster API", "Cluster API book: Labels"),
    GroupLabel("worker.gardener.cloud/pool", "a worker pool of Gardener", "gardener.cloud: Shoot worker nodes"),
    GroupLabel("kops.k8s.io/instancegroup", "an instance group of kOps", "kops.sigs.k8s.io: Instance groups"),
    GroupLabel("doks.digitalocean.com/node-pool", "a DigitalOcean node pool", "DOKS: Automatic node labels"),
    GroupLabel("lke.linode.com/pool-id", "a Linode node pool", "Akamai LKE: Labels and taints"),
    GroupLabel("k8s.scaleway.com/pool-name", "a Scaleway pool", "Scaleway Kapsule: Labels and taints"),
    GroupLabel("ibm-cloud.kubernetes.io/worker-pool-name", "an IBM Cloud worker pool", "IBM Cloud: Worker node labels"),
    GroupLabel("alibabacloud.com/nodepool-id", "an ACK node pool", "Alibaba Cloud ACK: Node pools"),
    GroupLabel("compute.coreweave.com/node-pool", "a CoreWeave NodePool", "CoreWeave: Node Pools"),
    GroupLabel("nebius.com/node-group-id", "a node group of Nebius", "nebius/nebius-solutions-library: soperator"),
    GroupLabel("vke.vultr.com/node-pool", "a Vultr node pool", "ctrox/zeropod: README, VKE"),
    GroupLabel("crusoe.ai/nodepool.name", "a node pool of Crusoe", "crusoecloud: Managed Kubernetes, node pools"),
    GroupLabel("crusoe.ai/nodepool.id", "a node pool of Crusoe", "crusoecloud: Managed Kubernetes, node pools"),
    GroupLabel("tke.cloud.tencent.com/nodepool-id", "a TKE node pool", "Tencent Kubernetes Engine: Node pools"),
    GroupLabel("cce.cloud.com/cce-nodepool", "a CCE node pool", "Huawei Cloud CCE: Node pools"),
    GroupLabel("yandex.cloud/node-group-id", "a node group of Yandex Cloud", "Yandex Managed Kubernetes: Node labels"),
    GroupLabel("kubernetes.civo.com/civo-node-pool", "a Civo node pool", "Civo: Kubernetes node pools"),
    GroupLabel("node.exoscale.net/nodepool-id", "a nodepool of Exoscale SKS", "Exoscale SKS: Nodepools"),
)

# OpenShift (MachineConfigPool), kubeadm and k3s mark what a node is for by the role in the key.
ROLE_PREFIX = "node-role.kubernetes.io/"
COMMON_ROLES = ("worker", "node", "agent")
CONTROL_PLANE_ROLES = ("control-plane", "master", "etcd")

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
EVERY_MACHINE_IS = ("k3s", "rke2")
"""Instance types that a distribution gives to every machine, so that they tell nothing of it (docs.k3s.io: cloud
controller manager)."""
HOSTNAME = "kubernetes.io/hostname"
PRODUCT = GPU_PRODUCT

OWN_GROUP_WORDS = ("nodegroup", "node-group", "nodepool", "node-pool", "pool", "group", "rack", "role", "class", "type")
"""Words in the keys of labels by which people name groups of nodes themselves, the most telling first."""

# Labels that programs write: Kubernetes, cloud providers, GPU and Node Feature Discovery, the GPU Operator.
PROGRAM_PREFIXES = (
    "kubernetes.io/",
    "beta.kubernetes.io/",
    "node.kubernetes.io/",
    "node-role.kubernetes.io/",
    "topology.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
    "feature.node.kubernetes.io/",
    "nvidia.com/",
    "amd.com/",
    "gpu.intel.com/",
    "resource.nvidia.com/",
    "nfd.node.kubernetes.io/",
    "kwok.x-k8s.io/",
    "gpu-conformance.io/",
    "topology.",
    "volume.",
    "csi.",
    "cloud.google.com/gke-",
    "cloud.google.com/machine-family",
    "container.googleapis.com/",
    "iam.gke.io/",
    "networking.gke.io/",
    "addon.gke.io/",
    "eks.amazonaws.com/",
    "alpha.eksctl.io/",
    "k8s.io/cloud-provider-aws",
    "sagemaker.amazonaws.com/",
    "vpc.amazonaws.com/",
    "karpenter.sh/",
    "karpenter.k8s.aws/",
    "karpenter.azure.com/",
    "kubernetes.azure.com/",
    "storageprofile",
    "oci.oraclecloud.com/",
    "oke.oraclecloud.com/",
    "node.info.",
    "node.openshift.io/",
    "machine.openshift.io/",
    "machineconfiguration.openshift.io/",
    "hypershift.openshift.io/",
    "cluster.x-k8s.io/",
    "node.cluster.x-k8s.io/",
    "worker.gardener.cloud/",
    "node.k0sproject.io/",
    "extensions.talos.dev/",
    "talos.dev/",
    "microk8s.io/",
    "minikube.k8s.io/",
    "k3s.io/",
    "p2p.k3s.cattle.io/",
    "cattle.io/",
    "rke.cattle.io/",
    "plan.upgrade.cattle.io/",
    "kops.k8s.io/",
    "doks.digitalocean.com/",
    "lke.linode.com/",
    "k8s.scaleway.com/",
    "ibm-cloud.kubernetes.io/",
    "alibabacloud.com/",
    "compute.coreweave.com/",
    "node.coreweave.cloud/",
    "backend.coreweave.cloud/",
    "ib.coreweave.cloud/",
    "net.coreweave.cloud/",
    "ds.coreweave.com/",
    "gpu.nvidia.com/",
    "nebius.com/",
    "vke.vultr.com/",
    "crusoe.ai/",
    "intel.feature.node.kubernetes.io/",
    "kmm.node.kubernetes.io/",
    "tke.cloud.tencent.com/",
    "node.tke.cloud.tencent.com/",
    "cloud.tencent.com/",
    "cce.cloud.com/",
    "yandex.cloud/",
    "kubernetes.civo.com/",
    "node.exoscale.net/",
    "node.k8s.ovh/",
    "kueue.x-k8s.io/",
    "autopilot.ibm.com/",
    "kubevirt.io/",
    "cpu-feature.node.kubevirt.io/",
    "cpu-model.node.kubevirt.io/",
    "cpu-model-migration.node.kubevirt.io/",
    "cpu-timer.node.kubevirt.io/",
    "cpu-vendor.node.kubevirt.io/",
    "host-model-cpu.node.kubevirt.io/",
    "host-model-required-features.node.kubevirt.io/",
    "hyperv.node.kubevirt.io/",
    "machine-type.node.kubevirt.io/",
    "scheduling.node.kubevirt.io/",
    "k8saas.nvidia.com/",
)
PROGRAM_KEYS = (
    "agentpool",
    "instance-type",
    "hostname",
    "displayName",
    "internal_addr",
    "name",
    "last-migration-failure",
)

CHOICES = (DEVICE_PLUGIN_CONFIG, MIG_CONFIG, DEPLOY_OPERANDS)
"""Labels under a program's prefix that are the owners' choice all the same: they tell the program what to do."""

NO_CHOICE = {MIG_CONFIG: ("all-disabled",), DEPLOY_OPERANDS: ("true",)}
"""Values that the GPU Operator writes by itself (gpu-operator v26.7, controllers/state_manager.go)."""

OF_PLATFORMS = (("accelerator", "nvidia"),)
"""Labels of platforms under keys that owners use as well: AKS writes this one on nodes with GPUs (AKS: Use GPUs)."""


def is_of_a_program(key: str) -> bool:
    """Whether a label of a node was written by a program, so that its owners did not choose it."""
    return key in PROGRAM_KEYS or key.startswith(PROGRAM_PREFIXES)


def is_a_choice(key: str, value: str) -> bool:
    """Whether a label says what the owners want, under their own prefix or one of NVIDIA's."""
    if (key, value) in OF_PLATFORMS:
        return False
    if key in CHOICES:
        return value not in NO_CHOICE.get(key, ())
    return not is_of_a_program(key)
