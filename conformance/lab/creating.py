"""What each way of acting in the lab leaves on the cluster until the requirement ends, by the lab's own methods.

A plan is made from it before a run, and tests hold it to what runs then create.
"""

from collections.abc import Mapping

__all__ = ["BORROWS", "CREATES", "OF_A_NAMESPACE", "OF_A_RUN", "WHATEVER_IT_IS_GIVEN"]

OF_A_NAMESPACE = ("Namespace", "ServiceAccount")
"""Pods need the account ``default``, which is made where Kubernetes has not made it yet."""
OF_PODS = (*OF_A_NAMESPACE, "PriorityClass", "Pod")
"""A pod has a namespace of the requirement, and the class of the run that pushes nobody out."""
_OF_PROBES = (*OF_PODS, "ConfigMap", "Job")

CREATES: Mapping[str, tuple[str, ...]] = {
    "namespace": OF_A_NAMESPACE,
    "pod": OF_PODS,
    "pods": OF_PODS,
    "fill": OF_PODS,
    "deployment": (*OF_PODS, "Deployment"),
    "job": (*OF_PODS, "Job"),
    "run_on_nodes": _OF_PROBES,
    "run_programs": _OF_PROBES,
    "held_on_nodes": _OF_PROBES,
    "held_programs": _OF_PROBES,
    "quota": ("ResourceQuota",),
    "limit_range": ("LimitRange",),
    "disruption_budget": ("PodDisruptionBudget",),
    "priority_class": ("PriorityClass",),
    "below_zero": ("PriorityClass",),
    # Asked of the API server, which keeps nothing; the namespace is there for what is asked about.
    "dry_run": OF_A_NAMESPACE,
}
"""The kinds of objects that a method of RequirementLab creates. What is not named here creates none."""

WHATEVER_IT_IS_GIVEN = ("apply", "create_or_refusal")
"""Methods that create the object that they are given."""

BORROWS = ("borrow", "fake_gpus")
"""Methods that fence a node and change it until it is given back."""

OF_A_RUN: Mapping[str, str] = {
    "Namespace": "gpu-conformance, where the records of runs are; it goes with the last run",
    "ConfigMap": "the owner record, and a journal for what is about to be created or changed",
    "Lease": "a sign of life",
}
"""What every run that acts has beside its scenarios, by kind."""
