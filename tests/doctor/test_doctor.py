"""The doctor tells apart what keeps a run off a cluster, each with what to do, and asks only questions."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_api import Answer, Asked, FakeApi, status
from urllib3.exceptions import ConnectTimeoutError, ProxyError, ReadTimeoutError, SSLError

from conformance import cli
from conformance.clusters.embedded.binaries.versions import KUBERNETES_PINS
from conformance.doctor import State, server
from conformance.doctor.needs import NEEDS
from conformance.doctor.rights import rights_of
from conformance.facts.kinds import KINDS
from conformance.kube.connection import Connection
from conformance.kube.effects import Effect, Mode
from conformance.kube.errors import Unreachable
from conformance.session import catalogue

NOBODY = "system:serviceaccount:ci:auditor"
EFFECTS = {rule.id: rule.effect for rule in catalogue.requirements()}


class Cluster:
    """An API server that answers the doctor's questions; ``refuses`` names resources to which nobody has rights."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.refuses: set[str] = set()
        self.answers: dict[str, Answer] = {"/version": Answer({"gitVersion": "v1.36.3"})}
        self.unserved: set[str] = set()
        self.lists: dict[str, list[Any]] = {}
        api.answer = self._answer

    def _answer(self, asked: Asked) -> Answer:
        if asked.path in self.answers:
            return self.answers[asked.path]
        if asked.path.endswith("/selfsubjectreviews"):
            return Answer({"status": {"userInfo": {"username": NOBODY}}})
        if asked.path.endswith("/selfsubjectaccessreviews"):
            attributes = asked.body["spec"]["resourceAttributes"]
            return Answer({"status": {"allowed": attributes["resource"] not in self.refuses}})
        if asked.path.startswith("/apis/") and asked.path.count("/") == 2:
            group = asked.path.removeprefix("/apis/")
            return status(404, "NotFound") if group in self.unserved else Answer({"kind": "APIGroup"})
        if asked.method == "POST" and asked.query.get("dryRun") == "All":
            return Answer(asked.body, 201)
        if asked.path.count("/") > 4 and "leases" not in asked.path:
            return Answer({"metadata": {}, "items": self.lists.get(asked.path.rpartition("/")[2], [])})
        if asked.path == "/api/v1/namespaces/gpu-conformance":
            return status(404, "NotFound")
        if asked.path.startswith("/api/v1/namespaces/") and asked.path.count("/") == 4:
            return Answer({"metadata": {"name": asked.path.rpartition("/")[2], "labels": {}}})
        return Answer({"metadata": {}, "items": self.lists.get(asked.path.rpartition("/")[2], [])})


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    yield fake
    fake.close()


@pytest.fixture
def cluster(api: FakeApi) -> Cluster:
    return Cluster(api)


def kubeconfig(folder: Path, address: str, user: dict[str, Any] | None = None) -> Path:
    file = folder / "config"
    content = {
        "current-context": "prod",
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": address}}],
        "users": [{"name": "u", "user": {"token": "secret"} if user is None else user}],
    }
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run the command about the context prod; gives the exit code and the answers by topic."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(file: Path | str, *more: str, name: str = "prod") -> tuple[int, dict[str, list[dict[str, Any]]]]:
        code = cli.main(["doctor", "--cluster", name, "--kubeconfig", str(file), "--json", *more])
        told = json.loads(capsys.readouterr().out)
        by_topic: dict[str, list[dict[str, Any]]] = {}
        for answer in told["answers"]:
            by_topic.setdefault(answer["topic"], []).append(answer)
        assert told["exitCode"] == code
        return code, by_topic

    return run


# The machine.


def test_a_kubeconfig_that_is_not_there_is_said_to_be_missing(doctor: Any, tmp_path: Path) -> None:
    code, told = doctor(tmp_path / "nowhere")

    assert code == 4
    assert told["kubeconfig"][0]["text"] == "there is no kubeconfig at ~/nowhere"
    assert "cluster" not in told


