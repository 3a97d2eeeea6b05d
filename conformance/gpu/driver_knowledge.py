"""The page docs/driver-knowledge.md: what is known of drivers, with sources, made from the tables.

``python -m conformance.gpu.driver_knowledge > docs/driver-knowledge.md`` writes it; a test keeps it in step.
"""

from collections.abc import Iterable, Sequence

from conformance.gpu.driver_branches import BRANCHES, MINOR_COMPATIBILITY_FLOOR, REGRESSIONS, Branch
from conformance.gpu.driver_hardware import ARCHITECTURES, OPEN_ONLY_PRODUCTS, READ, Architecture, Modules

_UNKNOWN = "unknown"
_INTRODUCTION = f"""# What is known of drivers

Made from the tables of `conformance/gpu/` by `python -m conformance.gpu.driver_knowledge`. Requirements judge by these
tables and by nothing else (UPG-06 to UPG-09, OPER-16, OPER-17, WORK-09); what is unknown here, or missing, is
never judged as good. Hardware was read on {READ}; the sources of branches name the edition that was read.

Not known, and not judged: whether a driver's image exists for a kernel; which versions of container toolkit, device
plugin, DRA driver, Fabric Manager, GDS and RDMA modules go with a driver; which vGPU hosts take a guest's driver."""


def markdown() -> str:
    """The page."""
    return "\n\n".join(
        [
            _INTRODUCTION,
            "## Branches",
            _table(("branch", "CUDA", "first driver", "designation", "end of life", "sources"), map(_branch, BRANCHES)),
            "## CUDA on older drivers",
            _table(
                ("CUDA", "oldest driver on which every minor version runs"),
                ((f"{major}.x", driver) for major, driver in MINOR_COMPATIBILITY_FLOOR.items()),
            ),
            "## GPUs and kernel modules",
            f"Of Hopper, {', '.join(OPEN_ONLY_PRODUCTS)} needs the open modules.",
            _table(
                ("architecture", "compute capability", "first branch", "last branch", "kernel modules", "sources"),
                map(_architecture, ARCHITECTURES),
            ),
            "## Known defects",
            _table(
                ("id", "from", "to", "products", "effect", "what to do", "sources"),
                (
                    (
                        each.id, each.first, each.last, ", ".join(each.products) or "every", each.effect, each.remedy,
                        "; ".join(each.sources),
                    )
                    for each in REGRESSIONS
                ),
            ),
        ]
    ) + "\n"  # fmt: skip


def _branch(branch: Branch) -> Sequence[str]:
    ended = f"not in the support matrix of {branch.gone_by}" if branch.gone_by else _UNKNOWN
    return (
        f"R{branch.number}",
        f"{branch.cuda[0]}.{branch.cuda[1]}" if branch.cuda else _UNKNOWN,
        branch.first or _UNKNOWN,
        str(branch.designation),
        str(branch.end_of_life or ended),
        "; ".join(branch.sources),
    )


def _architecture(each: Architecture) -> Sequence[str]:
    first, last = (f"{major}.{minor}" for major, minor in (each.first, each.last))
    return (
        each.name,
        first if first == last else f"{first} to {last}",
        f"R{each.first_branch}" if each.first_branch else _UNKNOWN,
        f"R{each.last_branch}" if each.last_branch else "none known",
        "open or proprietary" if each.modules is Modules.AUTO else str(each.modules),
        "; ".join(f"<{source}>" for source in each.sources),
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    print(markdown(), end="")
