"""Which GPUs a driver drives, by the tables; what they do not know they do not judge."""

from itertools import pairwise
from pathlib import Path

import pytest

from conformance.gpu import driver_knowledge
from conformance.gpu.driver_hardware import ARCHITECTURES, Modules, architecture_of, why_not_driven
from conformance.gpu.drivers import DriverVersion

PAGE = Path(__file__).parents[2] / "docs" / "driver-knowledge.md"
VOLTA, TURING, AMPERE, HOPPER, B200, B300 = (7, 0), (7, 5), (8, 0), (9, 0), (10, 0), (10, 3)


def why(compute: tuple[int, int], driver: str, modules: Modules = Modules.AUTO, product: str = "") -> str:
    architecture = architecture_of(compute)
    assert architecture is not None
    return why_not_driven(architecture, DriverVersion.parse(driver), modules, product)


@pytest.mark.parametrize(
    ("compute", "driver", "modules", "product"),
    [
        (VOLTA, "580.105.08", Modules.AUTO, ""),
        (VOLTA, "580.105.08", Modules.PROPRIETARY, ""),
        (TURING, "595.91.07", Modules.OPEN, ""),
        (TURING, "595.91.07", Modules.PROPRIETARY, ""),
        (AMPERE, "535.104.05", Modules.AUTO, ""),
        (HOPPER, "595.91.07", Modules.PROPRIETARY, "NVIDIA-H100-80GB-HBM3"),
        (B200, "570.86.15", Modules.AUTO, "NVIDIA-B200"),
    ],
)
def test_nothing_speaks_against_what_goes_together(
    compute: tuple[int, int], driver: str, modules: Modules, product: str
) -> None:
    assert why(compute, driver, modules, product) == ""


@pytest.mark.parametrize(
    ("compute", "driver", "modules", "product", "said"),
    [
        (VOLTA, "590.44.01", Modules.AUTO, "", "R580 is the last branch for Volta"),
        (VOLTA, "580.105.08", Modules.OPEN, "", "Volta needs the proprietary kernel modules"),
        (B200, "565.57.01", Modules.AUTO, "", "R570 is the first branch for Blackwell"),
        (B300, "570.86.15", Modules.AUTO, "", "R575 is the first branch for Blackwell Ultra"),
        (B200, "595.91.07", Modules.PROPRIETARY, "", "Blackwell needs the open kernel modules"),
        (HOPPER, "595.91.07", Modules.PROPRIETARY, "NVIDIA-GH200-480GB", "GH200-480GB needs the open kernel modules"),
    ],
)
def test_what_a_driver_does_not_drive_is_told_with_its_reason(
    compute: tuple[int, int], driver: str, modules: Modules, product: str, said: str
) -> None:
    assert said in why(compute, driver, modules, product)


@pytest.mark.parametrize("compute", [(3, 5), (11, 0), (13, 0)])
def test_an_architecture_that_is_not_in_the_tables_is_unknown(compute: tuple[int, int]) -> None:
    assert architecture_of(compute) is None


def test_no_two_architectures_share_a_compute_capability() -> None:
    ordered = sorted(ARCHITECTURES, key=lambda each: each.first)

    assert all(one.last < other.first for one, other in pairwise(ordered))


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == driver_knowledge.markdown(), (
        "python -m conformance.gpu.driver_knowledge > docs/driver-knowledge.md"
    )
