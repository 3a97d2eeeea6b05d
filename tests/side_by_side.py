"""Tests side by side under pytest-xdist: the tests of a file, or of a class, take turns in one process.

Modules own clusters and change them; the tests of others run beside them meanwhile. A parameter whose id ends in
``@name`` moves its test into the group of that name, ``@alone`` into one of its own: so one file uses several clusters.
The files of a folder that need something that the machine has once are one group: else processes would wait for a lock.
(xdist's marker ``xdist_group`` would say the same. With pytest 9.2 xdist 3.8 passes over it: it writes it where nobody
reads it any more.)

``ci/test`` asks for it with ``-n auto --dist loadgroup``; with ``-n0`` or ``-p no:xdist`` all tests run in one process.
"""

import os
import re
from collections.abc import Container
from typing import Any

import pytest
from whole_runs import needs_a_living_cluster

# What takes longest begins first, so that no process is left alone with it at the end: minutes, then tests of clusters,
# and what needs none fills the gaps.
LONGEST = (
    "tests/faults",
    "tests/realnode",
    "tests/kill",
    "tests/containers",
    "tests/plugin/test_package",
    "tests/setups",
    "tests/guide",
    "tests/explaining/test_agreement",
    "tests/simulator",
    "tests/embedded",
)

# Of real nodes and of Docker daemons a machine has one set at a time; modules wait for each other (their conftest.py).
TAKING_TURNS = ("tests/realnode", "tests/containers")

# Tests of clusters wait for controllers more than they compute, and each process may own a cluster meanwhile. Of the
# time of all others a third goes into waiting, for processes that they start and for what hangs on purpose.
PROCESSES_PER_CPU = 2
WITHOUT_CLUSTERS_MORE_THAN_CPUS = 2
BYTES_PER_CLUSTER = 2 << 30

NAMED = re.compile(r"@(?P<group>[^@\]]+)\]$")


def group_of(nodeid: str) -> str:
    """The tests that take turns with this one: its named group, or else its folder if that does, its class or file."""
    named = NAMED.search(nodeid)
    if named is not None:
        return nodeid if named["group"] == "alone" else named["group"]
    for folder in TAKING_TURNS:
        if nodeid.startswith(f"{folder}/"):
            return folder
    return nodeid.partition("[")[0].rpartition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """What ``-n auto`` means: more processes than CPUs, as many of clusters as memory carries."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    if config.option.markexpr == "not cluster":
        return (os.cpu_count() or 1) + WITHOUT_CLUSTERS_MORE_THAN_CPUS
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(PROCESSES_PER_CPU * (os.cpu_count() or 1), memory // BYTES_PER_CLUSTER))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out groups, in the order of the tests."""
    if config.option.dist != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest, where tests run side by side; the tests of a group keep their order."""
    if hasattr(config, "workerinput"):
        of_clusters = {group_of(item.nodeid) for item in items if needs_a_living_cluster(item)}
        items.sort(key=lambda item: _turn(item.nodeid, of_clusters))


def _turn(nodeid: str, of_clusters: Container[str]) -> int:
    listed = next((at for at, start in enumerate(LONGEST) if nodeid.startswith(start)), None)
    if listed is not None:
        return listed
    return len(LONGEST) + (group_of(nodeid) not in of_clusters)
