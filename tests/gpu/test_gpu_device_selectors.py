"""Selectors of devices: what CEL says of a device, and which choice of devices meets several requests."""

import pytest

from conformance.gpu.device_allocation import Asked, Candidate, Outcome, outcome
from conformance.gpu.device_selectors import Match, Matching, match

DRIVER = "gpu.nvidia.com"
A, C = f"device.attributes['{DRIVER}']", f"device.capacity['{DRIVER}']"
DEVICE = {
    "attributes": {
        "type": {"string": "gpu"},
        "productName": {"string": "NVIDIA A100-SXM4-40GB"},
        "index": {"int": 1},
        "healthy": {"bool": True},
        "driverVersion": {"version": "580.95.5"},
        "resource.kubernetes.io/pcieRoot": {"string": "pci0000:00"},
        "odd": {"strings": ["x", "y"]},
    },
    "capacity": {"memory": {"value": "40Gi"}},
}


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        (f"device.driver == '{DRIVER}' && {A}.type == 'gpu'", Match.YES),
        (f'device.driver == "other.example.com" && {A}.type == "gpu"', Match.NO),
        (f"{A}.index == 1", Match.YES),
        (f"{A}.index == '1'", Match.NO),
        (f"{A}.index > 1 || {A}.healthy", Match.YES),
        (f"!({A}.index in [0, 2])", Match.YES),
        (f"{A}.productName.lowerAscii().matches('^.*a100.*$')", Match.YES),
        (f"{A}.productName.startsWith('NVIDIA H')", Match.NO),
        (f"{C}.memory.compareTo(quantity('40Gi')) >= 0", Match.YES),
        (f"{C}.memory.isGreaterThan(quantity('40960Mi'))", Match.NO),
        (f"{A}.driverVersion.isLessThan(semver('595.0.0'))", Match.YES),
        ("device.attributes['resource.kubernetes.io'].pcieRoot == 'pci0000:00'", Match.YES),
        (f"'profile' in {A} && {A}.profile == '1g.5gb'", Match.NO),
        (f"has({A}.profile)", Match.NO),
        (f"{A}.index == 1 ? {A}.healthy : false", Match.YES),
        ("has(device.attributes['other.example.com'].type)", Match.NO),
        # What is not there is an error, unless the other side decides.
        (f"{A}.profile == '1g.5gb'", Match.ERROR),
        (f"{A}.profile != '1g.5gb'", Match.ERROR),
        ("device.attributes['other.example.com'].type == 'gpu'", Match.ERROR),
        (f"{A}.profile == '1g.5gb' && {A}.type == 'mig'", Match.NO),
        (f"{A}.profile == '1g.5gb' || {A}.type == 'gpu'", Match.YES),
        (f"{A}.index.lowerAscii() == '1'", Match.ERROR),
        (f"{C}.memory.compareTo({A}.driverVersion) >= 0", Match.ERROR),
        (f"{C}.memory > 3", Match.ERROR),
        (f"{A}.index.startsWith('1')", Match.ERROR),
        (f"{A}.type", Match.ERROR),
        # What is not evaluated here.
        (f"{A}.?profile.orValue('') == '1g.5gb'", Match.PERHAPS),
        (f"{A}.type == 'mig' && cel.bind(x, 1, x == 1)", Match.PERHAPS),
        ("'other.example.com' in device.attributes", Match.PERHAPS),
        ("device.attributes.exists(domain, true)", Match.PERHAPS),
        (f"{A}.odd == 'x'", Match.PERHAPS),
        ("", Match.PERHAPS),
    ],
)
def test_a_selector_says_what_cel_says(expression, says):
    assert match([expression], DRIVER, DEVICE) is says


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("580.95.5", "580.126.9"),
        ("1.0.0-rc.2", "1.0.0-rc.10"),
        ("1.0.0-1", "1.0.0-alpha"),
        ("1.0.0-rc", "1.0.0-rc.1"),
        ("1.0.0-rc.1", "1.0.0"),
    ],
)
def test_versions_are_compared_as_semantic_versioning_says(older, newer):
    device = {"attributes": {"v": {"version": older}}}

    assert match([f"{A}.v.isLessThan(semver('{newer}'))"], DRIVER, device) is Match.YES
    assert match([f"{A}.v.compareTo(semver('{older}+build')) == 0"], DRIVER, device) is Match.YES


