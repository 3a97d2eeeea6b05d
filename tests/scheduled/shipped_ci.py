"""Where what ci/ has for users is, and what reads it."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.clusters.embedded.binaries import resolve
from conformance.progress import TerminalProgress

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CI = Path(__file__).resolve().parents[2] / "ci"
PIPELINES = CI / "pipelines"
KUSTOMIZE = CI / "in-cluster" / "kustomize"
CHART = CI / "in-cluster" / "chart"
MODES = ("audit", "verify", "full")


def documents(text: str) -> list[dict[str, Any]]:
    return [each for each in yaml.load_all(text, _LOADER) if each]


@cache
def program(name: str) -> Path:
    with TerminalProgress() as progress:
        return resolve("1.36", (name,), progress=progress)[name]


def output(*command: object) -> str:
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@cache
def kustomized(folder: Path) -> list[dict[str, Any]]:
    """What kustomize, of which kubectl has one, makes of a folder."""
    return documents(output(program("kubectl"), "kustomize", folder))


def templated(mode: str, *more: str) -> list[dict[str, Any]]:
    """What Helm makes of the chart in the namespace ``night``."""
    command = ["template", "gpu", CHART, "--namespace", "night", "--kube-version", "1.36.0", "--set", f"mode={mode}"]
    return documents(output(program("helm"), *command, *more))


EVERYTHING = (
    *("--set", "results.volume.enabled=true,results.s3.url=s3://bucket/reports,results.s3.endpoint=http://store"),
    *("--set", "results.s3.secretName=keys,metrics.pushgateway=http://gateway,timeZone=Etc/UTC"),
    *("--set", "image.digest=sha256:" + 64 * "a", "--set", "extraArguments={--gpu-profile=pools}"),
    *("--set", r"reference.reference\.yaml=pools: []", "--set", "waivers=waivers: []"),
    *("--set", "cluster.registry=mirror.example.com", "--set", "imagePullSecrets[0].name=mirror"),
)


def the(kind: str, objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def container(cron_job: dict[str, Any]) -> dict[str, Any]:
    (found,) = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return found


def known_options() -> set[str]:
    from conformance.options import OPTIONS

    return {option.flag for option in OPTIONS}


needs_binaries = pytest.mark.cluster
