"""NVIDIADriver objects: which DaemonSets they lead to, and what is said of them.

Source: NVIDIA/gpu-operator v26.7.0, controllers/nvidiadriver_controller.go, internal/state/driver.go and nodepool.go,
manifests/state-driver.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from conformance.kube.errors import Forbidden, Invalid
from conformance.simulator.chart.defaults import GPU_OPERATOR
from conformance.simulator.chart.objects import environment_of, fields_of, given, host_volume, named, over
from conformance.simulator.clusterpolicy import GPU_TOLERATION, SpecError, given_variables, image_of, mapping
from conformance.simulator.conditions import Reason, State, Verdict
from conformance.simulator.driver_modules import Modules, modules_of
from conformance.simulator.fleet import KERNEL, Pool
from conformance.simulator.init_containers import driver_manager
from conformance.simulator.manifests import (
    DIGEST,
    STARTS_IN_TURN,
    digest,
    driver_image,
    one_driver_per_node,
)
from conformance.simulator.nfd import OS_ID, OS_VERSION
from conformance.simulator.nodelabels import OWNER, PRESENT, driver_objects
from conformance.simulator.operand_env import module_type
from conformance.simulator.operands import DRIVER, DRIVER_COMPONENT
from conformance.simulator.rollout import bring, marked, not_rolled_out, owned_by, remove
from conformance.simulator.world import Object, World

KIND = "NVIDIADriver"
_LONGEST = 63
_NO_GPUS = {"NVIDIA_VISIBLE_DEVICES": "void"}


def settle(world: World, namespace: str, driver: Object, pools: Iterable[Pool], *, used: bool) -> Verdict:
    """Bring the DaemonSets of one NVIDIADriver in order and say how it stands. Raises KubeError.

    ``pools`` are those of all GPU nodes, ``used`` whether the operator acts on such objects at all.
    """
    if not used:
        return Verdict(State.DISABLED, Reason.RECONCILED, "useNvidiaDriverCRD is not true in the ClusterPolicy")
    conflict = _conflict(world, driver)
    if conflict is not None:
        return conflict
    mine = [pool for pool in pools if pool.owner == driver["metadata"]["name"] and pool.os_id and pool.os_version]
    try:
        names = _bring(world, namespace, driver, mine)
    except (SpecError, Invalid, Forbidden) as error:
        return Verdict(State.NOT_READY, Reason.RECONCILE_FAILED, f"the driver cannot be deployed: {error}")
    for name in _owned(world, namespace, driver):
        if name not in names:
            remove(world, "DaemonSet", name, namespace)
    if not_rolled_out(world, namespace, names):
        return Verdict(State.NOT_READY, Reason.DRIVER_NOT_READY, "waiting for the driver's pods")
    return Verdict(State.READY, Reason.RECONCILED, "the driver is up to date")


def _bring(world: World, namespace: str, driver: Object, pools: Iterable[Pool]) -> set[str]:
    owner = owned_by(KIND, driver)
    names = set()
    for pool in pools:
        made = daemon_set(driver, namespace, pool)
        account = named("ServiceAccount", "v1", _account(driver, pool), namespace)
        bring(world, marked(account, owner))
        bring(world, marked(made, owner))
        names.add(made["metadata"]["name"])
    return names


def _owned(world: World, namespace: str, driver: Object) -> Iterable[str]:
    for found in world.all("DaemonSet", namespace):
        owners = found["metadata"].get("ownerReferences") or ()
        if any(each["uid"] == driver["metadata"]["uid"] for each in owners):
            yield found["metadata"]["name"]


def _conflict(world: World, driver: Object) -> Verdict | None:
    """What keeps the operator from acting: several default objects, or a node that two others select.

    Of one such node every object is told, also those that do not select it.
    """
    name = driver["metadata"]["name"]
    drivers = driver_objects(world.all(KIND))
    me = next((each for each in drivers if each.name == name), None)
    if me is None:
        return None
    defaults = [each.name for each in drivers if each.default]
    if me.default and len(defaults) > 1:
        text = f"there are several default NVIDIADrivers: {', '.join(defaults)}"
        return Verdict(State.NOT_READY, Reason.RECONCILE_FAILED, text)
    selecting = [each for each in drivers if not each.default]
    for node in world.all("Node") if len(selecting) > 1 else ():
        labels = node["metadata"].get("labels") or {}
        rivals = [each.name for each in selecting if each.wants(labels)]
        if labels.get(PRESENT) == "true" and len(rivals) > 1:
            text = f"node {node['metadata']['name']} is selected by {' and by '.join(rivals)}"
            return Verdict(State.NOT_READY, Reason.CONFLICTING_NODE_SELECTOR, text)
    return None


def daemon_set(driver: Object, namespace: str, pool: Pool) -> Object:
    """The DaemonSet that brings an NVIDIADriver's driver to a pool. Raises SpecError."""
    spec = over({"manager": GPU_OPERATOR["driver"]["manager"], "driverType": "gpu"}, mapping(driver.get("spec")))
    kernel = pool.kernel if spec.get("usePrecompiled") is True else ""
    app = app_name(driver, pool, kernel)
    own = {
        "app": app,
        **DRIVER_COMPONENT,
        "nvidia.com/node.os-version": pool.os_tag,
        "nvidia.com/precompiled": "true" if kernel else "false",
    }
    free = {
        k: v for k, v in mapping(spec.get("labels")).items() if k != "app" and not k.startswith("app.kubernetes.io/")
    }
    annotations = dict(mapping(spec.get("annotations")))
    template = {
        "metadata": {"labels": {**own, **free}, "annotations": {**annotations, **STARTS_IN_TURN}},
        "spec": _pod(driver, spec, pool, kernel),
    }
    body = {"selector": {"matchLabels": {"app": app}}, "updateStrategy": {"type": "OnDelete"}, "template": template}
    labels = {**own, **free, "nvidia.com/gpu-operator.state": "state-driver"}
    made = named("DaemonSet", "apps/v1", app, namespace, labels, spec=body)
    made["metadata"]["annotations"] = annotations
    return made


