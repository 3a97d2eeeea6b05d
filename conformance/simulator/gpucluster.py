"""What the operator deploys for a GPUCluster: the DRA driver, its validator, DCGM, and the device classes.

What the DRA driver itself does is no matter of the operator. Source: NVIDIA/gpu-operator v26.7.0, manifests/.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from conformance.simulator.chart.defaults import GPU_OPERATOR
from conformance.simulator.chart.objects import environment_of, fields_of, host_volume, named, over
from conformance.simulator.clusterpolicy import given_variables, image_of, mapping
from conformance.simulator.gpucluster_driver import CONTROLLER, KUBELET_FOLDERS, DriverContainers
from conformance.simulator.manifests import STARTS_IN_TURN, STOPS_AT_ONCE
from conformance.simulator.operand_env import exporter_settings
from conformance.simulator.operands import DEPLOY, NODE_NAME
from conformance.simulator.world import Object

KIND = "GPUCluster"
ADMIN_ACCESS = "resource.kubernetes.io/admin-access"

KUBELET_PLUGIN, VALIDATOR = "nvidia-dra-driver-kubelet-plugin", "nvidia-dra-validator"
DCGM, EXPORTER = "nvidia-dcgm-dra", "nvidia-dcgm-exporter-dra"
DAEMON_SETS = (KUBELET_PLUGIN, VALIDATOR, DCGM, EXPORTER)

_STATES: Mapping[str, str] = {
    KUBELET_PLUGIN: "state-dra-driver",
    CONTROLLER: "state-dra-driver",
    VALIDATOR: "state-dra-validation",
    DCGM: "state-dcgm",
    EXPORTER: "state-dcgm-exporter",
}
"""What the operator calls the states that its workloads belong to, in a label of each."""

_RESOURCE_API = "resource.k8s.io/v1"
_GPU, _DOMAIN = "gpu.nvidia.com", "compute-domain.nvidia.com"
_CLASSES = (
    ("gpu.nvidia.com", _GPU, "gpu", ""),
    ("mig.nvidia.com", _GPU, "mig", ""),
    ("vfio.gpu.nvidia.com", _GPU, "vfio", ""),
)
_DOMAIN_CLASSES = (
    ("compute-domain-daemon.nvidia.com", _DOMAIN, "daemon", ""),
    (
        "compute-domain-default-channel.nvidia.com",
        _DOMAIN,
        "channel",
        f" && device.attributes['{_DOMAIN}'].id == 0",
    ),
)
_PRIVILEGED = {"privileged": True}
_GPU_PRESENT, _PCI = "nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present"
_CPU_VENDOR, _CONTROL_PLANE = "feature.node.kubernetes.io/cpu-model.vendor_id", "node-role.kubernetes.io/control-plane"
_CLAIM_OF_METRICS = "admin-gpus"
_CRITICAL = "system-node-critical"
_DOMAIN_ACCOUNT = "compute-domain-daemon-service-account"
_ALL_AT_ONCE = {"rollingUpdate": {"maxUnavailable": "100%"}}
_BESIDE_THE_CONTROL_PLANE = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "preference": {"matchExpressions": [{"key": _CONTROL_PLANE, "operator": "Exists"}]}}
        ]
    },
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "podAffinityTerm": {
                    "labelSelector": {"matchLabels": {"app": CONTROLLER}},
                    "topologyKey": "kubernetes.io/hostname",
                },
            }
        ]
    },
}
_HOST = {"cdi": "/var/run/cdi", "driver-install-dir": "/run/nvidia/driver", "validations": "/run/nvidia/validations"}


class Cluster:
    """What a GPUCluster asks for, over the chart's defaults."""

    def __init__(self, obj: Object, namespace: str) -> None:
        self._spec = mapping(obj.get("spec"))
        self._namespace = namespace
        self.settings = mapping(self._spec.get("daemonsets"))
        self.driver = self._block("draDriver")
        self._containers = DriverContainers(self.driver, mapping(self._spec.get("hostPaths")))

    def _block(self, component: str) -> Mapping[str, Any]:
        return over(GPU_OPERATOR.get(component) or {}, mapping(self._spec.get(component)))

    @property
    def domains(self) -> bool:
        """Whether compute domains are served, too."""
        return mapping(self.driver.get("computeDomains")).get("enabled") is not False

    def wanted(self) -> list[Object]:
        """Everything that is to be there. Raises SpecError."""
        made = [*self._classes(), *self._kubelet_plugin(), *self._validator()]
        if self.domains:
            made += [self._account(_DOMAIN_ACCOUNT), *self._controller()]
        if self._has_dcgm:
            made += self._dcgm()
        if self._has_exporter:
            made += self._exporter()
        return made

    def unwanted(self) -> list[tuple[str, str]]:
        """Kind and name of what is not to be there."""
        gone = [] if self.domains else [("Deployment", CONTROLLER)]
        off = [name for name, on in ((DCGM, self._has_dcgm), (EXPORTER, self._has_exporter)) if not on]
        return gone + [("DaemonSet", name) for name in off]

    @property
    def _has_dcgm(self) -> bool:
        return mapping(self._spec.get("dcgm")).get("enabled") is True

    @property
    def _has_exporter(self) -> bool:
        # On wherever the object has its block, and off where the block is missing.
        block = self._spec.get("dcgmExporter")
        return isinstance(block, Mapping) and block.get("enabled") is not False

    def _classes(self) -> list[Object]:
        # No extendedResourceName: with the operator, pods ask for GPUs by claim or by the class's own resource.
        made = []
        for name, driver, kind, more in (*_CLASSES, *(_DOMAIN_CLASSES if self.domains else ())):
            expression = f"device.driver == '{driver}' && device.attributes['{driver}'].type == '{kind}'{more}"
            made.append(
                named("DeviceClass", _RESOURCE_API, name, spec={"selectors": [{"cel": {"expression": expression}}]})
            )
        return made

    def _kubelet_plugin(self) -> list[Object]:
        account = "nvidia-dra-driver-kubeletplugin"
        pod = {
            "serviceAccountName": account,
            "priorityClassName": self._priority,
            "affinity": _on_nodes_with_any({_PCI: "true"}, {_CPU_VENDOR: "NVIDIA"}, {_GPU_PRESENT: "true"}),
            "initContainers": [self._containers.validation()],
            "containers": self._containers.of_kubelet_plugin(domains=self.domains),
            "volumes": [host_volume(name, path) for name, path in {**KUBELET_FOLDERS, **_HOST}.items()],
        }
        labels = {"app": KUBELET_PLUGIN, **_part(KUBELET_PLUGIN)}
        chosen = {"app": KUBELET_PLUGIN}
        made = self._daemon_set(KUBELET_PLUGIN, "dra-driver", pod, labels, chosen, STARTS_IN_TURN, _ALL_AT_ONCE)
        return [self._account(account), made]

    def _controller(self) -> list[Object]:
        labels = {"app": CONTROLLER, **_part(CONTROLLER)}
        tolerated = [
            {"key": _CONTROL_PLANE, "operator": "Exists", "effect": "NoSchedule"},
            {"key": "node-role.kubernetes.io/master", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "CriticalAddonsOnly", "operator": "Exists"},
        ]
        pod = {
            "serviceAccountName": CONTROLLER,
            "priorityClassName": self._priority,
            "affinity": _BESIDE_THE_CONTROL_PLANE,
            "tolerations": [*tolerated, *_listed(self.settings.get("tolerations"))],
            "containers": [self._containers.controller(self._namespace)],
        }
        template = {"metadata": self._pod_metadata(labels, STOPS_AT_ONCE), "spec": pod | self._secrets(self.driver)}
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": CONTROLLER}}, "template": template}
        made = named("Deployment", "apps/v1", CONTROLLER, self._namespace, self._labels(CONTROLLER, labels), spec=spec)
        return [self._account(CONTROLLER), made]

    def _validator(self) -> list[Object]:
        image = image_of("validator", GPU_OPERATOR["validator"])
        claim, template = "validation-gpu", "nvidia-dra-validator-gpu"
        check = {
            "name": "gpu-validation",
            "image": image,
            "command": ["sh", "-c", "nvidia-smi -L"],
            "resources": {"claims": [{"name": claim}]},
        }
        pod = {
            "serviceAccountName": VALIDATOR,
            "priorityClassName": _CRITICAL,
            "affinity": _on_nodes_with_any({_GPU_PRESENT: "true"}),
            "resourceClaims": [{"name": claim, "resourceClaimTemplateName": template}],
            "initContainers": [check],
            "containers": [{"name": VALIDATOR, "image": image}],
        }
        labels = {"app": VALIDATOR, **_part(VALIDATOR), "app.kubernetes.io/name": VALIDATOR}
        chosen = {"app.kubernetes.io/name": VALIDATOR}
        made = self._daemon_set(VALIDATOR, "dra-validator", pod, labels, chosen, STARTS_IN_TURN, _ALL_AT_ONCE)
        # Upgrades look for the label app of the other stack's validator.
        made["spec"]["template"]["metadata"]["labels"]["app"] = "nvidia-operator-validator"
        request = {"deviceClassName": _GPU, "allocationMode": "ExactCount", "count": 1, "adminAccess": True}
        return [self._account(VALIDATOR), self._template(template, claim, request), made]

    def _dcgm(self) -> list[Object]:
        block = self._block("dcgm")
        container = {"name": "nvidia-dcgm-ctr", "env": environment_of(given_variables(block))}
        pod = self._metrics_pod(DCGM, "nvidia-dcgm-admin", "dcgm", container, ("dcgm", 5555))
        return self._metrics(DCGM, "nvidia-dcgm-admin", "dcgm-dra", pod, ("dcgm", 5555), "Local")

    def _exporter(self) -> list[Object]:
        block = self._block("dcgmExporter")
        env = {
            "DCGM_EXPORTER_LISTEN": ":9400",
            "DCGM_EXPORTER_KUBERNETES": "true",
            "DCGM_EXPORTER_COLLECTORS": "/etc/dcgm-exporter/dcp-metrics-included.csv",
            **({"DCGM_REMOTE_HOSTENGINE_INFO": f"{DCGM}:5555"} if self._has_dcgm else {}),
            **exporter_settings(block),
            "KUBERNETES_ENABLE_DRA": "true",
            **given_variables(block),
        }
        container = {"name": EXPORTER, "env": [*fields_of(NODE_NAME), *environment_of(env)]}
        template = "nvidia-dcgm-exporter-admin"
        pod = self._metrics_pod(EXPORTER, template, "dcgmExporter", container, ("metrics", 9400))
        pod["volumes"] = [host_volume("pod-gpu-resources", "/var/lib/kubelet/pod-resources")]
        traffic = str(mapping(block.get("service")).get("internalTrafficPolicy") or "Cluster")
        return self._metrics(EXPORTER, template, "dcgm-exporter-dra", pod, ("gpu-metrics", 9400), traffic)

    def _metrics_pod(
        self, account: str, template: str, component: str, container: Object, port: tuple[str, int]
    ) -> Object:
        block = self._block(component)
        name, number = port
        container |= {
            "image": image_of(component, block),
            "imagePullPolicy": block.get("imagePullPolicy") or "IfNotPresent",
            "ports": [{"name": name, "containerPort": number}],
            "securityContext": dict(_PRIVILEGED),
            "resources": {**mapping(block.get("resources")), "claims": [{"name": _CLAIM_OF_METRICS}]},
        }
        pod: Object = {
            "serviceAccountName": account,
            "priorityClassName": _CRITICAL,
            "resourceClaims": [{"name": _CLAIM_OF_METRICS, "resourceClaimTemplateName": template}],
            "containers": [container],
        }
        for key in ("hostPID", "hostNetwork"):
            pod |= {key: True} if block.get(key) is True else {}
        return pod | self._secrets(block)

    def _metrics(
        self, name: str, template: str, deploy: str, pod: Object, port: tuple[str, int], traffic: str
    ) -> list[Object]:
        made = self._daemon_set(name, deploy, pod, {"app": name}, {"app": name}, STOPS_AT_ONCE, {})
        ports = [{"name": port[0], "port": port[1], "targetPort": port[1]}]
        spec = {"selector": {"app": name}, "ports": ports, "internalTrafficPolicy": traffic}
        service = named("Service", "v1", name, self._namespace, {"app": name}, spec=spec)
        request = {"deviceClassName": _GPU, "allocationMode": "All", "adminAccess": True}
        return [self._account(name), self._template(template, _CLAIM_OF_METRICS, request), service, made]

    @property
    def _priority(self) -> str:
        return str(self.settings.get("priorityClassName") or _CRITICAL)

    def _account(self, name: str) -> Object:
        return named("ServiceAccount", "v1", name, self._namespace)

    def _template(self, name: str, request: str, exactly: Mapping[str, Any]) -> Object:
        spec = {"spec": {"devices": {"requests": [{"name": request, "exactly": dict(exactly)}]}}}
        return named("ResourceClaimTemplate", _RESOURCE_API, name, self._namespace, spec=spec)

    def _daemon_set(
        self,
        name: str,
        deploy: str,
        pod: Object,
        labels: Object,
        chosen: Object,
        marks: Mapping[str, str],
        strategy: Mapping[str, Any],
    ) -> Object:
        spec = {
            **pod,
            "nodeSelector": {f"{DEPLOY}{deploy}": "true"},
            # Nothing stands in for a list that is empty, unlike with a ClusterPolicy.
            "tolerations": _listed(self.settings.get("tolerations")),
        }
        body = {
            "selector": {"matchLabels": chosen},
            "updateStrategy": {"type": "RollingUpdate", **strategy},
            "template": {"metadata": self._pod_metadata(labels, marks), "spec": spec},
        }
        return named("DaemonSet", "apps/v1", name, self._namespace, self._labels(name, labels), spec=body)

    def _labels(self, name: str, own: Mapping[str, str]) -> dict[str, str]:
        return {**own, **mapping(self.settings.get("labels")), "nvidia.com/gpu-operator.state": _STATES[name]}

    def _pod_metadata(self, own: Mapping[str, str], marks: Mapping[str, str]) -> Object:
        given = mapping(self.settings.get("labels")).items()
        shared = {key: value for key, value in given if key not in ("app", "app.kubernetes.io/part-of")}
        return {"labels": {**own, **shared}, "annotations": {**mapping(self.settings.get("annotations")), **marks}}

    def _secrets(self, block: Mapping[str, Any]) -> Object:
        secrets = block.get("imagePullSecrets") or ()
        return {"imagePullSecrets": [{"name": each} for each in secrets]} if secrets else {}


def _part(component: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "nvidia-dra-driver", "app.kubernetes.io/component": component}


def _on_nodes_with_any(*labels: Mapping[str, str]) -> Object:
    terms = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in each.items()]}
        for each in labels
    ]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []
