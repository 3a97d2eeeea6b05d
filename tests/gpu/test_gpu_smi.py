"""nvidia-smi: every layout is read, and what cannot be read names its line.

The samples are written here after the documented layouts; none was captured on hardware.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.gpu.drivers import CudaVersion, DriverVersion
from conformance.gpu.smi import (
    ListedGpu,
    MigDevice,
    Query,
    Table,
    Unparsable,
    explain_exit_code,
    parse_listing,
    parse_query,
    parse_table,
)

# The lines of the guide, part 6, with its comment marks and without the columns.
GUIDE = """\
# +-----------------------------------------------------------------------------+
# | NVIDIA-SMI 545.29.06 Driver Version: 545.29.06 CUDA Version: 12.3 |
# | GPU Name Persistence-M| Bus-Id Disp.A | Volatile Uncorr. ECC |
# | 0 Tesla T4 Off | 00000000:00:1E.0 Off | 0 |
"""

# The narrow layout, up to R525.
NARROW = """\
Tue Mar  1 10:00:00 2022
+-----------------------------------------------------------------------------+
| NVIDIA-SMI 470.82.01    Driver Version: 470.82.01    CUDA Version: 11.4     |
|-------------------------------+----------------------+----------------------+
| GPU  Name        Persistence-M| Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp  Perf  Pwr:Usage/Cap|         Memory-Usage | GPU-Util  Compute M. |
|                               |                      |               MIG M. |
|===============================+======================+======================|
|   0  Tesla T4            On   | 00000000:00:1E.0 Off |                    0 |
| N/A   34C    P8     9W /  70W |      0MiB / 15109MiB |      0%      Default |
|                               |                      |                  N/A |
+-------------------------------+----------------------+----------------------+
|   1  NVIDIA A100-SXM...  Off  | 00000000:00:1F.0 Off |                    2 |
| N/A   40C    P0    61W / 400W |     25MiB / 40536MiB |     N/A      Default |
|                               |                      |              Enabled |
+-------------------------------+----------------------+----------------------+

+-----------------------------------------------------------------------------+
| MIG devices:                                                                |
+------------------+----------------------+-----------+-----------------------+
| GPU  GI  CI  MIG |         Memory-Usage |        Vol|         Shared        |
|      ID  ID  Dev |           BAR1-Usage | SM     Unc| CE  ENC  DEC  OFA  JPG|
|==================+======================+===========+=======================|
|  1    7   0   0  |      3MiB /  4864MiB | 14      0 |  1   0    0    0    0 |
+------------------+----------------------+-----------+-----------------------+

