"""Drivers: versions compare as numbers, verdicts follow NVIDIA's tables, and what the tables lack stays unknown."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.gpu.driver_branches import BRANCHES, MINOR_COMPATIBILITY_FLOOR, REGRESSIONS
from conformance.gpu.drivers import (
    CudaVersion,
    DriverVersion,
    Forward,
    Runs,
    Support,
    branch_of,
    forward_compatibility,
    is_data_center,
    known_regressions,
    lifecycle,
    runs,
)

drivers = st.builds(DriverVersion, branch=st.integers(96, 999), update=st.integers(0, 999), patch=st.integers(0, 99))
cudas = st.builds(CudaVersion, major=st.integers(1, 20), minor=st.integers(0, 20), patch=st.integers(0, 3))
known_drivers = st.builds(
    DriverVersion,
    branch=st.sampled_from([branch.number for branch in BRANCHES]),
    update=st.integers(0, 300),
    patch=st.integers(0, 20),
)


@given(drivers)
def test_a_driver_version_reads_back_as_itself(version: DriverVersion) -> None:
    assert DriverVersion.parse(str(version)) == version


@given(cudas)
def test_a_cuda_version_reads_back_as_itself(version: CudaVersion) -> None:
    assert CudaVersion.parse(str(version)) == version


@given(drivers, drivers)
def test_driver_versions_order_as_their_numbers(one: DriverVersion, other: DriverVersion) -> None:
    assert (one < other) == ((one.branch, one.update, one.patch) < (other.branch, other.update, other.patch))
    assert (one < other) + (one == other) + (one > other) == 1


@given(st.lists(cudas))
def test_cuda_versions_sort_as_their_numbers(versions: list[CudaVersion]) -> None:
    numbers = [(version.major, version.minor, version.patch) for version in sorted(versions)]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("older", "newer"),
    [("570.26", "570.124.06"), ("535.54.03", "535.104.05"), ("570.133.20", "570.148.08"), ("99.10", "535.54.03")],
)
def test_versions_do_not_compare_as_text(older: str, newer: str) -> None:
    assert DriverVersion.parse(older) < DriverVersion.parse(newer)


def test_a_semantic_version_of_dra_is_the_driver_it_stands_for() -> None:
    assert str(DriverVersion.parse("580.65.6")) == "580.65.06"


@pytest.mark.parametrize("text", ["", "580", "580.65.06-ubuntu22.04", "v580.65.06", "N/A", "580.65.06.1", "٥٨٠.65"])
def test_what_is_no_driver_version_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is no NVIDIA driver version"):
        DriverVersion.parse(text)


@pytest.mark.parametrize("text", ["", "12", "N/A", "ERR!", "12.4u1", "cuda12.4"])
def test_what_is_no_cuda_version_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is no CUDA version"):
        CudaVersion.parse(text)


@pytest.mark.parametrize(
    ("cuda", "driver", "verdict"),
    [
        ("12.1", "545.29.06", Runs.NATIVE),
        ("12.3", "545.29.06", Runs.NATIVE),
        ("12.4", "545.29.06", Runs.MINOR_COMPATIBLE),
        ("13.0", "545.29.06", Runs.NOT),
        ("11.8", "470.82.01", Runs.MINOR_COMPATIBLE),
        ("12.0", "470.82.01", Runs.NOT),
        ("11.8", "450.80.02", Runs.MINOR_COMPATIBLE),
        ("11.8", "450.66", Runs.NOT),
        ("12.9", "525.60.13", Runs.MINOR_COMPATIBLE),
        ("12.9", "520.61.05", Runs.NOT),
        ("11.0", "595.91.07", Runs.NATIVE),
        ("13.2", "595.91.07", Runs.NATIVE),
        ("13.2", "580.95.05", Runs.MINOR_COMPATIBLE),
        ("13.0.2", "580.95.05", Runs.NATIVE),
        ("13.0", "570.124.06", Runs.NOT),
        ("13.3", "620.10", Runs.NATIVE),
        ("13.9", "620.10", Runs.UNKNOWN),
        ("14.0", "620.10", Runs.UNKNOWN),
        ("10.2", "535.54.03", Runs.UNKNOWN),
        ("12.4", "600.10.01", Runs.UNKNOWN),
        ("12.4", "999.10", Runs.UNKNOWN),
    ],
)
def test_verdicts_follow_the_published_tables(cuda: str, driver: str, verdict: Runs) -> None:
    assert runs(CudaVersion.parse(cuda), DriverVersion.parse(driver)).runs is verdict


def test_a_driver_before_the_first_release_of_its_branch_does_not_run_its_cuda_in_full() -> None:
    assert runs(CudaVersion(12, 4), DriverVersion.parse("550.40.07")).runs is Runs.MINOR_COMPATIBLE
    assert runs(CudaVersion(13, 0), DriverVersion.parse("580.40")).runs is Runs.NOT


def test_only_minor_compatibility_warns_of_ptx() -> None:
    limited = runs(CudaVersion(13, 2), DriverVersion.parse("580.95.05"))
    assert "cudaErrorUnsupportedPtxVersion" in str(limited)
    assert runs(CudaVersion(13, 0), DriverVersion.parse("580.95.05")).caveat == ""


def test_a_driver_that_is_too_old_is_told_what_is_needed() -> None:
    verdict = runs(CudaVersion(13, 0), DriverVersion.parse("570.124.06"))
    assert verdict.reason == "CUDA 13.0 needs driver 580.65.06 or later, found 570.124.06"


_RANK = {Runs.NOT: 0, Runs.MINOR_COMPATIBLE: 1, Runs.NATIVE: 2}


@given(cudas, known_drivers, known_drivers)
def test_a_newer_driver_never_runs_less(cuda: CudaVersion, one: DriverVersion, other: DriverVersion) -> None:
    older, newer = sorted((one, other))
    before, after = runs(cuda, older).runs, runs(cuda, newer).runs
    assert Runs.UNKNOWN in (before, after) or _RANK[before] <= _RANK[after]


@given(cudas, drivers)
def test_every_pair_gets_a_verdict_with_a_reason(cuda: CudaVersion, driver: DriverVersion) -> None:
    verdict = runs(cuda, driver)
    assert verdict.reason
    if branch_of(driver) is None or cuda.major not in MINOR_COMPATIBILITY_FLOOR:
        assert verdict.runs is Runs.UNKNOWN


@pytest.mark.parametrize(
    ("driver", "day", "support"),
    [
        ("535.104.05", date(2026, 6, 30), Support.SUPPORTED),
        ("535.104.05", date(2026, 7, 1), Support.ENDED),
        ("570.172.08", date(2026, 2, 28), Support.SUPPORTED),
        ("570.172.08", date(2026, 3, 1), Support.ENDED),
        ("580.95.05", date(2028, 6, 30), Support.SUPPORTED),
        ("595.91.07", date(2027, 4, 1), Support.ENDED),
        ("620.10", date(2029, 9, 30), Support.SUPPORTED),
        ("545.29.06", date(2026, 9, 9), Support.ENDED),
        ("545.29.06", date(2024, 1, 1), Support.UNKNOWN),
        ("615.71.09", date(2026, 11, 1), Support.UNKNOWN),
        ("600.10", date(2026, 11, 1), Support.UNKNOWN),
    ],
)
def test_support_is_a_matter_of_the_day(driver: str, day: date, support: Support) -> None:
    assert lifecycle(DriverVersion.parse(driver), day).support is support


@given(known_drivers, st.dates(date(2020, 1, 1), date(2035, 1, 1)), st.integers(0, 4000))
def test_a_branch_that_ended_stays_ended(driver: DriverVersion, day: date, later: int) -> None:
    if lifecycle(driver, day).support is Support.ENDED:
        assert lifecycle(driver, day + timedelta(days=later)).support is Support.ENDED


@pytest.mark.parametrize(
    ("cuda", "driver", "datacenter", "answer", "package"),
    [
        ("13.0", "570.124.06", True, Forward.WITH_PACKAGE, "cuda-compat-13-0"),
        ("13.0", "570.124.06", False, Forward.NOT_ON_THIS_GPU, ""),
        ("13.0", "570.124.06", None, Forward.UNKNOWN, "cuda-compat-13-0"),
        ("12.8", "570.124.06", False, Forward.NOT_NEEDED, ""),
        ("13.0", "600.10", True, Forward.UNKNOWN, "cuda-compat-13-0"),
        ("12.1", "520.61.05", True, Forward.NOT_ON_THIS_DRIVER, ""),
        ("13.0", "520.61.05", None, Forward.NOT_ON_THIS_DRIVER, ""),
        ("11.8", "520.61.05", True, Forward.NOT_NEEDED, ""),
        ("12.1", "510.47.03", True, Forward.WITH_PACKAGE, "cuda-compat-12-1"),
        ("12.6", "510.47.03", True, Forward.NOT_ON_THIS_DRIVER, ""),
    ],
)
def test_forward_compatibility_is_for_data_center_gpus(
    cuda: str, driver: str, datacenter: bool | None, answer: Forward, package: str
) -> None:
    found = forward_compatibility(CudaVersion.parse(cuda), DriverVersion.parse(driver), datacenter)
    assert (found.forward, found.package) == (answer, package)


def test_the_refusal_of_forward_compatibility_names_the_error_that_cuda_would_give() -> None:
    found = forward_compatibility(CudaVersion(13, 0), DriverVersion.parse("570.124.06"), datacenter=False)
    assert "error 804" in found.reason


@pytest.mark.parametrize(
    ("product", "answer"),
    [
        ("NVIDIA-H100-80GB-HBM3", True),
        ("Tesla-T4", True),
        ("NVIDIA-GeForce-RTX-4090", False),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", None),
        ("NVIDIA-RTX-A6000", None),
        ("", None),
    ],
)
def test_data_center_gpus_are_told_from_those_for_consumers(product: str, answer: bool | None) -> None:
    assert is_data_center(product) is answer


@pytest.mark.parametrize("driver", ["570.124.06", "570.133.20", "570.148.08", "570.158.01"])
def test_the_regression_of_mixed_mig_is_known_for_every_driver_that_has_it(driver: str) -> None:
    assert [found.id for found in known_regressions(DriverVersion.parse(driver))] == ["mixed-mig-570"]


@pytest.mark.parametrize("driver", ["570.86.15", "570.172.08", "565.57.01", "600.10"])
def test_a_driver_outside_of_the_range_has_no_known_regression(driver: str) -> None:
    assert known_regressions(DriverVersion.parse(driver)) == ()


def test_a_regression_of_some_products_spares_the_others() -> None:
    driver = DriverVersion.parse("580.65.06")
    assert [found.id for found in known_regressions(driver, "NVIDIA GB200")] == ["cdmm-580"]
    assert known_regressions(driver, "NVIDIA A100-SXM4-40GB") == ()
    assert [found.id for found in known_regressions(driver)] == ["cdmm-580"]


def test_the_tables_are_in_order_and_every_row_names_its_source() -> None:
    numbers = [branch.number for branch in BRANCHES]
    pairings = [branch.cuda for branch in BRANCHES if branch.cuda is not None]
    assert numbers == sorted(set(numbers))
    assert pairings == sorted(set(pairings))
    assert all(branch.sources for branch in BRANCHES)
    assert all(regression.sources for regression in REGRESSIONS)


def test_every_version_of_the_tables_can_be_read() -> None:
    for branch in BRANCHES:
        assert not branch.first or DriverVersion.parse(branch.first).branch == branch.number
    for regression in REGRESSIONS:
        assert DriverVersion.parse(regression.first) <= DriverVersion.parse(regression.last)
    assert all(DriverVersion.parse(floor) for floor in MINOR_COMPATIBILITY_FLOOR.values())
