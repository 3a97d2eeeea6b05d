"""Why a node offers another number of GPUs than declared, computed from all facts before a remedy is named.

What keeps the device plugin from working comes first (a pause, a layout that failed, an operand before it), then what
the plugin says of the devices: a device without a plugin counts as unhealthy, and the kubelet remembers names that
nobody offers any more.
"""

from contextlib import suppress

from conformance.facts import Facts, Node
from conformance.gpu.labels import (
    DEPLOY_DEVICE_PLUGIN,
    GPU_COUNT,
    GPU_PRODUCT,
    GPU_REPLICAS,
    MIG_CONFIG,
    MIG_CONFIG_STATE,
    WORKLOAD_CONFIG,
)
from conformance.gpu.resources import MIG_PREFIX, is_for_virtual_machines
from conformance.gpu.sharing import Offer
from conformance.reference.model import Gpu, Pool, Reference
from conformance.verdict import Inconclusive, NotApplicable
from suites._shared.device_plugin_configs import mps_daemons, plugin_pods, runs_mps_daemon
from suites._shared.grace import driver_being_replaced
from suites._shared.node_gpus import counted, format_amounts, leftovers, missing_gpus, offered
from suites._shared.operand_status import coverage_of
from suites._shared.operands import TESTED, expected_components
from suites._shared.operator_resource import find_operator_resource
from suites._shared.pod_status import what_to_do, why_not_ready
from suites._shared.pool_nodes import is_of_another_maker
from suites._shared.unseen_gpus import installer_failure, runtime_class_missing

_UNSHARED = ("", "0", "1")
# NVIDIA/gpu-operator v26.7.0: controllers/state_manager.go (getWorkloadConfig); any other value counts as the default.
_OF_VIRTUAL_MACHINES = ("vm-passthrough", "vm-vgpu")


