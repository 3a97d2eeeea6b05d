"""Actor ``gfd``: GPU Feature Discovery on each node, which says as labels of the node what GPUs are there.

The labels go straight to the node: the object NodeFeature and nfd-master between them are left out. As with them, the
labels outlive the pod of GPU Feature Discovery and go when its DaemonSet goes.
Source: NVIDIA/k8s-device-plugin v0.20.0, internal/lm (nvml.go, resource.go, mig-strategy.go, output.go).
"""

import re
from collections.abc import Iterable, Mapping

from conformance.gpu.driver_branches import BRANCHES
from conformance.gpu.mig_profiles import Profile
from conformance.kube.names import DOMAIN
from conformance.kube.paths import path
from conformance.simulator import agents
from conformance.simulator.annotations import annotation
from conformance.simulator.configured import Configurations, crash, seconds_of
from conformance.simulator.geometry import Geometry, capability_of, compute_slices, geometry_of, instance_of, model_of
from conformance.simulator.hardware import Machine, machine_of
from conformance.simulator.plugin_settings import GPU, MIG_PREFIX, MIXED, MPS, NONE, SINGLE, Refused, Settings, Sharing
from conformance.simulator.pod_failures import show_failure
from conformance.simulator.world import Object, World

Labels = dict[str, str]

LABELLED = f"{DOMAIN}/gfd-labels"
"""On nodes: ``true`` while they have labels that come from GPU Feature Discovery."""

_OURS = re.compile(
    r"nvidia\.com/(gfd\.timestamp|cuda\..+|mig\.(capable|strategy)|mps\.capable|vgpu\..+"
    r"|gpu\.(family|compute\.(major|minor)|machine|mode|clique)"
    r"|(gpu|mig-.+)\.(product|count|replicas|sharing-strategy|memory|multiprocessors|slices\.[cg]i|engines\.[a-z]+))"
)
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9\-_. ]")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

# newest compute capability first; internal/lm/resource.go
_FAMILIES = (
    ((13, 0), "rubin"),
    ((12, 0), "blackwell"),
    ((10, 0), "blackwell"),
    ((9, 0), "hopper"),
    ((8, 9), "ada-lovelace"),
    ((8, 0), "ampere"),
    ((7, 5), "turing"),
    ((7, 0), "volta"),
    ((6, 0), "pascal"),
    ((5, 0), "maxwell"),
    ((3, 0), "kepler"),
)

# Streaming multiprocessors of one compute slice: NVIDIA MIG User Guide, tables of GPU instance profiles. The whole GPU
# has more than seven times that on some models, which nobody asks a label for.
_MULTIPROCESSORS = {"ampere": 14, "hopper": 16, "blackwell": 18}

# What a MIG device of a memory slice less than it should be keeps for itself: the guide gives 1g.5gb 4864 MiB.
_DOCUMENTED_MEMORY = {
    ("A100-40GB", "1g.5gb"): 4864,
    ("A100-40GB", "1g.5gb+me"): 4864,
    ("A100-40GB", "1g.10gb"): 9856,
    ("A100-40GB", "2g.10gb"): 9856,
    ("A100-40GB", "3g.20gb"): 19968,
    ("A100-40GB", "4g.20gb"): 19968,
    ("A100-40GB", "7g.40gb"): 40192,
}


def labels(machine: Machine, driver: str, geometry: Geometry, settings: Settings, started: int | None) -> Labels:
    """All labels of a node. ``started`` is when GPU Feature Discovery started (seconds since 1970), None leaves it out.

    Raises Refused where it ends with an error instead.
    """
    found = {"nvidia.com/vgpu.present": "false"}
    if started is not None:
        found["nvidia.com/gfd.timestamp"] = str(started)
    if not machine.present:
        return found
    cut = {index: geometry[index] for index in machine.present if index in geometry}
    found |= _versions(driver) | _machine(machine) | _sharing_label(settings, cut)
    found |= _gpus(machine, settings.sharing, any_whole=len(cut) < len(machine.present))
    if settings.mig_strategy != NONE:
        found["nvidia.com/mig.strategy"] = settings.mig_strategy
    if settings.mig_strategy == SINGLE and cut:
        found |= _single(machine, settings.sharing, cut, any_whole=len(cut) < len(machine.present))
    if settings.mig_strategy == MIXED:
        for profile, count in _counts(cut).items():
            found |= _mig_devices(f"{MIG_PREFIX}{_written(profile)}", machine, settings.sharing, profile, count)
    return found


