"""What a session draws by chance, all of it from one seed, which the header names: ``--seed`` repeats the session.

``ci/test`` takes a sample of what ``ci/soak`` does in full: the moments at which runs are killed, drawn anew each time.
"""

import math
import random
from typing import Any

import pytest

KILLS = 12
"""How many runs the tests of killed runs kill, all together, unless ``--kills`` says otherwise."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The project's own options, in a group of their own."""
    group = parser.getgroup("tests of gpu-conformance")
    group.addoption("--seed", type=int, default=None, help="draw what the session with this seed drew")
    group.addoption("--kills", type=int, default=KILLS, help="how many runs are killed (%(default)s)")
    group.addoption("--shuffle", action="store_true", help="run tests marked any_order in random order")


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed; a process of xdist has that of its controller, which parsed other arguments than it hands down."""
    if hasattr(config, "workerinput"):
        config.option.seed = config.workerinput["seed"]
    elif config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(10**6)
    config.addinivalue_line("markers", "kills_in(of): a test with ``kill`` is run for one in so many of ``--kills``")
    config.addinivalue_line("markers", "any_order: tests that ``--shuffle`` runs in random order")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a process of xdist the seed that the header names."""
    node.workerinput["seed"] = node.config.option.seed


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Exchange, at random, the places of tests whose order must not matter."""
    places = [at for at, item in enumerate(items) if config.option.shuffle and item.get_closest_marker("any_order")]
    moved = [items[at] for at in places]
    random.Random(config.option.seed).shuffle(moved)
    for at, item in zip(places, moved, strict=True):
        items[at] = item


def pytest_report_header(config: pytest.Config) -> str:
    """Say how to draw the same again."""
    return f"chance: --seed={config.option.seed} --kills={config.option.kills}"


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """This test's own numbers: what other tests draw, or which of them run, does not change them."""
    return random.Random(f"{request.config.option.seed} {request.node.name}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``kill`` once for each of its kills: one in ``kills_in`` of the session's, rounded up."""
    if "kill" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("kills_in")
        of = int(mark.args[0]) if mark else 1
        metafunc.parametrize("kill", range(1, math.ceil(metafunc.config.option.kills / of) + 1))


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How many runs the session kills, all together."""
    return int(request.config.option.kills)
