"""A run that is asked about a driver upgrade decides; one that is not says nothing of it."""

import json

import pytest

from conformance.facts.snapshot import Snapshot, save

USAGE = 4


def node(name):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "eks.amazonaws.com/nodegroup": "t4-inference",
                "nvidia.com/gpu.present": "true",
                "nvidia.com/cuda.driver-version.full": "580.95.05",
            },
        },
        "status": {
            "capacity": {"nvidia.com/gpu": "4"},
            "allocatable": {"nvidia.com/gpu": "4"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kernelVersion": "6.8.0-1015-aws"},
        },
    }


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "serve-5d8f-x",
        "namespace": "ml",
        "labels": {"pod-template-hash": "5d8f"},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "serve-5d8f", "uid": "1", "controller": True}
        ],
    },
    "spec": {
        "nodeName": "gpu-1",
        "containers": [{"name": "a", "image": "a", "resources": {"limits": {"nvidia.com/gpu": "2"}}}],
    },
    "status": {"phase": "Running"},
}


def policy(**upgrade):
    return {
        "apiVersion": "nvidia.com/v1",
        "kind": "ClusterPolicy",
        "metadata": {"name": "cluster-policy"},
        "spec": {"driver": {"upgradePolicy": {"autoUpgrade": True, **upgrade}}},
    }


@pytest.fixture
def audit(conform, tmp_path):
    """Audit a cluster of these objects, with these options."""

    def of(objects, *options):
        save(Snapshot.of(objects), tmp_path / "a.json.gz")
        return conform("--cluster", "snapshot:a.json.gz", "--gpu-reference=corrected-guide", *options)

    return of


def test_an_ordinary_run_says_nothing_of_upgrades(audit):
    outcome = audit([node("gpu-1"), policy()], "--gpu-profile=pools")

    assert not [each for each in outcome.statuses if each.startswith("UPG-")]
    assert "upgrade" not in {each["name"] for each in outcome.report["profiles"]}
    assert "upgrade" not in outcome.report


def test_what_speaks_against_an_upgrade_is_the_first_thing_that_is_told(audit):
    outcome = audit([node("gpu-1"), node("gpu-2"), policy(autoUpgrade=False)], "--gpu-pre-upgrade=595.91.07")

    assert outcome.exit_code == 1
    told = outcome.report["upgrade"]
    assert (told["target"], told["decision"]) == ("driver 595.91.07", "no-go")
    assert "UPG-02" in told["failed"]
    first = outcome.output.partition("GPU conformance ==")[2].splitlines()[1]
    assert first.startswith("NO-GO for driver 595.91.07; failed: ")
    assert outcome.report["outcome"].startswith("NO-GO for driver 595.91.07")


def test_only_what_bears_on_the_upgrade_is_judged(audit):
    outcome = audit([node("gpu-1"), policy()], "--gpu-pre-upgrade=595.91.07")

    judged = {each for each, status in outcome.statuses.items() if status != "not-run"}
    companions = {each for each in judged if not each.startswith("UPG-")}
    anew = {"OPER-06", "OPER-07", "OPER-10"}
    assert companions == {"OPER-02", "OPER-12", "OPER-13", "OPER-18", "OPER-19", "POOL-10"} | anew
    assert "UPG-01" in judged


def test_a_profile_that_is_named_is_judged_beside_the_upgrade(audit):
    outcome = audit([node("gpu-1"), policy()], "--gpu-pre-upgrade=595.91.07", "--gpu-requirement=POOL-03")

    assert {"POOL-03", "UPG-02"} <= {each for each, status in outcome.statuses.items() if status != "not-run"}


def test_the_baseline_has_what_the_nodes_have_to_have_again(audit, tmp_path):
    audit([node("gpu-1"), node("gpu-2"), POD, policy()], "--gpu-pre-upgrade=595.91.07", "--gpu-report=out")

    baseline = json.loads((tmp_path / "out" / "upgrade-baseline.json").read_text())
    assert (baseline["kind"], baseline["target"]) == ("UpgradeBaseline", "driver 595.91.07")
    one, two = baseline["nodes"]
    assert (one["name"], one["driver"], one["kernel"]) == ("gpu-1", "580.95.05", "6.8.0-1015-aws")
    assert one["allocatable"] == {"nvidia.com/gpu": 4}
    assert one["owners"] == {"Deployment ml/serve": 1}
    assert two["owners"] == {}


