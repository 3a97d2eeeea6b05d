"""Who takes an API token although the service account gives none.

``automountServiceAccountToken`` of a pod spec overrides that of the account, in both directions.
Source: kubernetes.io: Configure Service Accounts for Pods (opt out of API credential automounting).
"""

from collections.abc import Iterator

from conformance.facts import Facts, Pod, Workload
from suites.tenancy.access_checks import Account


def overriding(account: Account, facts: Facts) -> Iterator[Workload | Pod]:
    """The workloads whose pod template lets the token of an account in, and pods that do so by themselves."""
    workloads = [
        each
        for each in facts.workloads_in(account.namespace)
        if each.template.service_account == account.declared.name and each.template.automounts_token is True
    ]
    yield from workloads
    told = {pod.name for workload in workloads for pod in facts.pods_of(workload)}
    for pod in facts.pods_in(account.namespace):
        asks = pod.service_account == account.declared.name and pod.automounts_token is True
        if asks and not pod.finished and pod.name not in told:
            yield pod
