"""The keeper of a real node, outside of it: ``python -m conformance.realnode.keeper NODE_FOLDER [--afterwards]``.

It starts the node's first process in namespaces of its own (processes, mounts, network, host name, IPC) and is the
node's only way to the API server. When it is told to end (SIGTERM, also the kernel's, when the warden is gone), or when
the first process ends, it has the kernel end every process of the node, takes the cable and the control groups away,
and ends. Should the keeper be killed, the kernel ends the node's processes all the same: mounts, network and sockets
go with them. With ``--afterwards`` it takes away what such a keeper left; the warden asks for that at its end.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from conformance.realnode import cgroups, death, relay
from conformance.realnode.orders import AFTERWARDS, API_SOCKET, Orders

_LOOPBACK = "127.0.0.1"
_PATIENCE = 10.0
_PAUSE = 0.02
_TOLD_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: list[str]) -> int:
    """Keep the node of the folder named on the command line; 0 when it was told to end, 1 when the node ended.

    Afterwards: 0 when nothing of the node is left, else 1.
    """
    folder, *afterwards = arguments
    orders = Orders.read(Path(folder))
    if afterwards == [AFTERWARDS]:
        return 0 if _take_away(orders) else 1
    return keep(orders)


def keep(orders: Orders) -> int:
    """Run the node until it ends or is to end; see main()."""
    parent = os.getppid()
    # A signal that comes from now on waits until we ask for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_TOLD_TO_END, signal.SIGCHLD})
    death.adopt_orphans()
    death.signal_at_parents_death(signal.SIGTERM, parent)
    try:
        cgroups.make(orders.cgroup)
        os.chdir(orders.folder)  # a relative path is never too long for a socket
        relay.serve(relay.unix_listener(API_SOCKET), relay.to_port(_LOOPBACK, orders.api_port))
        node = _started(orders)
        received = signal.sigwait({*_TOLD_TO_END, signal.SIGCHLD})
        if received == signal.SIGCHLD:
            print(f"the first process of node {orders.name} ended", file=sys.stderr, flush=True)
        with contextlib.suppress(ProcessLookupError):
            node.kill()
        return int(received == signal.SIGCHLD)
    finally:
        _reap_all()
        _take_away(orders)


def _started(orders: Orders) -> subprocess.Popen[bytes]:
    us = os.getpid()
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    inside = [sys.executable, "-P", "-m", "conformance.realnode.init", orders.folder, str(outside)]

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        death.signal_at_parents_death(signal.SIGKILL, us)

    namespaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--mount-proc")
    command = ["unshare", *namespaces, "--fork", "--kill-child=SIGKILL", *inside]
    try:
        return subprocess.Popen(command, pass_fds=(outside,), preexec_fn=prepare)
    finally:
        os.close(outside)


def _take_away(orders: Orders) -> bool:
    """Whether nothing is left."""
    # The kernel takes both ends of the cable away when the node's network goes, in its own time.
    subprocess.run(["ip", "link", "delete", orders.link], stderr=subprocess.DEVNULL, check=False)
    left = cgroups.remove(orders.cgroup)
    for each in left:
        print(f"the control group {each} is still there", file=sys.stderr, flush=True)
    return not left


def _reap_all() -> None:
    """Wait for the node's first process, which has become our child: it ends after every other process of the node."""
    deadline = time.monotonic() + _PATIENCE
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(_PAUSE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
