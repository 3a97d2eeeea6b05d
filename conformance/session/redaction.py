"""What ``--gpu-redact`` does in a run: it learns the names of machines as they become known, and replaces them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from conformance.facts import Facts
from conformance.options import Settings
from conformance.redaction import Redactor, key_from
from conformance.report.model import Report, Verdict
from conformance.report.redacted import cluster_names, learn_from_verdict, redacted, redacted_settings
from conformance.session.cluster import OpenCluster

# The members of events that may name something of the cluster; the others are ids and words of ours.
_TEXTS = ("cluster", "reference", "outcome")
_HOST_NAME = "kubernetes.io/hostname"


class RunRedaction:
    """The redaction of one run. Everything that the run writes goes through it."""

    def __init__(self, settings: Settings) -> None:
        """Raises RedactionError for a key that cannot be used."""
        key = settings.value("redact_key")
        self._redactor = Redactor(key_from(Path(key) if key else None))

    def learn_cluster(self, cluster: OpenCluster) -> None:
        """Learn how the cluster, and the registry that it pulls from, are called."""
        self._redactor.learn("cluster", cluster_names(cluster.name, cluster.kind))
        self._redactor.learn("host", [registry_host(f"{cluster.images.registry or ''}/")])

    def learn_facts(self, facts: Facts) -> None:
        """Learn the names of nodes and registries, and the UID of the cluster."""
        self._redactor.learn("uuid", filter(None, [facts.cluster_uid]))
        if "nodes" not in facts.unreadable:
            self._redactor.learn("node", (name for node in facts.nodes for name in _names(node.name, node.labels)))
            self._redactor.learn("node", (node.provider_id.rpartition("/")[2] for node in facts.nodes))
        if "pods" not in facts.unreadable:
            images = {container.image for pod in facts.pods for container in pod.containers}
            self._redactor.learn("host", map(registry_host, images))

    def text(self, text: str) -> str:
        """The text with replacements."""
        return self._redactor.text(text)

    def verdict(self, verdict: Verdict) -> Verdict:
        """The verdict with replacements; its subjects may be nodes that have come since facts were read."""
        learn_from_verdict(verdict, self._redactor)
        return redacted(verdict, self._redactor)

    def event(self, content: Mapping[str, object]) -> dict[str, object]:
        """The content of an event with replacements; lists have requirements, which are ours."""
        return {name: self._of_event(name, value) for name, value in content.items()}

    def _of_event(self, name: str, value: object) -> object:
        if isinstance(value, Verdict):
            return self.verdict(value)
        if isinstance(value, msgspec.Struct):
            return redacted(value, self._redactor)
        if name == "settings" and isinstance(value, dict):
            return redacted_settings(value, self._redactor)
        if isinstance(value, tuple):
            return tuple(self._of_event(name, each) for each in value)
        return self.text(value) if isinstance(value, str) and name in _TEXTS else value

    def report(self, report: Report) -> Report:
        """The report with replacements."""
        return redacted(report, self._redactor)


def registry_host(image: str) -> str:
    """The registry of an image reference, empty where it names none (the runtime's default is meant)."""
    first, slash, _ = image.partition("/")
    return first.partition(":")[0] if slash and (set(".:") & set(first) or first == "localhost") else ""


def _names(name: str, labels: dict[str, str]) -> Iterator[str]:
    yield name
    yield labels.get(_HOST_NAME, "")
