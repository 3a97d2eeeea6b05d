"""Everything that somebody needs who installs a declared GPU stack by hand, as YAML with comments that say how."""

import textwrap
from typing import Any

from conformance.deploy.helm.mirrors import mirrored
from conformance.deploy.helm.releases import Release, releases
from conformance.deploy.helm.values import merged
from conformance.reference.model import Reference
from conformance.reference.stack_objects import stack_objects

__all__ = ["OBJECTS", "values_text"]

OBJECTS = "objects"
"""The part that is no release: what the charts find in their namespaces."""

_OBJECTS = """\
What the charts find in their namespaces, to be applied first:
  gpu-conformance values objects | kubectl apply -f -
The nodes need their labels and taints from the set-up, too."""
_VALUES = """\
{release}
  gpu-conformance values {name} > {name}.yaml
  helm install {name} {source} \\
    --namespace {namespace} --values {name}.yaml --wait"""


def values_text(reference: Reference, part: str | None = None, registry: str | None = None) -> str:
    """The objects and the values of every release, one YAML document each; with ``part`` that one alone.

    ``part`` is OBJECTS or the name of a release; ``registry`` takes the place of every image's registry. Raises
    ValueError for a set-up without a stack, and for a part that it does not have.
    """
    wanted = releases(reference)
    if reference.stack is None:
        raise ValueError(f"{reference} declares no GPU stack: give it a 'stack', see docs/deploying-the-stack.md")
    made = {"apiVersion": "v1", "kind": "List", "items": stack_objects(reference)}
    documents = {OBJECTS: _commented(_OBJECTS, made)}
    for release in wanted:
        values = merged(mirrored(release.chart, registry, None), release.values)
        documents[release.name] = _commented(_explained(release), values)
    if part is None:
        return "---\n".join(documents.values())
    if part not in documents:
        raise ValueError(f"{reference} has no part {part!r}; there are: {', '.join(documents)}")
    return documents[part]


def _explained(release: Release) -> str:
    source = " ".join(release.source)
    return _VALUES.format(release=release, name=release.name, source=source, namespace=release.namespace)


def _commented(words: str, value: Any) -> str:
    return textwrap.indent(words, "# ", lambda line: True) + "\n" + _readable(value)


def _readable(value: Any) -> str:
    """YAML in which a text of several lines stands as it is."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Its own class, so that nobody else's YAML changes."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False))
