"""What is published: the wheel, the sdist and the SBOM, and that each way to install it works."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from whole_runs import whole_run

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, built and unpacked into a folder of its own, with an environment in which Python finds only it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "site")
    return folder / "site", {**os.environ, "PYTHONPATH": str(folder / "site")}


def run(installed, folder, *command):
    _, environment = installed
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_wheel_carries_suites_fixtures_schemas_and_modules(installed):
    site, _ = installed

    for travels in (
        "_shipped/suites/priorities/test_priorities.py",
        "_shipped/suites/conftest.py",
        "_shipped/fixtures/reference/pools.yaml",
        "_shipped/fixtures/guide/pools.yaml",
        "_shipped/fixtures/topologies/guide.yaml",
        "_shipped/reports/report.schema.json",
        "clusters/embedded/modules/kubernetes-1.36/go.mod",
        "clusters/embedded/modules/kubernetes-1.36/go.sum",
        "report/formats/html/templates/report.html",
        "report/formats/html/templates/report.css",
        "report/formats/html/templates/report.js",
        "py.typed",
    ):
        assert (site / "conformance" / travels).exists(), travels


@whole_run
def test_the_wheel_collects_its_own_suites_from_an_empty_folder(installed, tmp_path):
    ended = run(installed, tmp_path, "-m", "pytest", "--cluster", "embedded", "--co", "-q", "-p", "no:cacheprovider")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "test_pools.py::" in ended.stdout
    where = run(installed, tmp_path, "-c", "from conformance.shipped import shipped; print(shipped('suites'))")
    assert Path(where.stdout.strip()).is_relative_to(installed[0])