def _versions(driver: str) -> Labels:
    """Driver and CUDA by their new and their deprecated names. Raises Refused for an odd version."""
    parts = driver.split(".")
    if not 2 <= len(parts) <= 3:
        raise Refused(f'error getting driver version: Version "{driver}" does not match format "X.Y[.Z]"')
    major, minor, revision = (*parts, "")[:3]
    cuda = next((branch.cuda for branch in BRANCHES if str(branch.number) == major and branch.cuda), (0, 0))
    new, old = "nvidia.com/cuda.driver-version", "nvidia.com/cuda.driver"
    runtime = "nvidia.com/cuda.runtime-version"
    return {
        f"{new}.major": major,
        f"{new}.minor": minor,
        f"{new}.revision": revision,
        f"{new}.full": driver,
        f"{old}.major": major,
        f"{old}.minor": minor,
        f"{old}.rev": revision,
        f"{runtime}.major": str(cuda[0]),
        f"{runtime}.minor": str(cuda[1]),
        f"{runtime}.full": f"{cuda[0]}.{cuda[1]}",
        "nvidia.com/cuda.runtime.major": str(cuda[0]),
        "nvidia.com/cuda.runtime.minor": str(cuda[1]),
    }


def _machine(machine: Machine) -> Labels:
    # Workstation boards are VGA controllers, the others 3D controllers.
    graphics = "Workstation" in machine.product and "Max-Q" not in machine.product
    return {
        "nvidia.com/gpu.machine": _joined(machine.machine or "unknown"),
        "nvidia.com/gpu.mode": "graphics" if graphics else "compute",
        "nvidia.com/mig.capable": str(machine.mig_capable).lower(),
    }


def _sharing_label(settings: Settings, cut: Geometry) -> Labels:
    uses_mps = settings.sharing.strategy == MPS
    if uses_mps and cut:
        raise Refused("failed to check MPS-capable: MPS sharing is not supported for mig devices")
    return {"nvidia.com/mps.capable": str(uses_mps).lower()}


def _gpus(machine: Machine, sharing: Sharing, *, any_whole: bool) -> Labels:
    """The labels of whole GPUs. All are counted, cut or not; without a whole one the sharing is left out."""
    if any_whole:
        found = _described(GPU, sharing, len(machine.present), machine.product)
    else:
        found = _described(GPU, Sharing(), len(machine.present), machine.product) | {f"{GPU}.replicas": "0"}
    found[f"{GPU}.memory"] = str(machine.memory_mib)
    major, minor = capability_of(machine.compute)
    if not major:
        return found
    architecture = {"family": family(machine.compute), "compute.major": str(major), "compute.minor": str(minor)}
    return found | {f"{GPU}.{name}": value for name, value in architecture.items()}


def family(compute: str) -> str:
    """The architecture of a compute capability (``8.0``), as the label says it."""
    capability = capability_of(compute)
    return next((name for first, name in _FAMILIES if first[0] == capability[0] and first <= capability), "undefined")


def _single(machine: Machine, sharing: Sharing, cut: Geometry, *, any_whole: bool) -> Labels:
    counts = _counts(cut)
    if any_whole or len(counts) != 1 or not all(any(layout.values()) for layout in cut.values()):
        return {
            f"{GPU}.product": _joined(machine.product, "MIG", "INVALID"),
            f"{GPU}.count": "0",
            f"{GPU}.replicas": "0",
            f"{GPU}.sharing-strategy": "",
            f"{GPU}.memory": "0",
        }
    ((profile, count),) = counts.items()
    return _mig_devices(GPU, machine, sharing, profile, count)


def _counts(cut: Geometry) -> dict[str, int]:
    found: dict[str, int] = {}
    for layout in cut.values():
        for profile, count in layout.items():
            found[profile] = found.get(profile, 0) + count
    return {profile: count for profile, count in found.items() if count}


def _mig_devices(resource: str, machine: Machine, sharing: Sharing, profile: str, count: int) -> Labels:
    found = _described(resource, sharing, count, machine.product, "MIG", _written(profile))
    return found | {f"{resource}.{name}": str(value) for name, value in attributes(machine, profile).items()}