+-----------------------------------------------------------------------------+
| Processes:                                                                  |
|  GPU   GI   CI        PID   Type   Process name                  GPU Memory |
|=============================================================================|
|  No running processes found                                                 |
+-----------------------------------------------------------------------------+
WARNING: infoROM is corrupted at gpu 0000:00:1E.0
"""

# The wide layout, from R535 on; R610 has other names in its head.
WIDE = """\
Sun Nov  1 08:00:00 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 595.91.07              Driver Version: 595.91.07      CUDA Version: 13.2     |
+-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  NVIDIA H100 80GB HBM3          On  |   00000000:18:00.0 Off |                    0 |
| N/A   28C    P0             70W /  700W |    1024MiB /  81559MiB |      0%      Default |
|                                         |                        |            Disabled* |
+-----------------------------------------+------------------------+----------------------+
"""
NEWEST = (
    WIDE.replace("595.91.07", "610.43.02")
    .replace("Driver Version:", "KMD Version:   ")
    .replace("  CUDA Version: 13.2", "CUDA UMD Version: 13.3")
)


def table(text: str) -> Table:
    parsed = parse_table(text)
    assert isinstance(parsed, Table), parsed
    return parsed


def test_the_sample_of_the_guide_is_read_without_its_memory() -> None:
    parsed = table(GUIDE)
    assert (parsed.driver, parsed.cuda) == (DriverVersion(545, 29, 6), CudaVersion(12, 3))
    (gpu,) = parsed.gpus
    assert (gpu.index, gpu.name, gpu.bus_id) == (0, "Tesla T4", "00000000:00:1E.0")
    assert (gpu.persistence, gpu.uncorrected_ecc_errors, gpu.memory_total_mib) == (False, 0, None)


def test_the_narrow_layout_gives_every_gpu_with_memory_and_mig_mode() -> None:
    first, second = table(NARROW).gpus
    assert (first.name, first.memory_used_mib, first.memory_total_mib, first.mig_enabled) == (
        "Tesla T4",
        0,
        15109,
        None,
    )
    assert (second.name, second.memory_total_mib, second.mig_enabled) == ("NVIDIA A100-SXM...", 40536, True)
    assert second.uncorrected_ecc_errors == 2


def test_a_gpu_with_mig_on_counts_no_errors_and_says_so() -> None:
    divided = WIDE.replace("00000000:18:00.0 Off |                    0", "00000000:18:00.0 Off |                   On")
    (gpu,) = table(divided.replace("Disabled*", "  Enabled")).gpus
    assert (gpu.uncorrected_ecc_errors, gpu.mig_enabled) == (None, True)


def test_a_warning_below_the_table_is_kept() -> None:
    assert table(NARROW).warnings == ("WARNING: infoROM is corrupted at gpu 0000:00:1E.0",)


@pytest.mark.parametrize(("text", "driver", "cuda"), [(WIDE, "595.91.07", "13.2"), (NEWEST, "610.43.02", "13.3")])
def test_the_wide_layout_is_read_under_old_and_new_names(text: str, driver: str, cuda: str) -> None:
    parsed = table(text)
    assert (str(parsed.driver), str(parsed.cuda)) == (driver, cuda)
    (gpu,) = parsed.gpus
    assert (gpu.name, gpu.persistence, gpu.memory_total_mib) == ("NVIDIA H100 80GB HBM3", True, 81559)
    assert gpu.mig_enabled is False, "a pending change of the MIG mode is marked and does not count yet"


@pytest.mark.parametrize("cuda", ["N/A ", "ERR!"])
def test_a_container_without_the_cuda_library_has_no_cuda_version(cuda: str) -> None:
    assert table(WIDE.replace("13.2", cuda)).cuda is None


def test_a_gpu_that_answers_with_errors_is_broken() -> None:
    text = WIDE.replace("|                    0 |", "|                 ERR! |").replace("0%", "ERR!")
    (gpu,) = table(text).gpus
    assert gpu.broken
    assert gpu.uncorrected_ecc_errors is None
    assert not table(WIDE).gpus[0].broken


def test_a_row_that_no_layout_has_is_named() -> None:
    parsed = parse_table(WIDE.replace("1024MiB /  81559MiB", "1024MiB of 81559MiB "))
    assert isinstance(parsed, Unparsable)
    assert parsed.line_number == 10
    assert "1024MiB of 81559MiB" in str(parsed)


def test_a_table_without_gpus_is_not_an_empty_result() -> None:
    parsed = parse_table("\n".join(WIDE.splitlines()[:8]))
    assert isinstance(parsed, Unparsable)
    assert (parsed.line_number, parsed.why) == (3, "no GPU follows")


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", "old kernel module"),
        ("Failed to initialize NVML: Unknown Error", "lost the devices"),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that it runs.",
            "not loaded",
        ),
        ("Unable to determine the device handle for GPU 0000:00:1F.0: GPU is lost.", "may have fallen off the bus"),
        ("GPU is lost. Reboot the system to recover this GPU", "has fallen off the bus"),
        ("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", "driver's libraries"),
        ("No devices were found", "no GPU here"),
        ("bash: nvidia-smi: command not found", "nvidia-smi from the node"),
    ],
)
def test_a_complaint_is_explained_by_every_reader(said: str, meaning: str) -> None:
    for parse in (parse_table, parse_listing, parse_query):
        parsed = parse(f"\n{said}\nNVML library version: 595.91\n")
        assert isinstance(parsed, Unparsable), parse
        assert (parsed.line_number, parsed.line) == (2, said)
        assert meaning in parsed.why


def test_an_empty_text_is_not_an_empty_result() -> None:
    for parse in (parse_table, parse_listing, parse_query):
        parsed = parse(" \n")
        assert isinstance(parsed, Unparsable)
        assert parsed.why == "nvidia-smi printed nothing"


GPU_UUID = "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"

LISTING = f"""\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {GPU_UUID})
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.5gb+me   Device  1: (UUID: MIG-{GPU_UUID}/7/0)
GPU 1: Tesla T4 (UUID: GPU-0a1b2c3d-0000-1111-2222-333344445555)
"""


def test_the_listing_gives_mig_devices_under_their_gpu() -> None:
    assert parse_listing(LISTING) == (
        ListedGpu(
            0,
            "NVIDIA A100-SXM4-40GB",
            GPU_UUID,
            (
                MigDevice("3g.20gb", 0, "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"),
                MigDevice("1g.5gb+me", 1, f"MIG-{GPU_UUID}/7/0"),
            ),
        ),
        ListedGpu(1, "Tesla T4", "GPU-0a1b2c3d-0000-1111-2222-333344445555"),
    )


@pytest.mark.parametrize(
    ("text", "number", "why"),
    [
        (LISTING.replace("Device  1", "Devise  1"), 3, "neither a GPU nor a MIG device"),
        (LISTING.split("\n", 1)[1], 1, "before any GPU"),
        (LISTING + "Unable to determine the device handle for GPU 0000:00:1F.0: Unknown Error\n", 5, "cannot reach"),
        (
            LISTING.replace(f"0: NVIDIA A100-SXM4-40GB (UUID: {GPU_UUID})", "0: NVIDIA A100-SXM4-40GB"),
            1,
            "with its UUID",
        ),
    ],
)
def test_a_line_of_the_listing_that_cannot_be_read_is_named(text: str, number: int, why: str) -> None:
    parsed = parse_listing(text)
    assert isinstance(parsed, Unparsable)
    assert parsed.line_number == number
    assert why in parsed.why


uuids = st.uuids().map(str)
names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9 ().:-]{0,30}[A-Za-z0-9])?", fullmatch=True)
profiles = st.from_regex(r"([1-7]c\.)?[1-7]g\.[1-9][0-9]{0,2}gb(\+me|\+gfx|\+me\.all|-me)?", fullmatch=True)
old_uuids = st.builds(lambda uuid, gi, ci: f"MIG-GPU-{uuid}/{gi}/{ci}", uuids, st.integers(0, 15), st.integers(0, 7))
devices = st.builds(MigDevice, profiles, st.integers(0, 14), uuids.map(lambda uuid: f"MIG-{uuid}") | old_uuids)
gpus = st.builds(
    ListedGpu,
    st.integers(0, 99),
    names,
    uuids.map(lambda uuid: f"GPU-{uuid}"),
    st.lists(devices, max_size=4).map(tuple),
)


def rendered(listed: tuple[ListedGpu, ...]) -> str:
    lines = []
    for gpu in listed:
        lines.append(f"GPU {gpu.index}: {gpu.name} (UUID: {gpu.uuid})")
        for device in gpu.mig_devices:
            lines.append(f"  MIG {device.profile:<15} Device {device.index:>2}: (UUID: {device.uuid})")
    return "\n".join(lines) + "\n"


@given(st.lists(gpus, min_size=1, max_size=8).map(tuple))
def test_every_listing_reads_back_as_what_it_lists(listed: tuple[ListedGpu, ...]) -> None:
    assert parse_listing(rendered(listed)) == listed


@given(st.text())
def test_no_text_breaks_a_reader_or_reads_as_nothing(text: str) -> None:
    for parse in (parse_table, parse_listing, parse_query):
        assert parse(text), parse


QUERY = f"""\

