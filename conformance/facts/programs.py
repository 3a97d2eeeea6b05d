"""Which programs of NVIDIA's stack pods and templates run; see ``conformance.gpu.stack_programs``."""

from collections.abc import Callable

from conformance.facts.containers import Container
from conformance.facts.pods import Pod
from conformance.facts.podspec import PodSpec
from conformance.facts.workloads import Workload
from conformance.gpu.stack_programs import (
    PLUGIN_CONTAINERS,
    Running,
    is_dcgm_exporter,
    is_gpu_feature_discovery,
    offers_gpus,
)


def device_plugins_in(spec: PodSpec) -> tuple[Container, ...]:
    """The containers that offer NVIDIA's GPUs to the kubelet."""
    return _those(spec, offers_gpus) if _may_have_plugin(spec) else ()


def device_plugins_of(plugin: Workload) -> tuple[Container, ...]:
    """The same for a workload, whose name and labels count as well."""
    named = [plugin.name, *(f"{key}={value}" for key, value in plugin.labels.items())]
    return _those(plugin.template, offers_gpus, " ".join(named))


def discovers_gpus(spec: PodSpec) -> bool:
    """Whether a container is GPU Feature Discovery."""
    return bool(_those(spec, is_gpu_feature_discovery))


def exports_metrics(container: Container) -> bool:
    """Whether a container is dcgm-exporter."""
    return is_dcgm_exporter(Running(container.name, container.image, container.program, container.env))


def runs_program(spec: PodSpec, program: str) -> bool:
    """Whether a command of the pod's containers starts a program of the stack."""
    return any(each.program == program for each in spec.containers)


def _may_have_plugin(spec: PodSpec) -> bool:
    """Whether looking closer is worth it, which nearly no pod is."""
    named = any(each.name in PLUGIN_CONTAINERS for each in spec.containers)
    return named or any("device-plugins" in each.host_path for each in spec.volumes)


def _those(spec: PodSpec, wanted: Callable[[Running], bool], around: str = "") -> tuple[Container, ...]:
    hosts = {each.name: each.host_path for each in spec.volumes}
    named = [around, *([spec.name] if isinstance(spec, Pod) else [])]
    labels = [f"{key}={value}" for key, value in (*spec.labels.items(), *spec.node_selector.items())]
    context = " ".join([*named, spec.runtime_class, *labels, *(each.key for each in spec.tolerations)])
    return tuple(
        each
        for each in spec.containers
        if wanted(
            Running(
                each.name,
                each.image,
                each.program,
                each.env,
                [hosts.get(mount.volume, "") for mount in each.mounts],
                context,
            )
        )
    )
