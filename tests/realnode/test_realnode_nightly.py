"""The shipped CronJob runs in a real container: its manifests, its image and program, its rights, and what it keeps."""

import base64
import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nightly_image
import pytest
import two_gpus
import yaml
from patience import PATIENCE
from real_containers import kubelet_of
from two_gpus import NODE

from conformance.clusters.embedded.binaries import resolve
from conformance.clusters.embedded.real import settings
from conformance.kube.client import Client
from conformance.kube.waits import wait_for
from conformance.progress import TerminalProgress

pytestmark = pytest.mark.cluster

KUSTOMIZE = nightly_image.CHECKOUT / "ci" / "in-cluster" / "kustomize"
SPACE = "gpu-conformance-nightly"
# It starts Python four times from files that nobody has compiled yet.
RUN = 3 * PATIENCE
# An overlay of users: where its pod may run. The only node here that runs containers has GPUs.
OVERLAY = f"""
resources: [../overlays/audit]
patches:
  - target: {{kind: CronJob}}
    patch: |
      - op: add
        path: /spec/jobTemplate/spec/template/spec/nodeSelector
        value: {{kubernetes.io/hostname: {NODE}}}
      - op: add
        path: /spec/jobTemplate/spec/template/spec/tolerations
        value: [{{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}}]
"""


@dataclass(frozen=True)
class Night:
    """A cluster in which the CronJob is installed."""

    client: Client
    kubectl: tuple[str, ...]

    def asked(self, *arguments: object) -> str:
        """What kubectl says to its administrator."""
        ended = subprocess.run(
            [*self.kubectl, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def give(self, what: str, file: Path) -> None:
        """The ConfigMap with a set-up or waivers, which the manifests name."""
        self.asked("create", "configmap", "-n", SPACE, f"gpu-conformance-{what}", f"--from-file={file}")

    def run(self, name: str) -> tuple[int, str]:
        """One run, started as its README says: the exit code of its container, and what it printed."""
        self.asked("create", "job", "-n", SPACE, "--from=cronjob/gpu-conformance", name)
        path = f"/api/v1/namespaces/{SPACE}/pods"

        def pods() -> list[dict[str, Any]]:
            return self.client.list(path, label_selector=f"job-name={name}")

        (pod,) = wait_for(pods, _ended, what=f"Job {name} has ended", timeout=RUN)
        (container,) = pod["status"]["containerStatuses"]
        said = self.client.request("GET", f"{path}/{pod['metadata']['name']}/log").decode()
        return container["state"]["terminated"]["exitCode"], said

    def kept(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The report that the last run left in its ConfigMap, and the texts beside it."""
        kept = self.client.get(f"/api/v1/namespaces/{SPACE}/configmaps/gpu-conformance-last")
        packed = base64.b64decode(kept["binaryData"]["report.json.gz"])
        return json.loads(gzip.decompress(packed)), kept["data"]


def _ended(pods: list[dict[str, Any]]) -> bool:
    return len(pods) == 1 and pods[0]["status"]["phase"] in ("Succeeded", "Failed")


@pytest.fixture(scope="module")
def night(
    gpu_machine: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("night")
    with two_gpus.deployed(folder, request.config) as running, running.client() as client:
        with TerminalProgress() as progress:
            kubectl = resolve("1.36", ("kubectl",), progress=progress)["kubectl"]
        found = Night(client, (str(kubectl), "--kubeconfig", str(running.kubeconfig)))
        _bring_image(folder)
        _install(found, folder)
        yield found


def _bring_image(folder: Path) -> None:
    """Put the image onto the node, as whoever has no registry does. Its name is the one in the manifests."""
    (shipped,) = yaml.safe_load((KUSTOMIZE / "base" / "kustomization.yaml").read_text())["images"]
    archive = nightly_image.build(folder, f"{shipped['newName']}:{shipped['newTag']}")
    inside = ["nsenter", "--target", str(kubelet_of(NODE)), "--mount", "--net"]
    ctr = ["ctr", "--address", str(settings.SOCKET), "--namespace", "k8s.io", "images", "import", "-"]
    with archive.open("rb") as content:
        brought = subprocess.run([*inside, *ctr], stdin=content, capture_output=True, text=True, check=False)
    assert brought.returncode == 0, brought.stderr
    archive.unlink()


def _install(night: Night, folder: Path) -> None:
    copied = folder / "kustomize"
    shutil.copytree(KUSTOMIZE, copied)
    (copied / "here").mkdir()
    (copied / "here" / "kustomization.yaml").write_text(OVERLAY)
    night.asked("apply", "-k", copied / "here")
    night.give("reference", folder / "reference" / "reference.yaml")


def _broken(report: dict[str, Any], status: str) -> dict[str, set[str]]:
    """The requirements that ended with a status, each with the names of what is broken."""
    return {
        each["requirement"]: {one.get("name", "") for group in each["findings"] for one in group["subjects"]}
        for each in report["requirements"]
        if each["status"] == status
    }


def _pod_of(job: str, names: set[str]) -> bool:
    return len(names) == 1 and names.pop().startswith(f"{job}-")


WAIVER = """
waivers:
  - {{requirement: POOL-09, subject: 'pod gpu-conformance-nightly/*', owner: ops, reason: only node, expires: {day}}}
"""


def test_a_night_is_judged_and_kept_and_the_next_one_compared_with_it(night: Night, tmp_path: Path) -> None:
    """Its own pod is an ordinary one on a GPU node, as the audit says; in the second night the owners waive that."""
    code, said = night.run("first")

    assert code == 1, said
    report, texts = night.kept()
    assert (report["exitCode"], report["run"]["mode"], report["baseline"]) == (1, "audit", None)
    assert report["cluster"]["uid"] == night.client.get("/api/v1/namespaces/kube-system")["metadata"]["uid"]
    assert {each["name"]: each["nodes"] for each in report["fleet"]} == {"t4": [NODE], "cpu": ["cpu-1"]}
    assert {each["status"] for each in report["requirements"]} <= {
        "passed", "failed", "not-applicable", "unsupported", "not-run"
    }  # fmt: skip
    failed = _broken(report, "failed")
    assert set(failed) == {"POOL-09"}, said
    assert _pod_of("first", failed["POOL-09"])
    assert {"POOL-01", "POOL-04"} <= set(_broken(report, "passed"))
    assert "POOL-09" in texts["summary.md"]
    assert "left-out" not in texts

    waivers = tmp_path / "waivers.yaml"
    waivers.write_text(WAIVER.format(day=(datetime.now(UTC) + timedelta(days=7)).date()))
    night.give("waivers", waivers)
    code, said = night.run("second")

    assert code == 0, said
    report, _ = night.kept()
    assert report["exitCode"] == 0
    assert report["baseline"] is not None
    assert _pod_of("second", _broken(report, "waived")["POOL-09"])