==============NVSMI LOG==============

Timestamp                                 : Sun Nov  1 08:00:00 2026
Driver Version                            : 595.91.07
CUDA Version                              : 13.2

Attached GPUs                             : 2
GPU 00000000:18:00.0
    Product Name                          : NVIDIA H100 80GB HBM3
    Product Architecture                  : Hopper
    Persistence Mode                      : Enabled
    MIG Mode
        Current                           : Enabled
        Pending                           : Enabled
    MIG Device
        Index                             : 0
        FB Memory Usage
            Total                         : 9984 MiB
            Used                          : 15 MiB
    GPU UUID                              : {GPU_UUID}
    Fabric
        State                             : In Progress
        Status                            : N/A
    FB Memory Usage
        Total                             : 81559 MiB
        Reserved                          : 551 MiB
        Used                              : 1024 MiB
        Free                              : 79984 MiB
    ECC Mode
        Current                           : Enabled
        Pending                           : Disabled
    Processes                             : None

GPU 00000000:3B:00.0
    Product Name                          : Tesla T4
    Persistence Mode                      : Disabled
    GPU UUID                              : GPU-0a1b2c3d-0000-1111-2222-333344445555
    FB Memory Usage
        Total                             : 15360 MiB
        Used                              : 0 MiB
    ECC Mode
        Current                           : N/A
        Pending                           : N/A
    Processes
        GPU instance ID                   : N/A
        Process ID                        : 4711
            Name                          : python : serve
