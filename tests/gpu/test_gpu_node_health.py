"""Conditions of health agents: which of them say that GPUs are broken."""

import pytest

from conformance.gpu.node_health import broken_conditions


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
        ("Ready", "False", False),
        ("KernelReady", "False", False),
        ("DiskPressure", "True", False),
    ],
)
def test_a_condition_about_gpus_is_bad_news_by_its_name_and_status(kind: str, status: str, broken: bool) -> None:
    assert broken_conditions({kind: status, "Ready": "True"}) == ((f"{kind}={status}",) if broken else ())
