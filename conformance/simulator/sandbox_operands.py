"""The operands for virtual machines (sandbox workloads): what the operator deploys on nodes whose GPUs are for them.

They come with ``sandboxWorkloads.enabled``, also where no node is for virtual machines. Their pods start at once: what
binds a GPU to vfio-pci or cuts a vGPU is left out, and so are the resources that such nodes offer to virtual machines.
Source: NVIDIA/gpu-operator v26.7.0, assets/ and controllers/state_manager.go.
"""

from collections.abc import Mapping

from conformance.simulator.operands import MANAGER, NODE_NAME, Operand

CC_VALIDATION, VFIO_VALIDATION = "cc-manager-validation", "vfio-pci-validation"
VGPU_VALIDATION, VGPU_DEVICES_VALIDATION = "vgpu-manager-validation", "vgpu-devices-validation"

_POD_NAMESPACE: Mapping[str, str] = {"POD_NAMESPACE": "metadata.namespace"}
_KUBELET = {"device-plugin": "/var/lib/kubelet/device-plugins", "cdi-root": "/var/run/cdi"}
_VALIDATIONS = {"run-nvidia-validations": "/run/nvidia/validations"}
_SMALL: Mapping[str, Mapping[str, str]] = {
    "limits": {"memory": "200Mi"},
    "requests": {"cpu": "100m", "memory": "200Mi"},
}

VGPU_MANAGER = Operand(
    name="nvidia-vgpu-manager-daemonset",
    state="state-vgpu-manager",
    component="vgpuManager",
    deploy="vgpu-manager",
    account="nvidia-vgpu-manager",
    container="nvidia-vgpu-manager-ctr",
    fields={},
    init=(MANAGER,),
    host={"run-nvidia": "/run/nvidia", "host-root": "/", "host-sys": "/sys", "vfio": "/dev/vfio"},
    host_pid=True,
    runs_with_gpus=False,
    for_virtual_machines=True,
)
VGPU_DEVICE_MANAGER = Operand(
    name="nvidia-vgpu-device-manager",
    state="state-vgpu-device-manager",
    component="vgpuDeviceManager",
    deploy="vgpu-device-manager",
    account="nvidia-vgpu-device-manager",
    container="nvidia-vgpu-device-manager",
    fields={"NAMESPACE": "metadata.namespace", **NODE_NAME},
    init=(VGPU_VALIDATION,),
    env={"CONFIG_FILE": "/vgpu-config/config.yaml"},
    host={"host-sys": "/sys", "host-root": "/", "driver-install-dir": "/run/nvidia/driver", **_VALIDATIONS},
    runs_with_gpus=False,
    for_virtual_machines=True,
)
SANDBOX_VALIDATOR = Operand(
    name="nvidia-sandbox-validator",
    state="state-sandbox-validation",
    component="validator",
    deploy="sandbox-validator",
    account="nvidia-sandbox-validator",
    container="nvidia-sandbox-validator",
    fields={},
    init=(CC_VALIDATION, VFIO_VALIDATION, VGPU_VALIDATION, VGPU_DEVICES_VALIDATION),
    host={"host-root": "/", "driver-install-path": "/run/nvidia/driver", **_VALIDATIONS},
    runs_with_gpus=False,
    labels={"app.kubernetes.io/part-of": "gpu-operator"},
    for_virtual_machines=True,
)
VFIO_MANAGER = Operand(
    name="nvidia-vfio-manager",
    state="state-vfio-manager",
    component="vfioManager",
    deploy="vfio-manager",
    account="nvidia-vfio-manager",
    container="nvidia-vfio-manager",
    fields={},
    init=(MANAGER,),
    env={"HOST_ROOT": "/host"},
    host={"host-sys": "/sys", "host-lib-modules": "/lib/modules", "run-nvidia": "/run/nvidia", "host-root": "/"},
    runs_with_gpus=False,
    for_virtual_machines=True,
    selector="name",
    resources=_SMALL,
)
SANDBOX_PLUGIN = Operand(
    name="nvidia-sandbox-device-plugin-daemonset",
    state="state-sandbox-device-plugin",
    component="sandboxDevicePlugin",
    deploy="sandbox-device-plugin",
    account="nvidia-sandbox-device-plugin",
    container="nvidia-sandbox-device-plugin-ctr",
    fields={**NODE_NAME, **_POD_NAMESPACE},
    init=(VFIO_VALIDATION, VGPU_DEVICES_VALIDATION),
    host={**_KUBELET, **_VALIDATIONS, "vfio": "/dev/vfio"},
    runs_with_gpus=False,
    for_virtual_machines=True,
    mode="kubevirt",
)
KATA_PLUGIN = Operand(
    name="nvidia-kata-sandbox-device-plugin-daemonset",
    state="state-kata-device-plugin",
    component="kataSandboxDevicePlugin",
    deploy="kata-sandbox-device-plugin",
    account="nvidia-kata-sandbox-device-plugin",
    container="nvidia-kata-sandbox-device-plugin-ctr",
    fields={**NODE_NAME, **_POD_NAMESPACE, "POD_SERVICE_ACCOUNT": "spec.serviceAccountName"},
    init=(VFIO_VALIDATION,),
    host={**_KUBELET, **_VALIDATIONS},
    runs_with_gpus=False,
    for_virtual_machines=True,
    mode="kata",
)
CC_MANAGER = Operand(
    name="nvidia-cc-manager",
    state="state-cc-manager",
    component="ccManager",
    deploy="cc-manager",
    account="nvidia-cc-manager",
    container="nvidia-cc-manager",
    init=(),
    env={"NVIDIA_VISIBLE_DEVICES": "void"},
    host={"host-sys": "/sys", "run-nvidia": "/run/nvidia"},
    runs_with_gpus=False,
    for_virtual_machines=True,
    mode="kata",
    selector="name",
    resources=_SMALL,
)

SANDBOX_OPERANDS = (
    VGPU_MANAGER,
    VGPU_DEVICE_MANAGER,
    SANDBOX_VALIDATOR,
    VFIO_MANAGER,
    SANDBOX_PLUGIN,
    KATA_PLUGIN,
    CC_MANAGER,
)
"""All of them, in the order in which the operator goes through them, after the others."""
