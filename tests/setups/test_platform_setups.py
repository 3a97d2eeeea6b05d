"""A set-up of each platform, and a draft, are green on a fleet like it; its faults are told in words that fit there.

``fixtures/setups/<platform>/fleet.yaml`` has what the API of such a cluster shows; see docs/platforms.
"""

import pytest
import seeded
from audits import audits
from fleets import load, objects_of, save

from conformance.advice import advise
from conformance.drafting import draft, write
from conformance.facts import snapshot
from conformance.reference.loading import load_placed
from conformance.shipped import shipped

pytestmark = [pytest.mark.cluster, pytest.mark.recorded]

SETUPS = shipped("fixtures/setups")

POOLS = "POOL-01 POOL-03 POOL-04 POOL-05 POOL-08 POOL-09 POOL-10 "
TEAMS = "TEN-01 TEN-02 TEN-03 PRIO-01 PRIO-02 PRIO-13 SCHED-13 SCHED-15 SCHED-16 WORK-10 WORK-11 QUOTA-04 ISO-06 "
PLUGIN = "OPER-01 OPER-05 OPER-06 OPER-10 OPER-13 "
OPERATOR = " ".join(f"OPER-{number:02}" for number in range(1, 18))
# What a platform is judged by: a test cannot pass by judging nothing.
JUDGED = {
    "eks": POOLS + TEAMS + PLUGIN + "POOL-06 POOL-07 OPER-15 OPER-16 OPER-17 QUOTA-01 QUOTA-03",
    "gke": POOLS + TEAMS + "POOL-07 QUOTA-01 QUOTA-03",
    "aks": POOLS + TEAMS + PLUGIN + "POOL-07 QUOTA-01 QUOTA-03",
    "openshift": POOLS + TEAMS + OPERATOR + " POOL-06 POOL-07 OBS-01 ISO-06",
}
FAULTS = [
    (platform, seeded.read(file)) for platform in JUDGED for file in (SETUPS / platform / "faults").glob("*.yaml")
]


def name_of(platform, fault):
    return f"{platform}-{fault.id}"


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """The outcomes of all audits by name, the platform's own (``gke``), of its draft and of each of its faults.

    One process makes them all, because most of a short audit is its start.
    """
    folder = tmp_path_factory.mktemp("platforms")
    asked = []

    def ask(name, objects, version, reference):
        save(objects, version, folder / f"{name}.json.gz")
        asked.append({"id": name, "snapshot": str(folder / f"{name}.json.gz"), "reference": str(reference)})

    for platform in JUDGED:
        fleet = load(SETUPS / platform / "fleet.yaml")
        objects, own = objects_of(fleet), SETUPS / platform / "reference"
        ask(platform, objects, fleet.server_version, own)
        write(draft(snapshot.load(folder / f"{platform}.json.gz"), platform), folder / "drafts" / platform)
        ask(f"{platform}-draft", objects, fleet.server_version, folder / "drafts" / platform)
        for _, fault in filter(lambda each: each[0] == platform, FAULTS):
            ask(name_of(platform, fault), seeded.broken(objects, fault), fleet.server_version, own)
    return folder, audits(asked, folder)


def gives_no_alarm(outcome):
    assert outcome.ids("failed") | outcome.ids("error") | outcome.ids("unknown") == set(), outcome.output
    assert outcome.exit_code == 0, outcome.output


def advice_of(verdict):
    """What a failed verdict holds for the cause and advises, its own remedy where a finding has none."""
    broken = [group for group in verdict["findings"] if not group["ok"]]
    return " ".join(f"{group.get('cause', '')} {group.get('remedy') or verdict['remedy']}" for group in broken)


@pytest.mark.parametrize("platform", JUDGED)
def test_a_platform_is_green_under_its_set_up(platform, audited):
    outcome = audited[1][platform]

    gives_no_alarm(outcome)
    assert set(JUDGED[platform].split()) - outcome.ids("passed") == set(), outcome.output


@pytest.mark.parametrize("platform", JUDGED)
def test_a_platform_is_green_under_the_set_up_that_is_drafted_from_it(platform, audited):
    folder, outcomes = audited

    gives_no_alarm(outcomes[f"{platform}-draft"])
    advise(load_placed(folder / "drafts" / platform))


@pytest.mark.parametrize(("platform", "fault"), FAULTS, ids=lambda each: getattr(each, "id", each))
def test_a_fault_of_a_platform_is_told_in_words_that_fit_there(platform, fault, audited):
    is_told(audited[1][name_of(platform, fault)], fault)


def is_told(outcome, fault):
    """The requirements that have to notice a fault notice it, and say what helps."""
    assert outcome.ids("failed") == set(fault.fails), outcome.output
    assert outcome.ids("error") == set(fault.errors), outcome.output
    assert outcome.ids("waiting") == set(fault.waits), outcome.output
    for requirement in fault.fails:
        told = outcome.told(requirement).lower()
        assert fault.says.lower() in told, f"{requirement} does not say {fault.says!r}: {told}"
        advised = advice_of(outcome.verdict(requirement)).lower()
        assert [words for words in fault.never if words.lower() in advised] == [], advised
    assert outcome.not_advised(fault.advises) == {}


@pytest.mark.parametrize("platform", JUDGED)
def test_at_least_two_faults_of_a_platform_are_tried(platform):
    assert len([fault for of, fault in FAULTS if of == platform]) > 1
