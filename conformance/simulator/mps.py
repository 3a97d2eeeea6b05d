"""MPS: the control daemon of a node, how many clients a GPU may have, and what each of them gets.

Source: NVIDIA/k8s-device-plugin v0.20.0, cmd/mps-control-daemon/mps (device.go, daemon.go, manager.go).
"""

from collections.abc import Iterable

from conformance.simulator import agents
from conformance.simulator.configured import Configurations, crash
from conformance.simulator.geometry import capability_of
from conformance.simulator.hardware import machine_of
from conformance.simulator.plugin_settings import GPU, MPS, Refused, Settings
from conformance.simulator.pod_failures import failure_of, show_failure
from conformance.simulator.world import Object, World

COMPUTE_MODE = "EXCLUSIVE_PROCESS"
"""The compute mode in which the daemon puts every GPU that it serves."""

_CLIENTS, _CLIENTS_BEFORE_7_5 = 48, 16
_FULL_CAPABILITY = (7, 5)


def most_clients(compute: str) -> int:
    """How many clients one GPU may have, by its compute capability (``8.0``), which is new when it is not known."""
    before = bool(compute) and capability_of(compute) < _FULL_CAPABILITY
    return _CLIENTS_BEFORE_7_5 if before else _CLIENTS


def pinned_memory_mib(memory_mib: int, replicas: int) -> int:
    """How much device memory (MiB) each client may pin by default."""
    return memory_mib // replicas


def active_thread_percentage(replicas: int) -> int:
    """Which part of a GPU's threads each client may use, in percent."""
    return 100 // replicas


def check_replicas(settings: Settings, compute: str) -> None:
    """Raise Refused where the daemon ends because a GPU would get too many clients."""
    replicas = settings.sharing.replicas(GPU)
    if settings.sharing.strategy == MPS and replicas > most_clients(compute):
        exceeded = f"maximum allowed replicas exceeded: {replicas} > {most_clients(compute)}"
        raise Refused(f"invalid MPS configuration: invalid device {exceeded}")


def daemon_serves(world: World, node: str) -> bool:
    """Whether the plugin of a node finds a healthy control daemon there."""
    daemon = agents.agent_on(world, node, agents.MPS_DAEMON)
    return daemon is not None and daemon.ready and failure_of(daemon.pod) is None


class MpsDaemon:
    """Actor ``mps``: fails the daemon's pods where the daemon fails. It keeps nothing: the plugin looks at the pod."""

    name = "mps"
    watches = ("Node", "Pod", "ConfigMap", "DaemonSet")

    def __init__(self, world: World) -> None:
        self._world = world
        self._configurations = Configurations(world, agents.MPS_DAEMON)

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """The nodes that a change bears on."""
        return self._configurations.nodes(kind, obj)

    def reconcile(self, key: str) -> float | None:
        """Put the daemon of one node into the failure that it has. Raises KubeError."""
        node = self._world.get("Node", key)
        daemon = agents.agent_on(self._world, key, agents.MPS_DAEMON)
        machine = None if node is None else machine_of(node)
        if node is None or daemon is None or machine is None:
            return None
        configured = self._configurations.of(daemon, node)
        failure = configured.failure
        try:
            if failure is None and configured.settings is not None:
                check_replicas(configured.settings, machine.compute)
        except Refused as refusal:
            failure = crash(daemon, refusal)
        show_failure(self._world.client, daemon, failure)
        return None
