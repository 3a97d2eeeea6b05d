"""What most tests of suites start from; modules that need another cluster have one of their own."""

import pytest
from operated_cluster import Cluster

from conformance.reference import Reference, load
from conformance.shipped import shipped


@pytest.fixture(scope="session")
def reference() -> Reference:
    """The shipped set-up; what is read of it is never changed, only copied."""
    return load(shipped("fixtures/reference"))


@pytest.fixture
def cluster(reference: Reference) -> Cluster:
    """A sound cluster as the operator would have made it for the set-up."""
    return Cluster(reference)
