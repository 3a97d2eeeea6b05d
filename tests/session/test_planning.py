"""The plan of a run: derived from what the run itself goes by, and held to what a run then does."""

import json
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from whole_runs import whole_run

from conformance import cli
from conformance.catalog import Mode
from conformance.deploy import Foreseen
from conformance.facts import read
from conformance.facts.snapshot import Snapshot, save
from conformance.kube.names import HOME_NAMESPACE
from conformance.kube.paths import PLACES
from conformance.lab import RequirementLab
from conformance.lab.borrowing import idle_nodes
from conformance.lab.creating import BORROWS, CREATES, OF_A_RUN, WHATEVER_IT_IS_GIVEN
from conformance.session import planning
from conformance.session.upgrades import Asked
from conformance.timeline import Step
from conformance.upgrading.baseline import Baseline, NodeBefore, write
from conformance.verdict import Waits

REFERENCE = Path("corrected-guide")


def _node(name, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"eks.amazonaws.com/nodegroup": "t4-inference"}},
        "spec": spec,
        "status": {
            "capacity": {"nvidia.com/gpu": "4"},
            "allocatable": {"nvidia.com/gpu": "4"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.35.1"},
        },
    }


def _pod(name, node, **metadata):
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "team", **metadata},
        "spec": spec,
        "status": {"phase": "Running"},
    }


@pytest.fixture
def fleet(tmp_path):
    agent = {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "a", "uid": "u"}]}
    objects = [_node("gpu-1"), _node("gpu-2"), _node("gpu-3", unschedulable=True), _node("gpu-4")]
    objects += [_pod("train", "gpu-2"), _pod("agent", "gpu-1", **agent)]
    objects[3]["spec"]["taints"] = [{"key": "gpu-conformance.io/lab", "value": "abcdefgh", "effect": "NoSchedule"}]
    save(Snapshot.of(objects), tmp_path / "fleet.json.gz")
    return f"snapshot:{tmp_path / 'fleet.json.gz'}"


def _plan(cluster, mode, baseline=None):
    return planning.plan(planning.Request(cluster, mode=mode, reference=REFERENCE, baseline=baseline))


def test_an_audit_creates_occupies_and_evicts_nothing(fleet):
    found = _plan(fleet, Mode.AUDIT)

    assert (found.acts, found.creates, found.occupies, found.borrows, found.evicts) == ((), (), (), (), ())
    assert any("creates, occupies and evicts nothing" in line for line in found.lines())


def test_each_mode_lets_act_what_it_may(fleet):
    verify, full = _plan(fleet, Mode.VERIFY), _plan(fleet, Mode.FULL)

    assert set(verify.acts) < set(full.acts)
    assert "PRIO-03" in verify.left_out
    assert not full.left_out
    assert (verify.borrows, verify.evicts) == ((), ())
    assert {"PRIO-03", "SCHED-03"} <= set(full.evicts) <= set(full.borrows)
    assert "PRIO-05" in full.borrows  # whose newcomer never preempts
    assert "PRIO-05" not in full.evicts
    leases = {each.kind: each.of_run for each in full.creates}["Lease"]
    assert (leases, {each.kind: each.of_run for each in verify.creates}["Lease"]) == (2, 1)


def test_what_a_requirement_creates_is_read_from_its_text(fleet):
    makers = {each.kind: each.requirements for each in _plan(fleet, Mode.FULL).creates}

    assert makers["PodDisruptionBudget"] == ("PRIO-10",)
    assert "PRIO-12" in makers["Job"]
    assert makers["Deployment"] == ("QUOTA-08",)
    assert set(makers["ResourceClaim"]) <= {each for each in makers["Namespace"] if each.startswith("DRA-")}
    assert "WORK-01" in makers["ConfigMap"]


def test_nodes_are_told_as_the_lab_would_take_them(fleet):
    (pool,) = (each for each in _plan(fleet, Mode.FULL).pools if each.idle)

    assert (pool.idle, pool.gpus_idle) == (("gpu-1",), 4)
    assert pool.not_idle == {
        "gpu-2": "has team/train",
        "gpu-3": "is cordoned",
        "gpu-4": "has the taint gpu-conformance.io/lab=abcdefgh:NoSchedule",
    }


