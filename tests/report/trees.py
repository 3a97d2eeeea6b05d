"""Trees of JSON: their shape without their texts, and their texts."""

from typing import Any


def shape(tree: Any) -> Any:
    """The tree with the type of each value in its place."""
    if isinstance(tree, dict):
        return {key: shape(value) for key, value in tree.items()}
    return [shape(each) for each in tree] if isinstance(tree, list) else type(tree)


def strings(tree: Any) -> list[str]:
    """Every text in the tree, but for keys."""
    if isinstance(tree, str):
        return [tree]
    members = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [text for each in members for text in strings(each)]
