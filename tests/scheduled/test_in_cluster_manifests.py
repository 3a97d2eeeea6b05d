"""The CronJob for users, by kustomize and by Helm: the rights of its mode and no more, and what an API server takes."""

import argparse
import subprocess
import sys
from typing import Any

import pytest
import yaml
from shipped_ci import (
    CHART,
    CI,
    EVERYTHING,
    KUSTOMIZE,
    MODES,
    PIPELINES,
    container,
    kustomized,
    output,
    program,
    templated,
    the,
)

from conformance.kube.effects import Mode
from conformance.kube.errors import NotFound
from conformance.options import OPTIONS, Option
from conformance.session.rights import explaining_role, role

sys.path.insert(0, str(CI / "in-cluster" / "image"))

import nightly


def option_of(flag: str) -> Option:
    return next(each for each in OPTIONS if each.flag == flag)


COMPONENTS = sorted(path.name for path in (KUSTOMIZE / "components").iterdir())


@pytest.mark.parametrize("mode", MODES)
def test_the_roles_are_those_that_the_command_prints(mode):
    printed = role(Mode(mode))

    for file in (KUSTOMIZE / "overlays" / mode / "role.yaml", CHART / "files" / f"role-{mode}.yaml"):
        assert yaml.safe_load(file.read_text()) == printed, f"gpu-conformance rbac --mode {mode} > {file}"


def test_the_role_of_explaining_pods_is_the_one_that_the_command_prints_and_the_component_binds_it():
    component = KUSTOMIZE / "components" / "explain-pods"

    for file in (component / "role.yaml", CHART / "files" / "role-explain-pods.yaml"):
        assert yaml.safe_load(file.read_text()) == explaining_role(), f"gpu-conformance rbac --explain-pods > {file}"
    binding = yaml.safe_load((component / "binding.yaml").read_text())
    assert binding["roleRef"]["name"] == explaining_role()["metadata"]["name"]
    assert f"name: {option_of('--gpu-explain-pods').variable}," in (component / "kustomization.yaml").read_text()


@pytest.mark.parametrize("mode", MODES)
def test_an_overlay_names_only_what_is_there(mode):
    folder = KUSTOMIZE / "overlays" / mode
    written = yaml.safe_load((folder / "kustomization.yaml").read_text())

    for each in [*written["resources"], *written["components"]]:
        assert (folder / each).exists(), each
    text = (folder / "kustomization.yaml").read_text()
    assert all(f"../../components/{name}" in text for name in COMPONENTS)
    binding = yaml.safe_load((folder / "binding.yaml").read_text())
    assert binding["roleRef"]["name"] == role(Mode(mode))["metadata"]["name"]


def _arguments(of: dict[str, Any]) -> argparse.Namespace:
    environment = {each["name"]: each.get("value", "") for each in of["env"]}
    return nightly._parser().parse_args([each.replace("$(MODE)", environment.get("MODE", "")) for each in of["args"]])


@pytest.mark.cluster
@pytest.mark.parametrize("mode", MODES)
def test_kustomize_makes_a_job_of_the_mode_with_the_account_of_its_role(mode):
    objects = kustomized(KUSTOMIZE / "overlays" / mode)

    judging = container(the("CronJob", objects))
    assert _arguments(judging).mode == mode
    assert _arguments(judging).configmap == "gpu-conformance-nightly/gpu-conformance-last"
    assert the("ClusterRole", objects)["rules"] == role(Mode(mode))["rules"]
    (subject,) = the("ClusterRoleBinding", objects)["subjects"]
    spec = the("CronJob", objects)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert subject["name"] == spec["serviceAccountName"] == the("ServiceAccount", objects)["metadata"]["name"]
    clusters = yaml.safe_load(the("ConfigMap", objects)["data"]["clusters.yaml"])["clusters"]
    assert _arguments(judging).cluster in clusters
    # The name has a hash of its content, so that a change reaches the next run.
    assert any(
        each.get("configMap", {}).get("name") == the("ConfigMap", objects)["metadata"]["name"]
        for each in spec["volumes"]
    )


@pytest.fixture
def with_every_component(tmp_path):
    """An overlay beside the shipped ones that has all components."""
    import shutil

    copied = tmp_path / "kustomize"
    shutil.copytree(KUSTOMIZE, copied)
    file = copied / "overlays" / "full" / "kustomization.yaml"
    file.write_text(file.read_text().replace("# - ../../components", "- ../../components"))
    return kustomized(file.parent)


@pytest.mark.cluster
def test_every_component_goes_with_every_other(with_every_component):
    job = the("CronJob", with_every_component)
    arguments = _arguments(container(job))

    assert arguments.s3 == "s3://gpu-conformance/reports"
    assert arguments.pushgateway
    assert arguments.configmap
    environment = {each["name"] for each in container(job)["env"]}
    assert option_of("--gpu-explain-pods").variable in environment
    volumes = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
    claim = the("PersistentVolumeClaim", with_every_component)["metadata"]["name"]
    assert next(each for each in volumes if each["name"] == "reports")["persistentVolumeClaim"]["claimName"] == claim


@pytest.mark.cluster
def test_helm_finds_nothing_wrong_with_the_chart():
    assert "0 chart(s) failed" in output(program("helm"), "lint", "--strict", CHART)


