"""Installing a stack with Helm: what helm is asked, whom nobody overwrites, and what is undone."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from conformance.deploy import deploy, withdraw
from conformance.deploy.helm.charts import Helm, HelmInstaller, chart_source
from conformance.deploy.helm.releases import Installed, Marks, Release, releases
from conformance.deploy.installing import InstallError, StackPresent
from conformance.deploy.node_marks import NodeRecords
from conformance.kube.effects import Effect
from conformance.kube.errors import EffectRefused
from conformance.kube.guard import Guard
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import wait_for
from conformance.reference.model import Reference
from conformance.reference.stack import DraDriver, PluginConfigs, Stack

LIMITS = Timeouts(stack=0.05, running=0.05, deleted=0.2, namespace_deleted=0.2)
RELEASE = Release("gpu-operator", "gpu-operator", "https://charts.example.com", "v26.7.0", "gpu-operator", {"a": 1})
OURS = RELEASE.bearing("abc1")
INSTALLED = Installed.of(RELEASE, "abc1")
PACKAGES = str(Path(yaml.__file__).parents[1])
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

# Remembers its arguments and the values that it was given; knows which releases it has installed. Tests start it often,
# so it imports only what it needs.
_FAKE = """#!{python} -IS
import json, os, sys
arguments = sys.argv[1:]
values = None
if "--values" in arguments:
    file = arguments[arguments.index("--values") + 1]
    values = (sys.stdin if file == "-" else open(file)).read()
os.chdir({folder!r})
with open("calls", "a") as calls:
    calls.write(json.dumps([arguments, values]) + "\\n")
verb = arguments[0]
fails = f"fails-{{verb}}"
if os.path.exists(fails) and not ("--no-hooks" in arguments and os.path.exists("hooks-fail")):
    print(open(fails).read(), file=sys.stderr)
    if os.path.exists("goes-all-the-same"):
        os.unlink(f"release-{{arguments[1]}}")
    sys.exit(1)
name = [each for each in arguments[1:] if not each.startswith("-")][verb == "get"]
there = f"release-{{name}}"
if verb == "get":
    if not os.path.exists(there):
        print("Error: release: not found", file=sys.stderr)
        sys.exit(1)
    sys.path.append({packages!r})
    import yaml
    print(json.dumps(yaml.safe_load(open(there))))
if verb in ("install", "upgrade"):
    open(there, "w").write(values)
if verb == "uninstall":
    os.unlink(there)
"""


class FakeHelm:
    """The folder of a fake helm program, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def calls(self) -> list[list[str]]:
        return [call for call, _ in self._lines()]

    @property
    def values(self) -> list[dict[str, Any]]:
        return [yaml.safe_load(values) for _, values in self._lines() if values]

    def calls_of(self, verb: str) -> list[list[str]]:
        return [call for call in self.calls if call[0] == verb]

    def fails(self, verb: str, words: str) -> None:
        (self.folder / f"fails-{verb}").write_text(words)

    def hooks_fail(self) -> None:
        """Removing a release fails as long as its hooks run."""
        self.fails("uninstall", "Error: failed pre-delete: timed out waiting for the condition")
        (self.folder / "hooks-fail").touch()

    def has(self, name: str, values: dict[str, Any] | None = None) -> None:
        """A release of that name is there, of somebody else unless the values say otherwise."""
        (self.folder / f"release-{name}").write_text(yaml.safe_dump(values))

    def releases(self) -> list[str]:
        return sorted(each.name.removeprefix("release-") for each in self.folder.glob("release-*"))

    def _lines(self) -> list[tuple[list[str], str | None]]:
        file = self.folder / "calls"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []  # type: ignore[misc]


@pytest.fixture
def helm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHelm:
    _on_path(_FAKE.format(python=sys.executable, packages=PACKAGES, folder=str(tmp_path)), tmp_path, monkeypatch)
    return FakeHelm(tmp_path)


