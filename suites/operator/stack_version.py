"""The version of the installed stack, by the label of its chart, held against the declared one."""

from collections.abc import Iterator
from typing import NamedTuple

from conformance.facts import Facts, Workload
from conformance.reference.stack import Stack
from suites._shared.operand_versions import Version, deployed_version, dotted, parsed


class Deployed(NamedTuple):
    """A workload by which a stack is known, the version that is declared for it, and its own; None where unknown."""

    workload: Workload
    declared: str
    version: Version | None

    @property
    def is_as_declared(self) -> bool:
        """Whether the versions agree; what follows the third number (``-rc.1``) does not count."""
        return self.version == parsed(self.declared)

    @property
    def actual(self) -> str:
        """The version that is deployed, as text."""
        return dotted(self.version) if self.version is not None else "unknown"


def deployed(stack: Stack, facts: Facts) -> Iterator[Deployed]:
    """The workloads of the stack, and of the DRA driver beside it, for which a version is declared."""
    of_kind = {
        "gpu-operator": ("Deployment", facts.stack.operators),
        "device-plugin": ("DaemonSet", facts.stack.device_plugins),
        "dra-driver": ("DaemonSet", facts.stack.dra_drivers),
        "simulated-plugin": ("DaemonSet", ()),
    }
    yield from _found(*of_kind[stack.kind], stack.version, facts)
    if stack.dra is not None:
        yield from _found(*of_kind["dra-driver"], stack.dra.version, facts)


def _found(kind: str, places: tuple[str, ...], declared: str, facts: Facts) -> Iterator[Deployed]:
    """Those at ``namespace/name``; nothing where no version is declared that could be compared."""
    for place in places if parsed(declared) is not None else ():
        namespace, _, name = place.partition("/")
        workload = facts.workload(kind, namespace, name)
        # What the operator deploys is of the operator's version, and judged there.
        if workload is not None and not workload.owner_kind:
            yield Deployed(workload, declared, deployed_version(workload))
