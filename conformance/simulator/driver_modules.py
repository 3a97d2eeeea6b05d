"""Kernel modules beside a driver's own: nvidia-peermem, nvidia-fs and gdrdrv.

They bring GPUDirect RDMA, GPUDirect Storage and GDRCopy. Each is loaded by a container of the driver's pod. A
ClusterPolicy and an NVIDIADriver ask for them in the same words.
Source: NVIDIA/gpu-operator v26.7.0, controllers/object_controls.go and manifests/state-driver.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from conformance.simulator.chart.defaults import GPU_OPERATOR
from conformance.simulator.chart.objects import over
from conformance.simulator.clusterpolicy import SpecError, given_variables, image_of, mapping
from conformance.simulator.world import Object

Env = dict[str, str]

_SIDECARS = (
    ("gds", "nvidia-fs-ctr", "GPUDirect Storage driver (nvidia-fs)"),
    ("gdrcopy", "nvidia-gdrcopy-ctr", "GDRCopy"),
)


class Modules(msgspec.Struct, frozen=True):
    """Which modules are asked for: the blocks ``rdma``, ``gds`` and ``gdrcopy``, over the chart's defaults."""

    rdma: Mapping[str, Any]
    gds: Mapping[str, Any]
    gdrcopy: Mapping[str, Any]

    def manager_env(self) -> Env:
        """What the driver manager is told of them."""
        if self.rdma.get("enabled") is not True:
            return {}
        return {"GPU_DIRECT_RDMA_ENABLED": "true", **self._host_mofed()}

    def driver_env(self) -> Env:
        """What the driver's own container is told of them."""
        env = {"GDRCOPY_ENABLED": "true"} if self.gdrcopy.get("enabled") is True else {}
        env |= {"GDS_ENABLED": "true"} if self.gds.get("enabled") is True else {}
        return env | self.manager_env()

    def plugin_env(self) -> Env:
        """What the device plugin is told, so that containers get the modules' device files."""
        env = {"GDS_ENABLED": "true", "MOFED_ENABLED": "true"} if self.gds.get("enabled") is True else {}
        return env | ({"GDRCOPY_ENABLED": "true"} if self.gdrcopy.get("enabled") is True else {})

    def containers(self, driver: Object, os_tag: str, *, precompiled: bool, env: Env) -> Iterator[Object]:
        """The containers that load them, beside the driver's. ``env`` is what nvidia-peermem's always gets.

        Raises SpecError for modules that precompiled drivers do not go with.
        """
        if self.rdma.get("enabled") is True:
            kept: Object = {key: driver[key] for key in ("image", "imagePullPolicy", "resources") if key in driver}
            yield _container("nvidia-peermem-ctr", {**env, **self._host_mofed()}, kept)
        for block, (component, name, title) in zip((self.gds, self.gdrcopy), _SIDECARS, strict=True):
            if block.get("enabled") is not True:
                continue
            if precompiled:
                raise SpecError(f"{title} is not supported along with pre-compiled NVIDIA drivers")
            image = image_of(component, block)
            kept = {key: driver[key] for key in ("resources",) if key in driver}
            kept["image"] = image if "sha256:" in image else f"{image}-{os_tag}"
            kept["imagePullPolicy"] = block.get("imagePullPolicy") or "IfNotPresent"
            yield _container(name, given_variables(block), kept)

    def _host_mofed(self) -> Env:
        return {"USE_HOST_MOFED": "true"} if self.rdma.get("useHostMofed") is True else {}


def modules_of(rdma: object, gds: object, gdrcopy: object) -> Modules:
    """The modules that three blocks of an operator resource ask for."""
    return Modules(
        mapping(rdma), over(GPU_OPERATOR["gds"], mapping(gds)), over(GPU_OPERATOR["gdrcopy"], mapping(gdrcopy))
    )


def _container(name: str, env: Env, more: Mapping[str, Any]) -> Object:
    variables = [{"name": key, "value": value} for key, value in env.items()]
    return {"name": name, "env": variables, "securityContext": {"privileged": True}, **more}
