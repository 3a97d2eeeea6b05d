"""Where a pod may be because of other pods: required affinity and anti-affinity, its own and theirs.

As kube-scheduler decides it (pkg/scheduler/framework/plugins/interpodaffinity/filtering.go). What one pod asks is
counted over all nodes once, and each node is judged from the counts. A term whose namespaceSelector needs labels of
namespaces that were not read is not decided, and said.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from conformance.gpu.affinity import selector_matches

Manifest: TypeAlias = Mapping[str, Any]
Namespaces: TypeAlias = Mapping[str, Mapping[str, str]]
"""The labels of namespaces, by their names."""

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_Domain: TypeAlias = tuple[str, str]
_UNREAD = "a namespaceSelector of pod (anti-)affinity, for the labels of namespaces were not read"


class Term(msgspec.Struct, frozen=True):
    """One required term of (anti-)affinity; ``namespaces`` is None where it means every namespace."""

    key: str
    selector: Manifest | None
    namespaces: frozenset[str] | None

    def selects(self, pod: Manifest) -> bool:
        """Whether the term is about this pod."""
        metadata = pod["metadata"]
        if self.namespaces is not None and metadata.get("namespace") not in self.namespaces:
            return False
        return selector_matches(self.selector, metadata.get("labels") or {})


class Neighbours:
    """What the pods that are there mean for one pod, by node; ``undecided`` says what could not be judged."""

    def __init__(
        self,
        pod: Manifest,
        nodes: Sequence[Manifest],
        bound: Mapping[str, Sequence[Manifest]],
        namespaces: Namespaces | None = None,
    ) -> None:
        self._pod, self._namespaces = pod, namespaces
        self.undecided: tuple[str, ...] = ()
        self._apart = self._terms(pod, "podAntiAffinity")
        self._together = self._terms(pod, "podAffinity")
        self._repelling: dict[_Domain, tuple[int, Manifest]] = {}
        self._keys_of_repelling: set[str] = set()
        self._attracting: set[_Domain] = set()
        for node in nodes:
            labels = node["metadata"].get("labels") or {}
            for other in bound.get(str(node["metadata"]["name"]), ()):
                if (self._apart or self._together or keeps_away(other)) and not same(other, pod):
                    self._look_at(labels, other)

    def on(self, node: Manifest) -> Iterator[str]:
        """What keeps the pod off the node, in words."""
        labels = node["metadata"].get("labels") or {}
        domains = [(key, labels[key]) for key in self._keys_of_repelling if key in labels]
        found = sorted((*self._repelling[each], *each) for each in domains if each in self._repelling)
        for _, other, key, value in found:
            yield f"it may not share {key}={value} with pod {full_name(other)}"
        if not self._is_first_of_its_kind(labels):
            for term in self._together:
                if (term.key, labels.get(term.key)) not in self._attracting:
                    where = f"{term.key}={labels[term.key]}" if term.key in labels else f"(no label {term.key})"
                    yield f"pod affinity wants a pod with {_words(term.selector)} in its {where}, there is none"

    def _is_first_of_its_kind(self, labels: Mapping[str, str]) -> bool:
        """Pods that want to be with their own kind: the first of them may go anywhere that has the domains."""
        return (
            not self._attracting
            and all(term.key in labels for term in self._together)
            and all(term.selects(self._pod) for term in self._together)
        )

    def _look_at(self, labels: Mapping[str, str], other: Manifest) -> None:
        apart = [term for term in self._apart if term.selects(other)]
        if keeps_away(other):
            apart += [term for term in self._terms(other, "podAntiAffinity") if term.selects(self._pod)]
        for term in apart:
            if term.key in labels:
                # The number keeps the order in which they were found.
                self._repelling.setdefault((term.key, labels[term.key]), (len(self._repelling), other))
                self._keys_of_repelling.add(term.key)
        # Only pods that all terms select count, for each term in its own domain.
        if self._together and all(term.selects(other) for term in self._together):
            self._attracting |= {(term.key, labels[term.key]) for term in self._together if term.key in labels}

    def _terms(self, pod: Manifest, which: str) -> list[Term]:
        stated = ((pod["spec"].get("affinity") or {}).get(which) or {}).get(_REQUIRED) or ()
        decided = [term for term in stated if not (term.get("namespaceSelector") and self._namespaces is None)]
        if len(decided) < len(stated):
            self.undecided = (_UNREAD,)
        return [Term(term["topologyKey"], term.get("labelSelector"), self._meant(pod, term)) for term in decided]

    def _meant(self, pod: Manifest, term: Manifest) -> frozenset[str] | None:
        """The namespaces of a term: those named and those selected, the pod's own where there is neither."""
        named, selector = term.get("namespaces") or (), term.get("namespaceSelector")
        if selector is None:
            return frozenset(named or (pod["metadata"].get("namespace"),))
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            return None
        there = self._namespaces or {}
        return frozenset({*named, *(name for name, labels in there.items() if selector_matches(selector, labels))})


def keeps_away(pod: Manifest) -> bool:
    """Whether a pod has rules by which it may keep others away."""
    affinity = pod["spec"].get("affinity")
    return bool(affinity and affinity.get("podAntiAffinity"))


def has_pod_rules(pod: Manifest) -> bool:
    """Whether a pod has rules of its own about which pods may be where it is."""
    affinity = pod["spec"].get("affinity") or {}
    return bool(affinity.get("podAffinity") or affinity.get("podAntiAffinity"))


def same(one: Manifest, other: Manifest) -> bool:
    """Whether two manifests are of one pod, by namespace and name."""
    mine, theirs = one["metadata"], other["metadata"]
    return bool(mine.get("name") == theirs.get("name") and mine.get("namespace") == theirs.get("namespace"))


def full_name(pod: Manifest) -> str:
    """A pod's namespace and name, as ``team/train-0``."""
    return f"{pod['metadata'].get('namespace')}/{pod['metadata'].get('name')}"


def _words(selector: Manifest | None) -> str:
    labels = [f"{key}={value}" for key, value in ((selector or {}).get("matchLabels") or {}).items()]
    expressions = [
        f"{each.get('key')} {each.get('operator')} {', '.join(each.get('values') or ())}".strip()
        for each in (selector or {}).get("matchExpressions") or ()
    ]
    return ", ".join(labels + expressions) or "any labels"
