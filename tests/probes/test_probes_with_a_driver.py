"""Probes against a made-up driver: what they see, and that they notice what is wrong."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def one_mig_device_has(started_with_driver):
    """Probes of three MIG devices, one of which fails, by the failure; started before any other of this file.

    A busy machine may take many seconds for the devices that are well, and whoever waits for the other one is idle.
    """
    patience = {"FAKE_HANGS": {"MIG_PATIENCE": 15}, "FAKE_CRASHES": None}
    wrong = {"FAKE_MIG": "3", "FAKE_ONLY_ON": "11"}
    started = {
        failure: started_with_driver("cuda", patience=seconds, **{failure: "cuLaunchKernel"}, **wrong)
        for failure, seconds in patience.items()
    }
    yield started
    for each in started.values():
        each.stop()


def test_devices_tells_what_the_driver_shows(with_driver):
    code, record, _ = with_driver("devices", FAKE_GPUS="2", NVIDIA_VISIBLE_DEVICES="all", HOME="/")

    assert code == 0
    assert (record["driver"], record["cuda"], record["nvml_error"]) == ("580.95.05", "13.0", None)
    assert [device["uuid"][-2:] for device in record["devices"]] == ["00", "01"]
    assert record["devices"][1] == {
        "index": 1,
        "uuid": "GPU-00000000-0000-0000-0000-000000000001",
        "name": "NVIDIA A100-SXM4-40GB",
        "memory_mib": 40960,
        "mig": [],
    }
    assert record["nvidia_smi"]["exit_code"] == 0
    assert "UUID: GPU-" in record["nvidia_smi"]["listing"]
    assert record["nvidia_smi"]["table"] == "a table\n"
    assert record["environment"] == {"NVIDIA_VISIBLE_DEVICES": "all"}


def test_devices_tells_mig_devices_with_their_profiles(with_driver):
    record = with_driver("devices", FAKE_MIG="2").record

    assert record["devices"][0]["mig"] == [
        {"uuid": "MIG-00000000-0000-0000-0000-000000000010", "profile": "1g.5gb", "memory_mib": 4864},
        {"uuid": "MIG-00000000-0000-0000-0000-000000000011", "profile": "1g.5gb", "memory_mib": 4864},
    ]


def test_a_gpu_that_knows_no_mig_is_no_error(with_driver):
    assert with_driver("devices", FAKE_NO_MIG_AT_ALL="1").record["devices"][0]["mig"] == []


@pytest.mark.parametrize(
    ("code", "name"),
    [("18", "NVML_ERROR_LIB_RM_VERSION_MISMATCH"), ("999", "NVML_ERROR_UNKNOWN"), ("77", "NVML_ERROR_77")],
)
def test_devices_names_the_error_of_nvml(with_driver, code, name):
    exit_code, record, _ = with_driver("devices", FAKE_FAILS="nvmlInit_v2", FAKE_CODE=code)

    assert exit_code == 0
    assert record["devices"] == []
    assert record["nvml_error"] == {"code": int(code), "name": name, "call": "nvmlInit_v2"}


def test_a_lost_gpu_leaves_the_driver_version_and_the_others(with_driver):
    record = with_driver("devices", FAKE_GPUS="3", FAKE_LOST="1").record

    assert record["driver"] == "580.95.05"
    assert record["nvml_error"]["name"] == "NVML_ERROR_GPU_IS_LOST"
    assert [device["index"] for device in record["devices"]] == [0, 2]


def test_a_gpu_that_the_container_may_not_open_is_no_error_beside_one_that_it_may(with_driver):
    beside = with_driver("devices", FAKE_GPUS="2", FAKE_LOST="0", FAKE_CODE="4").record
    alone = with_driver("devices", FAKE_GPUS="1", FAKE_LOST="0", FAKE_CODE="4").record

    assert beside["nvml_error"] is None
    assert [device["index"] for device in beside["devices"]] == [1]
    assert alone["nvml_error"]["name"] == "NVML_ERROR_NO_PERMISSION"


def test_a_gpu_without_memory_of_its_own_is_a_device_all_the_same(with_driver):
    record = with_driver("devices", FAKE_FAILS="nvmlDeviceGetMemoryInfo", FAKE_CODE="3").record

    assert record["nvml_error"] is None
    assert [device["memory_mib"] for device in record["devices"]] == [None]


def test_a_driver_that_does_not_answer_nvml_is_told(with_driver):
    patience = {"NVML_PATIENCE": 0.3, "SMI_PATIENCE": 0.3}

    code, record, _ = with_driver("devices", patience=patience, FAKE_HANGS="nvmlInit_v2", FAKE_SMI_HANGS="1")

    assert code == 0
    assert record["nvml_error"] == {"code": -1, "name": "NO_ANSWER", "call": "NVML"}
    assert record["nvidia_smi"]["exit_code"] == 124


def test_a_device_that_does_not_answer_cuda_is_told(with_driver):
    code, record, _ = with_driver("cuda", patience={"PATIENCE": 2}, FAKE_HANGS="cuCtxSynchronize")

    assert code == 0
    assert record["cuda_error"] == {"code": -1, "name": "NO_ANSWER", "call": "CUDA"}


def test_mig_devices_for_which_no_time_is_left_are_left_out(with_driver):
    record = with_driver("cuda", patience={"PATIENCE": 0}, FAKE_MIG="3").record

    assert record["devices"] == []


def test_a_driver_that_does_not_answer_proves_no_isolation(with_driver):
    code, record, _ = with_driver("isolation", patience={"PATIENCE": 0.3}, FAKE_HANGS="cuInit")

    assert code == 2
    assert "did not answer" in record["error"]


def test_nvidia_smi_that_does_not_answer_proves_no_isolation(with_driver):
    code, record, _ = with_driver("isolation", patience={"SMI_PATIENCE": 0.3}, FAKE_SMI_HANGS="1")

    assert code == 2
    assert "nvidia-smi" in record["error"]


def test_devices_tells_how_nvidia_smi_ended(with_driver):
    record = with_driver("devices", FAKE_SMI_EXIT="14").record

    assert record["nvidia_smi"]["exit_code"] == 14
    assert "Failed to initialize NVML" in record["nvidia_smi"]["listing"]


def test_cuda_computes_right_on_every_device(with_driver):
    code, record, _ = with_driver("cuda", FAKE_GPUS="2")

    assert (code, record["cuda_error"]) == (0, None)
    assert [(device["ordinal"], device["wrong"]) for device in record["devices"]] == [(0, 0), (1, 0)]
    assert record["devices"][1]["uuid"] == "GPU-00000000-0000-0000-0000-000000000001"
    assert record["devices"][0]["compute"] == "8.0"
    assert record["devices"][0]["elements"] == 2**20
    assert record["devices"][0]["seconds"] > 0


def test_cuda_counts_wrong_results_exactly(with_driver):
    code, record, _ = with_driver("cuda", FAKE_WRONG="3")

    assert code == 0
    assert record["devices"][0]["wrong"] == 3


def test_cuda_names_the_error_that_keeps_a_whole_machine_from_computing(with_driver):
    code, record, _ = with_driver("cuda", FAKE_FAILS="cuInit", FAKE_CODE="802")

    assert code == 0
    assert record["devices"] == []
    assert record["cuda_error"] == {"code": 802, "name": "CUDA_ERROR_SYSTEM_NOT_READY", "call": "cuInit"}


@pytest.mark.parametrize("call", ["cuDevicePrimaryCtxRetain", "cuMemAlloc_v2", "cuLaunchKernel", "cuCtxSynchronize"])
def test_a_device_that_cannot_compute_has_no_right_result(with_driver, call):
    record = with_driver("cuda", FAKE_FAILS=call, FAKE_CODE="700").record

    assert record["devices"][0]["wrong"] == 2**20
    assert record["cuda_error"] == {"code": 700, "name": "CUDA_ERROR_ILLEGAL_ADDRESS", "call": call}


def test_an_error_that_the_library_cannot_name_is_named_by_the_table(with_driver):
    record = with_driver("cuda", FAKE_FAILS="cuInit", FAKE_CODE="804").record

    assert record["cuda_error"]["name"] == "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"


def test_cuda_computes_on_each_mig_device_although_a_process_sees_one(with_driver):
    record = with_driver("cuda", FAKE_MIG="3").record

    assert [device["uuid"][-2:] for device in record["devices"]] == ["10", "11", "12"]
    assert {device["uuid"][:3] for device in record["devices"]} == {"MIG"}
    assert [device["ordinal"] for device in record["devices"]] == [0, 1, 2]
    assert {device["wrong"] for device in record["devices"]} == {0}


def test_an_error_on_a_mig_device_is_told(with_driver):
    record = with_driver("cuda", FAKE_MIG="2", FAKE_FAILS="cuInit", FAKE_CODE="802").record

    assert record["cuda_error"]["code"] == 802


def test_bandwidth_measures_devices_and_pairs(with_driver):
    code, record, _ = with_driver("bandwidth", patience={"ROUNDS": 1}, FAKE_GPUS="2")

    assert (code, record["cuda_error"]) == (0, None)
    assert len(record["devices"]) == 2
    assert all(value > 0 for name, value in record["devices"][0].items() if name != "uuid")
    assert [(peer["from"][-2:], peer["to"][-2:], peer["possible"]) for peer in record["peers"]] == [
        ("00", "01", True),
        ("01", "00", True),
    ]


def test_bandwidth_names_the_error(with_driver):
    assert with_driver("bandwidth", FAKE_FAILS="cuInit", FAKE_CODE="802").record["cuda_error"]["code"] == 802


def test_isolation_tells_who_saw_which_device(with_driver):
    code, record, _ = with_driver("isolation", FAKE_GPUS="2", NVIDIA_VISIBLE_DEVICES="all")

    assert code == 0
    assert [uuid[-2:] for uuid in record["devices"]] == ["00", "01"]
    assert {who: len(uuids) for who, uuids in record["seen_by"].items()} == {"nvml": 2, "nvidia-smi": 1, "cuda": 2}
    assert record["environment"] == {"NVIDIA_VISIBLE_DEVICES": "all"}


def test_a_held_probe_says_its_line_first_and_then_stays(with_driver):
    import time

    began = time.monotonic()
    assert with_driver("devices", "--hold", "1.5").code == 0
    assert time.monotonic() - began > 1.5


# Last, because a device that hangs is waited for while all others are tested.
@pytest.mark.parametrize(("failure", "name"), [("FAKE_HANGS", "NO_ANSWER"), ("FAKE_CRASHES", "CRASH")])
def test_one_mig_device_that_hangs_or_crashes_costs_no_other_one(one_mig_device_has, failure, name):
    code, record, _ = one_mig_device_has[failure].said()

    assert code == 0
    assert record["cuda_error"]["name"] == name
    by_uuid = {device["uuid"][-2:]: device for device in record["devices"]}
    assert {uuid: device["wrong"] for uuid, device in by_uuid.items()} == {"10": 0, "11": 2**20, "12": 0}
    assert by_uuid["11"]["cuda_error"]["name"] == name