"""


def query(text: str) -> Query:
    parsed = parse_query(text)
    assert isinstance(parsed, Query), parsed
    return parsed


def test_the_query_gives_each_gpu_with_its_own_memory_and_modes() -> None:
    parsed = query(QUERY)
    assert (str(parsed.driver), str(parsed.cuda)) == ("595.91.07", "13.2")
    h100, t4 = parsed.gpus
    assert (h100.bus_id, h100.product, h100.uuid) == ("00000000:18:00.0", "NVIDIA H100 80GB HBM3", GPU_UUID)
    assert (h100.memory_total_mib, h100.memory_used_mib) == (81559, 1024), "those of its MIG device are others"
    assert (h100.persistence, h100.mig_enabled, h100.ecc_enabled, h100.ecc_pending) == (True, True, True, False)
    assert (t4.memory_total_mib, t4.persistence, t4.mig_enabled, t4.ecc_enabled) == (15360, False, None, None)


@pytest.mark.parametrize("absent", ["N/A", "[N/A]", "Insufficient Permissions"])
def test_memory_that_the_query_does_not_tell_is_absent(absent: str) -> None:
    h100, t4 = query(QUERY.replace("81559 MiB", absent)).gpus
    assert (h100.memory_total_mib, t4.memory_total_mib) == (None, 15360)


@given(st.sampled_from([GUIDE, NARROW, WIDE, LISTING, QUERY]), st.data())
def test_a_sample_with_a_hole_is_read_or_named_by_its_line(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    damaged = text[:start] + text[data.draw(st.integers(start, len(text))) :]
    for parse in (parse_table, parse_listing, parse_query):
        parsed = parse(damaged)
        if isinstance(parsed, Unparsable) and parsed.line_number:
            assert damaged.splitlines()[parsed.line_number - 1].strip().endswith(parsed.line.strip())
        else:
            assert parsed


@pytest.mark.parametrize(
    ("state", "status", "ready"),
    [
        ("In Progress", "N/A", False),
        ("Not Started", "N/A", False),
        ("Completed", "Success", True),
        ("Completed", "Initialization error", False),
        ("N/A", "N/A", None),
    ],
)
def test_a_gpu_is_ready_once_its_fabric_is(state: str, status: str, ready: bool | None) -> None:
    text = QUERY.replace("State                             : In Progress", f"State   : {state}")
    gpu = query(text.replace("Status                            : N/A", f"Status  : {status}")).gpus[0]
    assert gpu.fabric_ready is ready


def test_a_gpu_without_fabric_section_has_no_fabric() -> None:
    assert query(QUERY).gpus[1].fabric_ready is None


def test_the_query_finds_its_versions_under_old_names_new_names_and_both() -> None:
    old = "Driver Version                            : 595.91.07\nCUDA Version                              : 13.2"
    new = """\