class GpuAmounts:
    """What one node of a pool offers beside what the pool declares."""

    def __init__(self, pool: Pool, node: Node, gpu: Gpu, offer: Offer, facts: Facts) -> None:
        self.pool, self.node, self.gpu, self.offer, self.facts = pool, node, gpu, offer, facts
        self.expected = dict(offer.resources or {})
        self.there = offered(node, self.expected)
        self.plugins = plugin_pods(facts, node)

    @property
    def agree(self) -> bool:
        """Whether the node offers what is declared, and nothing else."""
        return self.there == self.expected and (bool(self.there) or self.gpu.allocated_by == "dra")

    def __str__(self) -> str:
        """What is allocatable, what the capacity is, and what is left over of a former configuration."""
        old = leftovers(self.node, self.expected)
        told = f"; left over in the kubelet: {format_amounts(old)}" if old else ""
        return f"{format_amounts(self.there)} (capacity {format_amounts(counted(self.node, self.expected))}{told})"

    def why(self, reference: Reference) -> tuple[str, str]:
        """The cause between the devices and what the node offers, and what to do about it."""
        if is_of_another_maker(self.pool) or self._of_a_virtualization_stack():
            return self._of_another_maker()
        return (
            self._kept_off()
            or self._layout_failed()
            or self._driver_not_installed()
            or self._operand_broken(reference)
            or self._waits_for_mps()
            or self._not_registered()
            or self._unhealthy()
            or self._two_allocators()
            or self._layout_not_applied(reference)
            or self._by_the_numbers()
        )

    def _of_a_virtualization_stack(self) -> bool:
        """Whether GPUs of virtual machines are offered by no operator of NVIDIA's, as Harvester does itself."""
        with suppress(Inconclusive):
            alone = find_operator_resource(self.facts) is None and not self.plugins
            return alone and is_for_virtual_machines(self.gpu.resource)
        return False

    def _kept_off(self) -> tuple[str, str] | None:
        deploy = self.node.labels.get(DEPLOY_DEVICE_PLUGIN, "true")
        if deploy == "true" or self.gpu.allocated_by == "dra" or driver_being_replaced(self.node, self.facts):
            return None
        return (
            f"label {DEPLOY_DEVICE_PLUGIN}={deploy} keeps the device plugin off the node",
            "Follow OPER-12. Finish the driver upgrade that set the label, or restore it to true.",
        )

    def _layout_failed(self) -> tuple[str, str] | None:
        labels = self.node.labels
        if labels.get(MIG_CONFIG_STATE) != "failed":
            return None
        return (
            f"the MIG manager failed to apply {labels.get(MIG_CONFIG, 'the layout')} ({MIG_CONFIG_STATE}=failed)",
            "Follow MIG-04: the device plugin offers what the layout that is still in place gives.",
        )

    def _driver_not_installed(self) -> tuple[str, str] | None:
        """A platform's installer of the driver that fails on the node, so that the plugin finds no GPU."""
        return None if any(self.there.values()) else installer_failure(self.node, self.facts)

    def _operand_broken(self, reference: Reference) -> tuple[str, str] | None:
        """The first operand that does not work, down to the device plugin, unless a plugin is Ready all the same."""
        if any(pod.ready for pod in self.plugins):
            return None
        with suppress(Inconclusive, NotApplicable):
            needed = [
                each
                for each in expected_components(self.facts, reference)
                if each.component in TESTED and each.is_needed_on(self.pool, self.node)
            ]
            failure = coverage_of(needed, self.node, self.facts, found=False).failure
            if failure is not None and failure.cause:
                return f"the {failure.component} does not work on the node: {failure.cause}", failure.remedy
        waiting = next(iter(self.plugins), None)
        if waiting is None:
            return None
        return f"{waiting} is not Ready ({why_not_ready(waiting)})", what_to_do(waiting, self.facts)

    def _waits_for_mps(self) -> tuple[str, str] | None:
        """A plugin that shares by MPS registers nothing before the control daemon of its node answers.

        Source: NVIDIA/k8s-device-plugin, cmd/nvidia-device-plugin (waiting for MPS daemon), issues 712 and 762.
        """
        shared = self.gpu.shared_by == "mps" and bool(mps_daemons(self.facts))
        if not shared or any(self.there.values()) or not self.plugins:
            return None
        daemons = [pod for pod in self.facts.pods_on(self.node.name) if runs_mps_daemon(pod)]
        if any(pod.ready for pod in daemons):
            return None
        there = f"{daemons[0]} is not Ready" if daemons else "the node has none"
        return (
            f"{self.plugins[0]} waits for the MPS control daemon, and {there}",
            "Follow MPS-04: the plugin registers GPUs once the daemon of the node is Ready.",
        )

    def _not_registered(self) -> tuple[str, str] | None:
        """A plugin is Ready, and the kubelet has nothing of it, or only what it remembers."""
        plugin = next((pod for pod in self.plugins if pod.ready), None)
        if plugin is None or any(self.there.values()):
            return None
        log = f"kubectl logs -n {plugin.namespace} {plugin.name}"
        if not counted(self.node, self.expected):
            if missing := runtime_class_missing(plugin, self.facts):
                return (
                    f"{plugin} is Ready and has registered no GPU with the kubelet of {self.node.name}; it has no "
                    f"runtimeClassName, and there is RuntimeClass {missing}: where that is not the default runtime of "
                    "the node, the plugin gets neither driver nor devices",
                    f"Read its log ({log}). Where it says that NVML or a library of the driver was not found, set "
                    f"runtimeClassName: {missing} in its pod template (chart: runtimeClassName).",
                )
            return (
                f"{plugin} is Ready, and no device plugin has registered GPUs with the kubelet of {self.node.name}",
                f"Read its log ({log}): it says why NVML lists no GPU or why the kubelet refused the registration.",
            )
        return (
            f"the kubelet remembers {format_amounts(counted(self.node, self.expected))}, and none of it is allocatable "
            f"although {plugin} is Ready: it is not registered any more, or reports every device as unhealthy",
            f"Read its log ({log}). If no device is unhealthy there, delete the pod: the next one registers again.",
        )

    def _unhealthy(self) -> tuple[str, str] | None:
        """Some of the declared devices are in the capacity and not allocatable."""
        capacity = {name: count for name, count in counted(self.node, self.expected).items() if name in self.expected}
        less = {name: more for name, count in capacity.items() if (more := count - self.there.get(name, 0)) > 0}
        if not less or (not any(self.there.values()) and self.plugins):
            return None
        told = ", ".join(f"{count} of {capacity[name]} {name}" for name, count in less.items())
        return (
            f"the device plugin reports {told} as unhealthy",
            "Look for the XID in the device plugin's log; once no pod uses the device, reset or replace it, then "
            "restart the plugin pod: it never marks a device healthy again by itself.",
        )

    def _two_allocators(self) -> tuple[str, str] | None:
        if self.gpu.allocated_by != "dra":
            return None
        return (
            f"a device plugin offers {format_amounts(self.there)}, and these GPUs are declared to be allocated by DRA",
            "Keep the device plugin off the node (label nvidia.com/gpu.deploy.device-plugin=false): with two "
            "allocators a GPU is allocated twice.",
        )

    def _layout_not_applied(self, reference: Reference) -> tuple[str, str] | None:
        """The MIG manager has not said of the layout that it is in place."""
        managed = reference.stack is not None and reference.stack.mig_manager
        state = self.node.labels.get(MIG_CONFIG_STATE)
        if not managed or not self.pool.mig_layout or state == "success":
            return None
        told = f"{MIG_CONFIG_STATE} is {state}" if state else f"no label {MIG_CONFIG_STATE}"
        return (
            f"layout {self.pool.mig_layout} has not been applied to the node ({told})",
            "Follow MIG-04: the device plugin offers what the layout that is still in place gives.",
        )

    def _by_the_numbers(self) -> tuple[str, str]:
        if not self.expected:
            return "; ".join(self.offer.problems), "Declare a MIG layout and a strategy that go together (MIG-08)."
        if not any(self.there.get(name) for name in self.expected):
            return self._nothing_expected()
        if any(self.there.get(name, 0) < count for name, count in self.expected.items()):
            return self._less()
        return self._more()

    def _nothing_expected(self) -> tuple[str, str]:
        if not self.there:
            return (
                f"no device plugin has registered GPUs with the kubelet of {self.node.name}",
                "Look whether the device plugin's DaemonSet has a pod on the node, and if not, why (OPER-10, OPER-13).",
            )
        names = ", ".join(f"{name}={devices}" for name, devices in self.there.items())
        cause = f"the GPUs are offered under another resource name: {names}"
        profiles = [name for name in self.there if name.startswith(MIG_PREFIX)]
        if profiles:
            return cause, self._how_to_declare(profiles)
        if is_for_virtual_machines(self.gpu.resource):
            return self._given_to_containers(cause)
        return cause, "Correct the node's sharing configuration (renameByDefault), or declare that resource."

    def _of_another_maker(self) -> tuple[str, str]:
        """The programs of another maker are not judged; what the kubelet has of them tells how far they came."""
        registered = [name for name in self.expected if name in self.node.capacity]
        names = ", ".join(registered or self.expected)
        capacity = counted(self.node, self.expected)
        if not registered:
            return (
                f"no device plugin has registered {names} with the kubelet of {self.node.name}",
                f"Look whether the DaemonSet of the device plugin that offers {names} has a Ready pod on the node, and "
                "if not, which label or taint keeps it off.",
            )
        if not any(capacity.values()):
            return (
                f"a device plugin has registered {names} with the kubelet of {self.node.name}, and no device of it",
                "Read the log of that plugin's pod on the node, and see whether the maker's driver is loaded there: a "
                "plugin that finds no driver registers no device.",
            )
        if any(self.there.get(name, 0) > self.expected.get(name, 0) for name in self.there):
            return f"the node offers {format_amounts(self.there)}", "Declare what the pool has."
        if self.there != capacity:
            return (
                f"of {format_amounts(capacity)} the device plugin reports some as unhealthy",
                "Read the log of that plugin's pod on the node, which names the device and the reason.",
            )
        return (
            f"the device plugin registered only {format_amounts(self.there)}",
            "Compare what the maker's own tool lists on the node with what the plugin's log says, and how either is "
            "told to part the devices.",
        )

    def _given_to_containers(self, cause: str) -> tuple[str, str]:
        """The plugin for containers runs where another name was declared, such as that of GPUs for virtual machines.

        The operator reads the label only with sandboxWorkloads.enabled (controllers/state_manager.go); the plugin for
        containers ignores ``resources`` of its configuration (cmd/nvidia-device-plugin/main.go).
        """
        purpose = self.pool.labels.get(WORKLOAD_CONFIG)
        with suppress(Inconclusive):
            resource = find_operator_resource(self.facts)
            if purpose and resource is not None and not resource.enabled("sandboxWorkloads"):
                return (
                    f"{cause}; sandboxWorkloads.enabled of {resource} is not true, so that label "
                    f"{WORKLOAD_CONFIG}={purpose} has no effect",
                    "Set sandboxWorkloads.enabled once no pod uses these GPUs any more: the operator then takes its "
                    "components for containers off the nodes with that label.",
                )
            found = self.node.labels.get(WORKLOAD_CONFIG, "")
            if resource is not None and found not in _OF_VIRTUAL_MACHINES:
                return (
                    f"{cause}: the operator takes the node for one of containers, as label {WORKLOAD_CONFIG} is "
                    f"{found or 'missing'}",
                    f"Let the pods that use these GPUs end, then set {WORKLOAD_CONFIG} to "
                    f"{' or '.join(_OF_VIRTUAL_MACHINES)}, or declare that resource.",
                )
        return cause, (
            f"Declare {', '.join(self.there)}: NVIDIA's device plugin for containers offers GPUs under no name of "
            "one's own, and ignores resources in its configuration. Models are told apart by node labels."
        )

    def _how_to_declare(self, profiles: list[str]) -> str:
        """What to do about MIG devices that the pool does not declare; nobody is to divide GPUs anew under pods."""
        whole = "Where its GPUs are not meant to be divided, let the pods that use them end first; then"
        if MIG_CONFIG in self.node.labels:
            return f"Declare the pool's MIG layout. {whole} label the node {MIG_CONFIG}=all-disabled."
        named = f", or resource {profiles[0]} and its number where no label asks for one" if len(profiles) == 1 else ""
        return (
            f"Declare the pool's MIG layout{named}. {whole} undo it where it was done: the node pool's settings, "
            "nvidia-smi."
        )

    def _less(self) -> tuple[str, str]:
        if missing_gpus(self.node, self.gpu):
            return (
                f"the device plugin registered only {format_amounts(self.there)}, and the driver sees "
                f"{self.node.labels[GPU_COUNT]} of {self.gpu.count} GPUs",
                "Check the node's PCI bus and dmesg.",
            )
        return (
            f"the device plugin registered only {format_amounts(self.there)}",
            "Check the device plugin's sharing and MIG configuration for the node, then its PCI bus and dmesg.",
        )

    def _more(self) -> tuple[str, str]:
        replicas = self.node.labels.get(GPU_REPLICAS, "")
        surplus = {name: count - self.expected.get(name, 0) for name, count in self.there.items()}
        more = {name: count for name, count in surplus.items() if count > 0}
        if replicas not in _UNSHARED:
            return (
                f"the node offers {format_amounts(more)} more than were declared: sharing is configured with "
                f"{replicas} replicas",
                "Take the sharing configuration off the node, or declare the sharing.",
            )
        found = self.node.labels.get(GPU_COUNT, "")
        # A second name is another plugin or configuration; GPUs of two models have one name.
        total = 0 if more.keys() - self.expected.keys() else sum(self.there.values())
        if found.isdigit() and 0 < int(found) < total:
            product = self.node.labels.get(GPU_PRODUCT, "one model")
            return (
                f"the node offers {total} GPUs, and GPU Feature Discovery counts {found} of {product}: two models are "
                "in the node, and the labels are of one of them, or the device plugin offers GPUs that are not there",
                "Compare nvidia-smi -L on the node with the device plugin's log. Keep one model in a node: a pod that "
                "requests GPUs gets either, and only claims of DRA choose by product. Restart a plugin that is wrong.",
            )
        return (
            f"the node offers {format_amounts(more)} more than were declared",
            "Declare the number that the pool has.",
        )
