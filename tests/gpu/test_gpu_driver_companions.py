"""What goes with a driver, by the tables; what they do not know is unknown and never good."""

from itertools import pairwise

import pytest

from conformance.gpu.driver_companions import (
    Goes,
    guest_goes_with_host,
    kernel_of,
    modules_chosen,
    precompiled_tag,
    why_no_storage,
    why_not_precompiled,
)
from conformance.gpu.driver_hardware import Architecture, Modules, architecture_of
from conformance.gpu.drivers import DriverVersion
from conformance.gpu.operator_releases import OPERATOR_RELEASES, first_with, release_of


def driver(text: str) -> DriverVersion:
    return DriverVersion.parse(text)


def gpus(*compute: int) -> Architecture:
    found = architecture_of((compute[0], compute[1]))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("guest", "host", "goes"),
    [
        ("580.95.05", "580.65.05", Goes.YES),
        ("570.172.08", "580.65.05", Goes.YES),
        ("535.261.03", "580.65.05", Goes.YES),
        ("550.163.01", "580.65.05", Goes.NO),
        ("580.95.05", "570.172.07", Goes.NO),
        ("580.95.05", "595.71.03", Goes.UNKNOWN),
        ("575.57.08", "580.65.05", Goes.UNKNOWN),
    ],
)
def test_a_host_takes_guests_of_its_branch_and_of_those_before(guest: str, host: str, goes: Goes) -> None:
    assert guest_goes_with_host(driver(guest), driver(host))[0] is goes


@pytest.mark.parametrize(
    ("asked", "version", "compute", "chosen"),
    [
        (Modules.AUTO, "595.91.07", (9, 0), Modules.OPEN),
        (Modules.AUTO, "570.86.15", (8, 0), Modules.OPEN),
        (Modules.AUTO, "570.100.01", (8, 0), Modules.AUTO),
        (Modules.AUTO, "550.163.01", (8, 0), Modules.AUTO),
        (Modules.AUTO, "580.95.05", (7, 0), Modules.PROPRIETARY),
        (Modules.AUTO, "570.100.01", (10, 0), Modules.OPEN),
        (Modules.PROPRIETARY, "595.91.07", (9, 0), Modules.PROPRIETARY),
    ],
)
def test_auto_chooses_modules_by_driver_and_gpu(
    asked: Modules, version: str, compute: tuple[int, int], chosen: Modules
) -> None:
    assert modules_chosen(asked, driver(version), gpus(*compute)) is chosen


def test_storage_needs_open_modules() -> None:
    assert why_no_storage(Modules.OPEN, driver("550.163.01"), gpus(8, 0)) == ""
    assert why_no_storage(Modules.AUTO, driver("580.95.05"), gpus(8, 0)) == ""
    assert "kernelModuleType proprietary" in why_no_storage(Modules.PROPRIETARY, driver("580.95.05"), gpus(8, 0))
    assert "GPUs of Volta" in why_no_storage(Modules.AUTO, driver("580.95.05"), gpus(7, 0))
    assert "not known to choose them" in why_no_storage(Modules.AUTO, driver("550.163.01"), gpus(8, 0))


@pytest.mark.parametrize(
    ("version", "kernel", "system"),
    [
        ("595.91.07", "6.8.0-1035-aws", "ubuntu24.04"),
        ("580.173.02", "5.15.0-144-generic", "ubuntu22.04"),
        ("535.309.01", "6.8.0-60-generic", "ubuntu22.04"),
        ("595.91.07", "6.8.0-1020-azure-fde", "ubuntu24.04"),
    ],
)
def test_nothing_speaks_against_an_image_that_is_built(version: str, kernel: str, system: str) -> None:
    assert why_not_precompiled(driver(version), kernel, system) == ""


@pytest.mark.parametrize(
    ("version", "kernel", "system", "said"),
    [
        ("595.91.07", "5.14.0-503.11.1.el9_5.x86_64", "rhel9.5", "the node runs rhel9.5"),
        ("595.91.07", "6.8.0-1015-gke", "ubuntu24.04", "the node's is gke"),
        ("595.91.07", "6.11.0-21-generic", "ubuntu24.04", "the node has 6.11.0-21-generic"),
        ("535.309.01", "6.8.0-60-generic", "ubuntu24.04", "the target is of R535"),
        ("595.91.07", "6.8.12-talos", "ubuntu24.04", "none of those"),
    ],
)
def test_what_is_not_built_is_told_with_its_reason(version: str, kernel: str, system: str, said: str) -> None:
    assert said in why_not_precompiled(driver(version), kernel, system)


def test_the_tag_of_an_image_names_branch_kernel_and_system() -> None:
    assert precompiled_tag(driver("580.95.05"), "6.8.0-1035-aws", "ubuntu24.04") == "580-6.8.0-1035-aws-ubuntu24.04"
    assert kernel_of("6.8.0-1020-azure-fde") == ((6, 8), "azure-fde")
    assert kernel_of("6.1.158") is None


def test_releases_are_in_order_and_know_their_branches() -> None:
    assert all(one.release < other.release for one, other in pairwise(OPERATOR_RELEASES))
    for each in OPERATOR_RELEASES:
        assert all(driver(version) for version in each.drivers)
        assert each.kubernetes[0] <= each.kubernetes[1]
        assert each.containerd[0] <= each.containerd[1]
    last = OPERATOR_RELEASES[-1]
    assert release_of((*last.release, 4)) is last
    assert release_of((31, 1, 0)) is None
    assert str(first_with(595)) == "v26.3"
    assert first_with(999) is None