Driver Version                            : 610.43.02 [Deprecated; Use KMD Version instead]
CUDA Version                              : 13.3 [Deprecated; Use CUDA UMD Version instead]
KMD Version                               : 610.43.02
CUDA UMD Version                          : 13.3"""
    for text in (new, "\n".join(new.splitlines()[:2]), "\n".join(new.splitlines()[2:])):
        parsed = query(QUERY.replace(old, text))
        assert (str(parsed.driver), str(parsed.cuda)) == ("610.43.02", "13.3")


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (QUERY.split("GPU 00000000:3B")[0], "Attached GPUs", "2 GPUs are attached, 1 follow"),
        (QUERY.split("GPU 00000000:18")[0], "NVSMI LOG", "no GPU follows"),
        (QUERY.replace(f"    GPU UUID                              : {GPU_UUID}\n", ""), "18:00.0", "no UUID follows"),
        (QUERY.replace("81559 MiB", "80 GiB"), "18:00.0", "'80 GiB' is no number of MiB"),
        (QUERY.replace("Driver Version ", "Treiber "), "NVSMI LOG", "no versions"),
        ("GPU 0\n", "GPU 0", "no line with NVSMI LOG"),
    ],
)
def test_a_query_that_is_not_whole_names_the_line(text: str, line: str, why: str) -> None:
    parsed = parse_query(text)
    assert isinstance(parsed, Unparsable)
    assert line in parsed.line
    assert text.splitlines()[parsed.line_number - 1].strip() == parsed.line.strip()
    assert why in parsed.why


INTEGRATED = """\
+---------------------------------------------------------------------------------------+
| NVIDIA-SMI 540.3.0                Driver Version: 540.3.0      CUDA Version: 12.2     |
|-----------------------------------------+----------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |         Memory-Usage | GPU-Util  Compute M. |
|                                         |                      |               MIG M. |
|=========================================+======================+======================|
|   0  Orin (nvgpu)                  N/A  | N/A              N/A |                  N/A |
| N/A   N/A  N/A               N/A /  N/A | Not Supported        |     N/A          N/A |
|                                         |                      |                  N/A |
+-----------------------------------------+----------------------+----------------------+
"""


def test_an_integrated_gpu_has_no_bus_no_memory_of_its_own_and_a_uuid_without_prefix() -> None:
    table = parse_table(INTEGRATED)
    assert isinstance(table, Table)
    (gpu,) = table.gpus
    assert (gpu.name, gpu.bus_id, gpu.memory_total_mib, gpu.broken) == ("Orin (nvgpu)", "", None, False)

    uuid = "3f7bd0a4-51c2-5b0e-9d3e-0c2f1a6b8d77"
    listed = parse_listing(f"GPU 0: Orin (nvgpu) (UUID: {uuid})\n")
    assert listed == (ListedGpu(0, "Orin (nvgpu)", uuid),)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "success"),
        (9, "driver is not loaded"),
        (12, "NVML library was not found"),
        (14, "infoROM"),
        (15, "fallen off the bus"),
        (127, "nvidia-smi was not found"),
        (255, "internal error"),
        (137, "signal 9"),
        (77, "none that the manual"),
    ],
)
def test_an_exit_code_is_put_into_words(code: int, words: str) -> None:
    assert f"exit code {code}:" in explain_exit_code(code)
    assert words in explain_exit_code(code)
