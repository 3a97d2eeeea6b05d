"""The keys of the device plugin's configuration, and the values that its choices allow.

Source: NVIDIA/k8s-device-plugin v0.20.0, api/config/v1 (config.go, flags.go, sharing.go, replicas.go, imex.go,
consts.go) and validateFlags of cmd/nvidia-device-plugin/main.go.
"""

from conformance.gpu.sharing import MigStrategy

TOP_KEYS = ("version", "flags", "resources", "sharing", "imex")
SHARING_KEYS = ("timeSlicing", "mps")
REPLICATED_KEYS = ("renameByDefault", "failRequestsGreaterThanOne", "resources")
RESOURCES_KEYS = ("gpus", "mig")
RESOURCE_KEYS = ("name", "rename", "devices", "replicas")
IMEX_KEYS = ("channelIDs", "required")
BOOLEAN_FLAGS = ("failOnInitError", "gdrcopyEnabled", "gdsEnabled", "mofedEnabled", "useNodeFeatureAPI")
FLAG_CHOICES = {
    "migStrategy": tuple(strategy.value for strategy in MigStrategy),
    "deviceDiscoveryStrategy": ("auto", "nvml", "tegra"),
}
DEVICE_LIST_STRATEGIES = ("envvar", "volume-mounts", "cdi-annotations", "cdi-cri")
LISTED_STRATEGIES = ", ".join(DEVICE_LIST_STRATEGIES)
PLUGIN_FLAG_CHOICES = {
    "deviceIDStrategy": ("uuid", "index"),
    "sharedDevicesAllocationPolicy": ("distributed", "packed"),
}
TEXT_FLAGS = ("mpsRoot", "nvidiaDriverRoot", "nvidiaDevRoot")
PLUGIN_TEXT_FLAGS = ("cdiAnnotationPrefix", "nvidiaCTKPath", "containerDriverRoot")
FLAG_KEYS = (*BOOLEAN_FLAGS, *FLAG_CHOICES, *TEXT_FLAGS, "plugin", "gfd")
PLUGIN_FLAG_KEYS = ("passDeviceSpecs", "deviceListStrategy", *PLUGIN_FLAG_CHOICES, *PLUGIN_TEXT_FLAGS)
GFD_BOOLEAN_FLAGS = ("oneshot", "noTimestamp")
GFD_TEXT_FLAGS = ("outputFile", "machineTypeFile")
GFD_FLAG_KEYS = (*GFD_BOOLEAN_FLAGS, *GFD_TEXT_FLAGS, "sleepInterval")

PARENTS = {
    **dict.fromkeys(REPLICATED_KEYS, "sharing.timeSlicing or sharing.mps"),
    **dict.fromkeys(SHARING_KEYS, "sharing"),
    **dict.fromkeys(FLAG_KEYS, "flags"),
    **dict.fromkeys(PLUGIN_FLAG_KEYS, "flags.plugin"),
    "replicas": "sharing.timeSlicing.resources[] or sharing.mps.resources[]",
}
"""Where a key belongs that was written in another place, such as renameByDefault under flags."""
