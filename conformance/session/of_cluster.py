"""What of a run that part is made of which stands beside its verdicts: pods that wait, what an upgrade would find."""

from typing import Protocol

from conformance.facts import Facts
from conformance.kube.client import Client
from conformance.reference import Reference
from conformance.session.cluster import OpenCluster


class OfCluster(Protocol):
    """The judged cluster, open, with what was read of it and what was declared."""

    @property
    def cluster(self) -> OpenCluster:
        """The open cluster."""

    @property
    def client(self) -> Client:
        """Its client; a snapshot has none."""

    @property
    def facts(self) -> Facts:
        """What was read."""

    @property
    def reference(self) -> Reference:
        """The declared set-up."""

    @property
    def redacts(self) -> bool:
        """Whether names of machines are replaced in all that is written."""