def test_nothing_is_logged_of_what_is_an_answer(caplog):
    assert match([f"{A}.index.lowerAscii() == '1'"], DRIVER, DEVICE) is Match.ERROR
    assert not caplog.records


def test_selectors_are_evaluated_in_their_order_until_one_is_false():
    reads_what_is_not_there, false = f"{A}.profile == '1g.5gb'", f"{A}.type == 'mig'"

    assert match([false, reads_what_is_not_there], DRIVER, DEVICE) is Match.NO
    assert match([reads_what_is_not_there, false], DRIVER, DEVICE) is Match.ERROR


def asked(count, *matches, slice="s"):
    return Asked(count, [Candidate((DRIVER, "n", f"d{at}"), each, slice) for at, each in enumerate(matches)])


def test_requests_that_want_the_same_devices_are_not_met_though_there_are_enough():
    yes, no = Match.YES, Match.NO
    small = [asked(1, yes, no, no), asked(1, yes, no, no), asked(1, yes, yes, yes)]

    assert outcome(small)[0] is Outcome.NOT_MET
    assert outcome([asked(1, yes, yes, no), *small[1:]])[0] is Outcome.MET


def test_what_is_not_understood_leaves_it_open_only_where_it_decides():
    assert outcome([asked(1, Match.PERHAPS, Match.NO)])[0] is Outcome.UNSURE
    assert outcome([asked(1, Match.PERHAPS, Match.YES)])[0] is Outcome.MET
    assert outcome([asked(2, Match.PERHAPS, Match.NO)])[0] is Outcome.NOT_MET


def test_an_error_ends_the_attempt_where_the_device_is_looked_at_before_enough_are_found():
    yes, no, error = Match.YES, Match.NO, Match.ERROR

    assert outcome([asked(1, yes, error)]) == (Outcome.MET, None)
    assert outcome([asked(1, no, error, yes)]) == (Outcome.ERROR, (DRIVER, "n", "d1"))
    assert outcome([asked(2, yes, error)]) == (Outcome.NOT_MET, (DRIVER, "n", "d1"))
    # The first request takes the first device, so that the second looks at the next one.
    assert outcome([asked(1, yes, yes), asked(1, yes, error)]) == (Outcome.ERROR, (DRIVER, "n", "d1"))


def test_in_which_order_slices_come_is_chance():
    here = asked(1, Match.YES, slice="a").candidates
    there = [Candidate((DRIVER, "m", "d9"), Match.ERROR, "b")]

    assert outcome([Asked(1, [*here, *there])]) == (Outcome.UNSURE, None)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        (f"{A}.productName.lowerAscii().contains('h100')", [Match.YES, Match.NO, Match.ERROR]),
        (f"'productName' in {A}", [Match.YES, Match.YES, Match.NO]),
        ("'type' in device.attributes[device.driver]", [Match.NO, Match.NO, Match.YES]),
        (f"device.driver in {A}", [Match.NO, Match.NO, Match.NO]),
        (f"{C}.memory.isGreaterThan(quantity('60Gi'))", [Match.YES, Match.NO, Match.ERROR]),
    ],
)
def test_devices_that_differ_in_what_a_selector_reads_are_told_apart(expression, says):
    matching = Matching([expression])
    devices = [
        {"attributes": {"productName": {"string": "H100"}}, "capacity": {"memory": {"value": "80Gi"}}},
        {"attributes": {"productName": {"string": "A100"}}, "capacity": {"memory": {"value": "40Gi"}}},
        {"attributes": {"type": {"string": "gpu"}}, "capacity": {"bandwidth": {"value": "80Gi"}}},
    ]

    assert [matching.of(DRIVER, each) for each in devices] == says
    assert [matching.of(DRIVER, each) for each in devices] == says
