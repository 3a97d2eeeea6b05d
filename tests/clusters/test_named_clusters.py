"""Names of clusters: what they mean, how far a run may go there, and what is said about a wrong one."""

from pathlib import Path

import pytest
import yaml

from conformance.clusters.errors import ClusterError
from conformance.clusters.named import resolve
from conformance.clusters.namedfile import ClustersFile
from conformance.kube.effects import Mode
from conformance.verdict import EvidenceKind

CLUSTERS = """
clusters:
  staging:
    context: staging-admin
    mode: full
    reference: references/staging
    registry: registry.example.com/mirror
    pull_secret: mirror
    tolerations:
      - {key: team, operator: Exists, effect: NoSchedule}
    evidence: hardware
  prod-gpu:
    kubeconfig: kube/prod
    protected: true
  kind-dev:
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working directory, so that no file of the developer is found."""
    for name in ("KUBECONFIG", "GPU_CONFORMANCE_CLUSTERS", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clusters_file(home: Path) -> Path:
    file = home / "clusters.yaml"
    file.write_text(CLUSTERS)
    return file


def write_kubeconfig(file: Path, **servers: str) -> Path:
    """A kubeconfig with one context for each server."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "clusters": [{"name": name, "cluster": {"server": server}} for name, server in servers.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "u"}} for name in servers],
        "users": [],
    }
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.usefixtures("clusters_file")
def test_an_entry_of_the_clusters_file_has_all_its_settings(home: Path) -> None:
    target = resolve("staging")

    assert (target.kind, target.context, target.mode) == ("context", "staging-admin", Mode.FULL)
    assert target.reference == Path("references/staging")
    assert (target.registry, target.pull_secret) == ("registry.example.com/mirror", "mirror")
    assert target.tolerations == ({"key": "team", "operator": "Exists", "effect": "NoSchedule"},)
    assert target.evidence == EvidenceKind.HARDWARE


def test_an_entry_without_context_means_the_context_of_its_name(clusters_file: Path) -> None:
    target = resolve("kind-dev", clusters_file=clusters_file)

    assert (target.context, target.mode, target.protected) == ("kind-dev", Mode.AUDIT, False)


def test_paths_are_relative_to_the_clusters_file(home: Path) -> None:
    file = home / "elsewhere" / "c.yaml"
    file.parent.mkdir()
    file.write_text(CLUSTERS + "  home:\n    kubeconfig: ~/kube\n    reference: /abs\n")

    assert resolve("prod-gpu", clusters_file=file).kubeconfig == home / "elsewhere/kube/prod"
    assert resolve("home", clusters_file=file).kubeconfig == home / "kube"
    assert resolve("home", clusters_file=file).reference == Path("/abs")


def test_an_entry_can_name_the_shipped_set_up_and_a_folder_of_that_name_wins(home: Path) -> None:
    file = home / "clusters.yaml"
    file.write_text("clusters:\n  a: {reference: corrected-guide}\n  b: {reference: sub/corrected-guide}\n")

    assert resolve("a").reference == Path("corrected-guide")
    assert resolve("b", clusters_file=file).reference == home / "sub/corrected-guide"
    (home / "corrected-guide").mkdir()
    assert resolve("a", clusters_file=file).reference == home / "corrected-guide"


def test_the_kubeconfig_option_serves_entries_that_name_none(clusters_file: Path, home: Path) -> None:
    option = home / "kube/option"

    assert resolve("staging", clusters_file=clusters_file, kubeconfig=option).kubeconfig == option
    assert resolve("prod-gpu", clusters_file=clusters_file, kubeconfig=option).kubeconfig == home / "kube/prod"


def test_the_option_wins_over_the_environment_and_that_over_the_usual_files(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {name: home / name for name in ("option.yaml", "environment.yaml", "clusters.yaml")}
    for name, file in places.items():
        file.write_text(f"clusters: {{a: {{context: {name}}}}}")
    user = home / ".config/gpu-conformance/clusters.yaml"
    user.parent.mkdir(parents=True)
    user.write_text("clusters: {a: {context: user}}")
    monkeypatch.setenv("GPU_CONFORMANCE_CLUSTERS", str(places["environment.yaml"]))

    assert resolve("a", clusters_file=places["option.yaml"]).context == "option.yaml"
    assert resolve("a").context == "environment.yaml"
    monkeypatch.delenv("GPU_CONFORMANCE_CLUSTERS")
    assert resolve("a").context == "clusters.yaml"
    places["clusters.yaml"].unlink()
    assert resolve("a").context == "user"


def test_a_clusters_file_that_was_asked_for_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"no clusters file nowhere\.yaml"):
        resolve("a", clusters_file=Path("nowhere.yaml"))
    monkeypatch.setenv("GPU_CONFORMANCE_CLUSTERS", "gone.yaml")
    with pytest.raises(ClusterError, match=r"gone\.yaml \(from the environment variable GPU_CONFORMANCE_CLUSTERS\)"):
        resolve("a")


def test_any_context_works_without_a_clusters_file_and_is_audited(home: Path) -> None:
    write_kubeconfig(home / ".kube/config", prod="https://prod.example.com")
    target = resolve("prod")

    assert (target.kind, target.context, target.mode) == ("context", "prod", Mode.AUDIT)
    assert resolve("prod", mode=Mode.VERIFY).mode == Mode.VERIFY


@pytest.mark.parametrize("mode", [Mode.VERIFY, Mode.FULL])
def test_a_protected_cluster_is_never_more_than_audited(clusters_file: Path, mode: Mode) -> None:
    assert resolve("prod-gpu").mode == Mode.AUDIT
    assert resolve("prod-gpu", mode=Mode.AUDIT).protected
    with pytest.raises(ClusterError, match=r"prod-gpu is marked protected in clusters\.yaml.*refused"):
        resolve("prod-gpu", mode=mode)


@pytest.mark.parametrize("way", ["other-name", "side-door"])
def test_a_protected_cluster_is_protected_under_every_name(home: Path, way: str) -> None:
    write_kubeconfig(
        home / ".kube/config", prod="https://Prod.example.com:443/", **{"side-door": "https://prod.example.com"}
    )
    (home / "clusters.yaml").write_text(
        "clusters:\n  prod: {protected: true}\n  other-name: {context: side-door, mode: full}\n"
    )

    assert resolve(way).mode == Mode.AUDIT
    with pytest.raises(ClusterError, match="protected"):
        resolve(way, mode=Mode.FULL)


def test_the_same_context_name_in_another_kubeconfig_is_another_cluster(home: Path) -> None:
    write_kubeconfig(home / "prod", admin="https://prod.example.com")
    write_kubeconfig(home / "staging", admin="https://staging.example.com")
    (home / "clusters.yaml").write_text("clusters:\n  prod: {context: admin, kubeconfig: prod, protected: true}\n")

    assert resolve("admin", kubeconfig=home / "staging", mode=Mode.FULL).mode == Mode.FULL
    with pytest.raises(ClusterError, match="protected"):
        resolve("admin", kubeconfig=home / "prod", mode=Mode.FULL)


def test_embedded_is_a_kind_of_its_own() -> None:
    fresh, kept = resolve("embedded"), resolve("embedded:demo", mode=Mode.VERIFY)

    assert (fresh.kind, fresh.embedded_name, fresh.mode) == ("embedded", None, Mode.FULL)
    assert (kept.kind, kept.embedded_name, kept.mode) == ("embedded", "demo", Mode.VERIFY)
    assert fresh.evidence == EvidenceKind.SIMULATED


def test_a_snapshot_can_only_be_audited(home: Path) -> None:
    (home / "s.json.gz").touch()
    target = resolve("snapshot:s.json.gz")

    assert (target.kind, target.snapshot, target.mode) == ("snapshot", Path("s.json.gz"), Mode.AUDIT)
    with pytest.raises(ClusterError, match="only be audited"):
        resolve("snapshot:s.json.gz", mode=Mode.FULL)


def test_a_snapshot_that_is_not_there_is_named() -> None:
    with pytest.raises(ClusterError, match=r"no snapshot nowhere\.json\.gz"):
        resolve("snapshot:nowhere.json.gz")


def test_the_service_account_of_a_pod_is_a_context_inside_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError):
        resolve("in-cluster")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")

    assert resolve("in-cluster").context == "in-cluster"


@pytest.mark.usefixtures("clusters_file")
def test_an_unknown_name_is_answered_with_those_that_exist_and_a_guess(home: Path) -> None:
    write_kubeconfig(home / ".kube/config", **{"kind-local": "https://127.0.0.1:6443"})
    with pytest.raises(ClusterError) as caught:
        resolve("prod")

    assert str(caught.value) == (
        "No cluster named 'prod'. The clusters file clusters.yaml has: staging, prod-gpu, kind-dev; "
        "the kubeconfig has contexts: kind-local. Did you mean prod-gpu?"
    )


@pytest.mark.parametrize(("wrong", "guess"), [("embeded", "Did you mean embedded?"), ("zzz", "needs neither")])
def test_an_unknown_name_without_any_file_still_says_what_to_do(wrong: str, guess: str) -> None:
    with pytest.raises(ClusterError, match="There is no clusters file") as caught:
        resolve(wrong)

    assert guess in str(caught.value)
    assert "There is no kubeconfig ~/.kube/config" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "variable", "said"),
    [
        ("gone/option", "gone/variable", "There is no kubeconfig gone/option. Correct the option --gpu-kubeconfig"),
        (
            None,
            "gone/variable",
            "There is no kubeconfig gone/variable (from the environment variable KUBECONFIG). Name",
        ),
        (
            None,
            "",
            "There is no kubeconfig ~/.kube/config, and the environment variable KUBECONFIG names none. Name one",
        ),
    ],
)
@pytest.mark.usefixtures("home")
def test_a_missing_kubeconfig_is_said_to_be_missing_and_who_named_it(
    option: str | None, variable: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", variable)
    with pytest.raises(ClusterError) as caught:
        resolve("prod", kubeconfig=Path(option) if option else None)

    assert said in str(caught.value)
    assert "has contexts" not in str(caught.value)


def test_a_broken_kubeconfig_is_a_message(home: Path) -> None:
    (home / "config").write_text("a: [")
    with pytest.raises(ClusterError, match="cannot be read as a kubeconfig"):
        resolve("a", kubeconfig=home / "config")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clusters:\n  a:\n    mod: full", ["c.yaml:3: clusters.a: unknown setting 'mod', did you mean mode?"]),
        ("clusters:\n  a:\n    xyz: 1", ["c.yaml:3: clusters.a: unknown setting 'xyz': there are context, kubeconfig"]),
        (
            "clusters:\n  a:\n    mode: brutal",
            ["c.yaml:3: clusters.a.mode: ", "'brutal', expected audit, verify, full"],
        ),
        ("clusters:\n  a: {evidence: hearsay}", ["c.yaml:2: clusters.a.evidence: ", "expected hardware, container"]),
        ("clusters:\n  a:\n    protected: sure", ["c.yaml:3: clusters.a.protected: expected `bool`, got `str`"]),
        (
            "clusters:\n  a:\n    tolerations:\n    - key: x\n    - key: y\n      effect: NoShedule",
            ["c.yaml:6: clusters.a.tolerations[1].effect: ", "'NoShedule'"],
        ),
        (
            "clusters:\n  a:\n    tolerations:\n    - key: x\n    - kye: y",
            ["c.yaml:5: clusters.a.tolerations[1]: object contains unknown field `kye`"],
        ),
        ("clusters:\n  a:\n    protected: true\n    mode: full", ["c.yaml:2: clusters.a: protected means that mode"]),
        ("clusters:\n  a: {}\n  b: {}\n  a: {}", ["c.yaml:4: a is there twice"]),
        ("clusters:\n  a:\n    mode: full\n    mode: audit", ["c.yaml:4: mode is there twice"]),
        (
            "clusters:\n  embedded: {}",
            ["c.yaml:2: clusters.embedded: embedded, container, kind, k3s and snapshot"],
        ),
        ("clusters: [a, b]", ["c.yaml:1: clusters: expected a mapping"]),
        ("clusters:\n  a: text", ["c.yaml:2: clusters.a: expected a mapping"]),
        ("cluster:\n  a: {}", ["c.yaml:1: unknown key 'cluster': the only one is clusters"]),
        ("just text", ["c.yaml:1: expected one key, clusters"]),
        ("", ["c.yaml:1: expected one key, clusters"]),
        ("clusters:\n  a: [", ["c.yaml:3: this is not YAML"]),
        ("clusters:\n  a: {mode: !!python/object:os.system x}", ["c.yaml:2: "]),
    ],
)
def test_a_mistake_is_named_with_its_line(home: Path, text: str, said: list[str]) -> None:
    (home / "c.yaml").write_text(text + "\n")
    with pytest.raises(ClusterError) as caught:
        resolve("a", clusters_file=Path("c.yaml"))

    for part in said:
        assert part in str(caught.value)


def test_all_mistakes_are_listed_at_once(home: Path) -> None:
    (home / "c.yaml").write_text("clusters:\n  a:\n    mode: brutal\n    protected: 3\n  b:\n    registri: x\n")
    with pytest.raises(ClusterError) as caught:
        ClustersFile.load(home / "c.yaml", shown="c.yaml")

    lines = [line.strip().partition(": ")[0] for line in str(caught.value).splitlines()[1:]]
    assert lines == ["c.yaml:3", "c.yaml:4", "c.yaml:6"]


def test_the_example_of_the_documentation_is_valid(home: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "clusters-file.md"
    example = page.read_text().partition("```yaml\n")[2].partition("```")[0]
    (home / "c.yaml").write_text(example)

    assert ClustersFile.load(home / "c.yaml").entries
