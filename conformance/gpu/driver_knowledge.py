"""The page docs/driver-knowledge.md: what is known of drivers, with sources, made from the tables.

``python -m conformance.gpu.driver_knowledge > docs/driver-knowledge.md`` writes it; a test keeps it in step.
"""

from collections.abc import Sequence

from conformance.gpu.companion_knowledge import UNKNOWN, companions, table
from conformance.gpu.driver_branches import BRANCHES, MINOR_COMPATIBILITY_FLOOR, REGRESSIONS, Branch
from conformance.gpu.driver_hardware import ARCHITECTURES, OPEN_ONLY_PRODUCTS, READ, Architecture, Modules

_INTRODUCTION = f"""# What is known of drivers

Made from the tables of `conformance/gpu/` by `python -m conformance.gpu.driver_knowledge`. Requirements judge by these
tables and by nothing else (UPG-06 to UPG-09, UPG-16 to UPG-29, OPER-16, OPER-17, WORK-09); what is unknown here, or
missing, is never judged as good. All was read on {READ}; the sources of branches name the edition that was read.

Not known, and not judged: whether a registry has a driver's image; on which newest kernel the modules of a driver can
still be built (NVIDIA publishes no such bound); which container toolkit or device plugin a driver needs beyond what a
release of the operator ships; which Network Operator goes with a driver."""


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
