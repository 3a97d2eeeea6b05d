"""The stand-ins that a container gets: nvidia-smi lists what it has files of, and our own probes understand it all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.deviceplugin.hostfiles import HostFiles, description
from conformance.deviceplugin.inventory import Inventory
from conformance.deviceplugin.library import compile_library
from conformance.gpu import smi
from conformance.simulator.hardware import Machine, gpu_uuid, mig_uuid

A100 = Machine("NVIDIA A100-SXM4-40GB", 4, 40960, "8.0", driver="580.95.05", mig_capable=True)
PROBES = Path(__file__).parents[2] / "conformance" / "probes"


class Inside:
    """What a container would be: its device files, its environment, and the description of the machine."""

    def __init__(self, folder: Path, inventory: Inventory, gpus: list[int]) -> None:
        self.folder = folder
        files = HostFiles(folder / "files")
        self.program = files.folder / "nvidia-smi"
        (folder / "machine.txt").write_text(description(inventory))
        (folder / "dev").mkdir()
        for index in gpus:
            (folder / "dev" / f"nvidia{index}").touch()

    def environment(self, visible: str = "") -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "NVIDIA_VISIBLE_DEVICES": visible,
            "GPU_CONFORMANCE_MACHINE": str(self.folder / "machine.txt"),
            "GPU_CONFORMANCE_DEV": str(self.folder / "dev"),
        }

    def smi(self, *arguments: str, visible: str = "") -> tuple[int, str]:
        ran = subprocess.run(
            [sys.executable, "-I", self.program, *arguments],
            env=self.environment(visible), capture_output=True, text=True, check=False,
        )  # fmt: skip
        return ran.returncode, ran.stdout + ran.stderr

    def probe(self, name: str, library: Path, visible: str = "") -> dict:
        libraries = self.folder / "lib"
        libraries.mkdir(exist_ok=True)
        for soname in ("libcuda.so.1", "libnvidia-ml.so.1"):
            shutil.copyfile(library, libraries / soname)
        env = {**self.environment(visible), "LD_LIBRARY_PATH": str(libraries)}
        ran = subprocess.run(
            [sys.executable, PROBES / f"{name}.py"], env=env, capture_output=True, text=True, check=False
        )
        line = next(line for line in ran.stdout.splitlines() if line.startswith("GPU-CONFORMANCE-PROBE"))
        return json.loads(line.partition(" ")[2])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = compile_library(tmp_path_factory.mktemp("library"))
    if made is None:
        pytest.skip("no C compiler on this machine: the stand-in of the driver's libraries is not tested")
    return made


def test_nvidia_smi_lists_what_the_container_has_and_nothing_else(tmp_path: Path) -> None:
    inside = Inside(tmp_path, Inventory("n", A100, "580.95.05"), [1, 3])

    code, said = inside.smi("-L")

    assert code == 0
    assert said.splitlines() == [
        f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {gpu_uuid('n', 1)})",
        f"GPU 1: NVIDIA A100-SXM4-40GB (UUID: {gpu_uuid('n', 3)})",
    ]
    code, table = inside.smi()
    parsed, queried = smi.parse_table(table), smi.parse_query(inside.smi("-q")[1])
    assert (code, str(parsed.driver), len(parsed.gpus)) == (0, "580.95.05", 2)  # type: ignore[union-attr]
    assert [gpu.uuid for gpu in queried.gpus] == [gpu_uuid("n", 1), gpu_uuid("n", 3)]  # type: ignore[union-attr]
    assert inside.smi("--query-gpu=index,uuid", "--format=csv,noheader")[1].startswith(f"0, {gpu_uuid('n', 1)}\n")


def test_nvidia_smi_lists_the_mig_devices_that_the_container_was_given(tmp_path: Path) -> None:
    own = mig_uuid("n", 0, "1g.5gb", 1)
    inside = Inside(tmp_path, Inventory("n", A100, "580.95.05", {0: {"1g.5gb": 3}}), [0])

    _, said = inside.smi("-L", visible=own)

    assert said.count("MIG 1g.5gb") == 1
    assert own in said


@pytest.mark.parametrize(
    ("driver", "broken", "gpus", "code"),
    [("", {}, [0], 9), ("580.95.05", {"driver-mismatch": True}, [0], 18), ("580.95.05", {}, [], 6),
     ("580.95.05", {"inforom": True}, [0], 14)],
)  # fmt: skip
def test_nvidia_smi_fails_as_the_manual_says(tmp_path: Path, driver: str, broken: dict, gpus: list, code: int) -> None:
    machine = Machine("Tesla T4", 1, 15360, "7.5", broken=broken)

    assert Inside(tmp_path, Inventory("n", machine, driver), gpus).smi("-L")[0] == code


def test_the_probes_find_in_the_library_what_nvidia_smi_lists(tmp_path: Path, library: Path) -> None:
    inside = Inside(tmp_path, Inventory("n", A100, "580.95.05"), [1, 3])
    wanted = [gpu_uuid("n", 1), gpu_uuid("n", 3)]

    seen, computed = inside.probe("devices", library), inside.probe("cuda", library)

    assert [each["uuid"] for each in seen["devices"]] == wanted
    assert (seen["driver"], seen["cuda"], seen["nvml_error"]) == ("580.95.05", "13.0", None)
    assert [(each["uuid"], each["wrong"], each["compute"]) for each in computed["devices"]] == [
        (uuid, 0, "8.0") for uuid in wanted
    ]


def test_a_fabric_manager_that_is_down_and_wrong_results_show_in_the_probe(tmp_path: Path, library: Path) -> None:
    for name, broken in (("a", {"fabric-manager": True}), ("b", {"wrong-results": True})):
        (tmp_path / name).mkdir()
        machine = Machine("NVIDIA H100 80GB HBM3", 1, 81559, "9.0", broken=broken)
        computed = Inside(tmp_path / name, Inventory("n", machine, "580.95.05"), [0]).probe("cuda", library)
        if name == "a":
            assert computed["cuda_error"]["code"] == 802
        else:
            assert computed["devices"][0]["wrong"] == 17


def test_without_a_compiler_there_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert compile_library(tmp_path) is None
