"""The containers of the DRA driver that a GPUCluster deploys: what each is told.

Source: NVIDIA/gpu-operator v26.7.0, manifests/state-dra-driver.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from conformance.simulator.chart.defaults import GPU_OPERATOR
from conformance.simulator.chart.objects import environment_of, fields_of, given
from conformance.simulator.clusterpolicy import given_variables, image_of, mapping
from conformance.simulator.operands import DRIVER_VALIDATION, NODE_NAME, OPERATOR_NAMESPACE
from conformance.simulator.world import Object

KUBELET_FOLDERS = {"plugins-registry": "/var/lib/kubelet/plugins_registry", "plugins": "/var/lib/kubelet/plugins"}

CONTROLLER = "nvidia-dra-driver-controller"
_PRIVILEGED = {"privileged": True}


class DriverContainers(msgspec.Struct, frozen=True):
    """Makes them from the blocks ``draDriver``, over the chart's defaults, and ``hostPaths``."""

    driver: Mapping[str, Any]
    paths: Mapping[str, Any]

    def validation(self) -> Object:
        """The init container that waits for a driver on the node."""
        env = {
            "COMPONENT": "driver",
            "WITH_WAIT": "true",
            "DRIVER_VALIDATION_SKIP_GPU_INIT": "true",
            "DISABLE_DEV_CHAR_SYMLINK_CREATION": "true",
            "HOST_ROOT": "/",
            "DRIVER_INSTALL_DIR": self._path("driverInstallDir", "/run/nvidia/driver"),
            "DRIVER_INSTALL_DIR_CTR_PATH": "/driver-root",
        }
        return {
            "name": DRIVER_VALIDATION,
            "image": image_of("validator", GPU_OPERATOR["validator"]),
            "env": [*fields_of(OPERATOR_NAMESPACE), *environment_of(env)],
            "securityContext": dict(_PRIVILEGED),
        }

    def of_kubelet_plugin(self, *, domains: bool) -> list[Object]:
        """The kubelet plugin's: one for GPUs, one for compute domains where they are served."""
        image = image_of("draDriver", self.driver)
        gpus = {"HTTP_ENDPOINT": ":8080", "HOST_ROOT": "/host", "IMAGE_NAME": image}
        made = [self._plugin("gpus", gpus, "gpus", 51516)]
        if domains:
            cliques = {"HTTP_ENDPOINT": ":8081", "GPU_CLIQUE_LABEL_ENABLED": "true"}
            made.append(self._plugin("compute-domains", cliques, "computeDomains", 51515))
        return made

    def controller(self, namespace: str) -> Object:
        """The controller's of compute domains, in the operator's namespace."""
        settings = mapping(mapping(self.driver.get("computeDomains")).get("controller"))
        image = image_of("draDriver", self.driver)
        env = {
            "HTTP_ENDPOINT": ":8080",
            "METRICS_PATH": "/metrics",
            "PPROF_PATH": "",
            "LOG_VERBOSITY": "4",
            "LOG_VERBOSITY_CD_DAEMON": "4",
            "IMAGE_NAME": image,
            "NVIDIA_VISIBLE_DEVICES": "void",
            "LEADER_ELECTION_ENABLED": "false",
            "LEADER_ELECTION_LEASE_LOCK_NAME": CONTROLLER,
            "LEADER_ELECTION_LEASE_LOCK_NAMESPACE": namespace,
            "LEADER_ELECTION_LEASE_DURATION": "15s",
            "LEADER_ELECTION_RENEW_DEADLINE": "10s",
            "LEADER_ELECTION_RETRY_PERIOD": "2s",
            **self._gates(),
            **given_variables(settings),
        }
        fields = {"POD_NAME": "metadata.name", "NAMESPACE": "metadata.namespace"}
        made = {
            "name": "compute-domain",
            "image": image,
            "imagePullPolicy": self.driver.get("imagePullPolicy") or "IfNotPresent",
            "command": ["compute-domain-controller"],
            "env": [*fields_of(fields), *environment_of(env)],
        }
        return made | given(settings, "resources")

    def _plugin(self, name: str, own: Mapping[str, str], capability: str, port: int) -> Object:
        settings = mapping(mapping(self.driver.get(capability)).get("kubeletPlugin"))
        health = mapping(settings.get("healthcheck"))
        kubelet = self._path("kubeletRootDir", "/var/lib/kubelet")
        env = {
            "METRICS_PATH": "/metrics",
            "LOG_VERBOSITY": "4",
            "MASK_NVIDIA_DRIVER_PARAMS": "",
            "NVIDIA_VISIBLE_DEVICES": "void",
            "CDI_ROOT": "/var/run/cdi",
            "NVIDIA_MIG_CONFIG_DEVICES": "all",
            "KUBELET_REGISTRAR_DIRECTORY_PATH": f"{kubelet}/plugins_registry",
            "KUBELET_PLUGINS_DIRECTORY_PATH": f"{kubelet}/plugins",
            "HEALTHCHECK_PORT": "-1" if health.get("enabled") is False else str(health.get("port") or port),
            **own,
            **self._gates(),
            **given_variables(settings),
        }
        made = {
            "name": name,
            "image": image_of("draDriver", self.driver),
            "imagePullPolicy": self.driver.get("imagePullPolicy") or "IfNotPresent",
            "env": [*fields_of({**NODE_NAME, "NAMESPACE": "metadata.namespace"}), *environment_of(env)],
            "securityContext": dict(_PRIVILEGED),
            "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in KUBELET_FOLDERS.items()],
        }
        return made | given(settings, "resources")

    def _gates(self) -> dict[str, str]:
        gates = mapping(self.driver.get("featureGates"))
        text = ",".join(f"{gate}={str(on).lower()}" for gate, on in sorted(gates.items()))
        return {"FEATURE_GATES": text} if text else {}

    def _path(self, name: str, default: str) -> str:
        return str(self.paths.get(name) or default)
