"""The set-ups on which two GPU operators are compared: the shipped ones, and those of operator_setups.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

Object = dict[str, Any]

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
SHIPPED = (
    "bare-metal",
    "mig-mixed",
    "mig-single",
    "mig-time-sliced",
    "mixed-fleet",
    "mps",
    "one-gpu",
    "time-sliced-everywhere",
    "time-sliced-where-labelled",
)
"""Folders of fixtures/setups with a topology and a GPU Operator without thousand-nodes, which differs in size."""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change: a merge patch of the object at ``path``, or an object to create in the collection there."""

    path: str
    merge: Object | None = None
    create: Object | None = None


class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One comparison; operator_setups.yaml says what its members are.

    ``topology`` names a file in the place of ``gpus`` and ``driver``. Of a ``reference``, a folder with a declared
    set-up, the stack's values and objects hold, and labels and taints of nodes.
    """

    name: str
    gpus: int = 2
    driver: str = ""
    values: Object = {}
    before: tuple[Step, ...] = ()
    then: tuple[Step, ...] = ()
    together: bool = False
    patience: float = 130
    topology: str = ""
    reference: str = ""

    @property
    def fleet(self) -> Object:
        """The topology that ``gpus`` and ``driver`` stand for."""
        gpu = {"product": "NVIDIA-A100-SXM4-40GB", "name": "NVIDIA A100-SXM4-40GB", "family": "ampere"}
        machine = {**gpu, "compute": "8.0", "count": 2, "memory_mib": 40960, "mig_capable": True}
        machine |= {"driver": self.driver, "brought_by": "stack"}
        pools = [{"name": "gpu", "count": self.gpus, "cpu": "96", "memory": "1152Gi", "gpu": machine}]
        plain = {"name": "plain", "count": 1, "cpu": "16", "memory": "64Gi"}
        return {"name": "compared", "description": "GPU nodes and one without", "pools": [*pools, plain]}


def every() -> list[Setup]:
    """All set-ups, the shipped ones first."""
    guide = Setup("reference", topology=str(FIXTURES / "topologies/guide.yaml"), reference=str(FIXTURES / "reference"))
    text = (HERE / "operator_setups.yaml").read_text(encoding="utf-8")
    return [guide, *map(_shipped, SHIPPED), *msgspec.convert(yaml.safe_load(text), list[Setup])]


def _shipped(name: str) -> Setup:
    place = FIXTURES / "setups" / name
    return Setup(name, topology=str(place / "topology.yaml"), reference=str(place / "reference"))
