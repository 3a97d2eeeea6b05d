"""The warden: nothing that it started outlives its owner, whoever of them is killed and how."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE

from conformance.clusters.embedded import state
from conformance.clusters.embedded.components import Component
from conformance.clusters.embedded.errors import ComponentDied, StartTimeout
from conformance.clusters.embedded.processes import Processes

SLEEP = ("/bin/sh", "-c", "trap '' TERM INT HUP; echo started; while :; do sleep 1; done")

OWNER = """
import sys, time
from pathlib import Path
from conformance.clusters.embedded import state
from conformance.clusters.embedded.components import Component
from conformance.clusters.embedded.processes import Processes
folder = state.make(root=Path(sys.argv[1]))
processes = Processes(folder)
processes.start(Component("stubborn", tuple(sys.argv[2:]), {"PATH": "/usr/bin:/bin"}, folder.path / "stubborn.log"))
while "stubborn" not in processes.pids:
    processes.check()
print(processes.pids["stubborn"], processes.warden.pid, folder.path, flush=True)
time.sleep(600)
"""


def component(folder: Path, *argv: str, name: str = "stubborn") -> Component:
    return Component(name, argv, {"PATH": "/usr/bin:/bin"}, folder / f"{name}.log")


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def eventually(claim: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def owned(tmp_path: Path):
    """A process that owns a warden with one process that ignores polite signals: (owner, process, warden, folder)."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path), *SLEEP], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid, warden, folder = owner.stdout.readline().split()
    yield owner, int(pid), int(warden), Path(folder)
    owner.kill()
    owner.wait()
    owner.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_and_state_go_when_the_owner_is_killed(owned, number: signal.Signals) -> None:
    owner, pid, warden, folder = owned

    owner.send_signal(number)
    owner.wait()

    assert eventually(lambda: not lives(pid))
    assert eventually(lambda: not lives(warden))
    assert eventually(lambda: not folder.exists())


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_processes_go_when_the_warden_is_killed(owned) -> None:
    _, pid, warden, _ = owned

    os.kill(warden, signal.SIGKILL)

    assert eventually(lambda: not lives(pid))


def test_state_of_a_killed_warden_is_swept_by_the_next_start(owned, tmp_path: Path) -> None:
    owner, pid, warden, folder = owned
    owner.kill()
    os.kill(warden, signal.SIGKILL)
    owner.wait()
    assert eventually(lambda: not lives(pid))
    if folder.exists():  # unless the warden was faster than our second signal
        assert eventually(lambda: not state.is_owned(folder))

    made = state.make(root=tmp_path)

    assert not folder.exists()
    made.remove()


def test_a_terminal_interrupt_does_not_reach_the_processes(owned) -> None:
    _, pid, warden, _ = owned

    assert os.getsid(warden) != os.getsid(0)
    os.kill(warden, signal.SIGINT)
    time.sleep(0.1)

    assert lives(warden)
    assert lives(pid)


def test_a_process_that_ends_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)
    processes = Processes(folder)
    processes.start(component(folder.path, "/bin/sh", "-c", "echo the disk is full >&2; exit 3"))

    with pytest.raises(ComponentDied, match=r"(?s)stubborn ended \(exit code 3\).*the disk is full"):
        eventually(lambda: bool(processes.check()))

    processes.end()
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_not_there_is_reported(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)
    processes = Processes(folder)
    processes.start(component(folder.path, "/nowhere/etcd"))

    with pytest.raises(ComponentDied, match="No such file"):
        eventually(lambda: bool(processes.check()))

    processes.end()


def test_waiting_ends_as_soon_as_a_process_does(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)
    processes = Processes(folder)
    short = Component("short", ("/bin/false",), {}, folder.path / "short.log", ready="http://127.0.0.1:1/readyz")
    processes.start(short)
    began = time.monotonic()

    with pytest.raises(ComponentDied, match="short ended"):
        processes.wait_ready([short], None, deadline=began + 30)  # type: ignore[arg-type]

    assert time.monotonic() - began < 10
    processes.end()


def test_who_gives_the_api_server_up_is_started_again(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)
    tried, ready = folder.path / "tried", folder.path / "ready"
    first = f"touch '{tried}'; echo 'err=\"failed to wait for apiserver being healthy: timed out\"'; exit 1"
    script = f"[ -e '{tried}' ] || {{ {first}; }}; touch '{ready}'; sleep 60"
    processes = Processes(folder)
    manager = Component(
        "manager", ("/bin/sh", "-c", script), {"PATH": "/usr/bin:/bin"}, folder.path / "manager.log", ready.as_uri()
    )
    processes.start(manager)

    processes.wait_ready([manager], None, deadline=time.monotonic() + PATIENCE)  # type: ignore[arg-type]

    assert processes.ended == {}
    processes.end()