def test_an_earlier_run_tells_how_long_and_how_many(fleet, conform, tmp_path):
    conform("--cluster", fleet, "--gpu-profile=pools", f"--gpu-reference={REFERENCE}", f"--gpu-report={tmp_path / 'r'}")

    found = _plan(fleet, Mode.AUDIT, tmp_path / "r" / "report.json")

    assert found.seconds is not None
    assert found.seconds > 0
    assert "POOL-01" not in found.not_timed
    assert "OPER-01" in found.not_timed
    # Judged only where a run is asked about an upgrade.
    assert not [each for each in (*found.reads, *found.left_out) if each.startswith("UPG-")]
    assert "nobody knows how long" in "\n".join(_plan(fleet, Mode.AUDIT).lines())


UPGRADES = {
    "--gpu-pre-upgrade": ("595.91.07", "driver 595.91.07", "UPG-02"),
    "--gpu-pre-upgrade-operator": ("v26.7.0", "GPU Operator v26.7.0", "UPG-22"),
    "--gpu-pre-upgrade-kubernetes": ("1.36", "Kubernetes 1.36", "UPG-27"),
}


@pytest.mark.parametrize("option", UPGRADES)
def test_what_answers_a_question_about_an_upgrade_only_reads(fleet, option, capsys):
    value, target, key = UPGRADES[option]
    arguments = ["plan", "--cluster", fleet, "--gpu-mode", "full", "--gpu-reference", str(REFERENCE), option, value]

    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert cli.main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)

    assert f"asked about the upgrade to {target}: judges only what answers it; upgrades nothing" in text
    assert "  occupies, borrows and evicts nothing; mode audit answers the same and creates nothing" in text
    assert (told["upgrade"], told["acts"], told["leftOut"]) == (target, [], [])
    # As every run above audit, it announces itself.
    assert {each["kind"] for each in told["creates"]} == set(OF_A_RUN)
    assert not [each for each in told["creates"] if each["requirements"]]
    assert {key, "OPER-02"} <= set(told["reads"])
    assert "PRIO-03" not in told["reads"]


def test_the_plan_judges_of_an_upgrade_what_the_run_judges(fleet, conform, tmp_path):
    asked = "--gpu-pre-upgrade=595.91.07"
    conform("--cluster", fleet, asked, f"--gpu-reference={REFERENCE}", f"--gpu-report={tmp_path / 'r'}")
    judged = json.loads((tmp_path / "r" / "report.json").read_text())["requirements"]

    upgrade = Asked.of({"--gpu-pre-upgrade": "595.91.07"})
    planned = planning.plan(planning.Request(fleet, mode=Mode.AUDIT, reference=REFERENCE, upgrade=upgrade))

    assert planned.creates == ()
    assert sorted(planned.reads) == sorted(each["requirement"] for each in judged if each["status"] != "not-run")


def test_the_plan_after_an_upgrade_is_held_to_the_nodes_of_its_baseline(fleet, capsys, tmp_path):
    arguments = ["plan", "--cluster", fleet, "--gpu-mode", "full", "--gpu-reference", str(REFERENCE), "--json"]

    def after(*nodes):
        before = tuple(NodeBefore(each, True, False, *[""] * 6, {}, {}, {}) for each in nodes)
        kept = write(Baseline("dev", "driver 595.91.07", datetime(2026, 1, 1, tzinfo=UTC), before), tmp_path)
        return cli.main([*arguments, "--gpu-post-upgrade", str(kept)])

    assert after("gpu-1") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["acts"], told["leftOut"]) == ([], [])
    assert {"UPG-11", "WORK-14"} <= set(told["reads"])
    assert after("elsewhere-1") == 4
    assert "has none of its 1 GPU nodes" in capsys.readouterr().err


def test_a_question_about_an_upgrade_that_cannot_be_asked_is_one_line(fleet, capsys):
    arguments = ["plan", "--cluster", fleet, "--gpu-reference", str(REFERENCE)]

    assert cli.main([*arguments, "--gpu-pre-upgrade", "soon"]) == 4
    assert capsys.readouterr().err.startswith("gpu-conformance: --gpu-pre-upgrade: ")
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--gpu-pre-upgrade", "595.91.07", "--gpu-pre-upgrade-kubernetes", "1.36"])
    assert ended.value.code == 4


def test_what_an_earlier_run_left_out_has_no_time(fleet, conform, tmp_path):
    only = ("--gpu-requirement=POOL-01", f"--gpu-reference={REFERENCE}", f"--gpu-report={tmp_path / 'r'}")
    conform("--cluster", fleet, *only)

    untimed = _plan(fleet, Mode.AUDIT, tmp_path / "r" / "report.json").not_timed

    assert "POOL-01" not in untimed
    assert "POOL-02" in untimed  # in the report, as not run


