import pytest

pytestmark = pytest.mark.cluster


def test_workers_share_the_one_cluster_of_their_controller(conform):
    chosen = ["POOL-01", "POOL-03", "TEN-05", "SCHED-01", "SCHED-02", "QUOTA-05"]

    outcome = conform(
        "--cluster", "embedded", "-n", "2", *[part for id in chosen for part in ("--gpu-requirement", id)]
    )  # fmt: skip

    assert outcome.exit_code == 0, outcome.output
    assert outcome.ids("passed") == set(chosen), outcome.output
    assert outcome.output.count("Starting the control plane") == 1
    assert outcome.report["run"]["mode"] == "full"
