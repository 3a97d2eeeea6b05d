"""Whose an object is: what deploying may write and what withdrawing may delete."""

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.kube.names import MANAGED_BY, MANAGED_BY_US, REFERENCE_LABEL, RUN_LABEL
from conformance.reference.objects import Object, name_of

# The API server refuses to change these, so a class that differs cannot become the declared one.
# Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/priority-class-v1/
_FIXED_OF_CLASSES = (("value", 0), ("preemptionPolicy", "PreemptLowerPriority"))


class Owner:
    """Who deploys: a reference set-up, for one run or to stay."""

    def __init__(self, reference: str, run_id: str | None) -> None:
        self.reference = reference
        self.run_id = run_id

    def marked(self, made: Object, present: Mapping[str, Any] | None) -> Object:
        """The object with our labels. One that is already there stays with its run, or with none."""
        run = self.run_id if present is None else labels_of(present).get(RUN_LABEL)
        ours = {MANAGED_BY: MANAGED_BY_US, REFERENCE_LABEL: self.reference} | ({RUN_LABEL: run} if run else {})
        metadata = dict(made["metadata"])
        metadata["labels"] = {**(metadata.get("labels") or {}), **ours}
        return {**made, "metadata": metadata}

    def made(self, present: Mapping[str, Any]) -> bool:
        """Whether exactly this owner made the object."""
        labels = labels_of(present)
        return (
            labels.get(MANAGED_BY) == MANAGED_BY_US
            and labels.get(REFERENCE_LABEL) == self.reference
            and labels.get(RUN_LABEL) == self.run_id
        )

    def conflicts(self, made: Object, present: Mapping[str, Any]) -> Iterator[str]:
        """Why the object that is there may not become ``made``, and what to do about it."""
        name, labels = name_of(made), labels_of(present)
        reference, run = labels.get(REFERENCE_LABEL), labels.get(RUN_LABEL)
        if labels.get(MANAGED_BY) != MANAGED_BY_US:
            yield f"{name} is there and not ours: judge it as it is (without deploying), or remove or rename it"
        elif reference != self.reference:
            yield f"{name} belongs to the set-up {reference or 'of no name'}: withdraw that one first"
        elif run and run != self.run_id:
            yield f"{name} belongs to run {run}: wait for its end, or remove what it left with gpu-conformance clean"
        elif present["metadata"].get("deletionTimestamp"):
            yield f"{name} is being deleted: try again when it is gone"
        elif made["kind"] == "PriorityClass":
            yield from _fixed(made, present)


def labels_of(present: Mapping[str, Any]) -> dict[str, str]:
    """The labels of an object, an empty mapping when it has none."""
    return dict(present["metadata"].get("labels") or {})


def _fixed(made: Object, present: Mapping[str, Any]) -> Iterator[str]:
    for field, default in _FIXED_OF_CLASSES:
        wanted, found = made.get(field, default), present.get(field, default)
        if wanted != found:
            yield f"{name_of(made)} has {field} {found}, declared is {wanted}, and updates cannot change it: delete it"


def second_default(made: list[Object], classes: list[Object]) -> Iterator[str]:
    """The conflict of a declared default class with another default that the cluster already has.

    The API server refuses a second one: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
    """
    declared = [each for each in made if each["kind"] == "PriorityClass"]
    names = {each["metadata"]["name"] for each in declared}
    ours = next((each for each in declared if each.get("globalDefault")), None)
    for other in classes:
        if ours is not None and other.get("globalDefault") and other["metadata"]["name"] not in names:
            yield f"{name_of(ours)} is declared the default class, but {name_of(other)} already is: only one can be"
