"""Probes where there is no driver, with bad arguments, and in old interpreters."""

import ast
import sys
from pathlib import Path

import pytest

from conformance import probes
from conformance.lab.probe_jobs import PROBES
from conformance.probes import cuda, isolation

FOLDER = Path(probes.__file__).parent


def test_the_lab_knows_every_probe():
    assert set(PROBES) == {file.stem for file in FOLDER.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("probe", ["devices", "isolation"])
def test_no_driver_is_something_that_was_seen(said, probe):
    code, record, _ = said(probe)

    assert (code, record["error"], record["devices"]) == (0, None, [])


def test_devices_says_that_no_library_is_there(said):
    record = said("devices").record

    assert record["nvml_error"]["name"] == "NVML_ERROR_LIBRARY_NOT_FOUND"
    assert record["nvidia_smi"] is None


@pytest.mark.parametrize("probe", ["cuda", "bandwidth"])
def test_without_libcuda_nothing_could_be_looked_at(said, probe):
    code, record, _ = said(probe)

    assert code == 2
    assert "libcuda.so.1" in record["error"]


def test_cuda_names_the_library_that_is_missing(said):
    assert said("cuda").record["missing"] == "libcuda.so.1"
    assert said("cuda", "--frobnicate").record["missing"] is None


@pytest.mark.parametrize("probe", PROBES)
def test_an_unknown_argument_is_an_error_and_no_traceback(said, probe):
    code, record, output = said(probe, "--frobnicate")

    assert code == 2
    assert "--frobnicate" in record["error"]
    assert "Traceback" not in output


@pytest.mark.parametrize("probe", PROBES)
def test_a_record_says_whose_it_is(said, probe):
    record = said(probe).record

    assert (record["probe"], record["version"]) == (probe, 1)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_a_probe_is_one_file_of_python_3_8_and_the_standard_library(file):
    tree = ast.parse(file.read_text(), feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize("name", ["in_time", "output_of", "look_beside", "seconds_to_hold", "say"])
def test_what_stands_in_several_probes_is_the_same_in_all(name):
    """Each probe is one file and can import no other one."""
    functions = [
        ast.unparse(each)
        for file in FOLDER.glob("*.py")
        for each in ast.walk(ast.parse(file.read_text()))
        if isinstance(each, ast.FunctionDef) and each.name == name
    ]

    assert len(functions) == 3
    assert len(set(functions)) == 1


def test_the_task_has_no_two_results_alike_by_chance():
    task = cuda.Task()

    assert task.count_wrong(task.expected.tobytes()) == 0
    assert task.count_wrong(task.ys) > cuda.ELEMENTS * 0.99, "a kernel that did nothing must not pass"
    assert task.count_wrong(bytes(4 * cuda.ELEMENTS)) > cuda.ELEMENTS * 0.99


def test_the_task_expects_what_multiplying_and_adding_word_by_word_gives():
    task = cuda.Task()
    xs, ys, expected = cuda.words(task.xs), cuda.words(task.ys), task.expected

    for at in (*range(64), *range(64, cuda.ELEMENTS, 997), cuda.ELEMENTS - 1):
        assert expected[at] == (cuda.FACTOR * xs[at] + ys[at]) % 2**32, at


def test_a_device_file_counts_as_open_only_when_the_kernel_lets_it(tmp_path):
    file = tmp_path / "nvidia0"
    file.touch()

    assert isolation.can_be_opened(str(file))
    assert not isolation.can_be_opened(str(tmp_path / "nvidia1"))
