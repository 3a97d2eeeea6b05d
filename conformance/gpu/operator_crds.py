"""The CustomResourceDefinitions that the chart of the GPU Operator has, and which of them an upgrade applies.

Helm installs what is in ``crds/`` with the first installation and never changes it afterwards. From v24.9.0 on a hook
of the chart (``operator.upgradeCRD``, on unless it is turned off) applies some of them before an upgrade.
Source: NVIDIA/gpu-operator, deployments/gpu-operator: crds/, templates/upgrade_crd.yaml, values.yaml and Chart.yaml of
the tags v24.6.0 to v26.7.0, read on 2026-11-29.
"""

import msgspec

from conformance.gpu.operator_releases import Minor

READ = "2026-11-29"
"""The day on which the sources were read."""


class ChartCrds(msgspec.Struct, frozen=True):
    """One release: whether the hook is on by default, what it applies, what stays as it is, and its chart of NFD.

    The CRDs of Node Feature Discovery are applied where the chart brings it (``nfd.enabled``), and only there.
    """

    release: Minor
    hook_by_default: bool
    applied: tuple[str, ...]
    left: tuple[str, ...]
    discovery: str


_POLICIES, _DRIVERS = "clusterpolicies.nvidia.com", "nvidiadrivers.nvidia.com"
_CLUSTERS = "gpuclusters.nvidia.com"
_DOMAINS = ("computedomains.resource.nvidia.com", "computedomaincliques.resource.nvidia.com")

CHART_CRDS: tuple[ChartCrds, ...] = (
    ChartCrds((24, 6), False, (_POLICIES, _DRIVERS), (), "0.16.3"),
    ChartCrds((24, 9), True, (_POLICIES, _DRIVERS), (), "0.16.6"),
    ChartCrds((25, 3), True, (_POLICIES, _DRIVERS), (), "0.17.2"),
    ChartCrds((25, 10), True, (_POLICIES, _DRIVERS), (), "0.18.2"),
    ChartCrds((26, 3), True, (_POLICIES, _DRIVERS), (), "0.18.3"),
    ChartCrds((26, 7), True, (_POLICIES, _DRIVERS, _CLUSTERS), _DOMAINS, "0.19.0"),
)