def test_a_kubeconfig_that_is_none_is_named_without_its_secrets(doctor: Any, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("token: [secret")

    code, told = doctor(tmp_path / "config")

    assert (code, told["kubeconfig"][0]["state"]) == (4, State.BLOCKED)
    assert "this is not YAML" in told["kubeconfig"][0]["text"]
    assert "secret" not in json.dumps(told)


def test_a_context_that_is_not_there_is_told_with_those_that_are(doctor: Any, tmp_path: Path) -> None:
    code, told = doctor(kubeconfig(tmp_path, "https://127.0.0.1:1"), name="prd")

    assert (code, told["kubeconfig"][0]["state"]) == (4, State.OK)
    assert "Did you mean prod?" in told["cluster"][0]["text"]


def test_a_credential_program_that_is_missing_is_told_with_its_install_hint(doctor: Any, tmp_path: Path) -> None:
    user = {"exec": {"command": "kubelogin-of-nobody", "installHint": "Get it from\nexample.com."}}

    code, told = doctor(kubeconfig(tmp_path, "https://127.0.0.1:1", user))

    (answer,) = told["credentials"]
    assert (code, answer["remedy"]) == (4, "Get it from example.com.")
    assert "kubelogin-of-nobody, which is not on the PATH" in answer["text"]
    assert "server" not in told


def test_a_credential_program_with_a_path_is_looked_for_beside_its_kubeconfig(
    doctor: Any, cluster: Cluster, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "login"
    program.parent.mkdir()
    said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}
    program.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n")
    program.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./bin/login"}}

    _, told = doctor(kubeconfig(tmp_path, cluster.api.url, user))

    assert told["credentials"][0]["text"] == f"from the program {tmp_path / 'bin/login'}"


def test_a_credential_program_that_fails_is_told_with_what_it_said(
    doctor: Any, cluster: Cluster, tmp_path: Path
) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "false"}}

    code, told = doctor(kubeconfig(tmp_path, cluster.api.url, user))

    assert (code, told["credentials"][-1]["state"]) == (4, State.BLOCKED)
    assert "gave no credentials" in told["credentials"][-1]["text"]
    assert "server" not in told


def test_a_snapshot_needs_no_doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.json"
    file.write_text("{}")

    assert cli.main(["doctor", "--cluster", f"snapshot:{file}"]) == 4
    assert "nothing stands between it and an audit" in capsys.readouterr().err


# The server.


def test_a_cluster_that_grants_everything_is_ready(doctor: Any, cluster: Cluster, tmp_path: Path) -> None:
    code, told = doctor(kubeconfig(tmp_path, cluster.api.url))

    states = {answer["state"] for answers in told.values() for answer in answers}
    assert (code, states) == (0, {State.OK, State.NOTE})
    assert told["identity"][0]["text"] == NOBODY
    assert "gpu-conformance init --cluster prod" in told["set-up"][0]["remedy"]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("https://no-such-host.invalid:6443", "its name is not known here (DNS)"),
        ("https://127.0.0.1:1", "refused"),
    ],
)
def test_servers_that_are_out_of_reach_are_told_apart(doctor: Any, tmp_path: Path, address: str, text: str) -> None:
    code, told = doctor(kubeconfig(tmp_path, address))

    (answer,) = told["server"]
    assert code == 4
    assert text in answer["text"]
    assert address in answer["text"]


def test_a_server_without_tls_is_told_as_a_matter_of_certificates(doctor: Any, api: FakeApi, tmp_path: Path) -> None:
    code, told = doctor(kubeconfig(tmp_path, api.url.replace("http:", "https:")))

    assert code == 4
    assert "certificate is not accepted" in told["server"][0]["text"]
    assert "certificate-authority-data" in told["server"][0]["remedy"]


@pytest.mark.parametrize(
    ("cause", "what", "text", "remedy"),
    [
        (SSLError(), "[SSL] sslv3 alert certificate expired", "refuses the certificate", "fetch the kubeconfig anew"),
        (SSLError(), "certificate has expired", "cannot be reached: certificate has expired", "tls-server-name"),
        (ConnectTimeoutError(), "", "no connection came about in time", "firewall"),
        (ReadTimeoutError(None, "", ""), "", "took the connection and was silent", "overloaded"),
        (ProxyError("no", OSError()), "the proxy failed", "the proxy failed", "NO_PROXY"),
        (None, "who knows", "who knows", "kubectl config view"),
    ],
)
def test_what_kept_a_server_from_answering_has_its_own_remedy(
    cause: Exception | None, what: str, text: str, remedy: str
) -> None:
    class Client:
        connection = Connection("https://api.example.com")

        def get(self, path: str) -> Any:
            raise Unreachable("https://api.example.com", what) from cause

    reached = server.reach(Client())

    assert reached.version is None
    assert text in reached.answer.text
    assert remedy in reached.answer.remedy


