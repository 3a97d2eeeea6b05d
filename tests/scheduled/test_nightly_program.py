"""One scheduled run: what it asks for, where its results get to, and how it ends."""

import base64
import gzip
import importlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from outcomes import environment
from prometheus_client.parser import text_string_to_metric_families
from shipped_ci import CI, KUSTOMIZE

from conformance.facts.snapshot import Snapshot, save
from conformance.kube.effects import Mode
from conformance.session.rights import role

PROGRAM = CI / "in-cluster" / "image" / "nightly.py"
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "gpu-1", "labels": {"eks.amazonaws.com/nodegroup": "t4-inference"}},
    "status": {
        "capacity": {"nvidia.com/gpu": "4"},
        "allocatable": {"nvidia.com/gpu": "4"},
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "v1.35.1"},
    },
}
ONE = ("--", "--gpu-requirement=POOL-03", "--gpu-reference=corrected-guide")


@pytest.fixture
def fleet(tmp_path):
    save(Snapshot.of([NODE]), tmp_path / "fleet.json.gz")


@pytest.fixture
def night(tmp_path, fleet):
    """Run the program in a folder of its own, with the commands of this installation."""
    commands = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(*arguments, cluster="snapshot:fleet.json.gz", **more):
        command = [sys.executable, PROGRAM, f"--cluster={cluster}", f"--reports={tmp_path / 'reports'}", *arguments]
        return subprocess.run(
            [str(part) for part in command],
            cwd=tmp_path,
            env={**environment(), **commands, **{name: str(value) for name, value in more.items()}},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """The program as a module."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(PROGRAM.parent))
        return importlib.import_module("nightly")


@pytest.fixture
def soon(tmp_path, fleet, program, forked, monkeypatch, capsys):
    """Run the program in this process, each time a second later; the runs that it calls are forked (forking.py)."""
    times = iter(datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=second) for second in range(60))
    monkeypatch.setattr(program, "datetime", SimpleNamespace(now=lambda _zone: next(times)))

    def call(command):
        assert command[0] == "pytest"
        print(f"$ {' '.join(command)}")
        return forked(command[1:], tmp_path, tmp_path / "said.txt", 300)

    monkeypatch.setattr(program, "_call", call)

    def run(*arguments):
        code = program.main(["--cluster=snapshot:fleet.json.gz", f"--reports={tmp_path / 'reports'}", *arguments])
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return run


def _runs(folder):
    return sorted(path.parent for path in (folder / "reports").glob("*/*/report.json"))


def test_it_ends_as_the_run_did_and_compares_with_the_night_before(night, soon, tmp_path):
    first, second = soon(*ONE), night(*ONE)

    assert (first.returncode, second.returncode) == (1, 1), second.stdout + second.stderr
    assert "--gpu-baseline" not in first.stdout
    older, newer = _runs(tmp_path)
    assert f"--gpu-baseline={older}/report.json" in second.stdout
    assert {"report.html", "summary.md", "metrics.prom", "status.txt"} <= {each.name for each in newer.iterdir()}
    # An audit has nothing to clean up after.
    assert "gpu-conformance clean" not in first.stdout


def test_a_request_that_cannot_be_carried_out_leaves_no_report_and_its_code(soon, tmp_path):
    ended = soon("--", "--gpu-profile=nonsense")

    assert ended.returncode == 4
    assert "no report to keep" in ended.stderr
    assert not _runs(tmp_path)


def test_only_the_last_runs_stay(soon, tmp_path):
    home = tmp_path / "reports" / "snapshot%3Afleet.json.gz"
    for name in ("2026-01-01T000000Z", "2026-01-02T000000Z", "2026-01-03T000000Z"):
        (home / name).mkdir(parents=True)
        (home / name / "report.json").write_text("{}")
    (home / "notes").mkdir()

    soon("--keep=2", "--", "--gpu-profile=nonsense")
    assert len(_runs(tmp_path)) == 3  # nothing was judged, nothing is thrown away

    # What is damaged keeps no later night from beginning.
    began = soon("--keep=2", *ONE)
    assert began.returncode == 1
    assert began.stderr.count("passed over as a baseline") == 3
    for _ in range(2):
        soon("--keep=2", *ONE)
    assert len(_runs(tmp_path)) == 2
    assert (home / "notes").exists()


@pytest.fixture
def gateway():
    """A Pushgateway's door: what was put where. ``answer`` is the status that it gives."""
    put: dict[str, str] = {}

    class Door(BaseHTTPRequestHandler):
        answer = 200

        def do_PUT(self):
            put[self.path] = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.send_response(Door.answer)
            self.end_headers()

        def log_message(self, *_said):
            pass

    server = HTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", put, Door
    server.shutdown()
    server.server_close()


def test_metrics_get_to_a_pushgateway_and_into_a_file_that_is_scraped(soon, tmp_path, gateway):
    url, put, _ = gateway
    file = tmp_path / "textfile" / "gpu_conformance.prom"

    ended = soon(f"--pushgateway={url}/", f"--metrics-file={file}", *ONE)

    assert ended.returncode == 1, ended.stderr
    ((path, text),) = put.items()
    cluster = base64.urlsafe_b64decode(path.rpartition("/")[2]).decode()
    assert (path.rpartition("/")[0], cluster) == (
        "/metrics/job/gpu-conformance/cluster@base64",
        "snapshot:fleet.json.gz",
    )
    assert "gpu_conformance_run_exit_code" in {each.name for each in text_string_to_metric_families(text)}
    assert file.read_text() == text
    # The node exporter is another user.
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_a_place_that_fails_is_named_and_is_no_success(soon, tmp_path, gateway):
    url, _, door = gateway
    door.answer = 503
    save(Snapshot.of([{**NODE, "spec": {"taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}]}}]),
         tmp_path / "fleet.json.gz")  # fmt: skip
    file = tmp_path / "metrics.prom"

    ended = soon(f"--pushgateway={url}", f"--metrics-file={file}", "--", "--gpu-requirement=POOL-03",
                  "--gpu-reference=corrected-guide")  # fmt: skip

    assert f"NOT kept in {url}: it answered 503" in ended.stderr
    assert file.exists()
    run = json.loads((_runs(tmp_path)[-1] / "report.json").read_text())["exitCode"]
    assert ended.returncode == (run or 11)


@pytest.mark.parametrize(("run", "kept", "ends"), [(0, True, 0), (0, False, 11), (1, False, 1), (10, True, 10)])
def test_not_keeping_what_passed_has_a_code_of_its_own(monkeypatch, program, tmp_path, run, kept, ends):
    def call(command):
        if command[0] == "pytest":
            folder = Path(next(each for each in command if each.startswith("--gpu-report=")).partition("=")[2])
            folder.mkdir(parents=True)
            (folder / "report.json").write_text("{}")
            return run
        return 0

    monkeypatch.setattr(program, "_call", call)
    monkeypatch.setattr(program, "_keep", lambda *_: kept)
    assert program.main(["--cluster=x", f"--reports={tmp_path}"]) == ends


def test_results_get_into_an_s3_compatible_store(soon, tmp_path, monkeypatch):
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        endpoint = f"http://{host}:{port}"
        for name, value in {**keys, "AWS_ENDPOINT_URL_S3": endpoint}.items():
            monkeypatch.setenv(name, value)
        store = boto3.client("s3")
        store.create_bucket(Bucket="results")

        ended = soon("--s3=s3://results/gpu/", *ONE)
        lost = soon("--s3=s3://nobodys/gpu", *ONE)

        (folder, _) = _runs(tmp_path)
        found = {each["Key"]: each["Size"] for each in store.list_objects_v2(Bucket="results")["Contents"]}
    finally:
        server.stop()
    below = f"gpu/snapshot:fleet.json.gz/{folder.name}"
    assert ended.returncode == 1, ended.stderr
    assert found == {
        f"{below}/{path.relative_to(folder).as_posix()}": path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert "NOT kept in s3://nobodys/gpu" in lost.stderr
    assert "NoSuchBucket" in lost.stderr


def test_a_run_that_is_told_to_end_is_told_so_itself(tmp_path):
    """The kubelet tells only the first process of a container."""
    told = tmp_path / "told"
    fake = tmp_path / "pytest"
    fake.write_text(
        f"#!{sys.executable}\nimport signal, sys, time\n"
        f"def end(*_):\n    open({str(told)!r}, 'w').write('SIGTERM')\n    sys.exit(2)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('begun', flush=True)\ntime.sleep(90)\n"
    )
    fake.chmod(0o755)
    command = [sys.executable, str(PROGRAM), "--cluster=x", f"--reports={tmp_path}"]
    with subprocess.Popen(
        command, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        while "begun" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 2
    assert told.read_text() == "SIGTERM"


@pytest.mark.cluster
def test_the_rights_of_an_audit_and_of_its_results_are_enough(night, tmp_path, cluster, somebody):
    """The account of the overlay audit runs it, and tomorrow's run finds today's report in the ConfigMap."""
    place = "default/gpu-conformance-last"
    granted = yaml.safe_load_all((KUSTOMIZE / "components" / "results-configmap" / "role.yaml").read_text())
    results = next(each for each in granted if each["kind"] == "Role")["rules"]
    kubeconfig = somebody("nightly", role(Mode.AUDIT)["rules"] + results)
    arguments = (f"--configmap={place}", "--", "--gpu-profile=pools", "--gpu-reference=corrected-guide")

    first = night(*arguments, cluster="nightly", KUBECONFIG=kubeconfig)
    try:
        kept = cluster.client.get("/api/v1/namespaces/default/configmaps/gpu-conformance-last")
        for folder in _runs(tmp_path):
            for file in folder.iterdir():
                file.unlink() if file.is_file() else None
        second = night(*arguments, cluster="nightly", KUBECONFIG=kubeconfig)
    finally:
        cluster.client.delete("/api/v1/namespaces/default/configmaps/gpu-conformance-last")

    assert f"kept in {place}" in first.stdout, first.stdout + first.stderr
    report = json.loads(gzip.decompress(base64.b64decode(kept["binaryData"]["report.json.gz"])))
    assert report["cluster"]["name"] == "nightly"
    assert not report["cluster"].get("unreadable")
    assert kept["data"]["status.txt"]
    assert "last.json" in second.stdout, second.stdout + second.stderr
    assert second.returncode == first.returncode