def _on_path(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the program that is found as helm."""
    programs = folder / "bin"
    programs.mkdir()
    program = programs / "helm"
    program.write_text(text)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def client(memory: Any) -> Any:
    memory.guard = Guard(Effect.DISRUPTIVE)
    return memory


@pytest.fixture
def reference() -> Reference:
    configs = PluginConfigs("plugin-configs", {"plain": {"version": "v1"}}, "plain")
    return Reference("mine", stack=Stack("gpu-operator", plugin_configs=configs, dra=DraDriver(version="0.4.1")))


def installer(**settings: Any) -> HelmInstaller:
    return HelmInstaller(Helm(Path("/etc/kube"), "staging"), **settings)


def test_helm_is_given_the_chart_its_version_the_values_and_the_cluster(client: Any, helm: FakeHelm) -> None:
    installer().install(client, RELEASE, Timeouts(stack=600))

    (call,) = helm.calls_of("install")
    assert call[:6] == ["install", "gpu-operator", "gpu-operator", "--repo", "https://charts.example.com", "--version"]
    assert call[6] == "v26.7.0"
    assert call[call.index("--namespace") + 1] == "gpu-operator"
    assert "--create-namespace" in call
    assert call[call.index("--wait") :][:3] == ["--wait", "--timeout", "600s"]
    assert call[-4:] == ["--kubeconfig", "/etc/kube", "--kube-context", "staging"]
    assert helm.values == [{"a": 1}]


# Says its process id once it is installing, and goes on for longer than any test; says no release is there.
_SLOW = """#!{python}
import os, pathlib, sys, time
if sys.argv[1] == "get":
    sys.exit("Error: release: not found")
started = pathlib.Path({folder!r}, "started")
started.with_suffix(".new").write_text(str(os.getpid()))
started.with_suffix(".new").rename(started)
time.sleep(600)
"""
_INSTALLING = """
from types import SimpleNamespace
from conformance.deploy.helm.charts import Helm, HelmInstaller
from conformance.deploy.helm.releases import Release
from conformance.kube.effects import Effect
from conformance.kube.guard import Guard
from conformance.kube.timeouts import Timeouts

release = Release("gpu-operator", "gpu-operator", "https://charts.example.com", "v26.7.0", "gpu-operator", {"a": 1})
HelmInstaller(Helm()).install(SimpleNamespace(guard=Guard(Effect.DISRUPTIVE)), release, Timeouts(stack=600))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot be made to end with its parent")
def test_a_run_that_is_killed_while_helm_installs_leaves_neither_helm_nor_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _on_path(_SLOW.format(python=sys.executable, folder=str(tmp_path)), tmp_path, monkeypatch)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    run = subprocess.Popen([sys.executable, "-c", _INSTALLING], stderr=subprocess.DEVNULL)
    started = tmp_path / "started"
    try:
        wait_for(started.exists, bool, what="helm installs", timeout=90)
    finally:
        run.kill()
        run.wait()

    process = int(started.read_text())
    try:
        wait_for(lambda: _runs(process), lambda runs: not runs, what="helm has ended with the run", timeout=90)
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    assert list(temporary.iterdir()) == []


def _runs(process: int) -> bool:
    """Whether a process is at work; one that has ended and that nobody has waited for is not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "XZ"


def test_a_failure_shows_what_helm_said(client: Any, helm: FakeHelm) -> None:
    helm.fails("install", "Error: INSTALLATION FAILED: timed out waiting for the condition")

    with pytest.raises(
        InstallError, match=r"(?s)installing Helm release gpu-operator/gpu-operator .*timed out waiting"
    ):
        installer().install(client, RELEASE, LIMITS)


def test_without_helm_the_error_says_what_to_do(client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InstallError, match=r"helm is not on PATH.*Install Helm.*gpu-conformance values"):
        installer().install(client, RELEASE, LIMITS)
    command = "helm uninstall gpu-operator --namespace gpu-operator --kubeconfig /etc/kube --kube-context staging"
    with pytest.raises(InstallError, match=command):
        installer().uninstall(client, INSTALLED, LIMITS)


def test_a_release_of_somebody_else_is_not_touched(client: Any, helm: FakeHelm) -> None:
    helm.has("gpu-operator", {"global": {"gpuConformance": "another"}})

    with pytest.raises(StackPresent, match="gpu-operator is in namespace gpu-operator already, and it is not ours"):
        installer().install(client, RELEASE, LIMITS)

    assert helm.calls_of("install") == []


def test_our_own_release_is_upgraded(client: Any, helm: FakeHelm) -> None:
    installer().install(client, OURS, LIMITS)
    installer().install(client, OURS, LIMITS, replace=True)

    assert helm.calls_of("upgrade")[0][:4] == ["upgrade", "--install", "gpu-operator", "gpu-operator"]


@pytest.mark.parametrize("release", [OURS, RELEASE])
def test_a_release_of_somebody_else_under_our_name_is_not_upgraded(
    client: Any, helm: FakeHelm, release: Release
) -> None:
    helm.has("gpu-operator")

    with pytest.raises(StackPresent, match="it is not ours"):
        installer().install(client, release, LIMITS, replace=True)

    assert helm.calls_of("upgrade") == []


@pytest.mark.parametrize("limit", [Effect.READS, Effect.PATCHES_NODES])
def test_helm_may_not_do_what_the_guard_forbids(client: Any, helm: FakeHelm, limit: Effect) -> None:
    client.guard = Guard(limit)

    with pytest.raises(EffectRefused):
        installer().install(client, RELEASE, LIMITS)
    with pytest.raises(EffectRefused):
        installer().uninstall(client, INSTALLED, LIMITS)

    assert helm.calls == []


def test_another_registry_and_its_secret_reach_every_component(client: Any, helm: FakeHelm) -> None:
    client.add(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "pull", "namespace": "infra"},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": "e30="},
        }
    )
    created = []
    client.create = lambda place, obj: created.append((place, obj))

    installer(registry="registry.example.com", pull_secret="infra/pull").install(client, RELEASE, LIMITS)

    (values,) = helm.values
    assert values["toolkit"] == {"repository": "registry.example.com/nvidia/k8s", "imagePullSecrets": ["pull"]}
    assert values["a"] == 1
    ((place, copy),) = created
    assert place == "/api/v1/namespaces/gpu-operator/secrets"
    assert (copy["metadata"]["name"], copy["data"]) == ("pull", {".dockerconfigjson": "e30="})


def test_a_pull_secret_that_is_not_there_is_named(client: Any, helm: FakeHelm) -> None:
    with pytest.raises(InstallError, match="pull secret infra/pull cannot be read"):
        installer(pull_secret="infra/pull").install(client, RELEASE, LIMITS)


def _a_chart_folder(folder: Path) -> None:
    (folder / "gpu-operator").mkdir()
    (folder / "gpu-operator" / "Chart.yaml").touch()


def _an_archive(folder: Path) -> None:
    (folder / "gpu-operator-v26.7.0.tgz").touch()


@pytest.mark.parametrize(
    ("fill", "inside"), [(_a_chart_folder, "gpu-operator"), (_an_archive, "gpu-operator-v26.7.0.tgz")]
)
def test_charts_on_disk_need_no_repository(tmp_path: Path, fill: Callable[[Path], None], inside: str) -> None:
    fill(tmp_path)

    assert chart_source(RELEASE, str(tmp_path)) == [str(tmp_path / inside)]
    assert chart_source(RELEASE, str(tmp_path / inside)) == [str(tmp_path / inside)]


def test_charts_may_come_from_a_mirror(tmp_path: Path) -> None:
    version = ["--version", "v26.7.0"]
    assert chart_source(RELEASE, "https://mirror.example.com/") == [
        "gpu-operator",
        "--repo",
        "https://mirror.example.com",
        *version,
    ]
    assert chart_source(RELEASE, "oci://mirror.example.com/charts") == [
        "oci://mirror.example.com/charts/gpu-operator",
        *version,
    ]
    with pytest.raises(InstallError, match=r"has no chart gpu-operator v26\.7\.0"):
        chart_source(RELEASE, str(tmp_path))


def test_deploying_installs_after_the_configurations_and_withdrawing_takes_all_of_it_back(
    client: Any, helm: FakeHelm, reference: Reference
) -> None:
    before = dict(client.objects)

    deployed = deploy(client, reference, timeouts=LIMITS, installer=installer())

    assert [call[1] for call in helm.calls_of("install")] == ["gpu-operator", "dra-driver-nvidia-gpu"]
    assert len(deployed.releases) == 2
    configs = client.get("/api/v1/namespaces/gpu-operator/configmaps/plugin-configs")
    assert yaml.safe_load(configs["data"]["plain"]) == {"version": "v1"}
    record = client.get("/api/v1/namespaces/gpu-operator/configmaps/gpu-conformance-release-gpu-operator")
    assert json.loads(record["data"]["release.json"])["version"] == "v26.7.0"

    withdraw(client, reference, _Written(client, reference), timeouts=LIMITS, installer=installer())

    assert [call[1] for call in helm.calls_of("uninstall")] == ["dra-driver-nvidia-gpu", "gpu-operator"]
    assert client.objects == before


class _Remembered(NodeRecords):
    """The records of a deployed set-up; a cluster in memory lists one namespace at a time."""

    def __init__(self, client: Any, reference: Reference) -> None:
        super().__init__(client)
        self._releases = [Installed.of(each, "abc1") for each in releases(reference)]

    @property
    def installed(self) -> list[Installed]:
        return self._releases


class _Written(_Remembered):
    """The records that deploying wrote."""

    def __init__(self, client: Any, reference: Reference) -> None:
        super().__init__(client, reference)
        self._releases = [recorded(client, each.name, each.namespace) for each in releases(reference)]


def recorded(client: Any, name: str, namespace: str = "gpu-operator") -> Installed:
    record = client.get(f"/api/v1/namespaces/{namespace}/configmaps/gpu-conformance-release-{name}")
    return msgspec.json.decode(record["data"]["release.json"], type=Installed)


def test_a_failure_leaves_the_record_by_which_it_can_be_taken_back(
    client: Any, helm: FakeHelm, reference: Reference
) -> None:
    helm.fails("install", "Error: no such chart")

    with pytest.raises(InstallError, match="no such chart"):
        deploy(client, reference, timeouts=LIMITS, installer=installer())

    assert "/api/v1/namespaces/gpu-operator/configmaps/gpu-conformance-release-gpu-operator" in client.objects


@pytest.mark.parametrize(
    "theirs",
    [
        {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "gpu-cluster-policy"}},
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "nvidia-gpu-device-plugin", "namespace": "kube-system"},
            "spec": {"template": {"spec": {"containers": [{"name": "nvidia-gpu-device-plugin"}]}}},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "gpu-operator", "namespace": "nvidia"},
            "spec": {},
        },
    ],
)
def test_a_stack_that_is_there_is_left_alone_and_named(
    client: Any, helm: FakeHelm, reference: Reference, theirs: dict[str, Any]
) -> None:
    _everywhere(client)
    client.add(theirs)

    deployed = deploy(client, reference, timeouts=LIMITS, installer=installer())

    assert theirs["metadata"]["name"] in deployed.left_alone
    assert deployed.notes == [deployed.left_alone]
    assert helm.calls == []
    assert "/api/v1/namespaces/gpu-operator" not in client.objects


def test_gpus_that_the_image_of_a_node_offers_are_an_allocator_too(
    client: Any, helm: FakeHelm, reference: Reference
) -> None:
    client.node("n", "pool")
    client.objects["/api/v1/nodes/n"]["status"] = {"allocatable": {"nvidia.com/gpu": "4"}}

    deployed = deploy(client, reference, timeouts=LIMITS, installer=installer())

    assert "a device plugin of the image of node n" in deployed.left_alone
    assert helm.calls == []


def test_without_an_installer_the_stack_is_left_to_others(client: Any, helm: FakeHelm, reference: Reference) -> None:
    deployed = deploy(client, reference, timeouts=LIMITS)

    assert (deployed.releases, deployed.created, helm.calls) == ((), (), [])


def _definition(name: str, group: str) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{name}.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {"plural": name, "kind": name.title()},
            "versions": [{"name": "v1", "served": True}],
        },
    }


def test_only_definitions_that_came_along_and_have_no_objects_go(client: Any, helm: FakeHelm) -> None:
    for name, group in (("clusterpolicies", "nvidia.com"), ("used", "nvidia.com"), ("theirs", "example.com")):
        client.add(_definition(name, group))
    client.objects["/apis/nvidia.com/v1/used/one"] = {"metadata": {"name": "one"}}
    reference = Reference("mine", stack=Stack("gpu-operator"))
    journal = _Remembered(client, reference)
    helm.has("gpu-operator", OURS.values)

    withdrawn = withdraw(client, reference, journal, timeouts=LIMITS, installer=installer())

    assert f"{DEFINITIONS}/clusterpolicies.nvidia.com" not in client.objects
    assert f"{DEFINITIONS}/used.nvidia.com" in client.objects
    assert f"{DEFINITIONS}/theirs.example.com" in client.objects
    assert any("CRD used.nvidia.com: 1 objects of it are left" in words for words in withdrawn.left)


def test_what_the_operator_made_outside_its_namespace_goes(client: Any, helm: FakeHelm) -> None:
    client.add(_definition("clusterpolicies", "nvidia.com"))
    owners = {
        "nvidia": [{"kind": "Clusterpolicies", "apiVersion": "nvidia.com/v1"}],
        "namesake": [{"kind": "Clusterpolicies", "apiVersion": "example.com/v1"}],
        "theirs": [],
    }
    for name, references in owners.items():
        metadata = {"name": name, "ownerReferences": references}
        client.add({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": metadata})
    reference = Reference("mine", stack=Stack("gpu-operator"))
    helm.has("gpu-operator", OURS.values)

    withdrawn = withdraw(client, reference, _Remembered(client, reference), timeouts=LIMITS, installer=installer())

    left = [obj["metadata"]["name"] for place, obj in client.objects.items() if "/runtimeclasses/" in place]
    assert left == ["namesake", "theirs"]
    assert withdrawn.left == ()


def test_what_was_there_before_the_stack_stays(client: Any, helm: FakeHelm) -> None:
    client.add(_definition("clusterpolicies", "nvidia.com"))
    client.node("n", "pool", labels={"nvidia.com/gpu.present": "true"})
    reference = Reference("mine", stack=Stack("gpu-operator"))
    journal = _Remembered(client, reference)
    before = ("clusterpolicies.nvidia.com",)
    journal._releases = [msgspec.structs.replace(journal.installed[0], definitions=before, marked=True)]

    withdraw(client, reference, journal, timeouts=LIMITS, installer=installer())

    assert f"{DEFINITIONS}/clusterpolicies.nvidia.com" in client.objects
    assert client.get("/api/v1/nodes/n")["metadata"]["labels"]["nvidia.com/gpu.present"] == "true"


def test_the_record_says_what_was_there_before(client: Any, helm: FakeHelm, reference: Reference) -> None:
    client.add(_definition("nodefeatures", "nfd.k8s-sigs.io"))
    client.node("n", "pool", labels={"feature.node.kubernetes.io/cpu-model.family": "6"})

    deploy(client, reference, timeouts=LIMITS, installer=installer())

    written = recorded(client, "gpu-operator")
    assert (written.definitions, written.marked) == (("nodefeatures.nfd.k8s-sigs.io",), False)
    assert written.marks == (Marks(("n",), ("feature.node.kubernetes.io/cpu-model.family",)),)


def test_what_the_stack_wrote_on_nodes_goes_with_it(client: Any, helm: FakeHelm) -> None:
    client.node("n", "pool", labels={"nvidia.com/gpu.present": "true", "kept": "yes"})
    reference = Reference("mine", stack=Stack("gpu-operator"))

    withdraw(client, reference, _Remembered(client, reference), timeouts=LIMITS, installer=installer())

    assert client.get("/api/v1/nodes/n")["metadata"]["labels"] == {
        "eks.amazonaws.com/nodegroup": "pool",
        "kept": "yes",
    }


def test_what_cannot_be_removed_stays_on_record_and_is_said(client: Any, helm: FakeHelm, reference: Reference) -> None:
    deploy(client, reference, timeouts=LIMITS, installer=installer())
    helm.fails("uninstall", "Error: timed out")

    withdrawn = withdraw(client, reference, _Written(client, reference), timeouts=LIMITS, installer=installer())

    assert any("timed out" in words and "gpu-operator" in words for words in withdrawn.left)


@pytest.mark.parametrize("values", [None, {"driver": {"enabled": True}}, {"global": {"gpuConformance": "another"}}])
def test_a_release_that_somebody_else_installed_later_stays_with_all_that_it_brought(
    client: Any, helm: FakeHelm, values: dict[str, Any] | None
) -> None:
    client.add(_definition("clusterpolicies", "nvidia.com"))
    client.node("n", "pool", labels={"nvidia.com/gpu.present": "true"})
    reference = Reference("mine", stack=Stack("gpu-operator"))
    journal = _Forgetting(client, reference)
    helm.has("gpu-operator", values)

    withdrawn = withdraw(client, reference, journal, timeouts=LIMITS, installer=installer())

    assert helm.calls_of("uninstall") == []
    assert [words for words in withdrawn.left if "gpu-operator/gpu-operator is there that is not ours" in words]
    assert journal.installed == []
    assert f"{DEFINITIONS}/clusterpolicies.nvidia.com" in client.objects
    assert client.get("/api/v1/nodes/n")["metadata"]["labels"]["nvidia.com/gpu.present"] == "true"


class _Forgetting(_Remembered):
    def uninstalled(self, installed: Installed) -> None:
        self._releases.remove(installed)


def test_a_release_of_a_record_that_does_not_say_by_what_to_know_it_is_left_to_people(
    client: Any, helm: FakeHelm
) -> None:
    helm.has("gpu-operator")
    former = Installed("gpu-operator", "gpu-operator", "gpu-operator", "v26.7.0")

    with pytest.raises(InstallError, match=r"run: helm uninstall gpu-operator .*if it is ours"):
        installer().uninstall(client, former, LIMITS)

    assert helm.calls_of("uninstall") == []


def test_our_release_is_known_by_its_mark_and_goes(client: Any, helm: FakeHelm) -> None:
    installer().install(client, OURS, LIMITS)

    installer().uninstall(client, INSTALLED, LIMITS)

    assert helm.values == [{"a": 1, "global": {"gpuConformance": "abc1"}}]
    assert helm.releases() == []


def test_a_release_of_somebody_else_never_gets_on_record(client: Any, helm: FakeHelm, reference: Reference) -> None:
    helm.has("dra-driver-nvidia-gpu")

    with pytest.raises(StackPresent, match=r"dra-driver-nvidia-gpu is in namespace .* not ours"):
        deploy(client, reference, timeouts=LIMITS, installer=installer())

    assert helm.calls_of("install") == []
    assert not [place for place in client.objects if "gpu-conformance-release" in place]


OTHERS = [
    {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "theirs"}},
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "nfd-master", "namespace": "node-feature-discovery"},
        "spec": {},
    },
]


@pytest.mark.parametrize("theirs", OTHERS)
def test_another_stack_keeps_its_definitions_and_the_labels_of_nodes(
    client: Any, helm: FakeHelm, theirs: dict[str, Any]
) -> None:
    _everywhere(client)
    client.add(_definition("nvidiadrivers", "nvidia.com"))
    client.node("n", "pool", labels={"nvidia.com/gpu.present": "true"})
    client.add(theirs)
    reference = Reference("mine", stack=Stack("gpu-operator"))
    journal = _Forgetting(client, reference)
    helm.has("gpu-operator", OURS.values)

    withdrawn = withdraw(client, reference, journal, timeouts=LIMITS, installer=installer())

    assert helm.releases() == []
    assert [words for words in withdrawn.left if f"another GPU stack ({theirs['kind']}".lower() in words.lower()]
    assert journal.installed == []
    assert f"{DEFINITIONS}/nvidiadrivers.nvidia.com" in client.objects
    assert client.get("/api/v1/nodes/n")["metadata"]["labels"]["nvidia.com/gpu.present"] == "true"


def test_nothing_of_nodes_goes_while_objects_are_left(client: Any, helm: FakeHelm) -> None:
    client.add(_definition("used", "nvidia.com"))
    client.objects["/apis/nvidia.com/v1/used/one"] = {"metadata": {"name": "one"}}
    client.node("n", "pool", labels={"nvidia.com/gpu.present": "true"})
    reference = Reference("mine", stack=Stack("gpu-operator"))

    withdraw(client, reference, _Remembered(client, reference), timeouts=LIMITS, installer=installer())

    assert client.get("/api/v1/nodes/n")["metadata"]["labels"]["nvidia.com/gpu.present"] == "true"


def test_what_a_node_that_is_down_once_offered_is_no_other_stack(client: Any, helm: FakeHelm) -> None:
    client.add(_definition("clusterpolicies", "nvidia.com"))
    client.node("n", "pool")
    status = {"allocatable": {"nvidia.com/gpu": "4"}, "conditions": [{"type": "Ready", "status": "Unknown"}]}
    client.objects["/api/v1/nodes/n"]["status"] = status
    reference = Reference("mine", stack=Stack("gpu-operator"))

    withdrawn = withdraw(client, reference, _Remembered(client, reference), timeouts=LIMITS, installer=installer())

    assert withdrawn.left == ()
    assert f"{DEFINITIONS}/clusterpolicies.nvidia.com" not in client.objects


FEATURES = {"apiVersion": "nfd.k8s-sigs.io/v1alpha1", "kind": "NodeFeature"}
MASTER = {"apiVersion": "apps/v1", "kind": "Deployment"}
TAKEN = [
    ({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}}, "RuntimeClass nvidia"),
    ({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "own"}}, "RuntimeClass own"),
    ({**FEATURES, "metadata": {"name": "n", "namespace": "nfd"}}, "1 NodeFeature objects"),
    ({**MASTER, "metadata": {"name": "nfd-master", "namespace": "nfd"}}, "deployment nfd/nfd-master"),
    (
        {
            **MASTER,
            "metadata": {
                "name": "x-master",
                "namespace": "nfd",
                "labels": {"app.kubernetes.io/name": "node-feature-discovery", "role": "master"},
            },
        },
        "deployment nfd/x-master",
    ),
    (
        {
            **MASTER,
            "metadata": {"name": "y", "namespace": "nfd"},
            "spec": {"template": {"spec": {"containers": [{"name": "main", "command": ["/usr/bin/nfd-master"]}]}}},
        },
        "deployment nfd/y",
    ),
]


@pytest.mark.parametrize(("theirs", "says"), TAKEN)
def test_what_the_charts_would_take_over_keeps_the_stack_off(
    client: Any, helm: FakeHelm, theirs: dict[str, Any], says: str
) -> None:
    _everywhere(client)
    client.add(theirs)
    stack = Stack("gpu-operator", values={"operator": {"runtimeClass": "own"}})

    deployed = deploy(client, Reference("mine", stack=stack), timeouts=LIMITS, installer=installer())

    assert says in deployed.left_alone
    assert "would take over" in deployed.left_alone
    assert helm.calls == []


@pytest.mark.parametrize(
    ("stack", "theirs"),
    [
        (Stack("gpu-operator", values={"nfd": {"enabled": False}}), TAKEN[3][0]),
        (Stack("device-plugin", values={"nfd": {"enabled": False}}), TAKEN[3][0]),
        (Stack("dra-driver"), TAKEN[3][0]),
        (Stack("device-plugin"), TAKEN[0][0]),
        (Stack("gpu-operator"), TAKEN[1][0]),
    ],
)
def test_what_the_charts_do_not_touch_is_not_in_the_way(
    client: Any, helm: FakeHelm, stack: Stack, theirs: dict[str, Any]
) -> None:
    _everywhere(client)
    client.add(theirs)

    deployed = deploy(client, Reference("mine", stack=stack), timeouts=LIMITS, installer=installer())

    assert deployed.left_alone == ""
    assert len(helm.calls_of("install")) == 1


def test_a_release_whose_hooks_cannot_run_goes_without_them(client: Any, helm: FakeHelm) -> None:
    ours = {"helm.sh/hook": "pre-delete"}
    release = {"meta.helm.sh/release-name": "gpu-operator", "meta.helm.sh/release-namespace": "gpu-operator"}
    instance = {"app.kubernetes.io/instance": "gpu-operator"}
    for name, labels, annotations in (("hook", instance, ours), ("job", instance, {}), ("theirs", {}, ours)):
        metadata = {"name": name, "namespace": "gpu-operator", "labels": labels, "annotations": annotations}
        client.add({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata})
    for name, annotations in (("hook", {**ours, **release}), ("role", release), ("theirs", ours)):
        metadata = {"name": name, "annotations": annotations}
        client.add({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata})
    helm.has("gpu-operator", OURS.values)
    helm.hooks_fail()

    installer().uninstall(client, INSTALLED, LIMITS)

    assert ["--no-hooks" in call for call in helm.calls_of("uninstall")] == [False, True]
    assert sorted(place.rpartition("/")[2] for place in client.objects if "/jobs/" in place) == ["job", "theirs"]
    assert sorted(place.rpartition("/")[2] for place in client.objects if "/clusterroles/" in place) == [
        "role",
        "theirs",
    ]


def test_a_hook_that_ran_when_its_run_was_killed_goes_with_the_release(client: Any, helm: FakeHelm) -> None:
    metadata = {
        "name": "settle",
        "namespace": "gpu-operator",
        "labels": {"app.kubernetes.io/instance": "gpu-operator"},
        "annotations": {"helm.sh/hook": "post-install"},
    }
    client.add({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata})
    helm.has("gpu-operator", OURS.values)

    installer().uninstall(client, INSTALLED, LIMITS)

    assert len(helm.calls_of("uninstall")) == 1
    assert not [place for place in client.objects if "/jobs/" in place]


def test_without_hooks_nothing_is_tried_that_would_leave_a_gpu_cluster(client: Any, helm: FakeHelm) -> None:
    client.add({"apiVersion": "nvidia.com/v1alpha1", "kind": "GPUCluster", "metadata": {"name": "gpu-cluster"}})
    helm.has("gpu-operator", OURS.values)
    helm.hooks_fail()

    with pytest.raises(InstallError, match=r"(?s)failed pre-delete.*--no-hooks would leave the GPUCluster behind"):
        installer().uninstall(client, INSTALLED, LIMITS)

    assert helm.releases() == ["gpu-operator"]


def test_when_both_ways_to_remove_a_release_fail_both_are_named(client: Any, helm: FakeHelm) -> None:
    helm.has("gpu-operator", OURS.values)
    helm.fails("uninstall", "Error: timed out")

    command = "helm uninstall gpu-operator --namespace gpu-operator --kubeconfig /etc/kube --kube-context staging"
    with pytest.raises(InstallError, match=f"(?s)timed out.*both failed: {command}, and the same with --no-hooks"):
        installer().uninstall(client, INSTALLED, LIMITS)


def test_a_release_that_went_although_helm_failed_is_gone(client: Any, helm: FakeHelm) -> None:
    helm.has("gpu-operator", OURS.values)
    helm.fails("uninstall", "Error: timed out")
    (helm.folder / "goes-all-the-same").touch()

    installer().uninstall(client, INSTALLED, LIMITS)

    assert len(helm.calls_of("uninstall")) == 1


def test_marks_that_were_there_before_stay_and_all_others_go(client: Any, helm: FakeHelm) -> None:
    from conformance.kube.nodechange import NodeChange

    reference = Reference("mine", stack=Stack("gpu-operator"))
    config, present, feature = "nvidia.com/mig.config", "nvidia.com/gpu.present", "feature.node.kubernetes.io/cpu"
    labels = {config: "ours", feature: "old", "nvidia.com/mine": "given"}
    client.node("a", "pool", labels=labels)
    client.node("b", "pool")
    given = {config: "ours", "nvidia.com/mine": "given"}
    change = NodeChange("a", {config: "theirs", "nvidia.com/mine": None}, given)
    NodeRecords(client).will_change_node(change)
    deploy(client, reference, timeouts=LIMITS, installer=installer())
    written = recorded(client, "gpu-operator")
    assert written.marks == (Marks(("a",), (feature, config)),)

    # The nodes are given back although the release could not be removed, and the change is forgotten.
    for name, more in (("a", {config: "theirs", "nvidia.com/mine": None}), ("b", {feature: "new"})):
        client.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": {**more, present: "true"}}})
    NodeRecords(client).took_back(change)
    withdraw(client, reference, _Written(client, reference), timeouts=LIMITS, installer=installer())

    pool = {"eks.amazonaws.com/nodegroup": "pool"}
    assert client.get("/api/v1/nodes/a")["metadata"]["labels"] == {**pool, config: "theirs", feature: "old"}
    assert client.get("/api/v1/nodes/b")["metadata"]["labels"] == pool


def test_what_our_own_changes_gave_a_node_is_put_back_by_their_record_alone(client: Any) -> None:
    from conformance.deploy import stale_labels
    from conformance.kube.nodechange import NodeChange

    client.node("a", "pool", labels={"nvidia.com/mig.config": "ours", "nvidia.com/gpu.present": "true"})

    stale_labels.unmark(client, [NodeChange("a", {"nvidia.com/mig.config": None}, {"nvidia.com/mig.config": "ours"})])

    labels = client.get("/api/v1/nodes/a")["metadata"]["labels"]
    assert labels == {"eks.amazonaws.com/nodegroup": "pool", "nvidia.com/mig.config": "ours"}


def test_marks_of_thousands_of_nodes_alike_are_recorded_and_too_many_of_them_are_not(client: Any) -> None:
    from conformance.deploy import stale_labels

    for number in range(2000):
        labels = {f"feature.node.kubernetes.io/cpu-cpuid.FEATURE{each}": "true" for each in range(60)}
        client.node(f"node-{number}", "pool", labels=labels)

    (marks,), marked = stale_labels.before(client, ())

    assert (len(marks.nodes), len(marks.keys), marked) == (2000, 60, False)
    for number in range(2000):
        client.objects[f"/api/v1/nodes/node-{number}"]["metadata"]["labels"] = {
            f"feature.node.kubernetes.io/cpu-{number}-{each}": "true" for each in range(3)
        }
    assert stale_labels.before(client, ()) == ((), True)


def test_the_copy_of_a_pull_secret_belongs_to_the_run_of_its_namespace(client: Any, helm: FakeHelm) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull", "namespace": "infra"}}
    run = {"gpu-conformance.io/run-id": "a1234567"}
    client.add(secret)
    client.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gpu-operator", "labels": run}})
    created = []
    client.create = lambda place, obj: created.append(obj)

    installer(pull_secret="infra/pull").install(client, RELEASE, LIMITS)

    assert created[0]["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "gpu-conformance", **run}


def test_nodes_that_do_not_offer_what_is_declared_are_named_with_what_they_lack(client: Any, helm: FakeHelm) -> None:
    from conformance.deploy.readiness import nodes_lacking_gpus
    from conformance.reference.model import Gpu, Pool

    pools = (
        Pool("plain", {"eks.amazonaws.com/nodegroup": "plain"}, gpu=Gpu("t4", 4)),
        Pool("dra", {"eks.amazonaws.com/nodegroup": "dra"}, gpu=Gpu("h100", 8, allocated_by="dra")),
    )
    reference = Reference("mine", stack=Stack("gpu-operator", dra=DraDriver()), pools=pools)
    up = [{"type": "Ready", "status": "True"}]
    ready = {"conditions": up, "allocatable": {"nvidia.com/gpu": "3"}}
    for name, pool, status in (("a", "plain", ready), ("b", "plain", {}), ("c", "dra", ready), ("d", "dra", ready)):
        client.node(name, pool)
        client.objects[f"/api/v1/nodes/{name}"]["status"] = dict(status)
    slice_ = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"}}
    client.add({**slice_, "spec": {"driver": "gpu.nvidia.com", "nodeName": "d"}})

    assert nodes_lacking_gpus(client, reference) == {
        "a": "nvidia.com/gpu is 3, declared are 4",
        "c": "no ResourceSlice of driver gpu.nvidia.com",
    }
    client.objects["/api/v1/nodes/a"]["status"]["allocatable"] = {}
    client.objects["/api/v1/nodes/c"]["status"]["allocatable"] = {}
    client.objects["/api/v1/nodes/d"]["status"]["allocatable"] = {}
    deployed = deploy(client, reference, timeouts=LIMITS, installer=installer())
    assert len(deployed.not_allocatable) == 2
    assert "node a: nvidia.com/gpu is absent, declared are 4" in deployed.notes[0]


def _everywhere(client: Any) -> None:
    """Let lists span all namespaces, as those of a real API server do."""
    inner = client.list

    def everything(path: str, **selectors: Any) -> list[dict[str, Any]]:
        root, _, plural = path.rpartition("/")
        inside = [
            obj
            for place, obj in client.objects.items()
            if place.startswith(f"{root}/namespaces/") and place.split("/")[-2] == plural
        ]
        return [*inner(path, **selectors), *inside]

    client.list = everything
