"""The page docs/driver-knowledge.md: what is known of drivers, with sources, made from the tables.

``python -m conformance.gpu.driver_knowledge > docs/driver-knowledge.md`` writes it; a test keeps it in step.
"""

from collections.abc import Sequence

from conformance.gpu.companion_knowledge import UNKNOWN, companions, table
from conformance.gpu.driver_branches import BRANCHES, MINOR_COMPATIBILITY_FLOOR, REGRESSIONS, Branch
from conformance.gpu.driver_hardware import (
    ARCHITECTURES,
    CAPABILITY_SOURCES,
    CHIP_SOURCE,
    COMPUTE_CAPABILITIES,
    OPEN_ONLY_PRODUCTS,
    READ,
    SAME_CHIP,
    Architecture,
    Modules,
)

_INTRODUCTION = f"""# What is known of drivers

Made from the tables of `conformance/gpu/` by `python -m conformance.gpu.driver_knowledge`. Requirements judge by these
tables and by nothing else (UPG-06 to UPG-09, UPG-16 to UPG-29, UPG-31, OPER-16, OPER-17, WORK-09); what is unknown
here, or missing, is never judged as good. All was read on {READ}, unless another day is named; the sources of branches
name the edition that was read.

Not known, and not judged: whether a registry has a driver's image; on which newest kernel the modules of a driver can
still be built (NVIDIA publishes no such bound); which container toolkit or device plugin a driver needs beyond what a
release of the operator ships; which Network Operator goes with a driver."""

_BY_NAME = (
    "Where GPU Feature Discovery tells no compute capability, the name of the product does, as one of its words. "
    f"Sources: {' and '.join(f'<{each}>' for each in CAPABILITY_SOURCES)}, read on 2026-11-29. They do not list "
    f"{', '.join(SAME_CHIP)}, which have the chip of one that they list ({CHIP_SOURCE}; of the T4G AWS says so). "
    "Products with RTX, PRO and BLACKWELL in their names have 12.0."
)


def markdown() -> str:
    """The page."""
    return "\n\n".join(
        [
            _INTRODUCTION,
            "## Branches",
            table(("branch", "CUDA", "first driver", "designation", "end of life", "sources"), map(_branch, BRANCHES)),
            "## CUDA on older drivers",
            table(
                ("CUDA", "oldest driver on which every minor version runs"),
                ((f"{major}.x", driver) for major, driver in MINOR_COMPATIBILITY_FLOOR.items()),
            ),
            "## GPUs and kernel modules",
            f"Of Hopper, {', '.join(OPEN_ONLY_PRODUCTS)} needs the open modules.",
            table(
                ("architecture", "compute capability", "first branch", "last branch", "kernel modules", "sources"),
                map(_architecture, ARCHITECTURES),
            ),
            _BY_NAME,
            table(("compute capability", "names in products"), map(_capability, COMPUTE_CAPABILITIES.items())),
            "## Known defects",
            table(
                ("id", "from", "to", "products", "effect", "what to do", "sources"),
                (
                    (
                        each.id, each.first, each.last, ", ".join(each.products) or "every", each.effect, each.remedy,
                        "; ".join(each.sources),
                    )
                    for each in REGRESSIONS
                ),
            ),
            *companions(),
        ]
    ) + "\n"  # fmt: skip


def _capability(row: tuple[tuple[int, int], tuple[str, ...]]) -> Sequence[str]:
    (major, minor), names = row
    same = (f"{each} ({SAME_CHIP[each][0]}, as {SAME_CHIP[each][1]})" if each in SAME_CHIP else each for each in names)
    return f"{major}.{minor}", ", ".join(same)


def _branch(branch: Branch) -> Sequence[str]:
    ended = f"not in the support matrix of {branch.gone_by}" if branch.gone_by else UNKNOWN
    return (
        f"R{branch.number}",
        f"{branch.cuda[0]}.{branch.cuda[1]}" if branch.cuda else UNKNOWN,
        branch.first or UNKNOWN,
        str(branch.designation),
        str(branch.end_of_life or ended),
        "; ".join(branch.sources),
    )


def _architecture(each: Architecture) -> Sequence[str]:
    first, last = (f"{major}.{minor}" for major, minor in (each.first, each.last))
    return (
        each.name,
        first if first == last else f"{first} to {last}",
        f"R{each.first_branch}" if each.first_branch else UNKNOWN,
        f"R{each.last_branch}" if each.last_branch else "none known",
        "open or proprietary" if each.modules is Modules.AUTO else str(each.modules),
        "; ".join(f"<{source}>" for source in each.sources),
    )


if __name__ == "__main__":
    print(markdown(), end="")
