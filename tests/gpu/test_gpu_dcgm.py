"""Reading dcgm-exporter's page, and noticing what no GPU can say."""

import string

from hypothesis import given
from hypothesis import strategies as st

from conformance.gpu import dcgm

PAGE = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",device="nvidia0",modelName="Tesla T4",Hostname="n",container="c",namespace="ns",pod="p"} 44
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",device="nvidia1",modelName="Tesla T4",Hostname="n",container="",namespace="",pod=""} 0
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a"} 1000
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-a"} 14000
DCGM_FI_DEV_FB_RESERVED{gpu="0",UUID="GPU-a"} 360
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-a"} 4335301032 1700000000000
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="2",UUID="GPU-c",GPU_I_PROFILE="1g.5gb",GPU_I_ID="7"} 0.25
go_goroutines 12
"""  # noqa: E501 (lines of an exporter)


def test_devices_and_their_holders_are_read() -> None:
    page = dcgm.parse(PAGE)

    assert page.gpus == ("GPU-a", "GPU-b", "GPU-c")
    assert str(page.devices[2]) == "GPU-c instance 7"
    assert page.holders() == {dcgm.DeviceKey("GPU-a"): "ns/p"}
    assert not page.odd
    assert dcgm.implausible(page, 15360) == ()


def test_a_line_that_is_no_sample_costs_no_other() -> None:
    page = dcgm.parse('<html>\nDCGM_FI_DEV_GPU_UTIL{UUID="GPU-a"} 3\nx{y=z} 1\n')

    assert page.odd == ("<html>", "x{y=z} 1")
    assert page.samples == (dcgm.Sample("DCGM_FI_DEV_GPU_UTIL", {"UUID": "GPU-a"}, 3.0),)


def test_values_that_no_gpu_can_have_are_noticed() -> None:
    text = PAGE.replace("} 44", "} 101").replace("} 14000", "} 140")

    told = [str(each) for each in dcgm.implausible(dcgm.parse(text), 15360)]

    assert told == [
        "DCGM_FI_DEV_GPU_UTIL of GPU-a: 101 is not within 0 to 100",
        "DCGM_FI_DEV_FB_USED of GPU-a: used, free and reserved make 1500 MiB, and it has 15360 MiB",
    ]


def test_two_values_for_one_device_at_once_are_noticed_and_replicas_are_not() -> None:
    shared = 'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-a",pod="p"} 1\nDCGM_FI_DEV_GPU_UTIL{UUID="GPU-a",pod="q"} 2'
    twice = 'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-a"} 1\nDCGM_FI_DEV_GPU_UTIL{UUID="GPU-a"} 2'

    assert dcgm.implausible(dcgm.parse(shared)) == ()
    assert [str(each) for each in dcgm.implausible(dcgm.parse(twice))] == [
        "DCGM_FI_DEV_GPU_UTIL of GPU-a: 1 and 2 at the same time"
    ]


def test_what_dcgm_does_not_know_is_no_value() -> None:
    page = dcgm.parse('DCGM_FI_DEV_MEMORY_TEMP{UUID="GPU-a"} 2147483632\nDCGM_FI_DEV_POWER_USAGE{UUID="GPU-a"} NaN')

    assert all(sample.blank for sample in page.samples)
    assert dcgm.implausible(page) == ()


def test_a_counter_that_goes_down_is_noticed() -> None:
    before = dcgm.parse('DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{UUID="GPU-a"} 100')
    after = dcgm.parse('DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{UUID="GPU-a"} 99')

    assert dcgm.went_down(after, before) == ()
    assert [str(each) for each in dcgm.went_down(before, after)] == [
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION of GPU-a: went from 100 to 99"
    ]


@given(st.text(alphabet=string.printable + '\\"{},=', max_size=60), st.floats(allow_nan=False, allow_infinity=False))
def test_label_values_survive_their_escaping(value: str, number: float) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    (sample,) = dcgm.parse(f'metric{{a="{escaped}",UUID="GPU-a"}} {number!r}').samples

    assert sample.labels == {"a": value, "UUID": "GPU-a"}
    assert sample.value == number


@given(st.text(max_size=200))
def test_no_text_is_too_odd(text: str) -> None:
    dcgm.implausible(dcgm.parse(text), 100)
