"""The catalogue and the pinned modules say the same."""

import re

import pytest

from conformance.clusters.embedded.binaries import building
from conformance.clusters.embedded.binaries.failures import UnknownVersion
from conformance.clusters.embedded.binaries.versions import (
    COMPONENTS,
    DEFAULT_MINOR,
    KUBERNETES_PINS,
    Platform,
    artefacts,
    release,
)

LINUX = Platform("linux", "amd64")
REQUIRED = {
    "etcd": r"go\.etcd\.io/etcd/server/v3 v(\S+)",
    "kubernetes": r"k8s\.io/kubernetes v(\S+)",
    "containerd": r"github\.com/containerd/containerd/v2 v(\S+)",
    "helm": r"helm\.sh/helm/v3 v(\S+)",
    "kwok": r"sigs\.k8s\.io/kwok v(\S+)",
    "kind": r"sigs\.k8s\.io/kind v(\S+)",
    "cri-tools": r"sigs\.k8s\.io/cri-tools v(\S+)",
}


@pytest.mark.parametrize("asked", ["1.36", "1.36.3", "v1.36.3", "v1.36"])
def test_a_minor_and_its_exact_pin_mean_the_same_release(asked):
    assert release(asked) == "1.36.3"


def test_another_patch_of_a_pinned_minor_is_refused_and_the_pin_is_named():
    with pytest.raises(
        UnknownVersion, match=r"No embedded Kubernetes '1\.36\.1'.*1\.34 \(1\.34\.4\).*Did you mean 1\.36\.3\?"
    ):
        release("1.36.1")


def test_an_unknown_minor_is_refused_with_what_there_is():
    with pytest.raises(UnknownVersion, match=r"'1\.29'\. There is: 1\.34"):
        release("1.29")


def test_the_default_is_one_of_the_pins():
    assert DEFAULT_MINOR in KUBERNETES_PINS


def test_a_name_that_is_no_program_is_refused_with_the_catalogue():
    with pytest.raises(ValueError, match="no such program: kube-dns; the catalogue has etcd, kube-apiserver"):
        artefacts("1.36", ["kube-dns"], LINUX)


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("minor", KUBERNETES_PINS)
def test_every_program_is_pinned_by_its_module_in_the_version_of_the_catalogue(minor, name):
    (artefact,) = artefacts(minor, [name], LINUX)
    go_mod = (building.module_folder(artefact) / "go.mod").read_text()

    assert re.search(REQUIRED[artefact.family], go_mod)[1] == artefact.version
    assert artefact.component.package in go_mod


@pytest.mark.parametrize("minor", KUBERNETES_PINS)
def test_every_staging_module_follows_the_kubernetes_release(minor):
    (artefact,) = artefacts(minor, ["kube-apiserver"], LINUX)
    go_mod = (building.module_folder(artefact) / "go.mod").read_text()
    replaced = re.findall(r"^\s+(k8s\.io/\S+) => (\S+) v(\S+)$", go_mod, flags=re.MULTILINE)

    assert len(replaced) >= 31
    assert all(old == new and version == f"0{artefact.version[1:]}" for old, new, version in replaced)


@pytest.mark.parametrize("minor", KUBERNETES_PINS)
def test_a_module_runs_with_the_go_defaults_of_its_kubernetes(minor):
    (artefact,) = artefacts(minor, ["kube-apiserver"], LINUX)
    go_mod = (building.module_folder(artefact) / "go.mod").read_text()

    # A dependency's godebug line is ignored, so the main module has to repeat it.
    go_minor = ".".join(building.go_needed(artefact).split(".")[:2])
    assert f"\ngodebug default=go{go_minor}\n" in go_mod


@pytest.mark.parametrize("folder", sorted(path.name for path in building.MODULES.iterdir()))
def test_every_module_has_checksums_for_what_it_requires(folder):
    go_mod = (building.MODULES / folder / "go.mod").read_text()
    go_sum = (building.MODULES / folder / "go.sum").read_text()
    required = set(re.findall(r"^\s+(\S+) (v\S+) // indirect$", go_mod, flags=re.MULTILINE))

    assert required
    own = {(name, version) for name, version in required if not name.startswith("k8s.io/") or version != "v0.0.0"}
    assert not [f"{name} {version}" for name, version in own if f"{name} {version}/go.mod h1:" not in go_sum]
