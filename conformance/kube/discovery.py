"""Finding where the objects of kinds outside our table live, by asking the server."""

from collections.abc import Callable, Mapping
from typing import Any

from conformance.kube.errors import NotFound
from conformance.kube.paths import Place, UnknownKind, segment


class Discovery:
    """Looks kinds up at ``/apis/<group>/<version>`` and remembers those that it found.

    What was missing is asked again: a CustomResourceDefinition can be established meanwhile.
    """

    def __init__(self, get: Callable[[str], dict[str, Any]]) -> None:
        self._get = get
        self._known: dict[tuple[str, str], Place] = {}

    def place(self, obj: Mapping[str, Any]) -> Place:
        """Where an object's kind lives. Raises UnknownKind when the server does not serve it."""
        group_version, kind = str(obj.get("apiVersion") or ""), str(obj.get("kind") or "")
        if (group_version, kind) not in self._known:
            self._known |= self._served(group_version)
        try:
            return self._known[group_version, kind]
        except KeyError:
            raise UnknownKind(
                f"the server serves no kind {kind!r} in {group_version!r}. Install its CustomResourceDefinition first."
            ) from None

    def _served(self, group_version: str) -> dict[tuple[str, str], Place]:
        if not group_version:
            return {}
        root = "/apis" if "/" in group_version else "/api"
        try:
            answer = self._get(root + "".join(f"/{segment(part)}" for part in group_version.split("/")))
        except NotFound:
            return {}
        return {
            (group_version, resource["kind"]): Place(group_version, resource["name"], bool(resource["namespaced"]))
            for resource in answer.get("resources") or ()
            if "/" not in resource["name"]
        }
