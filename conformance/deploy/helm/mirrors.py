"""Helm values by which the images of NVIDIA's charts come from another registry, for clusters without the internet.

Every component has a block of its own, and none of the charts knows one registry for all of them.
Sources: NVIDIA/gpu-operator v26.7.0, deployments/gpu-operator/values.yaml; NVIDIA/k8s-device-plugin v0.20.0 and
kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1, deployments/helm.
"""

from typing import Any

from conformance.deploy.helm.releases import DRA, FORMER_DRA, OPERATOR, PLUGIN
from conformance.deploy.helm.values import merged

__all__ = ["mirrored"]

_NVIDIA, _NATIVE, _K8S = "nvcr.io/nvidia", "nvcr.io/nvidia/cloud-native", "nvcr.io/nvidia/k8s"
# The operator's chart: the block of each component, and the repository that its image is under.
_BLOCKS = {
    "validator": _NVIDIA,
    "operator": _NVIDIA,
    "driver": _NVIDIA,
    "driver.manager": _NATIVE,
    "toolkit": _K8S,
    "devicePlugin": _NVIDIA,
    "dcgm": _NATIVE,
    "dcgmExporter": _K8S,
    "gfd": _NVIDIA,
    "migManager": _NATIVE,
    "nodeStatusExporter": _NVIDIA,
    "gds": _NATIVE,
    "gdrcopy": _NATIVE,
    "vgpuManager.driverManager": _NATIVE,
    "vgpuDeviceManager": _NATIVE,
    "vfioManager": _NATIVE,
    "vfioManager.driverManager": _NATIVE,
    "sandboxDevicePlugin": _NVIDIA,
    "kataSandboxDevicePlugin": _NATIVE,
    "ccManager": _NATIVE,
    "draDriver": _NVIDIA,
}
# The init containers of a component take the pull secrets of the component.
_WITHOUT_SECRET = ("driver.manager", "vgpuManager.driverManager", "vfioManager.driverManager")
_DISCOVERY = "registry.k8s.io/nfd/node-feature-discovery"
# The other charts: where in their values the repository of an image is.
_IMAGES = {
    OPERATOR: {"node-feature-discovery.image": _DISCOVERY},
    PLUGIN: {"image": "nvcr.io/nvidia/k8s-device-plugin", "nfd.image": _DISCOVERY},
    DRA: {"image": "registry.k8s.io/dra-driver-nvidia/dra-driver-nvidia-gpu"},
    FORMER_DRA: {"image": "nvcr.io/nvidia/k8s-dra-driver-gpu"},
}
_SECRETS = {OPERATOR: ("node-feature-discovery",), PLUGIN: ("", "nfd"), DRA: ("",), FORMER_DRA: ("",)}


def mirrored(chart: str, registry: str | None, pull_secret: str | None) -> dict[str, Any]:
    """Values that put ``registry`` in the place of every image's registry and name the secret to pull with.

    ``registry`` may have a path; ``pull_secret`` is the name of a Secret in the release's namespace. Empty when
    neither is given.
    """
    values: dict[str, Any] = {}
    if registry:
        for place, repository in {**(_BLOCKS if chart == OPERATOR else {}), **_IMAGES[chart]}.items():
            values = merged(values, _at(place, {"repository": _under(registry, repository)}))
    if pull_secret:
        # The operator's own blocks take names, the other charts take references to Secrets.
        for place in _BLOCKS if chart == OPERATOR else ():
            if place not in _WITHOUT_SECRET:
                values = merged(values, _at(place, {"imagePullSecrets": [pull_secret]}))
        for place in _SECRETS[chart]:
            values = merged(values, _at(place, {"imagePullSecrets": [{"name": pull_secret}]}))
    return values


def _under(registry: str, repository: str) -> str:
    return f"{registry.rstrip('/')}/{repository.partition('/')[2]}"


def _at(place: str, value: dict[str, Any]) -> dict[str, Any]:
    for key in reversed(place.split(".") if place else []):
        value = {key: value}
    return value