@pytest.mark.parametrize(
    ("answer", "state", "text"),
    [
        (status(401, "Unauthorized"), State.BLOCKED, "answers 401: it does not know these credentials"),
        (status(403, "Forbidden"), State.NOTE, "403 for /version"),
        (Answer(b"<html>", 502), State.BLOCKED, "answers 502"),
        (Answer(b"<html>", 200), State.BLOCKED, "answers no JSON"),
    ],
)
def test_answers_that_are_no_version_are_told_apart(
    doctor: Any, cluster: Cluster, tmp_path: Path, answer: Answer, state: State, text: str
) -> None:
    cluster.answers["/version"] = answer

    code, told = doctor(kubeconfig(tmp_path, cluster.api.url))

    assert told["server"][0]["state"] == state
    assert text in told["server"][0]["text"]
    assert code == (4 if state is State.BLOCKED else 0)


def test_nobody_is_told_that_the_context_has_no_credentials(doctor: Any, cluster: Cluster, tmp_path: Path) -> None:
    review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    cluster.answers[review] = Answer({"status": {"userInfo": {"username": "system:anonymous"}}})

    code, told = doctor(kubeconfig(tmp_path, cluster.api.url, {}))

    assert (code, told["identity"][0]["state"]) == (4, State.BLOCKED)
    assert "rights audit" not in told


@pytest.mark.parametrize(
    ("version", "state"),
    [("v1.33.9-eks-1", State.ATTENTION), ("v1.34.1", State.OK), ("v1.37.0+k3s1", State.OK), ("v1.40.0", State.NOTE)],
)
def test_versions_on_which_the_suites_are_not_tried_are_told(version: str, state: State) -> None:
    assert server.version(version).state is state


def test_the_versions_are_those_that_the_embedded_cluster_has() -> None:
    tried = [tuple(map(int, minor.split("."))) for minor in KUBERNETES_PINS]

    assert (min(tried), max(tried)) == (server.OLDEST, server.NEWEST)


@pytest.mark.parametrize(
    ("date", "state", "text"),
    [
        ("Thu, 01 Jan 2026 00:00:00 GMT", State.ATTENTION, "ahead of the server"),
        ("Fri, 01 Jan 2100 00:00:00 GMT", State.ATTENTION, "behind the server"),
    ],
)
def test_a_clock_that_is_wrong_is_told(
    doctor: Any, cluster: Cluster, tmp_path: Path, date: str, state: State, text: str
) -> None:
    cluster.answers["/version"] = Answer({"gitVersion": "v1.36.3"}, headers={"Date": date})

    code, told = doctor(kubeconfig(tmp_path, cluster.api.url))

    assert (code, told["clock"][0]["state"]) == (1, state)
    assert text in told["clock"][0]["text"]


# Rights.


