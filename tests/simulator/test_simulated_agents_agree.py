"""The simulator and the suites come to the same answers by different ways: where they do not, one of them is wrong."""

import itertools
from collections.abc import Iterator

import pytest

from conformance.gpu import mig, plugin_config, sharing
from conformance.gpu.mig_profiles import A30, A100_40GB, H200, RTX_PRO_6000, Model
from conformance.simulator.geometry import Geometry, cut
from conformance.simulator.gfd import labels
from conformance.simulator.hardware import Machine
from conformance.simulator.plugin import offers
from conformance.simulator.plugin_settings import Refused, ReplicatedResource, Settings, Sharing, combine, read

GPU, SMALL = "nvidia.com/gpu", "nvidia.com/mig-1g.5gb"
A100 = Machine("NVIDIA A100-SXM4-40GB", 2, 40960, "8.0", mig_capable=True)


def small_layouts(model: Model) -> Iterator[dict[str, int]]:
    """Every layout of up to four MIG devices."""
    names = [profile.name for profile in model.profiles]
    for size in range(5):
        for chosen in itertools.combinations_with_replacement(names, size):
            yield {name: chosen.count(name) for name in chosen}


@pytest.mark.parametrize("model", [A30, A100_40GB, H200, RTX_PRO_6000], ids=str)
def test_creating_instances_in_all_orders_reaches_what_searching_placements_finds(model: Model) -> None:
    layouts = list(small_layouts(model))

    found = [layout for layout in layouts if cut(model, layout)]

    assert found == [layout for layout in layouts if isinstance(mig.solve(model, mig.Layout.of(layout)), mig.Fits)]
    assert 10 < len(found) < len(layouts)


CUTS: list[Geometry] = [
    {},
    {0: {}},
    {0: {"1g.5gb": 7}},
    {0: {"1g.5gb": 7}, 1: {}},
    {0: {"1g.5gb": 7}, 1: {"1g.5gb": 7}},
    {0: {"1g.5gb": 7}, 1: {"2g.10gb": 3}},
    {0: {"1g.5gb": 2, "1g.5gb+me": 1, "3g.20gb": 1}, 1: {"1g.5gb": 7}},
]
SHARINGS = [
    Sharing(),
    Sharing("time-slicing", (ReplicatedResource(GPU, 4),)),
    Sharing("time-slicing", (ReplicatedResource(GPU, 4), ReplicatedResource(SMALL, 2)), True),
    Sharing("time-slicing", (ReplicatedResource(SMALL, 3),), False, True),
    Sharing("time-slicing", (ReplicatedResource(GPU, 2), ReplicatedResource(GPU, 5))),
]


@pytest.mark.parametrize("cut_as", CUTS, ids=str)
@pytest.mark.parametrize("shared", SHARINGS, ids=["none", "gpus", "renamed", "mig devices", "twice"])
@pytest.mark.parametrize("strategy", list(sharing.MigStrategy))
def test_offers_and_labels_are_those_that_the_suites_expect(
    cut_as: Geometry, shared: Sharing, strategy: sharing.MigStrategy
) -> None:
    settings = Settings(strategy.value, shared)
    gpus = sharing.NodeGpus("NVIDIA-A100-SXM4-40GB", 2 - len(cut_as), tuple(cut_as.values()), (8, 0))
    expected = sharing.Sharing(
        sharing.SharingStrategy(shared.strategy),
        tuple(sharing.ReplicatedResource(each.resource, each.replicas) for each in shared.resources),
        shared.renames,
        shared.refuses_many,
    )
    try:
        offered = {name: len(offer.devices) for name, offer in offers("n", A100, cut_as, settings).items()}
    except Refused:
        offered = {}

    assert offered == sharing.advertised(gpus, expected, strategy).resources
    told = labels(A100, "580.95.05", cut_as, settings, None)
    wanted = sharing.labels(gpus, expected, strategy)
    assert wanted is not None
    assert {name: told.get(name) for name in wanted} == wanted


TEXTS = [
    "",
    "version: v1\n",
    "version: v2\n",
    "version: 1\n",
    "[]",
    "text",
    "{",
    "flags: {migStrategy: mixed}\n",
    "flags: {migStrategy: 1}\n",
    "flags: {MIGSTRATEGY: single}\n",
    "flags: {failOnInitError: 'yes'}\n",
    "flags: {plugin: {deviceListStrategy: [envvar, cdi-cri]}}\n",
    "flags: {plugin: {deviceListStrategy: carrier-pigeon}}\n",
    "flags: {plugin: {deviceListStrategy: [1]}}\n",
    "flags: {gfd: {sleepInterval: 90s}}\n",
    "flags: {gfd: {sleepInterval: 1x}}\n",
    "flags: {gfd: {noTimestamp: 1}}\n",
    "flags: {nvidiaDevRoot: 2026-01-01}\n",
    "resources: {gpus: [{pattern: '*', name: gpu}]}\n",
    "resources: {gpus: [{pattern: '*', name: A_B}]}\n",
    "resources: {mig: everything}\n",
    "version: v1\n---\nversion: v2\n",
    "sharing: {timeSlicing: {resources: [{name: gpu, rename: , replicas: 2}]}}\n",
    "sharing: {timeSlicing: {resources: [{name: gpu, rename: mine, replicas: 2}]}}\n",
    "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 10000000000000000000}]}}\n",
    "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 0o4}]}}\n",
    "sharing: {timeSlicing: {}}\n",
    "sharing: {mps: }\n",
    "sharing: {timeSlicing: }\n",
    "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2}]}}\n",
    "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2.0}]}}\n",
    "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2.5}]}}\n",
    "sharing: {timeSlicing: {resources: [{name: gpu, replicas: true}]}}\n",
    "sharing: {timeSlicing: {resources: [{name: gpu, replicas: -4}]}}\n",
    "sharing: {timeSlicing: {resources: [{replicas: 4}]}}\n",
    "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: mig-1g.5gb.me, replicas: 3}]}}\n",
    "sharing: {timeSlicing: {renamebydefault: true, resources: [{name: gpu, replicas: 3}]}}\n",
    "sharing: {timeSlicing: {renameByDefault: 1, resources: [{name: gpu, replicas: 3}]}}\n",
    "sharing: {timeSlicing: {resources: [{name: 'mig-1g.5gb+me', replicas: 3}]}}\n",
    "sharing: {mps: {failRequestsGreaterThanOne: false, resources: [{name: gpu, replicas: 3}]}}\n",
    "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2}]}, mps: {resources: [{name: gpu, replicas: 3}]}}\n",
    "flags: {migStrategy: mixed}\nsharing: {mps: {resources: [{name: gpu, replicas: 3}]}}\n",
    "imex: {channelIDs: [0]}\n",
    "imex: {channelIDs: [0, 1]}\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_says_the_same_to_both(text: str) -> None:
    expected = plugin_config.parse(text).config

    try:
        found = combine(read(text), None, "/run/nvidia/mps")
    except Refused:
        assert expected is None
        return

    assert expected is not None
    assert found.mig_strategy == expected.strategy_with("")
    assert found.sharing.strategy == expected.sharing.strategy
    assert [(each.resource, each.replicas) for each in found.sharing.resources] == [
        (each.resource, each.replicas) for each in expected.sharing.resources
    ]
    assert (found.sharing.renames, found.sharing.refuses_many) == (
        expected.sharing.rename_by_default,
        expected.sharing.refuses_more_than_one,
    )