def test_names_that_may_not_be_told_are_in_no_baseline(audit, tmp_path):
    outcome = audit([node("gpu-1"), policy()], "--gpu-pre-upgrade=595.91.07", "--gpu-redact")

    assert not list(tmp_path.rglob("upgrade-baseline.json"))
    assert any("--gpu-redact" in note for note in outcome.report["notes"])
    assert outcome.report["upgrade"]["target"] == "driver 595.91.07"


def test_drivers_of_node_images_leave_the_question_undecided(audit):
    hosted = policy()
    hosted["spec"]["driver"]["enabled"] = False

    outcome = audit([node("gpu-1"), hosted], "--gpu-pre-upgrade=595.91.07")

    assert outcome.report["upgrade"]["decision"] in ("undecided", "no-go")
    assert outcome.statuses["UPG-02"] == "not-applicable"
    assert "UPG-02   not judged: the operator manages the driver of no GPU node" in outcome.output
    assert outcome.exit_code != 0


def test_what_could_not_be_judged_is_told_with_its_reason(audit):
    unlabelled = node("gpu-1")
    unlabelled["metadata"]["labels"].pop("nvidia.com/cuda.driver-version.full", None)

    outcome = audit([unlabelled, POD, policy()], "--gpu-pre-upgrade=645.10.01")

    assert "UPG-06" in outcome.report["upgrade"]["unjudged"]
    assert "UPG-06   not judged: the name of the image tells no CUDA version" in outcome.output


@pytest.mark.parametrize("named", [["--gpu-profile=upgrade"], ["--gpu-requirement=UPG-02"]])
def test_a_requirement_of_upgrades_needs_the_version(audit, named):
    outcome = audit([node("gpu-1")], *named)

    assert outcome.exit_code == USAGE
    assert "--gpu-pre-upgrade VERSION" in outcome.output


def test_what_is_no_driver_version_is_one_usage_error(audit):
    outcome = audit([node("gpu-1")], "--gpu-pre-upgrade=latest")

    assert outcome.exit_code == USAGE
    assert "--gpu-pre-upgrade: 'latest' is no NVIDIA driver version" in outcome.output
    assert "Traceback" not in outcome.output


@pytest.fixture
def baseline(audit, tmp_path):
    """What the cluster had before its drivers were upgraded."""
    audit([node("gpu-1"), node("gpu-2"), POD, policy()], "--gpu-pre-upgrade=580.95.05", "--gpu-report=before")
    return tmp_path / "before" / "upgrade-baseline.json"


def fewer(name):
    changed = node(name)
    changed["status"]["allocatable"]["nvidia.com/gpu"] = "3"
    return changed


def test_what_is_missing_after_an_upgrade_is_told_by_node(audit, baseline):
    outcome = audit([fewer("gpu-1"), POD, policy()], f"--gpu-post-upgrade={baseline}")

    told = outcome.report["upgrade"]
    assert (told["target"], told["decision"]) == ("driver 580.95.05", "not-done")
    assert {"UPG-11", "UPG-12"} <= {*told["failed"]}
    assert "node gpu-2" in outcome.told("UPG-11")
    assert "3 nvidia.com/gpu" in outcome.told("UPG-12")
    assert outcome.statuses["UPG-13"] == "passed"
    assert outcome.statuses["UPG-14"] == "passed"
    assert "UPG-02" not in outcome.statuses


