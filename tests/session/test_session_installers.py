"""Who puts a GPU stack on a cluster: helm with what the clusters file and the options say, on a real one."""

import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from conformance.clusters.named import resolve
from conformance.deploy.helm.charts import HelmInstaller
from conformance.deploy.helm.releases import Release
from conformance.kube.effects import Effect
from conformance.kube.guard import Guard
from conformance.kube.timeouts import Timeouts
from conformance.options import OPTIONS, Setting, Settings
from conformance.progress import SilentProgress
from conformance.session.cluster import OpenCluster, open_cluster

RELEASE = Release("gpu-operator", "gpu-operator", "https://charts.example.com", "v26.7.0", "gpu-operator")
CLUSTERS = """
clusters:
  staging: {mode: full, kubeconfig: kube, registry: registry.example.com, chart: charts}
  mirrored: {mode: full, kubeconfig: kube, context: staging, chart: "oci://mirror.example.com/charts"}
  published: {mode: full, kubeconfig: kube, context: staging}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clusters file, a kubeconfig, charts, and a helm that writes down what it is asked."""
    program = tmp_path / "bin" / "helm"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "if sys.argv[1] in ('status', 'get'): sys.exit('Error: release: not found')\n"
        f"open({str(tmp_path / 'asked')!r}, 'w').write(' '.join(sys.argv[1:]))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clusters.yaml").write_text(CLUSTERS)
    (tmp_path / "charts" / "gpu-operator").mkdir(parents=True)
    (tmp_path / "charts" / "gpu-operator" / "Chart.yaml").touch()
    server = {"clusters": [{"name": "s", "cluster": {"server": "http://127.0.0.1:1"}}], "users": []}
    contexts = [{"name": "staging", "context": {"cluster": "s", "user": "u"}}]
    (tmp_path / "kube").write_text(yaml.safe_dump({**server, "contexts": contexts}))
    return tmp_path


def opened(**chosen: str) -> Any:
    names = (option.ini.removeprefix("gpu_") for option in OPTIONS)
    settings = Settings({name: Setting(chosen.get(name), "option") for name in names})
    return open_cluster(settings, SilentProgress())


def asked(cluster: OpenCluster, folder: Path) -> str:
    """What helm is asked when the release is installed on the cluster."""
    assert isinstance(cluster.installer, HelmInstaller)
    client: Any = SimpleNamespace(guard=Guard(Effect.DISRUPTIVE))
    cluster.installer.install(client, RELEASE, Timeouts())
    return (folder / "asked").read_text()


def test_an_entry_says_where_its_charts_are(folder: Path) -> None:
    assert Path(resolve("staging").chart or "").resolve() == folder / "charts"
    with opened(cluster="staging") as cluster:
        words = asked(cluster, folder)

    assert words.startswith("install gpu-operator ")
    assert words.split()[2].endswith("charts/gpu-operator")
    assert words.endswith("--kube-context staging")
    with opened(cluster="mirrored") as cluster:
        assert "oci://mirror.example.com/charts/gpu-operator --version v26.7.0" in asked(cluster, folder)


def test_the_option_outranks_the_entry(folder: Path) -> None:
    with opened(cluster="staging", chart="https://other.example.com") as cluster:
        assert "--repo https://other.example.com" in asked(cluster, folder)


def test_without_either_charts_come_from_where_nvidia_publishes_them(folder: Path) -> None:
    with opened(cluster="published") as cluster:
        assert "--repo https://charts.example.com --version v26.7.0" in asked(cluster, folder)
