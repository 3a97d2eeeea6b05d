"""YAML as programs in Go read it (sigs.k8s.io/yaml): what they take as a number, a time or a second document."""

import re
from functools import cache
from typing import Any

# PyYAML follows YAML 1.1: it wants a dot in a float, knows no 0o, and makes times of what Go leaves a text.
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+")
_OCTAL = re.compile(r"[-+]?0o[0-7_]+")
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


def first_document(text: str) -> Any:
    """The value of the first document of a text; whatever follows it is never looked at.

    Raises yaml.YAMLError, ValueError or RecursionError for what is not YAML.
    """
    import yaml

    return next(iter(yaml.load_all(text, _loader())), None)


@cache
def _loader() -> Any:
    import yaml

    class GoLoader(yaml.SafeLoader):
        """SafeLoader with the scalars of Go's YAML."""

    GoLoader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def untagged(loader: Any, _tag: str, node: Any) -> Any:
        """The value of a node whose tag nobody knows, as if it had none."""
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node)
        return (
            loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else loader.construct_mapping(node)
        )

    GoLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
    GoLoader.add_implicit_resolver("tag:go,octal", _OCTAL, list("-+0"))
    GoLoader.add_constructor("tag:go,octal", lambda loader, node: int(node.value.replace("_", ""), 8))
    GoLoader.add_multi_constructor("!", untagged)
    return GoLoader
