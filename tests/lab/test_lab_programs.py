"""Probes on many nodes: one pod to a node, every node with a result, and the reason where there is none."""

from collections.abc import Iterator

import pytest
from lab_runs import lab_on, rule
from program_cluster import Ending, ProgramCluster, line

from conformance.kube.effects import Effect
from conformance.kube.errors import EffectRefused
from conformance.lab import Program, RequirementLab, probe_jobs
from conformance.lab.podspec import Named
from conformance.lab.probe_results import record_in

TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
# Where Google's device plugin mounts the driver.
LIBRARIES = {"name": "LD_LIBRARY_PATH", "value": "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"}


class NodeName(str):
    """A node, as far as the lab has to know it."""

    @property
    def name(self) -> str:
        return str(self)


@pytest.fixture
def cluster() -> ProgramCluster:
    """Three GPU nodes with a taint, one of them with fewer devices, and an ordinary one."""
    cluster = ProgramCluster()
    for name, gpus in (("gpu-1", 4), ("gpu-2", 4), ("gpu-3", 2)):
        cluster.node(name, gpus=gpus, taints=(TAINT,))
    cluster.node("cpu-1")
    cluster.add("Namespace", "team")
    return cluster


@pytest.fixture
def bench(cluster: ProgramCluster) -> Iterator[RequirementLab]:
    with lab_on(cluster) as lab, lab.for_requirement(rule(Effect.OCCUPIES_IDLE_GPUS)) as bench:
        yield bench


def nodes(*names: str) -> list[Named]:
    return [NodeName(name) for name in names]


def jobs(cluster: ProgramCluster) -> list[dict]:
    return [obj for _, kind, obj in cluster.history if obj["kind"] == "Job" and kind == "ADDED"]


def test_every_node_gets_its_own_pod_and_says_what_it_found(bench, cluster):
    results = bench.run_on_nodes(nodes("gpu-2", "gpu-1"), "devices")

    assert list(results) == ["gpu-2", "gpu-1"]
    assert {name: result.found["node"] for name, result in results.items()} == {"gpu-1": "gpu-1", "gpu-2": "gpu-2"}
    assert {(result.phase, result.exit_code, result.failure) for result in results.values()} == {("Succeeded", 0, "")}


def test_a_result_counts_when_the_program_has_ended_well_whatever_its_pod_still_waits_for(bench, cluster):
    cluster.plays = lambda pod: Ending(line(seen=7), exit_code=0, phase="Running")

    result = bench.run_on_nodes(nodes("gpu-1"), "devices")["gpu-1"]

    assert (result.found["seen"], result.exit_code, result.failure) == (7, 0, "")


def test_alike_nodes_share_one_job_and_others_have_their_own(bench, cluster):
    results = bench.run_on_nodes(nodes("gpu-1", "gpu-2", "gpu-3"), "cuda", gpus="free")

    assert [result.devices for result in results.values()] == [4, 4, 2]
    asked = {job["spec"]["completions"]: pod_of(job)["resources"]["limits"]["nvidia.com/gpu"] for job in jobs(cluster)}
    assert asked == {2: "4", 1: "2"}


def test_a_node_whose_pod_went_to_another_one_is_tried_again(bench, cluster):
    cluster.ended_make_room = True

    results = bench.run_on_nodes(nodes("gpu-1", "gpu-2", "gpu-3"), "devices")

    assert {name: result.found["node"] for name, result in results.items()} == {name: name for name in results}
    assert list(results) == ["gpu-1", "gpu-2", "gpu-3"]
    assert [job["spec"]["completions"] for job in jobs(cluster)] == [3, 2, 1]


def test_a_node_that_gets_no_pod_in_any_round_is_told_so(bench, cluster, monkeypatch):
    cluster.ended_make_room = True
    monkeypatch.setattr(probe_jobs, "_ROUNDS", 2)

    results = bench.run_on_nodes(nodes("gpu-1", "gpu-2", "gpu-3"), "devices")

    assert [name for name, result in results.items() if not result.failure] == ["gpu-1", "gpu-2"]
    assert "its pod went to another node each time" in results["gpu-3"].failure


