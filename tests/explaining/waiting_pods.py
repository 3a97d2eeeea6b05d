"""Pods that wait or fail, each in a small cluster with what is right about it (the folder situations)."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from conformance.explaining import Explanation, explain, explain_workload, seen_from
from conformance.explaining.seen import kind_of, word_for

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FOLDER = Path(__file__).parent / "situations"
_KINDS = (
    "refused",
    "queued",
    "unschedulable",
    "claims",
    "volumes",
    "neighbours",
    "eviction",
    "node",
    "crashed",
    "ending",
)
_ROOMY = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "110"}
_CREATED = "2026-11-01T10:00:00Z"


@cache
def situations() -> dict[str, dict[str, Any]]:
    """Every situation by its id, in the order of the files."""
    found = {}
    for kind in _KINDS:
        file = FOLDER / f"{kind}.yaml"
        for each in yaml.load(file.read_text(), _LOADER):
            assert each["id"] not in found, each["id"]
            found[each["id"]] = each | {"kind": kind}
    return found


@cache
def field_clusters() -> list[dict[str, Any]]:
    """Kinds of clusters of the field, each with the situation that holds what is told there."""
    found: list[dict[str, Any]] = yaml.load((FOLDER.parent / "field_clusters.yaml").read_text(), _LOADER)
    return found


def explained(situation: dict[str, Any]) -> Explanation:
    """What is told first of what a situation asks about."""
    objects = objects_of(situation)
    kind, _, name = situation["explain"].partition(" ")
    seen = seen_from(objects)
    namespace, _, name = name.partition("/")
    found = next(
        each
        for each in objects
        if word_for(kind_of(each)) == kind
        and (each["metadata"].get("namespace"), each["metadata"]["name"]) == (namespace, name)
    )
    return explain(seen, found) if kind == "pod" else explain_workload(seen, found)[0]


def objects_of(situation: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of a situation's cluster."""
    return [_whole(each) for each in situation["objects"]]


def _whole(obj: dict[str, Any]) -> dict[str, Any]:
    """An object with what all of its kind have, and no situation is about."""
    metadata = {"uid": _uid(obj["kind"], obj["metadata"]["name"]), "creationTimestamp": _CREATED, **obj["metadata"]}
    metadata["ownerReferences"] = [
        {"uid": _uid(each["kind"], each["name"]), **each} for each in metadata.get("ownerReferences") or ()
    ]
    whole = {**obj, "metadata": metadata}
    return _node(whole) if obj["kind"] == "Node" else whole


def _uid(kind: str, name: str) -> str:
    return f"{kind}-{name}".lower()


def _node(node: dict[str, Any]) -> dict[str, Any]:
    status = node.get("status") or {}
    labels = {"kubernetes.io/hostname": node["metadata"]["name"], **(node["metadata"].get("labels") or {})}
    amounts = {**_ROOMY, **(status.get("allocatable") or {})}
    ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    return {
        **node,
        "metadata": {**node["metadata"], "labels": labels},
        "spec": node.get("spec") or {},
        "status": {"conditions": ready, "capacity": amounts, **status, "allocatable": amounts},
    }


_TITLES = {
    "refused": "Refused at creation",
    "queued": "Gated, suspended, queued",
    "unschedulable": "No node takes it: taints, selectors, devices, nodes",
    "claims": "No node takes it: device claims",
    "volumes": "No node takes it: volumes",
    "neighbours": "No node takes it: other pods",
    "eviction": "Who could be evicted for it",
    "node": "Waiting on its node",
    "crashed": "Crashed or ended",
    "ending": "Being deleted",
}
_HEAD = """# Pods that wait or fail, and what is told of them

What `gpu-conformance explain-pod` tells first of {count} pods, each in a small cluster of its own
(`tests/explaining/situations`). A test runs all of them and holds this page, which is made from them. {before} were
written before the code that answers them was looked at; of these {first} were right the first time, and the code was
changed for the others.
A star marks those {before}, two stars those that were right the first time.
"""


def markdown() -> str:
    """The page of all situations with what is told."""
    every = situations()
    before = [each for each in every.values() if each.get("before_the_code")]
    first = sum(bool(each.get("right_the_first_time")) for each in before)
    parts = [_HEAD.format(count=len(every), before=len(before), first=first)]
    for kind, title in _TITLES.items():
        parts.append(f"\n## {title}\n\n| the situation | stage | the first cause that is told |\n| --- | --- | --- |\n")
        parts += [_row(each) for each in every.values() if each["kind"] == kind]
    parts.append(_OF_CLUSTERS)
    parts += [f"| {each['cluster']} | {situations()[each['held_by']]['title']} |\n" for each in field_clusters()]
    return "".join(parts)


_OF_CLUSTERS = """
## Kinds of clusters

Kinds of clusters that owners reported in public, and the situation above that holds what is told there. A test also
holds of each what the remedy says and what it must not say, such as to tolerate a quarantine
(`tests/explaining/field_clusters.yaml`).

| the cluster | the situation |
| --- | --- |
"""


def _row(situation: dict[str, Any]) -> str:
    told = explained(situation)
    star = r" \*" if situation.get("before_the_code") else ""
    star += r"\*" if situation.get("right_the_first_time") else ""
    words = " ".join(f"{told.cause}{f'; {told.eviction}' if situation.get('evicts') else ''}".split())
    safe = words.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*").replace("[", r"\[")
    return f"| {situation['title']}{star} | `{told.stage}` | {safe} |\n"


if __name__ == "__main__":
    print(markdown(), end="")
