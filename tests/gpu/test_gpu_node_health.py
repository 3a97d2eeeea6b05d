"""Conditions of health agents: which of them say that GPUs are broken."""

import pytest

from conformance.gpu.node_health import broken_conditions, broken_node_conditions


@pytest.mark.parametrize(
    ("kind", "status", "broken"),
    [
        ("AcceleratedHardwareReady", "False", True),
        ("AcceleratedHardwareReady", "True", False),
        ("AcceleratedHardwareReady", "Unknown", False),
        ("GpuXidError", "True", True),
        ("GpuXidError", "False", False),
        ("GPUMissing", "True", True),
        ("NVLinkStatusInactive", "True", True),
        ("XIDErrors", "True", True),
        ("SysLogsXIDError", "True", True),
        ("SysLogsSXIDError", "False", False),
        ("SysLogsGPUFallenOff", "True", True),
        ("NvidiaGPULost", "True", True),
        ("GPUDriverInstalled", "True", False),
        ("GPUSharingEnabled", "False", False),
        ("GPUAvailable", "True", False),
        ("GPUAvailable", "False", True),
        ("GPUNotReady", "True", True),
        ("GPUNotReady", "False", False),
        ("MaxIdleTime", "True", False),
        ("GpuHealthy", "True", False),
        ("GpuHealthy", "False", True),
        ("DCGMHealthy", "False", True),
        ("IBLinkFlapping", "True", True),
        ("GPUBurnTestPassed", "True", False),
        ("GPUBurnTestPassed", "False", True),
        ("GPUDevicePluginRegistered", "True", False),
        ("GpuDriverUpToDate", "False", False),
        ("Ready", "False", False),
        ("KernelReady", "False", False),
        ("DiskPressure", "True", False),
    ],
)
def test_a_condition_about_gpus_is_bad_news_by_its_name_and_status(kind: str, status: str, broken: bool) -> None:
    assert broken_conditions({kind: status, "Ready": "True"}) == ((f"{kind}={status}",) if broken else ())


@pytest.mark.parametrize(
    ("kind", "status", "broken"),
    [
        ("KernelDeadlock", "True", True),
        ("KernelDeadlock", "False", False),
        ("ReadonlyFilesystem", "True", True),
        ("FrequentContainerdRestart", "True", True),
        ("StorageReady", "False", True),
        ("StorageReady", "Unknown", False),
        ("VMEventScheduled", "True", False),
        ("MemoryPressure", "True", False),
    ],
)
def test_a_condition_of_the_node_itself_is_known_by_its_whole_name(kind: str, status: str, broken: bool) -> None:
    assert broken_node_conditions({kind: status}) == ((f"{kind}={status}",) if broken else ())
