"""Clusters of kinds that this project has no set-up for give no false alarm, as drafted and as owners declare them.

``others/<name>.yaml`` has what the API of such a cluster shows, as a fleet, with the sources of its facts;
``others/declared/<name>.yaml`` what somebody would write who runs it.
"""

from pathlib import Path

import pytest
from audits import audits
from fleets import load, objects_of, save

from conformance.drafting import draft, write
from conformance.facts import snapshot

pytestmark = [pytest.mark.cluster, pytest.mark.recorded]

FOLDER = Path(__file__).parent / "others"
OTHERS = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
DECLARED = {file.stem: file for file in sorted((FOLDER / "declared").glob("*.yaml"))}

POOLS = "POOL-01 POOL-04 POOL-05 POOL-08 POOL-10 "
WORKLOADS = POOLS + "SCHED-13 SCHED-15 SCHED-16 "
COUNTED = "QUOTA-01 QUOTA-02 QUOTA-03 QUOTA-04 WORK-10 "
OF_A_PLUGIN = "OPER-01 OPER-05 OPER-06 OPER-10 OPER-13 WORK-10 "
OF_AN_OPERATOR = " ".join(f"OPER-{number:02}" for number in range(1, 18)) + " OBS-01 POOL-06 "

# What has to be judged and to hold, whoever declares it: by these no cluster passes by judging nothing.
PASS = {
    "aks-managed": WORKLOADS + COUNTED + "POOL-03 POOL-09",
    "aks-plugin": WORKLOADS + COUNTED + OF_A_PLUGIN + "POOL-03 POOL-09 WORK-12",
    "autopilot": POOLS + COUNTED + "QUOTA-13 POOL-03",
    "dra": POOLS + "DRA-01 DRA-02 DRA-03 DRA-05 DRA-10 QUOTA-01 QUOTA-04 OPER-13",
    "eks-auto": WORKLOADS + COUNTED + "POOL-03",
    "eks-auto-dra": POOLS + "DRA-01 DRA-03 DRA-04 DRA-05 QUOTA-01 POOL-03",
    "hami": WORKLOADS + COUNTED + "QUOTA-13 WORK-15",
    "hgx": WORKLOADS + COUNTED + OF_A_PLUGIN + "QUOTA-13 WORK-12",
    "k0s": WORKLOADS + COUNTED + OF_AN_OPERATOR + "OPER-18 OPER-19 POOL-03 POOL-09 WORK-14 WORK-15",
    "karpenter": WORKLOADS + COUNTED,
    "karpenter-declared": POOLS + COUNTED,
    "kueue": WORKLOADS + "QUOTA-04 POOL-06 POOL-09",
    "kyverno": WORKLOADS + COUNTED + OF_A_PLUGIN + "POOL-03 POOL-09 PRIO-13 WORK-15",
    "kyverno-declared": WORKLOADS + COUNTED + OF_A_PLUGIN + "POOL-03 POOL-09 PRIO-13 WORK-15 WORK-16",
    "laptop": WORKLOADS + OF_A_PLUGIN + "TS-01 TS-02 TS-04 TS-10",
    "makers": WORKLOADS + COUNTED,
    "openshift-drivers": WORKLOADS + COUNTED + OF_AN_OPERATOR + "OPER-18 OPER-19 POOL-03 POOL-07 WORK-12 WORK-14",
    "own-names": WORKLOADS + COUNTED + OF_A_PLUGIN + "OBS-01 POOL-03 POOL-06 POOL-09",
    "rdma": WORKLOADS + COUNTED,
    "rke2": WORKLOADS + COUNTED + OF_AN_OPERATOR + "OPER-07",
    "runai": POOLS + "GANG-01 GANG-02 GANG-03 QUOTA-04 POOL-06 WORK-12",
    "slinky": WORKLOADS + COUNTED + "POOL-09 TEN-01",
    "talos": WORKLOADS + COUNTED + OF_A_PLUGIN + "OPER-07 WORK-15",
    "volcano": POOLS + OF_A_PLUGIN + "QUOTA-04 WORK-15",
    "webhooks": WORKLOADS + COUNTED + OF_A_PLUGIN + "POOL-03 POOL-09 PRIO-13 WORK-15",
    "webhooks-declared": WORKLOADS + COUNTED + OF_A_PLUGIN + "POOL-03 POOL-09 PRIO-13 WORK-15 WORK-16",
}
# What is said of subjects that nothing in the API decides about.
_DESERVED = {
    "QUOTA-04": "Volcano queue products, deserved 8 nvidia.com/gpu, beyond which Volcano takes back only where"
}
_ANOTHER_TYPE = {
    "POOL-05": "Karpenter's NodePool gpu with node.kubernetes.io/instance-type=g6.12xlarge, for which no pool"
}
UNSEEN = {"volcano": _DESERVED, "volcano-declared": _DESERVED, "karpenter-declared": _ANOTHER_TYPE}
# What those that nobody has to be protected from are not held to.
NOT_APPLICABLE = {"laptop": {"QUOTA-04"}, "laptop-declared": {"QUOTA-04"}}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """The draft of each cluster, and how an audit with it ends; the latter with the owners' declaration as well."""
    folder = tmp_path_factory.mktemp("others")
    drafts, asked = {}, []
    for name, file in OTHERS.items():
        fleet, saved = load(file), folder / f"{name}.json.gz"
        save(objects_of(fleet), fleet.server_version, saved)
        drafts[name] = draft(snapshot.load(saved), name)
        write(drafts[name], folder / "drafts" / name)
        asked.append({"id": name, "snapshot": str(saved), "reference": str(folder / "drafts" / name)})
        if name in DECLARED:
            asked.append({"id": f"{name}-declared", "snapshot": str(saved), "reference": str(DECLARED[name])})
    return drafts, audits(asked, folder)


@pytest.mark.parametrize("name", OTHERS)
def test_a_draft_contradicts_nothing_and_holds(name, judged):
    drafts, outcomes = judged

    assert list(drafts[name].contradictions) == []
    holds(outcomes[name], PASS[name], name)


@pytest.mark.parametrize("name", DECLARED)
def test_what_its_owners_would_declare_holds(name, judged):
    _, outcomes = judged

    declared = f"{name}-declared"
    holds(outcomes[declared], PASS.get(declared, PASS[name]), declared)


def holds(outcome, passing, name):
    """Whether nothing is reported of a cluster, and what it is about was judged."""
    assert outcome.exit_code == 0, outcome.output
    assert set(passing.split()) - outcome.ids("passed") == set(), outcome.output
    assert NOT_APPLICABLE.get(name, set()) <= outcome.ids("not-applicable")
    unseen = {
        each["requirement"]: each["unseenExamples"][0]["why"]
        for each in outcome.report["requirements"]
        if each["unseen"]
    }
    said = UNSEEN.get(name, {})
    assert unseen.keys() == said.keys()
    assert [each for each in said if said[each] not in unseen[each]] == []