def test_of_an_earlier_run_only_what_it_tells_of_completely_is_counted():
    steps = [Step("t", "created", "Pod", "a"), Step("t", "running", "Pod", "a"), Step("t", "created", "ConfigMap", "b")]

    def made(*timelines, left=0):
        verdicts = tuple(SimpleNamespace(timeline=each, steps_left=left) for each in timelines)
        return planning._made(SimpleNamespace(requirements=verdicts))

    assert made(steps, steps) == {"Pod": 2}
    assert made(steps, left=3) == {}


def test_the_command_says_it_to_people_and_programs(fleet, capsys):
    arguments = ["plan", "--cluster", fleet, "--gpu-mode", "full", "--gpu-reference", str(REFERENCE)]

    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert cli.main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)

    assert "evicts   only pods of its own" in text
    assert all(len(line) < 400 for line in text.splitlines())
    assert told["mode"] == "full"
    assert told["pools"][0].keys() == {"name", "idle", "gpusIdle", "notIdle"}
    assert cli.main(["plan", "--cluster", "embedded"]) == 4


OWN = {
    "conftest.py": """
import pytest
from conformance.catalog import declare_profile

declare_profile("ACME", "acme-clusters")


@pytest.fixture
def tried(lab):
    return lab.pod(gpus=1)
""",
    "test_racks.py": """
from conformance.catalog import MUST, OWN_NAMESPACE, Source, requirement
from racks import act

OURS = {"level": MUST, "sources": [Source("rules", "Rules", "https://example.com")], "remedy": "Mend it."}


@requirement("ACME-01", "Reads", **OURS)
def test_reads(facts, judge): ...


@requirement("ACME-02", "Acts by a function of another file", effect=OWN_NAMESPACE, **OURS)
def test_acts(lab):
    act(lab)


@requirement("ACME-03", "Acts by a fixture", effect=OWN_NAMESPACE, **OURS)
def test_tries(tried): ...
""",
    "racks.py": "def act(lab):\n    lab.apply({'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'x'}})\n",
}


def _planned_with_own(fleet, tmp_path, files, *arguments):
    folder = tmp_path / "requirements"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "conformance.cli", "plan", "--cluster", fleet, "--gpu-mode", "verify", "--json"]
    command += ["--gpu-suites", str(folder), *arguments]
    # A process of its own: profiles that suites declare stay declared.
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, cwd=tmp_path)


@whole_run
def test_requirements_of_the_owners_are_planned_beside_the_shipped_ones(fleet, tmp_path):
    ended = _planned_with_own(fleet, tmp_path, OWN)

    told = json.loads(ended.stdout)
    makers = {each["kind"]: each["requirements"] for each in told["creates"]}
    assert ended.returncode == 0
    assert {"ACME-01", "POOL-01"} <= set(told["reads"])
    assert {"ACME-02", "ACME-03", "QUOTA-05"} <= set(told["acts"])
    assert [each for each in makers["ConfigMap"] if each.startswith("ACME")] == ["ACME-02"]
    assert [each for each in makers["Pod"] if each.startswith("ACME")] == ["ACME-03"]
    assert {path.name for path in tmp_path.iterdir()} == {"requirements", "fleet.json.gz"}


@whole_run
@pytest.mark.parametrize(
    ("files", "says"),
    [({"test_racks.py": "import nothing_of_the_kind"}, "nothing_of_the_kind"), (None, "is not there")],
)
def test_suites_that_cannot_be_collected_are_one_message(fleet, tmp_path, files, says):
    ended = _planned_with_own(fleet, tmp_path, files or {}, *(() if files else ("--gpu-suites", "elsewhere")))

    assert ended.returncode == 4
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


def test_deploying_is_planned_of_clusters_only(fleet):
    with pytest.raises(ValueError, match="--gpu-deploy needs a cluster"):
        planning.plan(planning.Request(fleet, mode=Mode.FULL, reference=REFERENCE, deploy=True))


def test_what_deploying_does_is_told_before_all_else():
    deploys = Foreseen(("namespace a",), ("quota b",), ("gpu-1",), ("Helm release x/y (z 1)",), ("crd c",), "", ("d",))

    text = "\n".join(planning.format_deploying(deploys))

    for told in ("would be refused, 1: d", "creates, 1: namespace a", "brings up to date, 1: quota b", "crd c"):
        assert told in text
    assert "takes it back before the run ends" in text
    assert "installs, 1: Helm release x/y" in text