def app_name(driver: Object, pool: Pool, kernel: str) -> str:
    """The name of the DaemonSet for a pool: the operating system, and a digest that keeps objects and kernels apart."""
    kind = mapping(driver.get("spec")).get("driverType") or "gpu"
    mark = digest([driver["metadata"]["uid"], kernel])[:10]
    return f"{f'nvidia-{kind}-driver-{pool.os_tag}'[: _LONGEST - len(mark) - 1]}-{mark}"


def _account(driver: Object, pool: Pool) -> str:
    kind = mapping(driver.get("spec")).get("driverType") or "gpu"
    return f"nvidia-{kind}-driver-{driver['metadata']['name']}-{pool.os_tag}"


def _pod(driver: Object, spec: Mapping[str, Any], pool: Pool, kernel: str) -> Object:
    selector = {
        **DRIVER.node_selector,
        **mapping(spec.get("nodeSelector")),
        PRESENT: "true",
        OWNER: driver["metadata"]["name"],
        OS_ID: pool.os_id,
    }
    # Where tags name the major version only, nodes of all minor versions get the same image.
    if pool.os_tag.endswith(pool.os_version):
        selector[OS_VERSION] = pool.os_version
    else:
        selector[f"{OS_VERSION}.major"] = pool.os_version.partition(".")[0]
    modules = modules_of(spec.get("rdma"), spec.get("gds"), spec.get("gdrcopy"))
    container = _container(spec, modules, pool, kernel)
    pod: Object = {
        "serviceAccountName": _account(driver, pool),
        "priorityClassName": spec.get("priorityClassName") or "system-node-critical",
        "nodeSelector": selector | ({KERNEL: kernel} if kernel else {}),
        # Those of the object come on top here; the list of a ClusterPolicy replaces.
        "tolerations": [GPU_TOLERATION, *(spec.get("tolerations") or ())],
        "affinity": one_driver_per_node("nvidia-vgpu-manager"),
        "hostPID": True,
        "initContainers": [driver_manager(mapping(spec.get("manager")), modules)],
        "containers": [
            container,
            *modules.containers(container, pool.os_tag, precompiled=bool(kernel), env=dict(_NO_GPUS)),
        ],
        "volumes": [host_volume(name, path) for name, path in DRIVER.host.items()],
    }
    return pod | {key: spec[key] for key in ("hostNetwork",) if spec.get(key)}


def _container(spec: Mapping[str, Any], modules: Modules, pool: Pool, kernel: str) -> Object:
    kind = spec.get("kernelModuleType") or "auto"
    env = {**_NO_GPUS, **module_type({"kernelModuleType": kind}), **modules.driver_env()}
    env |= given_variables(spec)
    image = driver_image(image_of("driver", spec), pool.os_tag, kernel)
    env[DIGEST] = digest([image, env])
    return {
        "name": DRIVER.container,
        "image": image,
        "imagePullPolicy": spec.get("imagePullPolicy") or "IfNotPresent",
        "env": [*fields_of(DRIVER.fields), *environment_of(env)],
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in DRIVER.host.items()],
        **given(spec, "args", "resources"),
    }
