"""The first process of a real node: ``python -m conformance.realnode.init NODE_FOLDER OUTSIDE``.

It runs in the node's namespaces, which it furnishes: folders that the node changes only for itself, kernel settings as
a kubelet wants to find them, a network without a way out. Then it starts containerd and the kubelet, and reaps whatever
loses its parent. ``OUTSIDE`` is the number of an open file that stands for the machine's network.

Nothing of the node can leave the machine: the node's network has one cable, to the machine, on which the API server
reaches the kubelet. Every address that is neither the cable's nor that of a pod on the node nor that of the API
server's service is refused where it is sent, before any container runs.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from conformance.realnode import relay, size
from conformance.realnode.orders import API_SOCKET, INSIDE, Orders

_CABLE = "eth0"
_SOCKET_WITHIN = 30.0  # seconds in which containerd has to answer
_PAUSE = 0.02
# A kubelet that ends is started again, as a service manager would; one that cannot stay up ends the node.
_RESTART_PAUSE = 0.5
_MOST_RESTARTS, _RESTARTS_WITHIN = 5, 30.0
_TAIL = 15


class NodeFailed(Exception):
    """The node cannot be set up, or cannot go on; the text says which step failed and how."""


def main(arguments: Sequence[str]) -> int:
    """Run the node until it is killed; 1, with the reason on standard error, when it cannot go on."""
    folder, outside = arguments
    orders = Orders.read(Path(folder))
    try:
        furnish(orders)
        connect(orders, int(outside))
        os.close(int(outside))
        _Programs(orders).run()
    except (NodeFailed, OSError) as failure:
        print(f"node {orders.name}: {failure}", file=sys.stderr, flush=True)
    return 1


def furnish(orders: Orders) -> None:
    """Mounts and host name. Raises NodeFailed."""
    socket.sethostname(orders.name)
    for number, covered in enumerate(orders.covered):
        layer = Path(orders.folder) / "covers" / str(number)
        _cover(Path(covered), layer, [Path(kept) for kept in orders.kept])
    INSIDE.mkdir()
    _run("mount", "--bind", orders.folder, str(INSIDE))
    # Volumes of pods are handed on from the node to its containers. unshare has cut us off from the machine before.
    _run("mount", "--make-rshared", "/")
    for number, (setting, value) in enumerate(orders.tunables.items()):
        if not (place := Path("/proc/sys") / setting).exists():
            continue
        shown = Path(orders.folder) / "covers" / f"setting-{number}"
        shown.write_text(f"{value}\n", encoding="utf-8")
        _run("mount", "--bind", str(shown), str(place))
    if orders.processors:
        for place, shown in size.made(Path(orders.folder) / "covers" / "size", orders.processors, orders.memory_kib):
            if place.exists():
                _run("mount", "--bind", str(shown), str(place))


def _cover(place: Path, layer: Path, kept: Sequence[Path]) -> None:
    """Let the node see a folder of the machine, and keep for itself what it writes there.

    Mounts below the folder are covered with it; ``kept`` are there again afterwards.
    """
    if not place.is_dir() or place.is_symlink():
        return
    parts = {name: layer / name for name in ("upper", "work")}
    for part in parts.values():
        part.mkdir(parents=True)
    with contextlib.ExitStack() as opened:
        shown = {path: _opened(path, opened) for path in kept if path.is_relative_to(place) and path.exists()}
        options = f"lowerdir={place},upperdir={parts['upper']},workdir={parts['work']}"
        _run("mount", "-t", "overlay", "overlay", "-o", options, str(place))
        for path, number in shown.items():
            path.mkdir(parents=True, exist_ok=True)
            _run("mount", "--rbind", f"/proc/self/fd/{number}", str(path), files=(number,))


def _opened(path: Path, until: contextlib.ExitStack) -> int:
    number = os.open(path, os.O_PATH | os.O_DIRECTORY)
    until.callback(os.close, number)
    return number


def connect(orders: Orders, outside: int) -> None:
    """The node's network: a cable to the machine, the API server's service, and a refusal for everything else.

    Raises NodeFailed.
    """
    _write_setting("net/ipv6/conf/all/disable_ipv6", "1")
    _write_setting("net/ipv6/conf/default/disable_ipv6", "1")
    there, files = f"/proc/self/fd/{outside}", (outside,)
    on_machine = ("nsenter", f"--net={there}", "ip")
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "route", "add", "prohibit", "default")
    _run("ip", "address", "add", f"{orders.service_address}/32", "dev", "lo")
    _run("ip", "link", "add", _CABLE, "type", "veth", "peer", "name", orders.link, "netns", there, files=files)
    _run("ip", "address", "add", orders.node_address, "dev", _CABLE)
    _run("ip", "link", "set", _CABLE, "up")
    _run(*on_machine, "address", "add", orders.host_address, "dev", orders.link, files=files)
    _run(*on_machine, "link", "set", orders.link, "up", files=files)
    _run(*on_machine, "route", "add", orders.pods, "via", orders.node_address.partition("/")[0], files=files)
    _confine_pods(orders)
    listener = socket.create_server((orders.service_address, orders.service_port), backlog=64)
    relay.serve(listener, relay.to_unix(str(INSIDE / API_SOCKET)))


def _confine_pods(orders: Orders) -> None:
    """Pods reach one another, the node's own addresses, and the machine's end of the cable, which has to be answered.

    Everything else that comes from them is refused, each time: by default the kernel says so once in a second only.
    """
    machine = orders.host_address.partition("/")[0]
    from_pods = ("ip", "rule", "add", "iif", orders.bridge)
    for order, target in enumerate((orders.pods, f"{machine}/32"), start=100):
        _run(*from_pods, "to", target, "priority", str(order), "lookup", "main")
    _run(*from_pods, "priority", "110", "prohibit")
    _write_setting("net/ipv4/icmp_ratelimit", "0")
    _write_setting("net/ipv4/ip_forward", "1")


def _write_setting(name: str, value: str) -> None:
    # A machine without IPv6 has no settings for it.
    with contextlib.suppress(FileNotFoundError):
        (Path("/proc/sys") / name).write_text(value, encoding="utf-8")


def _run(*command: str, files: tuple[int, ...] = ()) -> None:
    ran = subprocess.run(command, pass_fds=files, capture_output=True, text=True, check=False)
    if ran.returncode:
        words = (ran.stderr or ran.stdout).strip()
        raise NodeFailed(f"{' '.join(command)} ended with {ran.returncode}: {words}")


class _Programs:
    """containerd and the kubelet, which are restarted or mourned as their end is noticed."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._folder = Path(orders.folder)
        self._restarts: list[float] = []

    def run(self) -> None:
        """Start both and reap whatever ends, for ever. Raises NodeFailed when one of them cannot stay up."""
        runtime = self._start("containerd", self._orders.containerd)
        self._wait_for_runtime(runtime)
        _run(*self._orders.import_images)
        kubelet = self._start("kubelet", self._orders.kubelet)
        agents = {self._start(name, command): name for name, command in self._orders.agents.items()}
        while True:
            pid, status = os.wait()
            if pid == runtime:
                raise NodeFailed(self._mourned("containerd", status))
            if pid == kubelet:
                self._note_restart(status)
                kubelet = self._start("kubelet", self._orders.kubelet)
            if name := agents.pop(pid, ""):
                time.sleep(_RESTART_PAUSE)
                agents[self._start(name, self._orders.agents[name])] = name

    def _start(self, name: str, command: list[str]) -> int:
        # Not subprocess.Popen: os.wait() takes the children away that it would want to wait for.
        log = os.open(self._log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        program = shutil.which(command[0]) or command[0]
        try:
            return os.posix_spawn(
                program,
                command,
                dict(os.environ),
                file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
                setsigmask=(),
            )
        finally:
            os.close(log)

    def _wait_for_runtime(self, pid: int) -> None:
        deadline = time.monotonic() + _SOCKET_WITHIN
        connect = relay.to_unix(self._orders.containerd_socket)
        while True:
            with contextlib.suppress(OSError):
                connect().close()
                return
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended or time.monotonic() > deadline:
                raise NodeFailed(self._mourned("containerd", status))
            time.sleep(_PAUSE)

    def _note_restart(self, status: int) -> None:
        now = time.monotonic()
        self._restarts = [when for when in self._restarts if now - when < _RESTARTS_WITHIN] + [now]
        if len(self._restarts) > _MOST_RESTARTS:
            raise NodeFailed(self._mourned("kubelet", status))
        time.sleep(_RESTART_PAUSE)

    def _mourned(self, name: str, status: int) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()[-_TAIL:]
        code = os.waitstatus_to_exitcode(status)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"{name} ended or does not answer ({how}); its log ends with:\n" + "\n".join(lines)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