def test_a_right_that_is_missing_names_the_requirements_and_the_command(
    doctor: Any, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.refuses = {"resourcequotas"}

    code, told = doctor(kubeconfig(tmp_path, cluster.api.url))

    (answer,) = told["rights audit"]
    assert (code, answer["state"]) == (1, State.ATTENTION)
    assert answer["text"].startswith("may not list resourcequotas: ")
    assert set(NEEDS["ResourceQuota"]) == set(answer["requirements"])
    assert "--serviceaccount=ci:auditor" in answer["remedy"]


def test_without_nodes_there_is_no_audit(doctor: Any, cluster: Cluster, tmp_path: Path) -> None:
    cluster.refuses = {"nodes"}

    assert doctor(kubeconfig(tmp_path, cluster.api.url))[0] == 4


def test_kinds_that_the_server_lacks_need_no_right(doctor: Any, cluster: Cluster, tmp_path: Path) -> None:
    cluster.refuses, cluster.unserved = {"clusterqueues", "localqueues"}, {"kueue.x-k8s.io"}

    code, told = doctor(kubeconfig(tmp_path, cluster.api.url))

    assert (code, told["rights audit"][0]["state"]) == (0, State.OK)


def test_rights_of_a_mode_that_is_not_meant_are_only_noted(doctor: Any, cluster: Cluster, tmp_path: Path) -> None:
    cluster.refuses = {"namespaces"}
    file = kubeconfig(tmp_path, cluster.api.url)

    assert doctor(file)[1]["rights verify"][0]["state"] == State.NOTE
    code, told = doctor(file, "--mode", "verify")
    assert code == 4
    assert {answer["state"] for answer in told["rights verify"]} == {State.BLOCKED}


def test_every_requirement_that_is_named_exists_and_every_kind_was_measured() -> None:
    wanted = [right for mode in Mode for right in rights_of(mode, EFFECTS)]

    assert {each for right in wanted for each in right.requirements} <= set(EFFECTS)
    assert set(NEEDS) == set(KINDS)


@pytest.mark.parametrize("mode", [Mode.VERIFY, Mode.FULL])
def test_rights_of_a_mode_are_needed_by_requirements_of_that_mode(mode: Mode) -> None:
    for right in rights_of(mode, EFFECTS):
        assert right.requirements, right
        assert all(EFFECTS[each] > Effect.READS for each in right.requirements), right


# Pods and other runs.


def test_an_audit_asks_and_offers_nothing(doctor: Any, cluster: Cluster, tmp_path: Path) -> None:
    doctor(kubeconfig(tmp_path, cluster.api.url))

    posted = {asked.path.rpartition("/")[2] for asked in cluster.api.asked if asked.method != "GET"}
    assert posted == {"selfsubjectreviews", "selfsubjectaccessreviews"}


def test_a_run_that_makes_pods_offers_them_as_a_dry_run(doctor: Any, cluster: Cluster, tmp_path: Path) -> None:
    code, told = doctor(kubeconfig(tmp_path, cluster.api.url), "--mode", "verify")

    offered = [asked for asked in cluster.api.asked if asked.path.endswith("/pods") and asked.method == "POST"]
    assert code == 0
    assert len(told["admission"]) == len(offered) == 2
    assert {asked.query["dryRun"] for asked in offered} == {"All"}


def test_a_pod_that_is_refused_is_told_with_the_reason(doctor: Any, cluster: Cluster, tmp_path: Path) -> None:
    refusal = status(403, "Forbidden", 'admission webhook "policy" denied the request: no image of docker.io')
    cluster.answers["/api/v1/namespaces/default/pods"] = refusal

    code, told = doctor(kubeconfig(tmp_path, cluster.api.url), "--mode", "full")

    assert code == 1
    assert "no image of docker.io" in told["admission"][0]["text"]
    assert "gpuc-*" in told["admission"][0]["remedy"]


def test_webhooks_about_pods_are_named_and_others_are_not(doctor: Any, cluster: Cluster, tmp_path: Path) -> None:
    rule = {"apiGroups": [""], "operations": ["CREATE"], "resources": ["pods"]}
    others = {**rule, "resources": ["configmaps"]}
    cluster.lists["validatingwebhookconfigurations"] = [
        {"metadata": {"name": "policy"}, "webhooks": [{"rules": [rule], "failurePolicy": "Ignore"}]},
        {"metadata": {"name": "other"}, "webhooks": [{"rules": [others]}]},
    ]

    _, told = doctor(kubeconfig(tmp_path, cluster.api.url), "--mode", "verify")

    assert "policy (Ignore)" in told["policies"][0]["text"]
    assert "other" not in told["policies"][0]["text"].replace("those of", "")


@pytest.mark.parametrize(("mode", "code", "state"), [("audit", 1, State.ATTENTION), ("full", 4, State.BLOCKED)])
def test_what_a_killed_run_left_is_told_with_the_command_that_cleans_it(
    doctor: Any, cluster: Cluster, tmp_path: Path, mode: str, code: int, state: State
) -> None:
    labels = {"gpu-conformance.io/run-id": "abcdefgh"}
    cluster.lists["namespaces"] = [{"metadata": {"name": "gpuc-abcdefgh-pods", "labels": labels}}]

    found, told = doctor(kubeconfig(tmp_path, cluster.api.url), "--mode", mode)

    (answer,) = told["runs"]
    assert (found, answer["state"]) == (code, state)
    assert "run abcdefgh has ended without cleaning up: 1 objects" in answer["text"]
    assert "gpu-conformance clean --cluster prod abcdefgh" in answer["remedy"]


def test_images_of_a_clusters_file_and_its_pull_secret_are_looked_at(
    doctor: Any, cluster: Cluster, tmp_path: Path
) -> None:
    kubeconfig(tmp_path, cluster.api.url)
    (tmp_path / "clusters.yaml").write_text(
        "clusters:\n  shop: {context: prod, kubeconfig: config, mode: verify, registry: registry.example.com/gpu, "
        "pull_secret: ci/pull}\n"
    )
    cluster.answers["/api/v1/namespaces/ci/secrets/pull"] = status(404, "NotFound", "no such secret")

    code, told = doctor(tmp_path / "config", name="shop")

    assert code == 4
    assert "registry.example.com/gpu/library/python:" in told["images"][0]["text"]
    assert told["pull secret"][0]["state"] == State.BLOCKED
    assert "no such secret" in told["pull secret"][0]["text"]


def test_a_set_up_that_does_not_load_keeps_a_run_from_beginning(doctor: Any, cluster: Cluster, tmp_path: Path) -> None:
    kubeconfig(tmp_path, cluster.api.url)
    (tmp_path / "ours.yaml").write_text("name: ours\npols: []\n")
    (tmp_path / "clusters.yaml").write_text(
        "clusters:\n  shop: {context: prod, kubeconfig: config, reference: ours.yaml}\n"
    )

    code, told = doctor(tmp_path / "config", name="shop")

    assert code == 4
    assert "Did you mean pools?" in told["set-up"][0]["text"]


def test_who_may_not_read_the_records_of_runs_sees_their_namespaces(
    doctor: Any, cluster: Cluster, tmp_path: Path
) -> None:
    file = kubeconfig(tmp_path, cluster.api.url)
    leases = "/apis/coordination.k8s.io/v1/namespaces/gpu-conformance/leases"
    cluster.answers[leases] = status(403, "Forbidden")
    code, told = doctor(file)
    assert (code, told["runs"][0]["state"]) == (0, State.OK)

    labels = {"gpu-conformance.io/run-id": "abcdefgh"}
    cluster.lists["namespaces"] = [{"metadata": {"name": "gpuc-abcdefgh-pods", "labels": labels}}]
    code, told = doctor(file)

    assert (code, told["runs"][0]["state"]) == (1, State.ATTENTION)
    assert "gpu-conformance clean --cluster prod abcdefgh" in told["runs"][0]["remedy"]


# What people see.


def test_what_a_program_says_in_many_lines_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "login"
    program.write_text("#!/bin/sh\nprintf 'no account\\n\\n  log in first\\n' >&2\nexit 1\n")
    program.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}}

    file = kubeconfig(tmp_path, "https://127.0.0.1:1", user)
    cli.main(["doctor", "--cluster", "prod", "--kubeconfig", str(file)])

    lines = capsys.readouterr().out.splitlines()
    assert "no account log in first" in lines[-2]
    assert all(line.split()[0] in set(State) for line in lines[:-1])


def test_each_answer_is_a_line_and_the_last_one_says_what_they_add_up_to(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.refuses = {"limitranges", "roles", "pods"}

    code = cli.main(["doctor", "--cluster", "prod", "--kubeconfig", str(kubeconfig(tmp_path, cluster.api.url))])

    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert lines[-1] == "ready for a run in mode audit, with 3 to look at first (exit code 1)"
    assert [line.split()[6] for line in lines if "may not list" in line] == [
        "pods:",
        "limitranges:",
        "roles.rbac.authorization.k8s.io:",
    ]
    assert "\n".join(lines).count("gpu-conformance rbac") == 1
    assert all(line.split()[0] in set(State) for line in lines[:-1])
    assert "\x1b" not in "".join(lines)
