"""The modules of the operator profile for their tests: each requirement by a short name, and ways to change facts."""

import msgspec
from operated_cluster import Cluster

from conformance.reference import Reference
from suites.operator import test_coverage as coverage
from suites.operator import test_driver as driver
from suites.operator import test_operator as operator

CHAPTERS = (operator, coverage, driver)
EVERY = [
    each
    for chapter in CHAPTERS
    for name, each in vars(chapter).items()
    if name.startswith("test_") and each.__module__ == chapter.__name__
]

STACK = operator.test_one_complete_stack_is_installed
RECONCILED = operator.test_the_operator_has_reconciled_its_resource
WORKLOADS = operator.test_every_component_has_its_workload
SETTINGS = operator.test_the_operator_resource_has_the_declared_settings
STABLE = operator.test_the_pods_of_the_stack_neither_crash_nor_wait
NAMESPACES = operator.test_the_namespaces_admit_the_pods_of_the_stack
CLASSES = operator.test_every_runtime_class_exists
ESCAPES = operator.test_no_program_has_a_known_way_out_of_a_container
BREAKING = operator.test_no_setting_is_known_to_break_pods
TOLERATIONS = coverage.test_every_component_tolerates_the_gpu_nodes
DISCOVERED = coverage.test_every_gpu_node_is_discovered
SWITCHED_OFF = coverage.test_no_component_is_switched_off_on_a_gpu_node
COVERAGE = coverage.test_every_component_runs_on_every_gpu_node
VALIDATED = coverage.test_the_validator_has_passed_on_every_gpu_node
VERSION = driver.test_every_gpu_node_has_the_declared_driver
MAINTAINED = driver.test_every_driver_is_maintained
DEFECTS = driver.test_no_driver_has_a_defect_that_affects_the_pool
STUCK = driver.test_no_driver_upgrade_is_stuck
OBSTACLES = driver.test_nothing_would_make_a_driver_upgrade_fail

A_NODE = "t4-inference-1"
FULL = "nvidia.com/cuda.driver-version.full"
STATE = "nvidia.com/gpu-driver-upgrade-state"
SKIP = "nvidia.com/gpu-driver-upgrade.skip"


def other(reference: Reference, **stack: object) -> Reference:
    """The set-up with another stack."""
    return msgspec.structs.replace(reference, stack=msgspec.structs.replace(reference.stack, **stack))


def with_pool(reference: Reference, name: str, **members: object) -> Reference:
    pools = tuple(msgspec.structs.replace(p, **members) if p.name == name else p for p in reference.pools)
    return msgspec.structs.replace(reference, pools=pools)


def not_ready(cluster: Cluster, since: str, reason: str = "OperandNotReady") -> None:
    cluster.policy()["status"] = {
        "state": "notReady",
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "Error", "lastTransitionTime": since},
            {"type": "Error", "status": "True", "reason": reason, "message": "states not ready: [state-driver]"},
        ],
    }


def tolerations(cluster: Cluster, name: str, tolerated: list[dict[str, str]]) -> None:
    cluster.daemonset(name)["spec"]["template"]["spec"]["tolerations"] = tolerated
