"""The guide's set-up, deployed word for word, breaks exactly the requirements that its known mistakes break."""

import json

import pytest
from samples import SAMPLES

from conformance.shipped import shipped

# Each mistake, and the word without which its explanation would explain nothing (docs/guide-mistakes.md).
MISTAKES = {
    "SCHED-14": "gpu-memory",
    "TEN-03": "annotation",
    "TEN-10": "serviceAccountName",
    "PRIO-09": "preemptionPolicy Never",
    "PRIO-13": "priorityClassName",
    "PRIO-14": "preempt no pod",
    "QUOTA-04": "no quota counts them",
    "TS-02": "devicePlugin.config.default is empty",
    "TS-10": "one GPU twice",
    "MIG-01": "holds at most 3 of 2g.10gb",
    "MIG-08": "MIG is on for 4 GPUs and off for 4",
    "WORK-08": "dedicated=gpu",
    "WORK-12": "/dev/shm",
}
# What these mistakes lead to on the nodes: time-slicing that is not applied, a layout that failed, and a device plugin
# that ends, because the strategy single offers nothing of a node that is divided in half.
CONSEQUENCES = {"POOL-04", "TS-04", "TS-05", "MIG-04", "OPER-05", "OPER-13", "OBS-02"}
# What cannot be looked at any more where nothing is shared and nothing is divided; the operator has been unready for
# too short a time to say that it will stay so.
NOT_SEEN = {"TS-03", "TS-07", "TS-08", "MIG-06", "MIG-07", "OPER-02"}


@pytest.mark.cluster
def test_the_guide_breaks_what_its_mistakes_break_and_nothing_else(conform):
    # Nodes that offer other GPUs than they should are waited for as long as the timeout says.
    outcome = conform(
        "--cluster", "embedded", "--gpu-reference", str(shipped("fixtures/guide")),
        "--gpu-timeout", "hold=1", "--gpu-timeout", "stack=90",
    )  # fmt: skip

    assert outcome.exit_code == 1
    kept = json.loads((SAMPLES / "guide" / "report.json").read_text())
    as_kept = {verdict["requirement"]: verdict["status"] for verdict in kept["requirements"]}
    assert {each: outcome.statuses[each] for each in as_kept} == as_kept, "ci/samples makes the kept report anew"
    assert outcome.ids("failed") == set(MISTAKES) | CONSEQUENCES, outcome.output
    assert outcome.ids("error") | outcome.ids("waiting") == NOT_SEEN, outcome.output
    for requirement, word in MISTAKES.items():
        assert word in outcome.told(requirement), requirement