@pytest.mark.cluster
def test_the_chart_gives_the_rights_of_explaining_pods_where_it_is_asked_to():
    objects = templated("audit", "--set", "explainPods=true")

    roles = {each["metadata"]["name"]: each for each in objects if each["kind"] == "ClusterRole"}
    (added,) = (name for name in roles if name.endswith("-explain-pods"))
    assert roles[added]["rules"] == explaining_role()["rules"]
    bound = {each["roleRef"]["name"] for each in objects if each["kind"] == "ClusterRoleBinding"}
    assert bound == set(roles)
    environment = {each["name"]: each.get("value") for each in container(the("CronJob", objects))["env"]}
    assert environment[option_of("--gpu-explain-pods").variable] == "true"


@pytest.mark.cluster
@pytest.mark.parametrize("mode", MODES)
def test_the_chart_gives_the_rights_of_the_mode(mode):
    objects = templated(mode)

    assert the("ClusterRole", objects)["rules"] == role(Mode(mode))["rules"]
    arguments = _arguments(container(the("CronJob", objects)))
    assert (arguments.mode, arguments.cluster) == (mode, "this-cluster")
    results = the("Role", objects)["rules"]
    assert {verb for rule in results for verb in rule["verbs"]} == {"get", "patch", "create"}
    assert results[0]["resourceNames"] == [arguments.configmap.partition("/")[2]]


@pytest.mark.cluster
def test_every_value_of_the_chart_reaches_what_runs():
    objects = templated("full", *EVERYTHING)

    judging = container(the("CronJob", objects))
    arguments = _arguments(judging)
    assert (arguments.s3, arguments.pushgateway) == ("s3://bucket/reports", "http://gateway")
    assert arguments.rest == ["--gpu-profile=pools"]
    assert judging["image"].endswith("@sha256:" + 64 * "a")
    (clusters,) = (each["data"] for each in objects if each.get("data", {}).get("clusters.yaml"))
    assert yaml.safe_load(clusters["clusters.yaml"])["clusters"] == {
        "this-cluster": {"context": "in-cluster", "registry": "mirror.example.com"}
    }
    assert not [each for each in templated("audit", "--set", "results.configMap=false") if each["kind"] == "Role"]


@pytest.mark.cluster
@pytest.mark.parametrize("value", ["mode=bold", "results.confgMap=true", "image.digest=latest", "cluster.mode=full"])
def test_the_chart_refuses_what_it_does_not_know(value):
    ended = subprocess.run(
        [str(program("helm")), "template", "gpu", str(CHART), "--kube-version", "1.36.0", "--set", value],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode != 0
    assert value.partition("=")[0].rpartition(".")[2] in ended.stderr


def _plugin() -> dict[str, Any]:
    """The pod that Sonobuoy makes of the plugin, with the volume that it adds."""
    plugin = yaml.safe_load((CI / "sonobuoy" / "gpu-conformance.yaml").read_text())
    spec = {**plugin["podSpec"], "containers": [plugin["spec"]]}
    spec["volumes"] = [*spec["volumes"], {"name": "results", "emptyDir": {}}]
    # Its account is made by Sonobuoy.
    spec["serviceAccountName"] = "default"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plugin", "namespace": "default"}, "spec": spec}


def _dry(cluster: Any, objects: list[dict[str, Any]]) -> None:
    """Every object as the API server would take it; objects of foreign kinds have no reader here."""
    spaces = {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}
    for obj in objects:
        place = cluster.client.path_of(obj)
        # A namespace that is not there yet has room for nothing: ask in one that is.
        asked = {**obj, "metadata": {**obj["metadata"]}}
        if asked["metadata"].get("namespace") and f"/namespaces/{asked['metadata']['namespace']}/" in place:
            asked["metadata"]["namespace"] = "default"
        cluster.client.request(
            "PATCH",
            cluster.client.path_of(asked),
            query={"fieldManager": "tests", "dryRun": "All", "fieldValidation": "Strict", "force": "true"},
            body=asked,
            content_type="application/apply-patch+yaml",
        )
        with pytest.raises(NotFound):
            cluster.client.get(cluster.client.path_of(asked))
    assert spaces <= {"gpu-conformance-nightly"}


@pytest.mark.cluster
def test_an_api_server_takes_every_manifest(cluster, with_every_component):
    for mode in MODES:
        _dry(cluster, kustomized(KUSTOMIZE / "overlays" / mode))
        _dry(cluster, templated(mode))
    _dry(cluster, with_every_component)
    _dry(cluster, templated("full", *EVERYTHING))
    _dry(cluster, [_plugin()])
    core = [each for each in kustomized(PIPELINES / "tekton") if "tekton.dev" not in each["apiVersion"]]
    _dry(
        cluster,
        [
            {**each, "metadata": {**each["metadata"], "namespace": "default"}}
            for each in core
            if each["kind"] != "RoleBinding"
        ],
    )


@pytest.mark.cluster
def test_the_pods_obey_the_restricted_pod_security_standard(cluster):
    """A dry run in a namespace that enforces it: what admission refuses, it refuses there."""
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "restricted-dry", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    jobs = [the("CronJob", kustomized(KUSTOMIZE / "overlays" / "full")), the("CronJob", templated("full", *EVERYTHING))]
    cluster.client.apply(space, manager="tests")
    try:
        for job in jobs:
            spec = {**job["spec"]["jobTemplate"]["spec"]["template"]["spec"], "serviceAccountName": "default"}
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "pod", "namespace": "restricted-dry"},
                "spec": spec,
            }
            spec.pop("imagePullSecrets", None)
            spec["automountServiceAccountToken"] = False
            cluster.client.apply(pod, manager="tests", dry_run=True)
    finally:
        cluster.client.delete("/api/v1/namespaces/restricted-dry")
