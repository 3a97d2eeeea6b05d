"""The plugin as a process on a node: ``python -m conformance.deviceplugin --node NAME --files FOLDER``.

What the node has it follows at the API server, in the Node object, or is told once and for all (``--machine``).
"""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from conformance.kube.client import Client
from conformance.kube.connection import Connection
from conformance.kube.effects import Effect
from conformance.kube.errors import KubeconfigError
from conformance.kube.guard import Guard
from conformance.simulator.annotations import CLAIMED
from conformance.simulator.devices import Claimed
from conformance.simulator.hardware import HARDWARE, Machine
from conformance.simulator.process import connect

from . import metrics
from .dra.driver import Driver
from .hostfiles import HostFiles
from .in_pod import connect_in_pod
from .inventory import Inventory, inventory_of
from .node import follow
from .plugin import Plugin, PluginCrash

FOLDER = Path("/var/lib/kubelet/device-plugins")
CDI = Path("/var/run/cdi")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT (0); 1 with one line on standard error when it cannot go on."""
    parser = argparse.ArgumentParser(prog="python -m conformance.deviceplugin", description=__doc__)
    parser.add_argument("--node", required=True, help="the name of the node on which it runs")
    parser.add_argument("--machine", help="the node's machine as JSON (simulator/hardware.py), instead of its Node's")
    parser.add_argument("--kubeconfig", type=Path, help="default: the service account of the pod in which it runs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"the kubelet's folder of plugins ({FOLDER})")
    parser.add_argument("--files", type=Path, required=True, help="a folder for what containers get")
    parser.add_argument("--library", type=Path, help="the compiled stand-in of the driver's libraries")
    parser.add_argument("--pod-resources", type=Path, help="the kubelet's socket of that API: serve metrics, too")
    parser.add_argument("--cdi", type=Path, metavar="FOLDER", help="give devices by CDI names, specified in FOLDER")
    parser.add_argument("--dra", type=Path, metavar="ROOT", help="be the DRA driver, too, at the kubelet of this root")
    parser.add_argument("--claims", type=Path, default=CDI, help=f"where CDI specifications of claims are put ({CDI})")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        plugin = Plugin(chosen.folder, HostFiles(chosen.files, chosen.library), cdi_folder=chosen.cdi)
        if chosen.pod_resources is not None:
            metrics.serve(lambda: plugin.inventory, chosen.pod_resources)
        if chosen.machine is not None and chosen.dra is None:
            metadata = {"name": chosen.node, "annotations": {HARDWARE: chosen.machine}}
            plugin.tell(inventory_of({"metadata": metadata}))
            plugin.run(ended)
            return 0
        with connect(chosen.kubeconfig) if chosen.kubeconfig else connect_in_pod() as connection:
            _run(plugin, connection, chosen, ended)
    except (KubeconfigError, OSError, RuntimeError, PluginCrash, msgspec.MsgspecError) as error:
        print(f"the device plugin cannot go on: {error}", file=sys.stderr)
        return 1
    return 0


def _run(plugin: Plugin, connection: Connection, chosen: argparse.Namespace, ended: threading.Event) -> None:
    """Run the device plugin, and the DRA driver where that is wanted, with what the Node says."""
    agent = "gpu-conformance-device-plugin"
    tell = [plugin.tell]
    driver = None
    if chosen.dra is not None:
        files = HostFiles(chosen.files / "claims", chosen.library)
        writer = Client(connection, Guard(Effect.DISRUPTIVE, None), agent=agent)
        injects = chosen.cdi is not None
        driver = Driver(writer, chosen.node, chosen.dra, chosen.claims, files, injects=injects)
        tell.append(driver.tell)
    machine = {HARDWARE: chosen.machine, CLAIMED: _claimed(chosen.machine)} if chosen.machine else {}

    def hear(inventory: Inventory | None) -> None:
        for each in tell:
            each(inventory)

    reader = Client(connection, Guard(Effect.READS, None), agent=agent)
    threading.Thread(target=follow, args=(reader, chosen.node, hear, machine), daemon=True).start()
    serving = threading.Thread(target=driver.run, args=(ended,), name="dra") if driver else None
    if serving:
        serving.start()
    try:
        plugin.run(ended)
    finally:
        ended.set()
        if serving:
            serving.join()


def _claimed(machine: str) -> str:
    """That devices of a machine, as JSON, are published, with the driver that it has."""
    return msgspec.json.encode(Claimed(msgspec.json.decode(machine, type=Machine).driver)).decode()


if __name__ == "__main__":
    sys.exit(main())
