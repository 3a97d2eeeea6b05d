"""A machine without any of the real sources: each test adds the one that it is about."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from release_site import FAKE_GO, HERE, Narrator, Site, executable, served

from conformance.clusters.embedded.binaries.versions import Artefact, artefacts


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No assets, no Go, no network, an empty cache: each test adds what it is about."""
    for name in ("KUBEBUILDER_ASSETS", "GPU_CONFORMANCE_MIRROR", "XDG_CACHE_HOME", "GOFLAGS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("GPU_CONFORMANCE_OFFLINE", "1")
    monkeypatch.setenv("GPU_CONFORMANCE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cache_root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def narrator() -> Narrator:
    return Narrator()


@pytest.fixture
def site() -> Iterator[Site]:
    with served(Site()) as running:
        yield running


@pytest.fixture
def mirror(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site as ``GPU_CONFORMANCE_MIRROR``."""
    monkeypatch.delenv("GPU_CONFORMANCE_OFFLINE")
    monkeypatch.setenv("GPU_CONFORMANCE_MIRROR", site.url)
    return site


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``go`` on PATH that "builds" shell scripts. Gives the file in which it notes its calls."""
    calls = tmp_path / "go-calls"
    calls.touch()
    executable(tmp_path / "path" / "go", f"#!{sys.executable} -I\n{FAKE_GO.read_text()}")
    monkeypatch.setenv("FAKE_GO_CALLS", str(calls))
    return calls


@pytest.fixture
def artefact() -> Callable[..., Artefact]:
    def find(name: str, version: str = "1.36") -> Artefact:
        return artefacts(version, [name], HERE)[0]

    return find
