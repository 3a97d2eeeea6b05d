"""Conditions of health agents: which of them say that GPUs are broken."""

import pytest

from conformance.gpu.node_health import (
    broken_conditions,
    broken_node_conditions,
    open_conditions,
    usual_statuses,
)


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
        ("nvidia.com/GPUReady", "False", True),
        ("UnhealthyNvidiaDevicePlugin", "True", True),
        ("GpuCount", "True", True),
        ("GpuThermalWatch", "True", True),
        ("RdmaLink", "True", True),
        ("DcgmiHealth", "True", True),
        ("GpuXidPresent", "True", True),
        ("GPUDriverNotInstalled", "True", True),
        ("XidErrorDetectionEnabled", "True", False),
        ("NoXidErrors", "True", False),
        ("NoXidErrors", "False", True),
        ("HasGPU", "True", False),
        ("HasGPU", "False", False),
        ("GPUPassiveHealthCheck", "True", False),
        ("GPUPassiveHealthCheck", "False", False),
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
        ("KubeletProblem", "True", True),
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


CHECK = "GPUPassiveHealthCheck"


def test_what_owners_declare_outranks_what_is_known() -> None:
    assert broken_conditions({CHECK: "False"}, {CHECK: "True"}) == (f"{CHECK}=False",)
    assert broken_conditions({"GPUMissing": "True"}, {"GPUMissing": "True"}) == ()
    assert broken_conditions({CHECK: "Unknown"}, {CHECK: "True"}) == ()


@pytest.mark.parametrize(
    ("fleet", "status", "is_open"),
    [
        (["True", "True", "True"], "True", False),
        (["True", "True", "False"], "False", True),
        (["False", "False", "True"], "True", True),
        # Nobody to be compared with, or no majority: a node problem detector says False while it has nothing to tell.
        (["True"], "True", True),
        (["False"], "False", False),
        (["True", "False"], "True", True),
        (["True", "False"], "False", False),
        (["True", "True"], "Unknown", False),
    ],
)
def test_a_condition_of_unknown_meaning_is_open_where_it_differs_from_the_fleet(
    fleet: list[str], status: str, is_open: bool
) -> None:
    usual = usual_statuses({CHECK: each, "Ready": "True"} for each in fleet)

    assert open_conditions({CHECK: status, "Ready": "True"}, usual) == ((f"{CHECK}={status}",) if is_open else ())
    assert open_conditions({CHECK: status}, usual, {CHECK: "True"}) == ()
