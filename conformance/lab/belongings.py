"""What a scenario made in each of its namespaces, so that one can be emptied where deleting it would be for nothing.

To delete a namespace the API server is asked for each kind of object that can be in one, about eighty requests. On a
cluster that goes with the run that is more work than most scenarios are.
"""

import threading
from collections.abc import Mapping
from typing import Any

from conformance.kube.client import Client

__all__ = ["Belongings"]

# They make pods by way of something else, or for as long as their controller has not heard that they are gone; only
# in a namespace that is terminating nothing comes after. A Job ends with itself.
_MAKERS_OF_MORE = ("CronJob", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")


class Belongings:
    """The objects of one scenario, pods apart, in the order in which they were made. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: list[Mapping[str, Any]] = []

    def add(self, obj: Mapping[str, Any]) -> None:
        """Note an object that is about to be made."""
        if obj["kind"] != "Pod":
            identity = {key: obj["metadata"].get(key) for key in ("name", "namespace")}
            with self._lock:
                self._made.append({"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": identity})

    def can_be_removed(self, namespace: str) -> bool:
        """Whether the namespace is empty for good once they and the pods are deleted one by one."""
        return all(each["metadata"]["name"] and each["kind"] not in _MAKERS_OF_MORE for each in self._of(namespace))

    def remove(self, client: Client, namespace: str) -> None:
        """Delete those of a namespace, last made first. What has gone already is no obstacle."""
        for path in dict.fromkeys(client.path_of(each) for each in reversed(self._of(namespace))):
            client.delete(path)

    def _of(self, namespace: str) -> list[Mapping[str, Any]]:
        with self._lock:
            return [each for each in self._made if each["metadata"]["namespace"] == namespace]