def test_every_way_of_acting_is_known_to_the_plan():
    """A new method of the lab has to say what it creates, or that it creates nothing."""
    creates_nothing = {"can", "as_service_account", "metrics_page", "free", "pause_image", "labels"}
    creates_nothing |= {"pick", "pick_idle", "let_go", "close", "pending"}
    methods = {name for name in vars(RequirementLab) if not name.startswith("_")}

    assert methods == set(CREATES) | set(WHATEVER_IT_IS_GIVEN) | set(BORROWS) | creates_nothing


@pytest.mark.cluster
def test_a_living_cluster_gives_the_nodes_that_the_plan_names(cluster):
    names = [node["metadata"]["name"] for node in cluster.client.list("/api/v1/nodes")]
    cordoned = names[0]
    cluster.client.patch(f"/api/v1/nodes/{cordoned}", {"spec": {"unschedulable": True}})
    try:
        facts = read(cluster.client)
        for node in facts.nodes:
            try:
                taken = idle_nodes(cluster.client, [node.name], 1, "abcdefgh") == (node.name,)
            except Waits:
                taken = False
            assert (not planning.unfit(facts, node)) == taken, node.name
        assert planning.unfit(facts, next(node for node in facts.nodes if node.name == cordoned)) == "is cordoned"
    finally:
        cluster.client.patch(f"/api/v1/nodes/{cordoned}", {"spec": {"unschedulable": None}})


RECORDER = """
import json
from conformance.kube.client import Client

sent = Client.request


def request(self, method, path, *, query=None, body=None, **more):
    answer = sent(self, method, path, query=query, body=body, **more)
    if method in ("POST", "PATCH", "PUT") and not (query or {}).get("dryRun"):
        with open("requests.ndjson", "a") as file:
            kind = body.get("kind", "") if isinstance(body, dict) else ""
            file.write(json.dumps([self.guard.requirement, method, path, kind]) + "\\n")
    return answer


Client.request = request
"""
# Of each way of acting one: pods, probes, quotas, claims, borrowed nodes, preemption, grants.
ACTING = "PRIO-03,PRIO-05,PRIO-10,PRIO-12,QUOTA-08,QUOTA-09,QUOTA-12,WORK-01,ISO-01,TEN-04,SCHED-01,SCHED-03,SCHED-04"
_NOT_KEPT = {"SelfSubjectAccessReview", "SubjectAccessReview", "TokenRequest", "Status", ""}


@pytest.mark.cluster
def test_a_run_creates_borrows_and_evicts_what_the_plan_says_and_nothing_else(conform, tmp_path, monkeypatch, fleet):
    (tmp_path / "recorder").mkdir()
    (tmp_path / "recorder" / "plan_recorder.py").write_text(RECORDER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "recorder"))
    planned = _plan(fleet, Mode.FULL)
    makers = {each.kind: set(each.requirements) for each in planned.creates}

    outcome = conform("-p", "plan_recorder", "--cluster", "embedded", "--gpu-requirement", ACTING)

    assert outcome.ids("passed") >= {"PRIO-03", "SCHED-01", "SCHED-03", "WORK-01", "QUOTA-08"}, outcome.output
    (recorded,) = tmp_path.rglob("requests.ndjson")
    created, patched, own = defaultdict(set), set(), set()
    for line in recorded.read_text().splitlines():
        requirement, method, path, kind = json.loads(line)
        if requirement is None:
            if f"/namespaces/{HOME_NAMESPACE}" in path and method == "POST":
                own.add(kind)
        elif path.startswith("/api/v1/nodes/"):
            patched.add(requirement)
        elif kind in PLACES and kind not in _NOT_KEPT and not path.endswith(("/token", "/eviction")):
            created[kind].add(requirement)

    assert created["Pod"]
    for kind, requirements in created.items():
        assert requirements <= makers[kind], (kind, requirements - makers[kind])
    assert own <= {each.kind for each in planned.creates if each.of_run}
    assert patched == set(planned.borrows) & set(ACTING.split(","))
    for verdict in outcome.report["requirements"]:
        evicted = [step for step in verdict.get("timeline", ()) if step["did"] == "evicted"]
        assert not evicted or verdict["requirement"] in planned.evicts
        assert all(step["namespace"].startswith("gpuc-") for step in evicted)