def test_who_gives_the_api_server_up_after_saying_that_it_is_ready_is_started_again(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)
    ready, again = folder.path / "ready", folder.path / "again"
    first = f"touch '{ready}'; sleep 0.3; echo 'err=\"failed to wait for apiserver being healthy: timed out\"'; exit 1"
    script = f"[ -e '{ready}' ] || {{ {first}; }}; touch '{again}'; sleep 60"
    processes = Processes(folder)
    manager = Component(
        "manager", ("/bin/sh", "-c", script), {"PATH": "/usr/bin:/bin"}, folder.path / "manager.log", ready.as_uri()
    )
    processes.start(manager)
    processes.wait_ready([manager], None, deadline=time.monotonic() + PATIENCE)  # type: ignore[arg-type]

    def started_again() -> bool:
        processes.check()
        return again.exists()

    assert eventually(started_again)
    processes.end()


def test_a_process_can_show_by_a_file_that_it_is_ready(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)
    ready = folder.path / "it is ready"
    processes = Processes(folder)
    slow = ("/bin/sh", "-c", f"sleep 0.3; touch '{ready}'; sleep 60")
    waited = Component("slow", slow, {"PATH": "/usr/bin:/bin"}, folder.path / "slow.log", ready.as_uri())
    processes.start(waited)

    processes.wait_ready([waited], None, deadline=time.monotonic() + PATIENCE)  # type: ignore[arg-type]

    assert ready.exists()
    processes.end()


def test_waiting_has_an_end(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)
    processes = Processes(folder)
    silent = Component(
        "silent", SLEEP, {"PATH": "/usr/bin:/bin"}, folder.path / "silent.log", "http://127.0.0.1:1/readyz"
    )
    processes.start(silent)

    with pytest.raises(StartTimeout, match=r"silent: .* says no answer"):
        processes.wait_ready([silent], None, deadline=time.monotonic() + 0.2)  # type: ignore[arg-type]

    processes.end()
    assert list(tmp_path.iterdir()) == []


def test_a_detached_warden_stays_until_it_is_told(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)
    processes = Processes(folder)
    processes.start(component(folder.path, *SLEEP))
    assert eventually(lambda: bool(processes.pids) or processes.check() is not None)

    processes.detach()

    time.sleep(0.1)
    assert lives(processes.pids["stubborn"])
    assert state.is_owned(folder.path)
    os.kill(processes.warden.pid, signal.SIGTERM)
    os.waitpid(processes.warden.pid, 0)
    assert not folder.path.exists()
    assert not lives(processes.pids["stubborn"])


def test_what_a_process_has_for_afterwards_runs_when_it_was_killed_and_before_the_folder_goes(tmp_path: Path) -> None:
    folder = state.make(root=tmp_path)
    processes = Processes(folder)
    stubborn = component(folder.path, *SLEEP)
    look = f"ls {folder.path} > {tmp_path}/seen; kill -0 $(cat {tmp_path}/pid) 2> {tmp_path}/gone; true"
    looks = ("/bin/sh", "-c", look)
    processes.start(dataclasses.replace(stubborn, afterwards=looks))
    assert eventually(lambda: processes._listen(0.1) is not None and "stubborn" in processes.pids)
    (tmp_path / "pid").write_text(str(processes.pids["stubborn"]))

    processes.end()

    assert "stubborn.log" in (tmp_path / "seen").read_text()
    assert "No such process" in (tmp_path / "gone").read_text()
    assert not folder.path.exists()


@pytest.mark.parametrize(("killed", "stays"), [(1, False), (9, True)], ids=["once", "always"])
def test_what_is_killed_afterwards_runs_again_or_leaves_the_folder_to_the_next_start(
    tmp_path: Path, killed: int, stays: bool
) -> None:
    """A keeper's control groups would stay for good: nobody but the folder knows of them."""
    folder = state.make(root=tmp_path)
    processes = Processes(folder)
    dies = f"echo >> {tmp_path}/times; [ $(wc -l < {tmp_path}/times) -gt {killed} ] || kill -9 $$"
    processes.start(dataclasses.replace(component(folder.path, *SLEEP), afterwards=("/bin/sh", "-c", dies)))
    assert eventually(lambda: processes._listen(0.1) is not None and "stubborn" in processes.pids)

    processes.detach()
    os.kill(processes.warden.pid, signal.SIGTERM)  # no owner is there to remove the folder
    os.waitpid(processes.warden.pid, 0)

    assert folder.path.exists() is stays
    assert len((tmp_path / "times").read_text().splitlines()) == (3 if stays else killed + 1)
    assert not state.is_owned(folder.path)
    state.remove_abandoned(tmp_path)
    assert not folder.path.exists()
