"""What a workload that cannot stay on its nodes is told: it may have every toleration, and one that ends with time."""

import pytest

from conformance.gpu.taints import Taint, Toleration
from suites.scheduling.test_placement import _hidden_because, _how_to_tolerate

EVICTING = Taint("dedicated", "gpu", "NoExecute")
OTHER = Taint("nvidia.com/gpu", "present", "NoExecute")
FOR_A_WHILE = Toleration("dedicated", "Equal", "gpu", "NoExecute", 300)


@pytest.mark.parametrize(
    ("refused", "remedy", "hides"),
    [
        ([EVICTING], "Take tolerationSeconds out of the tolerations of dedicated=gpu:NoExecute", "evicted then"),
        ([OTHER], "", "stays Pending"),
        # One toleration is missing as well: the requirement's own remedy says that.
        ([EVICTING, OTHER], "", "evicted then"),
    ],
)
def test_a_toleration_that_ends_is_not_told_as_a_missing_one(refused: list[Taint], remedy: str, hides: str) -> None:
    told = _how_to_tolerate([FOR_A_WHILE], refused)

    assert told.startswith(remedy)
    assert bool(told) == bool(remedy)
    assert hides in _hidden_because([FOR_A_WHILE], refused)
