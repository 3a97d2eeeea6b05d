"""What programs print in simulated containers, held against the readers of real output and against the real probes."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import conformance.probes
from conformance.gpu import smi
from conformance.simulator.containers import every_device, view_of
from conformance.simulator.hardware import HARDWARE, Machine, gpu_uuid, mig_uuid
from conformance.simulator.programs import run
from conformance.simulator.programs.view import View

A100 = Machine(
    product="NVIDIA A100-SXM4-40GB", gpus=2, memory_mib=40960, compute="8.0", mig_capable=True, driver="580.95.05"
)
MARK = "GPU-CONFORMANCE-PROBE"


def view(machine: Machine = A100, *, driver: str = "580.95.05", geometry: dict[int, dict[str, int]] | None = None,
         injected: bool = True, seconds: float = 0.0) -> View:  # fmt: skip
    devices = tuple(every_device("node-1", machine, geometry or {}).values())
    return View(machine, driver, devices if injected else (), injected, {}, seconds)


def broken(**what: object) -> Machine:
    return msgspec.structs.replace(A100, broken={name.replace("_", "-"): value for name, value in what.items()})


def output(command: list[str], seen: View) -> tuple[int, str]:
    ended = run(seen, command)
    assert ended is not None
    return ended.code, ended.text


def record(name: str, seen: View) -> dict[str, object]:
    code, text = output(["python3", f"/probes/{name}.py"], seen)
    told: dict[str, object] = json.loads(text.removeprefix(MARK))
    assert code == (2 if told["error"] else 0)
    return told


def test_the_listing_reads_as_that_of_the_real_tool() -> None:
    code, text = output(["nvidia-smi", "-L"], view(geometry={1: {"1g.5gb": 2}}))
    listed = smi.parse_listing(text)

    assert code == 0
    assert not isinstance(listed, smi.Unparsable), listed
    assert [gpu.uuid for gpu in listed] == [gpu_uuid("node-1", 0), gpu_uuid("node-1", 1)]
    assert [each.uuid for each in listed[1].mig_devices] == [mig_uuid("node-1", 1, "1g.5gb", n) for n in (0, 1)]


def test_the_table_and_the_query_read_as_those_of_the_real_tool() -> None:
    table = smi.parse_table(output(["nvidia-smi"], view())[1])
    query = smi.parse_query(output(["sh", "-c", "nvidia-smi -q"], view())[1])

    assert not isinstance(table, smi.Unparsable), table
    assert not isinstance(query, smi.Unparsable), query
    assert str(table.driver) == str(query.driver) == "580.95.05"
    assert str(table.cuda) == "13.0"  # R580 is paired with CUDA 13.0
    assert [(gpu.name, gpu.memory_total_mib, gpu.mig_enabled) for gpu in table.gpus] == [
        ("NVIDIA A100-SXM4-40GB", 40960, False)
    ] * 2
    assert [gpu.uuid for gpu in query.gpus] == [gpu_uuid("node-1", 0), gpu_uuid("node-1", 1)]


@pytest.mark.parametrize(
    ("seen", "code", "says"),
    [
        (view(injected=False), 127, "executable file not found"),
        (view(driver=""), 9, "couldn't communicate with the NVIDIA driver"),
        (view(broken(driver_mismatch=True)), 18, "Driver/library version mismatch"),
        (view(broken(nvml_lost=True), seconds=60), 255, "Unknown Error"),
        (view(broken(inforom=True)), 14, "infoROM is corrupted"),
        (view(Machine("", 0, 0, "")), 6, "No devices were found"),
    ],
)
def test_nvidia_smi_ends_as_its_manual_says(seen: View, code: int, says: str) -> None:
    ended = output(["nvidia-smi"], seen)

    assert ended[0] == code
    assert says in ended[1]


def test_nvml_works_until_it_is_lost() -> None:
    assert output(["nvidia-smi", "-L"], view(broken(nvml_lost=True)))[0] == 0


def test_a_computation_is_right_unless_the_machine_is_broken() -> None:
    sound, wrong = record("cuda", view()), record("cuda", view(broken(wrong_results=True)))
    fabric = record("cuda", view(broken(fabric_manager=True)))

    assert [each["wrong"] for each in sound["devices"]] == [0, 0]
    assert all(each["wrong"] for each in wrong["devices"])
    assert (fabric["devices"], fabric["cuda_error"]["code"]) == ([], 802)
    assert output(["/cuda-samples/vectorAdd"], view())[1].endswith("Test PASSED\nDone")
    assert output(["vectorAdd"], view(broken(fabric_manager=True)))[0] == 1


def test_a_mig_device_is_seen_alone_with_its_own_uuid() -> None:
    whole = view(geometry={0: {"1g.5gb": 7}, 1: {"1g.5gb": 7}})
    given = View(A100, "580.95.05", whole.devices[:1], True)

    listed = record("devices", given)["devices"]
    assert [(gpu["index"], len(gpu["mig"])) for gpu in listed] == [(0, 1)]
    assert record("isolation", given)["devices"] == sorted([gpu_uuid("node-1", 0), mig_uuid("node-1", 0, "1g.5gb", 0)])
    assert record("cuda", given)["devices"][0]["uuid"] == mig_uuid("node-1", 0, "1g.5gb", 0)


def test_a_held_probe_stays_after_its_line() -> None:
    ended = run(view(), ["python3", "/probes/devices.py", "--hold", "120"])

    assert ended is not None
    assert ended.after == 120


def test_what_nobody_knows_runs_for_ever() -> None:
    assert run(view(), ["/pause"]) is None
    assert run(view(), []) is None


@pytest.mark.parametrize("name", ["devices", "cuda", "bandwidth", "isolation"])
def test_the_line_has_the_members_that_the_real_probe_prints(name: str) -> None:
    """The probes run here too, on a machine without GPUs: what they could not find, they still name."""
    file = Path(conformance.probes.__file__).parent / f"{name}.py"
    ended = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60, check=False)
    real = json.loads(ended.stdout.splitlines()[-1].removeprefix(MARK))

    assert set(real) <= set(record(name, view(injected=False)))
    assert (real["probe"], real["version"]) == (name, 1)


class OneNode:
    """A world with one node and no pods."""

    def __init__(self, machine: Machine) -> None:
        annotations = {HARDWARE: msgspec.json.encode(machine).decode()}
        self.node = {"metadata": {"name": "node-1", "annotations": annotations}}

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, object] | None:
        return self.node if (kind, name) == ("Node", "node-1") else None

    def pods_on(self, node: str) -> list[dict[str, object]]:
        return []


def seen_without_request(machine: Machine, **pod: object) -> list[str]:
    env = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": pod.pop("visible", "all")}]
    container = {
        "name": "c",
        "image": "python",
        "env": env,
        **{k: v for k, v in pod.items() if k != "runtimeClassName"},
    }
    spec = {"nodeName": "node-1", "containers": [container], "runtimeClassName": pod.get("runtimeClassName")}
    found = view_of(OneNode(machine), {"metadata": {"name": "p"}, "spec": spec}, container, 0)  # type: ignore[arg-type]
    return [device.uuid for device in found.devices]


def test_without_a_request_nothing_is_seen_and_each_hole_shows() -> None:
    every = [gpu_uuid("node-1", 0), gpu_uuid("node-1", 1)]

    assert seen_without_request(A100) == []
    assert seen_without_request(A100, runtimeClassName="nvidia") == []
    assert seen_without_request(broken(visible_devices_honoured=True)) == []
    assert seen_without_request(broken(visible_devices_honoured=True), runtimeClassName="nvidia") == every
    assert seen_without_request(broken(nvidia_is_default_runtime=True)) == every
    assert seen_without_request(broken(nvidia_is_default_runtime=True), visible=every[1]) == every[1:]
    assert seen_without_request(broken(nvidia_is_default_runtime=True), visible="void") == []
    assert seen_without_request(A100, securityContext={"privileged": True}) == every
