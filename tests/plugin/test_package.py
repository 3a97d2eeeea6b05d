"""What ci/package builds, and that pip, pipx and uvx install it into empty environments."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

CHECKOUT = Path(__file__).resolve().parents[2]
NOT_PUBLISHED = (".venv/", "__pycache__/", ".git/", ".hypothesis/", ".mypy_cache/", "gpu-conformance-report/")

# Each installs packages from the index, which takes a minute or more.
pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder with wheel, sdist and SBOM."""
    folder = tmp_path_factory.mktemp("published")
    said = subprocess.run(
        [str(CHECKOUT / "ci" / "package"), str(folder)],
        env={**os.environ, "GPU_CONFORMANCE_VENV": sys.prefix, "GPU_CONFORMANCE_ENVIRONMENT_IS_READY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(published):
    (found,) = published.glob("*.whl")
    return found


def clean(**more):
    """An environment in which nothing of the checkout is found."""
    dropped = ("PYTHONPATH", "VIRTUAL_ENV", "PYTEST_ADDOPTS")
    return {**{key: value for key, value in os.environ.items() if key not in dropped}, **more}


def run(folder, *command, **more):
    ended = subprocess.run(
        [str(part) for part in command], cwd=folder, env=clean(**more), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_wheel_has_the_version_and_nothing_that_is_not_published(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        told = content.read(metadata).decode()

    version = wheel.name.split("-")[1]
    assert f"\nVersion: {version}\n" in told
    assert {name.split("/")[0] for name in names} == {"conformance", metadata.split("/")[0]}
    assert not [name for name in names if any(part in name for part in NOT_PUBLISHED)]


def test_the_sdist_has_everything_that_its_tests_and_pages_need(published):
    (sdist,) = published.glob("*.tar.gz")
    with tarfile.open(sdist) as content:
        names = {name.partition("/")[2] for name in content.getnames()}

    tracked = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    wanted = {name for name in tracked.stdout.splitlines() if not name.startswith(".")}
    assert wanted - names == set()
    assert not [name for name in names if any(part in f"{name}/" for part in NOT_PUBLISHED)]


def test_the_sbom_is_valid_and_lists_what_is_installed(published):
    (sbom,) = published.glob("*.cdx.json")
    text = sbom.read_text()

    assert JsonStrictValidator(SchemaVersion.from_version(json.loads(text)["specVersion"])).validate_str(text) is None
    listed = {each["name"].lower().replace("_", "-"): each.get("version") for each in json.loads(text)["components"]}
    assert {"gpu-conformance", "pytest", "kubernetes", "msgspec", "jinja2"} <= set(listed)
    assert all(listed.values())


def test_pip_installs_it_and_the_quickstart_runs(wheel, tmp_path):
    run(tmp_path, sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(tmp_path, python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    (tmp_path / "empty").mkdir()

    said = run(tmp_path / "empty", tmp_path / "venv/bin/pytest", "--cluster", "embedded", "-p", "no:cacheprovider")

    assert "rehearsed" in said
    assert (tmp_path / "empty" / "gpu-conformance-report" / "junit.xml").exists()


def test_pipx_runs_it(wheel, tmp_path):
    said = run(tmp_path, sys.executable, "-m", "pipx", "run", "--spec", wheel, "gpu-conformance", "explain", "PRIO-03",
               PIPX_HOME=str(tmp_path / "pipx"), PIP_NO_COMPILE="1")  # fmt: skip

    assert "PRIO-03" in said


def test_uvx_runs_it(wheel, tmp_path):
    said = run(tmp_path, Path(sys.prefix) / "bin" / "uvx", "--python", sys.executable, "--from", wheel,
               "gpu-conformance", "explain", "PRIO-03")  # fmt: skip

    assert "PRIO-03" in said
