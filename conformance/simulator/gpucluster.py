"""What the operator deploys for a GPUCluster: the DRA driver, its validator, DCGM, and the device classes.

What the DRA driver itself does is no matter of the operator. Source: NVIDIA/gpu-operator v26.7.0, manifests/.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from conformance.simulator.chart.defaults import GPU_OPERATOR
from conformance.simulator.chart.objects import field_env, host_volume, named, over
from conformance.simulator.clusterpolicy import image_of, mapping
from conformance.simulator.manifests import STARTS_IN_TURN, STOPS_AT_ONCE, environment_of
from conformance.simulator.operands import DEPLOY, DRIVER_VALIDATION
from conformance.simulator.world import Object

KIND = "GPUCluster"
ADMIN_ACCESS = "resource.kubernetes.io/admin-access"

KUBELET_PLUGIN, CONTROLLER, VALIDATOR = (
    "nvidia-dra-driver-kubelet-plugin",
    "nvidia-dra-driver-controller",
    "nvidia-dra-validator",
)
DCGM, EXPORTER = "nvidia-dcgm-dra", "nvidia-dcgm-exporter-dra"
DAEMON_SETS = (KUBELET_PLUGIN, VALIDATOR, DCGM, EXPORTER)

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
_KUBELET = {"plugins-registry": "/var/lib/kubelet/plugins_registry", "plugins": "/var/lib/kubelet/plugins"}
_HOST = {"cdi": "/var/run/cdi", "driver-install-dir": "/run/nvidia/driver", "validations": "/run/nvidia/validations"}


class Cluster:
    """What a GPUCluster asks for, over the chart's defaults."""

    def __init__(self, obj: Object, namespace: str) -> None:
        self._spec = mapping(obj.get("spec"))
        self._namespace = namespace
        self.settings = mapping(self._spec.get("daemonsets"))
        self.driver = self._block("draDriver")

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
            made += self._controller()
        for name, component in ((DCGM, "dcgm"), (EXPORTER, "dcgmExporter")):
            if self._block(component).get("enabled") is True:
                made += self._metrics(name, component)
        return made

    def unwanted(self) -> list[tuple[str, str]]:
        """Kind and name of what is not to be there."""
        gone = [] if self.domains else [("Deployment", CONTROLLER)]
        off = [
            name for name, part in ((DCGM, "dcgm"), (EXPORTER, "dcgmExporter")) if not self._block(part).get("enabled")
        ]
        return gone + [("DaemonSet", name) for name in off]

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
        names = ("gpus", *(("compute-domains",) if self.domains else ()))
        env = {"COMPONENT": "driver", "WITH_WAIT": "true", "DRIVER_VALIDATION_SKIP_GPU_INIT": "true"}
        validation = {
            "name": DRIVER_VALIDATION,
            "image": image_of("validator", GPU_OPERATOR["validator"]),
            "env": environment_of(env),
            "securityContext": dict(_PRIVILEGED),
        }
        pod = {
            "serviceAccountName": account,
            "initContainers": [validation],
            "containers": [self._plugin_container(name) for name in names],
            "volumes": [host_volume(name, path) for name, path in {**_KUBELET, **_HOST}.items()],
        }
        labels = {"app": KUBELET_PLUGIN, **_part(KUBELET_PLUGIN)}
        made = self._daemon_set(KUBELET_PLUGIN, "dra-driver", pod, labels, {"app": KUBELET_PLUGIN}, STARTS_IN_TURN)
        return [self._account(account), made]

    def _plugin_container(self, name: str) -> Object:
        env = {"NVIDIA_VISIBLE_DEVICES": "void", "CDI_ROOT": "/var/run/cdi", "NVIDIA_MIG_CONFIG_DEVICES": "all"}
        gates = mapping(self.driver.get("featureGates"))
        if gates:
            env["FEATURE_GATES"] = ",".join(f"{gate}={str(on).lower()}" for gate, on in sorted(gates.items()))
        return {
            "name": name,
            "image": image_of("draDriver", self.driver),
            "env": [field_env("NODE_NAME", "spec.nodeName"), *environment_of(env)],
            "securityContext": dict(_PRIVILEGED),
            "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in _KUBELET.items()],
        }

    def _controller(self) -> list[Object]:
        labels = {"app": CONTROLLER, **_part(CONTROLLER)}
        account = CONTROLLER
        container = {
            "name": "compute-domain",
            "image": image_of("draDriver", self.driver),
            "command": ["compute-domain-controller"],
        }
        pod = {
            "serviceAccountName": account,
            "priorityClassName": self._priority,
            "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}],
            "containers": [container],
        }
        template = {"metadata": {"labels": labels, "annotations": dict(STOPS_AT_ONCE)}, "spec": pod}
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": CONTROLLER}}, "template": template}
        return [self._account(account), named("Deployment", "apps/v1", CONTROLLER, self._namespace, labels, spec=spec)]

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
            "resourceClaims": [{"name": claim, "resourceClaimTemplateName": template}],
            "initContainers": [check],
            "containers": [{"name": VALIDATOR, "image": image}],
        }
        # Upgrades look for the label app of the other stack's validator.
        labels = {"app": "nvidia-operator-validator", **_part(VALIDATOR)}
        chosen = {"app.kubernetes.io/name": VALIDATOR}
        labels["app.kubernetes.io/name"] = VALIDATOR
        made = self._daemon_set(VALIDATOR, "dra-validator", pod, labels, chosen, STARTS_IN_TURN)
        request = {"deviceClassName": _GPU, "allocationMode": "ExactCount", "count": 1, "adminAccess": True}
        return [self._account(VALIDATOR), self._template(template, claim, request), made]

    def _metrics(self, name: str, component: str) -> list[Object]:
        block = self._block(component)
        exporter = name == EXPORTER
        claim = "admin-gpus"
        template = "nvidia-dcgm-exporter-admin" if exporter else "nvidia-dcgm-admin"
        env = {"DCGM_EXPORTER_LISTEN": ":9400", "DCGM_EXPORTER_KUBERNETES": "true", "KUBERNETES_ENABLE_DRA": "true"}
        env |= {each["name"]: str(each.get("value") or "") for each in block.get("env") or ()}
        port, number = ("metrics", 9400) if exporter else ("dcgm", 5555)
        container = {
            "name": name if exporter else "nvidia-dcgm-ctr",
            "image": image_of(component, block),
            "env": [field_env("NODE_NAME", "spec.nodeName"), *(environment_of(env) if exporter else ())],
            "ports": [{"name": port, "containerPort": number}],
            "securityContext": dict(_PRIVILEGED),
            "resources": {"claims": [{"name": claim}]},
        }
        pod = {
            "serviceAccountName": name,
            "resourceClaims": [{"name": claim, "resourceClaimTemplateName": template}],
            "containers": [container],
            "volumes": [host_volume("pod-gpu-resources", "/var/lib/kubelet/pod-resources")] if exporter else [],
        }
        deploy = "dcgm-exporter-dra" if exporter else "dcgm-dra"
        made = self._daemon_set(name, deploy, pod, {"app": name}, {"app": name}, STOPS_AT_ONCE)
        ports = [{"name": "gpu-metrics" if exporter else "dcgm", "port": number, "targetPort": number}]
        service = named(
            "Service", "v1", name, self._namespace, {"app": name}, spec={"selector": {"app": name}, "ports": ports}
        )
        request = {"deviceClassName": _GPU, "allocationMode": "All", "adminAccess": True}
        return [self._account(name), self._template(template, claim, request), service, made]

    @property
    def _priority(self) -> str:
        return str(self.settings.get("priorityClassName") or "system-node-critical")

    def _account(self, name: str) -> Object:
        return named("ServiceAccount", "v1", name, self._namespace)

    def _template(self, name: str, request: str, exactly: Mapping[str, Any]) -> Object:
        spec = {"spec": {"devices": {"requests": [{"name": request, "exactly": dict(exactly)}]}}}
        return named("ResourceClaimTemplate", _RESOURCE_API, name, self._namespace, spec=spec)

    def _daemon_set(
        self, name: str, deploy: str, pod: Object, labels: Object, chosen: Object, marks: Mapping[str, str]
    ) -> Object:
        common = {
            k: v
            for k, v in mapping(self.settings.get("labels")).items()
            if k not in ("app", "app.kubernetes.io/part-of")
        }
        annotations = dict(mapping(self.settings.get("annotations")))
        spec = {
            **pod,
            "priorityClassName": self._priority,
            "nodeSelector": {f"{DEPLOY}{deploy}": "true"},
            "tolerations": _listed(self.settings.get("tolerations")),
        }
        body = {
            "selector": {"matchLabels": chosen},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}},
            "template": {
                "metadata": {"labels": {**labels, **common}, "annotations": {**annotations, **marks}},
                "spec": spec,
            },
        }
        return named("DaemonSet", "apps/v1", name, self._namespace, {**labels, **common}, spec=body)


def _part(component: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "nvidia-dra-driver", "app.kubernetes.io/component": component}


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []
