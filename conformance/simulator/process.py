"""The simulator as a process: from a kubeconfig with certificates to parts that work until they are told to end.

It starts beside a control plane and must not hold it up, so nothing heavy is imported: the kubeconfig is read here, and
only the kind that an embedded cluster writes (paths of certificate files, one context).
"""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from conformance.kube.client import Client
from conformance.kube.connection import Connection
from conformance.kube.effects import Effect
from conformance.kube.errors import KubeconfigError, KubeError
from conformance.kube.guard import Guard
from conformance.simulator.actors import Loop
from conformance.simulator.devices import Registrations
from conformance.simulator.roster import roster
from conformance.simulator.settings import Settings, check_parts
from conformance.simulator.world import World

AGENT = "gpu-conformance-simulator"
_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT (0); 1 with one line on standard error when there is no cluster to work on.

    Options that make no sense end the process with 2.
    """
    parser = argparse.ArgumentParser(prog="python -m conformance.simulator", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="with certificates, as an embedded cluster's")
    parser.add_argument("--logs", type=Path, required=True, help="the folder for what containers print")
    parser.add_argument("--ready", type=Path, help="a file to make once everything in the cluster has been seen")
    parser.add_argument("--without", default="", metavar="PART,...", help="parts that somebody else plays")
    chosen = parser.parse_args(arguments)
    try:
        without = check_parts(filter(None, chosen.without.split(",")))
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        run(chosen.kubeconfig, Settings(chosen.logs, chosen.ready, without), ended)
    except (KubeError, TimeoutError) as error:
        print(f"the simulator cannot work: {error}", file=sys.stderr)
        return 1
    return 0


def run(kubeconfig: Path, settings: Settings, ended: threading.Event) -> None:
    """Simulate until ``ended`` is set. Raises KubeError when the API server cannot be used, TimeoutError."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    if settings.ready is not None:
        settings.ready.unlink(missing_ok=True)
    with connect(kubeconfig) as connection:
        client = Client(connection, Guard(Effect.DISRUPTIVE, None), agent=AGENT)
        client.get("/version")
        registrations, loop, world = Registrations(), Loop(), World(client)
        loop.add(roster(world, registrations, loop, settings))
        world.add(loop.kinds)
        world.start(loop.changed)
        loop.start()
        if settings.ready is not None:
            settings.ready.touch()
        _log.info("ready")
        ended.wait()


def connect(kubeconfig: Path) -> Connection:
    """A connection with the certificates of a kubeconfig's current context.

    Raises KubeconfigError when the file is none, or holds other credentials than paths of files.
    """
    try:
        text = kubeconfig.read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{kubeconfig}: {error.strerror}") from None
    try:
        config = _parsed(text)
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        server, authority = cluster["server"], cluster["certificate-authority"]
        certificate, key = user["client-certificate"], user["client-key"]
    except (KeyError, TypeError, StopIteration) as error:
        raise KubeconfigError(
            f"{kubeconfig} names no server with certificate-authority, client-certificate and client-key as files "
            f"({type(error).__name__} {error}): use a kubeconfig of an embedded cluster"
        ) from None
    return Connection.from_certificates(server, authority, certificate, key)


def _parsed(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)  # what we write ourselves is JSON
    except msgspec.DecodeError:
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise TypeError(str(error)) from None


def _named(entries: Any, name: str) -> Any:
    return next(entry for entry in entries if entry["name"] == name)
