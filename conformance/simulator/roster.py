"""Who takes part in the simulation: one line for each actor."""

from conformance.simulator.actors import Actor, Loop
from conformance.simulator.devices import Registrations
from conformance.simulator.dra import DraDriver
from conformance.simulator.gfd import FeatureDiscovery
from conformance.simulator.kubelet import Kubelet
from conformance.simulator.metrics import Metrics
from conformance.simulator.mig import MigManager
from conformance.simulator.mps import MpsDaemon
from conformance.simulator.nfd import NodeFeatureDiscovery
from conformance.simulator.plugin import DevicePlugin
from conformance.simulator.policy import GpuOperator
from conformance.simulator.settings import Settings
from conformance.simulator.upgrade import DriverUpgrades
from conformance.simulator.validator import Validator
from conformance.simulator.workloads import Workloads
from conformance.simulator.world import World


def roster(world: World, registrations: Registrations, loop: Loop, settings: Settings) -> list[Actor]:
    """The parts that take part. They may keep what they are given; nothing of it has been started yet."""
    actors: list[Actor] = [
        Kubelet(world, registrations),
        NodeFeatureDiscovery(world),
        GpuOperator(world),
        Validator(world),
        DriverUpgrades(world),
        DevicePlugin(world, registrations, loop.wake),
        FeatureDiscovery(world),
        MigManager(world),
        MpsDaemon(world),
        DraDriver(world),
        Metrics(world),
        Workloads(world, settings),
    ]
    return [actor for actor in actors if actor.name not in settings.without]
