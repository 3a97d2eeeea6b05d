"""Agents as the operator would deploy them, and what can be seen of them on nodes and pods."""

from collections.abc import Callable
from typing import Any

import msgspec
from patience import PATIENCE

from conformance.kube.client import Client
from conformance.kube.waits import wait_for
from conformance.simulator.hardware import HARDWARE, Machine, machine_of

Object = dict[str, Any]
GPU = "nvidia.com/gpu"
NODE = "/api/v1/nodes/{}"
CONFIG = "nvidia.com/device-plugin.config"


class Stack:
    """A namespace with agents in it, as the operator would deploy them."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client, self.namespace = client, namespace

    def path(self, plural: str, group: str = "api/v1") -> str:
        return f"/{group}/namespaces/{self.namespace}/{plural}"

    def config_map(self, name: str, **texts: str) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": self.namespace}}
        data = {key.replace("_", "-"): text for key, text in texts.items()}
        self.client.apply({**body, "data": data}, force=True)

    def daemon_set(self, name: str, container: str, node: str, **spec: Any) -> None:
        """One agent on one node. ``env`` is its environment, ``more`` what the pod's spec has beside it."""
        env = [{"name": key, "value": value} for key, value in spec.pop("env", {}).items()]
        mounts = spec.pop("mounts", [])
        main = {"name": container, "image": f"example.com/{name}:v0.20.0", "env": env, "volumeMounts": mounts}
        metadata = {"labels": {"app": name}, "annotations": spec.pop("annotations", {})}
        pod = {
            "nodeSelector": {"kubernetes.io/hostname": node, **spec.pop("selector", {})},
            "terminationGracePeriodSeconds": 0,
            **spec,
            "containers": [main, *spec.get("containers", [])],
        }
        body = {
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": metadata, "spec": pod}},
        }
        self.client.create(self.path("daemonsets", "apis/apps/v1"), body)

    def plugin(
        self,
        node: str,
        config_map: str = "",
        default: str = "",
        annotations: dict[str, str] | None = None,
        **env: str,
    ) -> None:
        """The operator's device plugin; with a ConfigMap its config-managers are there, too."""
        name = "nvidia-device-plugin-daemonset"
        more = {"annotations": annotations or {}}
        self.configured(name, "nvidia-device-plugin", node, config_map, default, env, **more)

    def discovery(self, node: str, config_map: str = "", default: str = "", **env: str) -> None:
        """The operator's GPU Feature Discovery."""
        self.configured("gpu-feature-discovery", "gpu-feature-discovery", node, config_map, default, env)

    def configured(
        self, name: str, container: str, node: str, config_map: str, default: str, env: dict[str, str], **more: Any
    ) -> None:
        deploy = name.removeprefix("nvidia-").removesuffix("-daemonset")
        more = {"selector": {f"nvidia.com/gpu.deploy.{deploy}": "true"}, **more}
        if not config_map:
            self.daemon_set(name, container, node, env={"MPS_ROOT": "/run/nvidia/mps", **env}, **more)
            return
        mounts = [{"name": config_map, "mountPath": "/available-configs"}]
        settings = {
            "CONFIG_FILE_SRCDIR": "/available-configs",
            "CONFIG_FILE_DST": "/config/config.yaml",
            "DEFAULT_CONFIG": default,
            "FALLBACK_STRATEGIES": "empty",
            "NODE_LABEL": CONFIG,
        }
        told = [{"name": key, "value": value} for key, value in settings.items()]
        side = {"image": "example.com/plugin:v0.20.0", "env": told, "volumeMounts": mounts}
        self.daemon_set(
            name,
            container,
            node,
            env={"CONFIG_FILE": "/config/config.yaml", "MPS_ROOT": "/run/nvidia/mps", **env},
            mounts=mounts,
            initContainers=[{**side, "name": "config-manager-init"}],
            containers=[{**side, "name": "config-manager"}],
            volumes=[{"name": config_map, "configMap": {"name": config_map}}],
            **more,
        )

    def mig_manager(self, node: str, **spec: Any) -> None:
        self.daemon_set("nvidia-mig-manager", "nvidia-mig-manager", node, **spec)

    def pods(self, app: str) -> list[Object]:
        return self.client.list(self.path("pods"), label_selector=f"app={app}")

    def pod(self, app: str, until: Callable[[Object], bool], what: str) -> Object:
        found = wait_for(
            lambda: self.pods(app),
            lambda pods: len(pods) == 1 and until(pods[0]),
            what=f"pod of {app} {what}",
            timeout=PATIENCE,
        )
        return found[0]

    def agents(self) -> list[str]:
        """Every pod with what tells why it runs or not, and what each DaemonSet wants; for messages."""
        pods = [
            f"{pod['metadata']['name']} on {pod['spec'].get('nodeName')}: {pod['status'].get('phase')}, "
            f"{'ready' if ready(pod) else 'not ready'}, {pod['metadata'].get('annotations')}"
            for pod in self.client.list(self.path("pods"))
        ]
        sets = self.client.list(self.path("daemonsets", "apis/apps/v1"))
        return [*pods, *(f"{each['metadata']['name']} wants {each['status']}" for each in sets)]

    def node(self, name: str) -> Object:
        return self.client.get(NODE.format(name))

    def change(self, node: str, metadata: Object) -> None:
        self.client.patch(NODE.format(node), {"metadata": metadata})

    def hardware(self, node: str, **changes: Any) -> None:
        machine = machine_of(self.node(node))
        assert machine is not None
        self.change(node, {"annotations": {HARDWARE: written(msgspec.structs.replace(machine, **changes))}})

    def offers(self, node: str, **amounts: int) -> None:
        """Wait until a node offers exactly this, by the last part of the resources' names."""
        wanted = {f"nvidia.com/{name.replace('_', '.')}": amount for name, amount in amounts.items()}
        wait_for(
            lambda: offered(self.node(node)),
            lambda found: found == wanted,
            what=f"{node}: {wanted}",
            timeout=PATIENCE,
            format_seen=lambda found: f"{found} of {self.agents()}",
        )

    def labelled(self, node: str, **labels: str | None) -> None:
        wanted = {f"nvidia.com/{key.replace('_', '.')}": value for key, value in labels.items()}
        wait_for(
            lambda: {name: self.node(node)["metadata"]["labels"].get(name) for name in wanted},
            lambda found: found == wanted,
            what=f"{node} has labels {wanted}",
            timeout=PATIENCE,
        )

    def restart(self, app: str) -> None:
        for pod in self.pods(app):
            self.client.delete(f"{self.path('pods')}/{pod['metadata']['name']}", grace_seconds=0)


def written(machine: Machine) -> str:
    return msgspec.json.encode(machine).decode()


def offered(node: Object) -> dict[str, int]:
    """What pods can get of NVIDIA's resources, those without anything left out."""
    allocatable = node["status"]["allocatable"]
    return {name: int(value) for name, value in allocatable.items() if name.startswith("nvidia.com/") and value != "0"}


def ready(pod: Object) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions") or ())


def waits_for(reason: str, where: str = "containerStatuses") -> Callable[[Object], bool]:
    def waits(pod: Object) -> bool:
        states = [each["state"].get("waiting", {}) for each in pod["status"].get(where) or ()]
        return not ready(pod) and any(state.get("reason") == reason for state in states)

    return waits
