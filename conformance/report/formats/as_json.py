"""JSON of formats whose readers show its strings to people: what cannot be seen is named in each of them."""

from typing import Any

import msgspec

from conformance.report.visible import visible


def written(tree: Any) -> str:
    """The tree of dicts, lists and plain values as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(_shown(tree)), indent=1).decode() + "\n"


def _shown(tree: Any) -> Any:
    if isinstance(tree, str):
        return visible(tree)
    if isinstance(tree, dict):
        return {visible(key): _shown(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_shown(each) for each in tree]
    return tree