def test_a_pod_that_hangs_keeps_no_other_node_from_being_tried_again(bench, cluster):
    cluster.ended_make_room = True

    def plays(pod):
        hangs = pod["spec"]["nodeName"] == "gpu-1"
        return Ending(phase="Running", exit_code=None) if hangs else Ending(line(node=pod["spec"]["nodeName"]))

    cluster.plays = plays

    results = bench.run_on_nodes(nodes("gpu-1", "gpu-2", "gpu-3"), "devices")

    assert {name for name, result in results.items() if not result.failure} == {"gpu-2", "gpu-3"}
    assert "did not end in time" in results["gpu-1"].failure


def pod_of(job: dict) -> dict:
    return job["spec"]["template"]["spec"]["containers"][0]


def test_the_program_is_in_the_pod_and_the_pod_is_harmless(bench, cluster):
    bench.run_on_nodes(
        nodes("gpu-1"), "isolation", gpus=0, env={"NVIDIA_VISIBLE_DEVICES": "all"}, runtime_class="nvidia"
    )

    job = jobs(cluster)[0]
    container, spec = pod_of(job), job["spec"]["template"]["spec"]
    assert container["command"] == ["python3", "/probes/isolation.py"]
    assert container["env"] == [LIBRARIES, {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
    assert "@sha256:" in container["image"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["priorityClassName"].endswith("harmless")
    assert spec["securityContext"]["runAsNonRoot"]
    namespace = job["metadata"]["namespace"]
    assert "seen_by" in cluster.history_of("ConfigMap", "probes", namespace)["data"]["isolation.py"]


def test_without_runtime_class_none_is_asked_for(bench, cluster):
    bench.run_on_nodes(nodes("gpu-1"), "devices")

    assert "runtimeClassName" not in jobs(cluster)[0]["spec"]["template"]["spec"]


def test_a_node_without_a_free_device_is_told_so_and_the_others_are_not_lost(bench, cluster):
    hold(cluster, "gpu-1", 4)

    results = bench.run_on_nodes(nodes("gpu-1", "gpu-2"), "devices")

    assert "1 nvidia.com/gpu asked for, 0 of 4 free (held by team/holder)" in results["gpu-1"].failure
    assert not results["gpu-1"].placed
    assert not results["gpu-2"].failure


def test_free_leaves_alone_what_others_hold(bench, cluster):
    hold(cluster, "gpu-1", 3)
    hold(cluster, "gpu-2", 4)

    results = bench.run_on_nodes(nodes("gpu-1", "gpu-2"), "devices", gpus="free")

    assert pod_of(jobs(cluster)[0])["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "0 of 4 free" in results["gpu-2"].failure


def hold(cluster: ProgramCluster, node: str, gpus: int) -> None:
    container = {"name": "main", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    name = "holder" if node == "gpu-1" else f"holder-{node}"
    cluster.add("Pod", name, "team", spec={"nodeName": node, "containers": [container]}, status={"phase": "Running"})


def test_a_node_that_is_not_ready_gets_no_pod(bench, cluster):
    cluster.get("Node", "gpu-1")["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]

    results = bench.run_on_nodes(nodes("gpu-1", "gone"), "devices")

    assert results["gpu-1"].failure == "the node is not Ready"
    assert results["gone"].failure == "the cluster has no such node"
    assert not jobs(cluster)


def test_a_probe_that_could_not_look_is_a_failure_with_its_own_words(bench, cluster):
    cluster.plays = lambda pod: Ending(line(error="OSError: libcuda.so.1"), exit_code=2, phase="Failed")

    result = bench.run_on_nodes(nodes("gpu-1"), "cuda")["gpu-1"]

    assert (result.exit_code, result.failure) == (2, "OSError: libcuda.so.1")
    with pytest.raises(ValueError, match="gpu-1: OSError"):
        _ = result.found


def test_a_pod_that_its_kubelet_refused_says_why(bench, cluster):
    refused = {"reason": "UnexpectedAdmissionError", "message": "requested number of devices unavailable"}
    cluster.plays = lambda pod: Ending(exit_code=None, phase="Failed", status=refused)

    result = bench.run_on_nodes(nodes("gpu-1"), "devices")["gpu-1"]

    assert (result.reason, result.placed) == ("UnexpectedAdmissionError", True)
    assert (
        result.failure
        == "the kubelet did not run it, UnexpectedAdmissionError: requested number of devices unavailable"
    )


def test_a_program_that_crashed_is_no_result(bench, cluster):
    cluster.plays = lambda pod: Ending("Traceback: no room\n", exit_code=137, phase="Failed")

    result = bench.run_on_nodes(nodes("gpu-1"), "devices")["gpu-1"]

    assert result.record is None
    assert "its log ends: Traceback: no room (it ended with 137, Ended)" in result.failure


def test_an_image_that_cannot_be_pulled_ends_the_wait_and_names_the_image(bench, cluster):
    waiting = {"name": "probe", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    cluster.plays = lambda pod: Ending(exit_code=None, phase="Pending", status={"containerStatuses": [waiting]})

    result = bench.run_on_nodes(nodes("gpu-1"), "devices")["gpu-1"]

    assert "ImagePullBackOff: image docker.io/library/python" in result.failure


def test_a_pod_that_never_ends_is_told_with_the_last_warning(bench, cluster):
    cluster.plays = lambda pod: Ending(exit_code=None, phase="Pending")
    namespace = bench.namespace()
    bench._default_namespace = namespace
    cluster.add(
        "Event",
        "e1",
        namespace,
        type="Warning",
        reason="FailedCreatePodSandBox",
        message='no runtime for "nvidia"',
        involvedObject={"name": "devices-1"},
    )

    result = bench.run_on_nodes(nodes("gpu-1"), "devices")["gpu-1"]

    assert result.placed
    assert result.reason == "FailedCreatePodSandBox"
    assert "did not end in time and is Pending on node gpu-1" in result.failure
    assert result.failure.endswith('the last warning about it: FailedCreatePodSandBox: no runtime for "nvidia"')


def test_a_warning_that_was_overcome_is_not_what_holds_a_pod(bench, cluster):
    cluster.plays = lambda pod: Ending(exit_code=None, phase="Pending")
    namespace = bench.namespace()
    bench._default_namespace = namespace
    for minute, kind, reason in (("01", "Warning", "FailedCreatePodSandBox"), ("02", "Normal", "Pulling")):
        moment = f"2026-01-01T00:{minute}:00Z"
        happened = {"type": kind, "reason": reason, "message": "m", "lastTimestamp": moment}
        cluster.add("Event", reason.lower(), namespace, **happened, involvedObject={"name": "devices-1"})

    result = bench.run_on_nodes(nodes("gpu-1"), "devices")["gpu-1"]

    assert result.reason == ""
    assert result.failure == "it did not end in time and is Pending on node gpu-1"


def test_a_program_that_said_its_line_and_cannot_end_is_heard(bench, cluster):
    cluster.plays = lambda pod: Ending(line(seen=7), exit_code=None, phase="Running")

    result = bench.run_on_nodes(nodes("gpu-1"), "devices")["gpu-1"]

    assert result.found["seen"] == 7
    assert result.phase == "Running"


def test_a_log_that_cannot_be_read_is_a_failure_of_that_node(bench, cluster):
    cluster.logs_refused = True

    result = bench.run_on_nodes(nodes("gpu-1"), "devices")["gpu-1"]

    assert "its log could not be read" in result.failure
    assert result.phase == "Succeeded"


def test_a_job_without_pods_is_explained(bench, cluster):
    cluster.jobs_make_pods = False

    result = bench.run_on_nodes(nodes("gpu-1"), "devices")["gpu-1"]

    assert result.failure == "the Job controller made no pod for it"


def test_a_refused_job_is_told_for_each_of_its_nodes(bench, cluster):
    cluster.forbidden.add(("POST", "Job"))

    results = bench.run_on_nodes(nodes("gpu-1", "gpu-2"), "devices")

    assert all("its Job was refused" in result.failure for result in results.values())


def test_held_pods_keep_their_devices_until_the_block_ends(bench, cluster):
    cluster.plays = lambda pod: Ending(line(held=True), exit_code=None, phase="Running")

    with bench.held_on_nodes(nodes("gpu-3"), "devices", gpus=2) as held:
        assert held["gpu-3"].found["held"]
        assert pod_of(jobs(cluster)[0])["command"][-2:] == ["--hold", "3600"]
        assert "0 of 2 free" in bench.run_on_nodes(nodes("gpu-3"), "devices")["gpu-3"].failure

    assert not bench.run_on_nodes(nodes("gpu-3"), "devices")["gpu-3"].failure.count("free")


def test_several_programs_run_at_the_same_time_and_keep_their_results_apart(bench, cluster):
    cluster.plays = lambda pod: Ending(line(program=pod["spec"]["containers"][0]["command"][1]))
    wanted = [Program(nodes("gpu-1", "cpu-1"), "isolation", {"gpus": 0}), Program(nodes("gpu-1"), "cuda", {})]

    isolation, cuda = bench.run_programs(wanted)

    assert {name: result.found["program"] for name, result in isolation.items()} == {
        "gpu-1": "/probes/isolation.py",
        "cpu-1": "/probes/isolation.py",
    }
    assert {name: result.found["program"] for name, result in cuda.items()} == {"gpu-1": "/probes/cuda.py"}
    assert not [obj for obj in cluster.objects.values() if obj["kind"] == "Job"]


def test_a_held_pod_that_has_just_started_may_have_no_log_yet(bench, cluster):
    cluster.plays = lambda pod: Ending(line(held=True), exit_code=None, phase="Running")
    cluster.logs_late = 2

    with bench.held_on_nodes(nodes("gpu-3"), "devices") as held:
        assert held["gpu-3"].found["held"]


def test_a_job_has_only_so_many_nodes_so_that_its_pods_stay_small(bench, cluster, monkeypatch):
    monkeypatch.setattr(probe_jobs, "_MOST_NODES", 3)
    names = [f"many-{number}" for number in range(7)]
    for name in names:
        cluster.node(name, gpus=1)

    results = bench.run_on_nodes(nodes(*names), "devices")

    assert [job["spec"]["completions"] for job in jobs(cluster)] == [3, 3, 1]
    assert all(results[name].found["node"] == name for name in names)


def test_devices_need_a_requirement_that_declares_them(cluster):
    with lab_on(cluster) as lab, lab.for_requirement(rule(Effect.OWN_NAMESPACE)) as bench:
        with pytest.raises(EffectRefused):
            bench.run_on_nodes(nodes("gpu-1"), "devices")
        assert not bench.run_on_nodes(nodes("gpu-1"), "isolation", gpus=0)["gpu-1"].failure


def test_only_probes_that_exist_can_be_run(bench):
    with pytest.raises(ValueError, match="devices, cuda, bandwidth, isolation"):
        bench.run_on_nodes(nodes("gpu-1"), "nvidia")


@pytest.mark.parametrize(
    ("log", "failure"),
    [
        ("", "the probe printed nothing"),
        ("GPU-CONFORMANCE-PROBE {", "the probe's line is no JSON"),
        ("GPU-CONFORMANCE-PROBE []", "the probe's line is no JSON"),
        ("nothing here", "printed no result; its log ends: nothing here"),
    ],
)
def test_a_log_without_a_good_line_is_no_record(log, failure):
    record, why = record_in(log)

    assert record is None
    assert failure in why


def test_nothing_is_left_of_a_program(cluster):
    with lab_on(cluster) as lab, lab.for_requirement(rule(Effect.OCCUPIES_IDLE_GPUS)) as bench:
        before = cluster.of("Pod")
        bench.run_on_nodes(nodes("gpu-1"), "devices")
    assert cluster.of("Pod") == before
    assert cluster.of("Job") == []


def test_variables_can_differ_by_node(bench, cluster):
    wishes = {"gpu-1": {"NVIDIA_VISIBLE_DEVICES": "GPU-a"}, "gpu-2": {"NVIDIA_VISIBLE_DEVICES": "GPU-b"}}

    bench.run_on_nodes(nodes("gpu-1", "gpu-2"), "isolation", gpus=0, env={"HOME": "/"}, env_of=wishes)

    told = [{each["name"]: each["value"] for each in pod_of(job)["env"] if each != LIBRARIES} for job in jobs(cluster)]
    assert told == [{"HOME": "/", **wishes["gpu-1"]}, {"HOME": "/", **wishes["gpu-2"]}]


def test_results_are_not_lost_over_pods_that_do_not_go(bench, cluster):
    cluster.forbidden.add(("DELETE", "Job"))

    assert not bench.run_on_nodes(nodes("gpu-1"), "devices")["gpu-1"].failure
