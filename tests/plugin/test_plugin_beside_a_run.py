"""An audit of a cluster on which a run has something names the run, and judges nothing of it."""

from conformance.facts.snapshot import Snapshot, save

RUN = "k3v9x2ab"
NAMESPACE = f"gpuc-{RUN}-quota-1"
LABELS = {"gpu-conformance.io/run-id": RUN}


def test_an_audit_names_the_run_and_leaves_its_objects_out(conform, tmp_path):
    privileged = {"name": "main", "image": "registry.example/app:1", "securityContext": {"privileged": True}}
    save(
        Snapshot.of(
            [
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": NAMESPACE, "labels": LABELS},
                },
                {
                    "apiVersion": "v1",
                    "kind": "ResourceQuota",
                    "metadata": {"name": "odd", "namespace": NAMESPACE},
                    "spec": {"hard": {"limits.nvidia.com/gpu": "1"}},
                },
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "theirs", "namespace": "default", "labels": LABELS},
                    "spec": {"containers": [privileged], "tolerations": [{"operator": "Exists"}]},
                },
            ]
        ),
        tmp_path / "beside.json.gz",
    )

    outcome = conform("--cluster", "snapshot:beside.json.gz", "--gpu-profile=quota,scheduling")

    assert outcome.ids("failed") == set(), outcome.output
    (note,) = outcome.report["notes"]
    assert note == (
        f"run {RUN} was on the cluster when the snapshot was taken; this audit leaves out its 2 objects. "
        f"Run: gpu-conformance clean --cluster NAME {RUN}"
    )
    assert f"note: run {RUN}" in outcome.output
