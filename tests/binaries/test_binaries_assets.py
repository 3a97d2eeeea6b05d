"""Binaries that a user has already."""

import pytest
from release_site import executable, program

from conformance.clusters.embedded.binaries import assets, resolve
from conformance.clusters.embedded.binaries.failures import AssetsRefused, BinariesUnavailable


def test_a_named_folder_with_everything_is_enough(tmp_path):
    assets = tmp_path / "assets"
    executable(assets / "etcd", program("etcd Version: 3.6.4"))
    executable(assets / "kube-apiserver", program("Kubernetes v1.36.0"))

    found = resolve("1.36", ["etcd", "kube-apiserver"], assets=assets)

    assert found == {"etcd": assets / "etcd", "kube-apiserver": assets / "kube-apiserver"}


def test_a_folder_of_the_environment_is_used_like_a_named_one(tmp_path, monkeypatch):
    executable(tmp_path / "assets" / "kubectl", program("Client Version: v1.35.4\nKustomize Version: v5.8.1"))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))

    assert resolve("1.35", ["kubectl"])["kubectl"] == tmp_path / "assets" / "kubectl"


def test_another_minor_in_a_named_folder_is_an_error_that_names_both(tmp_path):
    executable(tmp_path / "assets" / "kube-apiserver", program("Kubernetes v1.35.2"))

    with pytest.raises(
        AssetsRefused, match=r"assets cannot be used: kube-apiserver is 1\.35\.2, Kubernetes 1\.36 is wanted\. Put"
    ):
        resolve("1.36", ["kube-apiserver"], assets=tmp_path / "assets")


def test_an_etcd_that_is_too_old_is_refused(tmp_path):
    executable(tmp_path / "assets" / "etcd", program("etcd Version: 3.4.30"))

    with pytest.raises(AssetsRefused, match=r"etcd is 3\.4\.30, etcd 3\.6 or newer is wanted"):
        resolve("1.36", ["etcd"], assets=tmp_path / "assets")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\nexit 3\n", "does not run here"),
        (program("hello"), "says no version"),
        ("\x7fELF", "does not run here"),
    ],
)
def test_a_program_that_cannot_say_its_version_is_refused(tmp_path, text, reason):
    executable(tmp_path / "assets" / "etcd", text)

    with pytest.raises(AssetsRefused, match=f"etcd {reason}"):
        resolve("1.36", ["etcd"], assets=tmp_path / "assets")


def test_a_program_without_the_execute_bit_is_refused(tmp_path):
    executable(tmp_path / "assets" / "etcd", program("etcd Version: 3.6.4")).chmod(0o644)

    with pytest.raises(AssetsRefused, match="etcd is not executable"):
        resolve("1.36", ["etcd"], assets=tmp_path / "assets")


def test_a_named_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(AssetsRefused, match="nowhere cannot be used: there is no such folder"):
        resolve("1.36", ["etcd"], assets=tmp_path / "nowhere")


def test_another_minor_in_the_environment_is_a_warning_and_the_next_source_is_asked(
    tmp_path, monkeypatch, mirror, narrator
):
    executable(tmp_path / "assets" / "kube-apiserver", program("Kubernetes v1.33.1"))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    published = mirror.publish_kubernetes("1.36.3", "kube-apiserver")

    found = resolve("1.36", ["kube-apiserver"], progress=narrator)

    assert found["kube-apiserver"].read_bytes() == published
    assert "kube-apiserver is 1.33.1, Kubernetes 1.36 is wanted; it is not used" in narrator.warnings[0]


def test_what_a_folder_lacks_comes_from_elsewhere(tmp_path, mirror):
    executable(tmp_path / "assets" / "kube-apiserver", program("Kubernetes v1.36.3"))
    mirror.publish_kubernetes("1.36.3", "kube-scheduler")

    found = resolve("1.36", ["kube-apiserver", "kube-scheduler"], assets=tmp_path / "assets")

    assert found["kube-apiserver"].parent == tmp_path / "assets"
    assert found["kube-scheduler"].is_relative_to(tmp_path / "cache")


def test_the_option_is_stronger_than_the_environment(tmp_path, monkeypatch):
    executable(tmp_path / "option" / "etcd", program("etcd Version: 3.6.4"))
    executable(tmp_path / "environment" / "etcd", program("etcd Version: 3.6.4"))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "environment"))

    assert resolve("1.36", ["etcd"], assets=tmp_path / "option")["etcd"] == tmp_path / "option" / "etcd"


def test_what_a_folder_lacks_is_said_when_nothing_else_has_it(tmp_path):
    (tmp_path / "assets").mkdir()

    with pytest.raises(BinariesUnavailable, match=r"assets folder +.*/assets has no etcd"):
        resolve("1.36", ["etcd"], assets=tmp_path / "assets")


def test_programs_are_put_into_a_folder_that_is_an_assets_folder_then(tmp_path):
    program_here = executable(tmp_path / "cache" / "containerd", program("containerd 2.2.9"))

    made = assets.put({"containerd": program_here}, tmp_path / "assets")

    assert made == {"containerd": tmp_path / "assets" / "containerd"}
    assert resolve("1.36", ["containerd"], assets=tmp_path / "assets") == made
    assert [each.name for each in (tmp_path / "assets").iterdir()] == ["containerd"]
