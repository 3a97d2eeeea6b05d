"""The layouts that the MIG manager brings along, by name.

Source: NVIDIA/mig-parted v0.15.0, deployments/systemd/config-default.yaml, and the configuration that it generates for
each node since gpu-operator v26.3: ``all-disabled``, ``all-enabled``, ``all-<profile>`` with ``.`` for ``+``, and
``all-balanced``.
"""

from conformance.gpu.mig import Unknown, maximum
from conformance.gpu.mig_config import Entry
from conformance.gpu.mig_profiles import Model

_ALL = "all-"


def standard_layout(name: str, model: Model | Unknown) -> tuple[Entry, ...] | None:
    """The entries of a layout that needs no ConfigMap; None when there is none of that name for the model."""
    if name == "all-disabled":
        return (Entry(None, False, {}),)
    if name == "all-enabled":
        return (Entry(None, True, {}),)
    if isinstance(model, Unknown) or not name.startswith(_ALL):
        return None
    if name == "all-balanced":
        return _balanced(model)
    for profile in model.profiles:
        if profile.name.replace("+", ".") == name.removeprefix(_ALL):
            return (Entry(None, True, {profile.name: maximum(model, profile.name)}),)
    return None


def _balanced(model: Model) -> tuple[Entry, ...] | None:
    """Two small, one of two slices and, on parts with seven, one of three; each the first that the model lists."""
    counts = {"1g.": 2, "2g.": 1, "3g.": 1} if model.memory_slices == 8 else {"1g.": 2, "2g.": 1}
    wanted: dict[str, int] = {}
    for prefix, count in counts.items():
        plain = [each.name for each in model.profiles if each.name.startswith(prefix) and each.name.endswith("gb")]
        if not plain:
            return None
        wanted[min(plain, key=_memory)] = count
    return (Entry(None, True, wanted),)


def _memory(profile: str) -> int:
    return int(profile.partition(".")[2].removesuffix("gb"))