def test_after_an_upgrade_other_things_are_asked_than_before(audit, baseline):
    outcome = audit([node("gpu-1"), node("gpu-2"), POD, policy()], f"--gpu-post-upgrade={baseline}")

    judged = {each for each, status in outcome.statuses.items() if status != "not-run"}
    assert {each for each in judged if each.startswith("UPG-")} == {"UPG-11", "UPG-12", "UPG-13", "UPG-14"}
    assert {"OBS-01", "OPER-14", "WORK-14"} <= judged
    assert "OPER-19" not in judged
    assert not outcome.report["upgrade"]["baseline"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        ("{", "cannot be read"),
        ('{"kind": "Pod"}', "is no baseline of an upgrade"),
        ('{"kind": "UpgradeBaseline", "apiVersion": "gpu-conformance.io/v9"}', "is of version gpu-conformance.io/v9"),
        ('{"kind": "UpgradeBaseline", "apiVersion": "gpu-conformance.io/v1alpha1"}', "is damaged"),
    ],
)
def test_a_baseline_that_cannot_be_compared_is_one_usage_error(audit, tmp_path, content, said):
    if content is not None:
        (tmp_path / "b.json").write_text(content)

    outcome = audit([node("gpu-1")], "--gpu-post-upgrade=b.json")

    assert outcome.exit_code == USAGE
    assert "--gpu-post-upgrade: b.json" in outcome.output
    assert said in outcome.output
    assert "Traceback" not in outcome.output


def test_a_baseline_of_another_cluster_is_one_usage_error(audit, baseline):
    outcome = audit([node("other-1")], f"--gpu-post-upgrade={baseline}")

    assert outcome.exit_code == USAGE
    assert "this one has none of its 2 GPU nodes" in outcome.output


def test_before_and_after_are_not_asked_at_once(audit, baseline):
    outcome = audit([node("gpu-1")], "--gpu-pre-upgrade=595.91.07", f"--gpu-post-upgrade={baseline}")

    assert outcome.exit_code == USAGE
    assert "give one of them" in outcome.output


def test_every_format_tells_the_decision(audit, tmp_path):
    formats = "html,markdown,openmetrics,sarif,ctrf,line"

    audit([node("gpu-1"), policy(autoUpgrade=False)], "--gpu-pre-upgrade=595.91.07", f"--gpu-report-formats={formats}")

    written = {each.name: each.read_text() for each in (tmp_path / "gpu-conformance-report").iterdir()}
    metrics = written.pop("metrics.prom")
    assert 'gpu_conformance_upgrade_decision{cluster="snapshot:a.json.gz",decision="no-go"} 1' in metrics
    written.pop("upgrade-baseline.json")
    assert [name for name, text in written.items() if "NO-GO for driver 595.91.07" not in text] == []


@pytest.fixture
def probed(audit, tmp_path):
    """A baseline that has results of an earlier run: OBS-01 and WORK-01 passed, WORK-02 was not run."""
    objects = [node("gpu-1"), node("gpu-2"), POD, policy()]
    chosen = [f"--gpu-requirement={each}" for each in ("OBS-01", "WORK-01", "WORK-02")]
    audit(objects, *chosen, "--gpu-report=nightly")
    report = tmp_path / "nightly" / "report.json"
    told = json.loads(report.read_text())
    for each in told["requirements"]:
        if each["requirement"] in ("OBS-01", "WORK-01"):
            each.update(status="passed", findings=[], broken=0)
    report.write_text(json.dumps(told))
    audit(objects, "--gpu-pre-upgrade=580.95.05", f"--gpu-baseline={report}", "--gpu-report=before")
    return tmp_path / "before" / "upgrade-baseline.json"


def test_the_baseline_keeps_what_an_earlier_run_judged(probed):
    assert json.loads(probed.read_text())["probes"] == {"OBS-01": "passed", "WORK-01": "passed"}


def test_probes_are_compared_after_an_upgrade_and_what_was_not_judged_again_is_named(audit, probed):
    outcome = audit([node("gpu-1"), node("gpu-2"), POD, policy()], f"--gpu-post-upgrade={probed}")

    notes = " ".join(outcome.report["notes"])
    assert "OBS-01 was passed and is failed" in notes
    assert "not compared, because this run did not judge them: WORK-01" in notes


def test_a_baseline_without_results_of_probes_is_compared_without_a_word_on_them(audit, baseline):
    told = json.loads(baseline.read_text())
    del told["probes"]
    baseline.write_text(json.dumps(told))

    outcome = audit([node("gpu-1"), node("gpu-2"), POD, policy()], f"--gpu-post-upgrade={baseline}")

    assert not [each for each in outcome.report["notes"] if "before the upgrade" in each]
