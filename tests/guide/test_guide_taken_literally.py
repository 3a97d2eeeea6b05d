"""The guide's set-up, deployed word for word, breaks exactly the requirements that its known mistakes break."""

import json

import pytest
from kubeconfigs import context_of

from conformance.shipped import shipped

# Each mistake, and the word without which its explanation would explain nothing (docs/guide-mistakes.md).
MISTAKES = {
    "SCHED-14": "gpu-memory",
    "TEN-03": "annotation",
    "TEN-10": "serviceAccountName",
    "PRIO-09": "preemptionPolicy Never",
    "PRIO-13": "priorityClassName",
    "PRIO-14": "evict nobody",
    "QUOTA-04": "no quota counts them",
    "WORK-08": "dedicated=gpu",
    "WORK-12": "/dev/shm",
}


@pytest.mark.cluster
def test_the_guide_breaks_what_its_mistakes_break_and_nothing_else(cluster, conform):
    outcome = conform(
        "--cluster", context_of(cluster.kubeconfig), "--gpu-kubeconfig", str(cluster.kubeconfig), "--gpu-mode", "full",
        "--gpu-deploy", "--gpu-reference", str(shipped("fixtures/guide")), "--gpu-timeout", "hold=1",
    )  # fmt: skip

    assert outcome.exit_code == 1
    assert outcome.ids("failed") == set(MISTAKES), outcome.output
    assert outcome.ids("error") == set(), outcome.output
    for requirement, word in MISTAKES.items():
        assert word in json.dumps(outcome.verdict(requirement)["findings"]), requirement