def attributes(machine: Machine, profile: str) -> dict[str, int]:
    """What NVML says of a MIG device, memory in MiB. Empty for a profile that the tables lack."""
    model = model_of(machine)
    instance = None if model is None else instance_of(model, profile)
    if model is None or instance is None:
        return {}
    compute = compute_slices(profile, instance)
    return {
        "memory": _memory(machine, model.name, instance, model.memory_slices),
        "multiprocessors": compute * _MULTIPROCESSORS.get(family(machine.compute), 16),
        "slices.gi": instance.compute,
        "slices.ci": compute,
        "engines.copy": instance.compute,
        "engines.decoder": instance.compute if instance.engines.decoders is None else instance.engines.decoders,
        "engines.encoder": instance.engines.encoders or 0,
        "engines.jpeg": instance.compute if instance.engines.jpeg is None else instance.engines.jpeg,
        "engines.ofa": instance.engines.ofa,
    }


def _memory(machine: Machine, model: str, instance: Profile, slices: int) -> int:
    documented = _DOCUMENTED_MEMORY.get((model, instance.name))
    return documented or machine.memory_mib * instance.size // slices


def _described(resource: str, sharing: Sharing, count: int, *product: str) -> Labels:
    replicas = sharing.labelled_replicas(resource)
    marked = (*product, "SHARED") if replicas > 1 and not sharing.renames else product
    return {
        f"{resource}.product": _joined(*marked),
        f"{resource}.count": str(count),
        f"{resource}.replicas": str(replicas),
        f"{resource}.sharing-strategy": sharing.strategy if replicas > 1 else NONE,
    }


def _written(profile: str) -> str:
    return profile.replace("+", ".")


def _joined(*parts: str) -> str:
    """Parts as one label value: characters that labels lack are dropped, blanks become dashes."""
    return "-".join("-".join(_NOT_IN_LABELS.sub("", part).split()) for part in parts)


class FeatureDiscovery:
    """GPU Feature Discovery of every node. ``wake`` has another part look at a key."""

    name = "gfd"
    watches = ("Node", "Pod", "ConfigMap", "DaemonSet")

    def __init__(self, world: World) -> None:
        self._world = world
        self._configurations = Configurations(world, agents.GFD)

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """The nodes that a change bears on."""
        if kind == "DaemonSet" and deleted and _discovers(obj["spec"]["template"]):
            return tuple(node["metadata"]["name"] for node in self._world.all("Node") if annotation(node, LABELLED))
        return self._configurations.nodes(kind, obj)

    def reconcile(self, key: str) -> float | None:
        """Bring the labels of one node in order. Raises KubeError."""
        node = self._world.get("Node", key)
        machine = None if node is None else machine_of(node)
        if node is None or machine is None:
            return None
        discovery = agents.agent_on(self._world, key, agents.GFD)
        if discovery is None:
            self._forget(node)
            return None
        configured = self._configurations.of(discovery, node)
        failure, driver = configured.failure, agents.driver_of(self._world, key, machine)
        wanted = None
        try:
            if configured.settings is not None and driver:
                wanted = labels(machine, driver, geometry_of(node), configured.settings, _since(discovery))
        except Refused as refusal:
            failure = crash(discovery, refusal)
        show_failure(self._world.client, discovery, failure)
        if wanted is not None and discovery.ready and failure is None:
            self._write(node, wanted)
        return None

    def _forget(self, node: Object) -> None:
        """Take the labels away once no DaemonSet can bring GPU Feature Discovery back."""
        templates = (each["spec"]["template"] for each in self._world.all("DaemonSet"))
        if annotation(node, LABELLED) and not any(_discovers(template) for template in templates):
            self._write(node, {})

    def _write(self, node: Object, found: Mapping[str, str]) -> None:
        # nfd-master leaves out what no label can be, such as the name of a machine that ends in a dot.
        wanted = {name: value for name, value in found.items() if _VALUE.fullmatch(value)}
        has = node["metadata"].get("labels") or {}
        change: dict[str, str | None] = {name: value for name, value in wanted.items() if has.get(name) != value}
        change |= {name: None for name in has if name not in wanted and _OURS.fullmatch(name)}
        mark = "true" if wanted else None
        if change or annotation(node, LABELLED) != (mark or ""):
            metadata = {"labels": change, "annotations": {LABELLED: mark}}
            self._world.client.patch(path("Node", name=node["metadata"]["name"]), {"metadata": metadata})


def _discovers(template: Object) -> bool:
    return any(container["name"] in agents.GFD for container in template["spec"]["containers"])


def _since(discovery: agents.Agent) -> int | None:
    """When it started; None where it is told to leave that out."""
    if (discovery.option("--no-timestamp", "GFD_NO_TIMESTAMP") or "").lower() == "true":
        return None
    moment = (discovery.pod.get("status") or {}).get("startTime")
    return int(seconds_of(moment)) if moment else None
