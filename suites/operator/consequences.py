"""What a change of the operator's settings does at once to a fleet that works: said before the change is recommended.

Most settings change what new pods get. These take drivers, the container runtime's configuration or devices away from
nodes on which pods run, or begin an upgrade of every node. ``driver.useNvidiaDriverCRD`` is the least expected: before
v26.7 the operator deletes the DaemonSets of the ClusterPolicy's drivers with their pods, on all nodes at once, whatever
an upgrade policy says. Since then their pods run on, and each node is upgraded in its turn. Back again there is no such
way: a node has room for one driver's pod, so that of the ClusterPolicy waits until the NVIDIADriver, and with it its
driver on all of its nodes, is deleted.
Sources: NVIDIA/gpu-operator, controllers/object_controls.go (DaemonSet: what is disabled is deleted;
cleanupAllDriverDaemonSets) of v24.9.2, v25.3.4, v25.10.0, v26.3.3 and v26.7.0; of v26.7.0 also
controllers/nodelabeling_controller.go (labelNodesWithOrphanedDriverPods) and assets/state-driver/0500_daemonset.yaml
(podAntiAffinity).
"""

from suites._shared.operand_versions import Version

SWITCH = "driver.useNvidiaDriverCRD"
"""The field of a ClusterPolicy that says whether NVIDIADriver objects bring drivers."""

_NODE_BY_NODE: Version = (26, 7, 0)
_VERSIONS = ("driver.version", "version")

_BEFORE_THEY_COME_BACK = (
    "First drain the GPU nodes: the drivers of the ClusterPolicy come to a node only once its NVIDIADriver is deleted, "
    "which takes the driver away from all of its nodes at once."
)
_WHEN_DISABLED = {
    "driver.enabled": "First see that every GPU node has a driver of its own (node image), and drain those that have "
    "none: the operator deletes its drivers from all nodes at once.",
    "toolkit.enabled": "First see that the container runtime of every GPU node is configured without the operator's "
    "toolkit (node image): where it is not, no new pod with GPUs starts.",
    "devicePlugin.enabled": "First see that no pod asks for nvidia.com/gpu any more, or that another device plugin "
    "offers it: the operator deletes its plugin on all nodes at once, and new pods stay Pending.",
}


def what_to_do_first(path: str, declared: object, version: Version | None) -> str:
    """What has to be done before a setting gets its declared value under running workloads; empty for most settings.

    ``path`` is that of a field of a ClusterPolicy, or ``version`` of an NVIDIADriver; ``version`` is the operator's,
    None where it is unknown.
    """
    if path == SWITCH:
        return _before_drivers_change_hands(version) if declared is True else _BEFORE_THEY_COME_BACK
    if path in _VERSIONS:
        return (
            f"First ask whether the nodes may be upgraded (pytest --gpu-pre-upgrade {declared}): this begins a driver "
            "upgrade, which takes each node out of service as the upgrade policy says."
        )
    return _WHEN_DISABLED.get(path, "") if declared is False else ""


def _before_drivers_change_hands(version: Version | None) -> str:
    if version is None or version < _NODE_BY_NODE:
        return (
            "First drain the GPU nodes, or upgrade the operator to v26.7: an older one takes the drivers of all nodes "
            "away at once when NVIDIADriver objects take over."
        )
    return (
        "First create the NVIDIADriver objects, and wait for a time at which GPU nodes may be upgraded: each one's "
        "pods with GPUs are sent away for the new driver, as the NVIDIADriver's upgrade policy says, even where the "
        "version stays the same."
    )
