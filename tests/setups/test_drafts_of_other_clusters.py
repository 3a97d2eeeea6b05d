"""Clusters of kinds that this project has no set-up for: what is drafted of them contradicts nothing and holds.

``others/<name>.yaml`` has what the API of such a cluster shows, as a fleet, with the sources of its facts.
"""

from pathlib import Path

import pytest
from audits import audits
from fleets import load, objects_of, save

from conformance.drafting import draft, write
from conformance.facts import snapshot

pytestmark = [pytest.mark.cluster, pytest.mark.recorded]

OTHERS = {file.stem: file for file in sorted((Path(__file__).parent / "others").glob("*.yaml"))}
POOLS = "POOL-01 POOL-04 POOL-05 POOL-08 POOL-10 "
WORKLOADS = "QUOTA-01 QUOTA-02 QUOTA-03 QUOTA-04 SCHED-13 SCHED-15 SCHED-16 WORK-10"


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """The draft of each cluster, and how an audit with it ends."""
    folder = tmp_path_factory.mktemp("others")
    drafts, asked = {}, []
    for name, file in OTHERS.items():
        fleet, saved = load(file), folder / f"{name}.json.gz"
        save(objects_of(fleet), fleet.server_version, saved)
        drafts[name] = draft(snapshot.load(saved), name)
        write(drafts[name], folder / "drafts" / name)
        asked.append({"id": name, "snapshot": str(saved), "reference": str(folder / "drafts" / name)})
    return drafts, audits(asked, folder)


@pytest.mark.parametrize("name", OTHERS)
def test_a_draft_contradicts_nothing_and_holds(name, judged):
    drafts, outcomes = judged

    assert list(drafts[name].contradictions) == []
    assert outcomes[name].exit_code == 0, outcomes[name].output
    assert set((POOLS + WORKLOADS).split()) - outcomes[name].ids("passed") == set(), outcomes[name].output
