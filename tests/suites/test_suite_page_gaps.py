"""What a metrics page lacks, for whole GPUs and for MIG devices."""

from conformance.gpu import dcgm
from conformance.gpu.sharing import NodeGpus
from suites.observability.page_gaps import gaps_of

WANTED = ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_XID_ERRORS")
OF_MIG = WANTED[1:]
TWO_HALVES = NodeGpus("NVIDIA-H100-NVL", 0, ({"3g.47gb": 2},))


def line(metric: str, instance: str = "", gpu: str = "GPU-0", profile: str = "3g.47gb") -> str:
    mig = f',GPU_I_PROFILE="{profile}",GPU_I_ID="{instance}"' if instance else ""
    return f'{metric}{{gpu="0",UUID="{gpu}"{mig}}} 1'


def gaps(*lines: str, declared: NodeGpus | None = None):
    return gaps_of(dcgm.parse("\n".join(lines)), WANTED, declared)


def test_a_whole_gpu_has_every_metric():
    assert not gaps(*(line(each) for each in WANTED)).metrics
    assert gaps(*(line(each) for each in OF_MIG)).metrics == ("DCGM_FI_DEV_GPU_UTIL of GPU-0",)


def test_mig_devices_have_memory_and_no_utilisation():
    found = gaps(*(line(each, number) for each in OF_MIG for number in "12"), declared=TWO_HALVES)

    assert (found.metrics, found.layout) == ((), "")


def test_memory_of_the_whole_gpu_is_none_of_its_mig_devices():
    whole = (line(each) for each in ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE"))
    found = gaps(*whole, *(line("DCGM_FI_DEV_XID_ERRORS", number) for number in "12"), declared=TWO_HALVES)

    assert found.metrics == tuple(
        f"{name} of GPU-0 instance {number}"
        for number in "12"
        for name in ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE")
    )


def test_what_one_mig_device_has_every_mig_device_has():
    activity = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
    found = gaps(*(line(each, number) for each in OF_MIG for number in "12"), line(activity, "1"))

    assert found.metrics == (f"{activity} of GPU-0 instance 2",)


def test_mig_devices_are_held_to_the_layout():
    found = gaps(*(line(each, "1") for each in OF_MIG), declared=TWO_HALVES)
    assert found.layout == "MIG devices 1 3g.47gb, and the layout has 2 3g.47gb"

    whole = gaps(*(line(each) for each in WANTED), declared=TWO_HALVES)
    assert whole.layout == "MIG devices none, and the layout has 2 3g.47gb"


def test_a_profile_with_media_is_the_same_in_both_spellings():
    media = NodeGpus("NVIDIA-H100-NVL", 0, ({"1g.12gb+me": 1},))

    assert not gaps(*(line(each, "7", profile="1g.12gb.me") for each in OF_MIG), declared=media).layout


def test_where_the_layout_is_unknown_nothing_is_compared():
    unknown = NodeGpus("NVIDIA-H100-NVL", 0, (None,))

    assert not gaps(*(line(each, "1") for each in OF_MIG), declared=unknown).layout
