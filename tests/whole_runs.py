"""Which tests are of clusters, and which of those start one (docs/decisions/0014-the-first-answer.md).

``cluster`` marks what ``ci/test -m 'not cluster'`` leaves for ``ci/test``: tests on clusters, and whole runs of the
plugin on recorded ones, which bear ``recorded`` as well. A test that runs the plugin by ``conform`` need not say so.
What takes as long although it needs no cluster bears both: pytest in processes of its own, a validator of somebody
else's, an image of all that is installed.
"""

from collections.abc import Iterable
from typing import Any

import pytest

CLUSTER, RECORDED = "cluster", "recorded"

RUNS = frozenset({"conform", "conform_forked", "forked"})
"""Fixtures that run pytest with the plugin as a user does."""


def needs_a_living_cluster(item: pytest.Item) -> bool:
    """Whether the test runs on a cluster that somebody has to start."""
    return item.get_closest_marker(CLUSTER) is not None and item.get_closest_marker(RECORDED) is None


def mark_whole_runs(items: Iterable[pytest.Item]) -> None:
    """Mark the tests that run the plugin; those of living clusters say so themselves."""
    for item in items:
        if not RUNS.isdisjoint(getattr(item, "fixturenames", ())) and item.get_closest_marker(CLUSTER) is None:
            item.add_marker(CLUSTER)
            item.add_marker(RECORDED)


def whole_run(test: Any) -> Any:
    """Mark a test that runs the plugin, or another program of that size, in a way of its own."""
    return pytest.mark.cluster(pytest.mark.recorded(test))
