"""The real programs, from whatever source this machine has for them."""

import pytest

from conformance.clusters.embedded.binaries import CONTROL_PLANE, resolve
from conformance.clusters.embedded.binaries.assets import said_version
from conformance.clusters.embedded.binaries.versions import artefacts, this_platform


@pytest.mark.cluster
def test_every_program_of_the_default_control_plane_says_its_pinned_version(monkeypatch):
    monkeypatch.undo()  # back to this machine's cache, Go and network

    found = resolve("1.36")

    wanted = artefacts("1.36", CONTROL_PLANE, this_platform())
    assert {one.name: said_version(found[one.name], one) for one in wanted} == {one.name: one.version for one in wanted}
