"""Which ResourceQuotas count the ResourceClaims of a DeviceClass.

A quota counts claims under the key of their class, and where the API server serves extended resources of DRA also under
the names by which pods ask for devices of the class without a claim. Claims have no scope: a quota with scopes counts
none of them, whatever its keys are.
Sources: kubernetes pkg/quota/v1/evaluator/core/resource_claims.go (setResourceQuantity, Matches); tried with the API
server of 1.36.3, which admits a claim of three devices beside a quota of one that has a scope.
"""

from collections.abc import Sequence

from conformance.facts import Facts, ResourceQuota
from conformance.gpu.kubernetes_releases import release_in
from conformance.gpu.resources import BY_DEVICE_CLASS, quota_key
from suites._shared.resource_slices import DeviceClass, device_class

# The feature gate DRAExtendedResource is on from here (kubernetes: pkg/features/kube_features.go).
_EXTENDED_RESOURCES_SINCE = (1, 36)


def keys_counting(chosen: DeviceClass, facts: Facts) -> tuple[str, ...]:
    """The keys under which a quota counts the claims of a class; that of the class is the first."""
    if not _serves_extended_resources(facts):
        return (chosen.quota_key,)
    by_name = (quota_key(chosen.resource),) if chosen.resource else ()
    return (chosen.quota_key, *by_name, quota_key(f"{BY_DEVICE_CLASS}{chosen.name}"))


def quotas_counting(chosen: DeviceClass, quotas: Sequence[ResourceQuota], facts: Facts) -> list[ResourceQuota]:
    """Those of some quotas that count the claims of a class."""
    return [each for each in _with_keys(chosen, quotas, facts) if not each.scope_terms]


def quotas_kept_by_scopes(chosen: DeviceClass, quotas: Sequence[ResourceQuota], facts: Facts) -> list[ResourceQuota]:
    """Those of some quotas that have a key for the claims of a class, and count none because they have scopes."""
    return [each for each in _with_keys(chosen, quotas, facts) if each.scope_terms]


def _with_keys(chosen: DeviceClass, quotas: Sequence[ResourceQuota], facts: Facts) -> list[ResourceQuota]:
    keys = set(keys_counting(chosen, facts))
    return [each for each in quotas if keys & each.used.keys()]


def _serves_extended_resources(facts: Facts) -> bool:
    """Whether the API server knows extended resources of DRA: it drops the name from a DeviceClass otherwise."""
    told = release_in(facts.server_version)
    if told is not None and told >= _EXTENDED_RESOURCES_SINCE:
        return True
    return any(device_class(each.body).resource for each in facts.device_classes)
