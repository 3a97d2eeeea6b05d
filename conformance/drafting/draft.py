"""A whole draft: the facts of a cluster as a reference set-up, file by file, with a comment at every guess."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from conformance.drafting.kai import drafted_kai
from conformance.drafting.notes import Guess, Item, LeftOut, Part, Section, contradictions, is_remark, plain
from conformance.drafting.pools import DraftedPool, drafted_pools, usual_resource
from conformance.drafting.priorities import class_names, drafted_classes
from conformance.drafting.rendering import document
from conformance.drafting.stack import DraftedStack, drafted_stack, with_drivers
from conformance.drafting.teams import drafted_teams
from conformance.drafting.workloads import drafted_workloads
from conformance.facts import Facts
from conformance.gpu.resources import GPU
from conformance.verdict import Inconclusive

_HEAD = (
    "Drafted by `gpu-conformance init`: each guess says from what it was derived, what contradicts it, what to decide."
)
# What is to be decided of every part of a file is said once, at its head.
_HEADS = {
    "reference.yaml": (_HEAD, "Correct it, keep it under version control, and try it with `gpu-conformance check`."),
    "pools.yaml": (
        _HEAD,
        "decide of each pool: nodes, as many as there must be at least; labels, only those that its owners promise; "
        "pools that are scaled to zero have no node to tell of them and are missing here.",
    ),
    "teams.yaml": (
        _HEAD,
        "decide of each account: what it needs (may) and must be refused (may_not), such as "
        "may_not: [{verb: list, resource: secrets}]. Nothing tells, and until then TEN-05 to TEN-08 are not judged.",
    ),
    "workloads.yaml": (_HEAD, "decide of each workload: role, a word for what it is for."),
}
_MAIN = "reference.yaml"


class NotEmpty(ValueError):
    """The folder in which a draft was to be written has something in it already."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} has something in it already: nothing is overwritten, name another folder with -o")


class Draft(NamedTuple):
    """A drafted set-up: the sections of each file by file name, and what the cluster says against it."""

    name: str
    files: dict[str, dict[str, Section | str]]

    @property
    def contradictions(self) -> tuple[str, ...]:
        """What in the cluster speaks against the draft or is wrong in itself, each with its place."""
        return tuple(
            text for sections in self.files.values() for each in sections.values() for text in contradictions(each)
        )

    def value(self) -> dict[str, Any]:
        """The set-up without comments, as the loader reads it."""
        return {
            key: plain(part)
            for sections in self.files.values()
            for key, part in sections.items()
            if not is_remark(part)
        }

    def texts(self) -> dict[str, str]:
        """Each file's text by its name."""
        return {name: document(_HEADS.get(name, (_HEAD,)), sections) for name, sections in self.files.items()}


def draft(facts: Facts, name: str) -> Draft:
    """What a cluster has, as a set-up called ``name``. A part that may not be read is left out with the reason.

    Raises Inconclusive when nodes or pods may not be read, without which there is nothing to write down.
    """
    stack = _stack(facts)
    pools, unpooled = drafted_pools(facts, plain(stack.part) if stack.part else None)
    stack = with_drivers(stack, pools, facts)
    classes = _as_far_as_read("priority classes", lambda: drafted_classes(facts))
    names = class_names(classes)
    teams = _as_far_as_read("teams", lambda: drafted_teams(facts, names))
    workloads = _as_far_as_read("workloads", lambda: drafted_workloads(facts, pools, teams, names))
    sections: dict[str, dict[str, Section | str]] = {
        _MAIN: _head(name, facts, pools),
        "stack.yaml": _stack_sections(stack, pools, facts),
        "pools.yaml": {"pools": [*(pool.part for pool in pools), *unpooled]},
        "teams.yaml": {"teams": teams},
        "priorities.yaml": {"priority_classes": classes},
        "workloads.yaml": {"workloads": workloads},
    }
    return Draft(name, _with_remarks_together(sections))


def _as_far_as_read(what: str, make: Callable[[], list[Item]]) -> list[Item]:
    """A section of the draft, or why it could not be read."""
    try:
        return make()
    except Inconclusive as error:
        return [LeftOut(what, str(error))]


def _stack(facts: Facts) -> DraftedStack:
    try:
        return drafted_stack(facts)
    except Inconclusive as error:
        return DraftedStack(None, (LeftOut("stack", str(error)),))


def _with_remarks_together(sections: dict[str, dict[str, Section | str]]) -> dict[str, dict[str, Section | str]]:
    """The files without empty sections. What only says why something is left out goes to the end of the main file.

    A YAML file of comments alone has no value and would be refused.
    """
    files: dict[str, dict[str, Section | str]] = {}
    remarks: dict[str, Section | str] = {}
    for file, parts in sections.items():
        for key, part in parts.items():
            if is_remark(part):
                remarks[key] = part
            elif part:
                files.setdefault(file, {})[key] = part
    files[_MAIN] |= remarks
    return files


def write(drafted: Draft, folder: Path) -> list[Path]:
    """Write the files of a draft into a folder that is new or empty. Raises NotEmpty for any other."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NotEmpty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in drafted.texts().items():
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _head(name: str, facts: Facts, pools: Sequence[DraftedPool]) -> dict[str, Section | str]:
    gpus = sum(_devices(pool) for pool in pools)
    server = f"Kubernetes {facts.server_version}, " if facts.server_version else ""
    there = f"{_counted(len(facts.nodes), 'node')}, {_counted(gpus, 'GPU')}"
    taken = facts.taken_at.strftime("%Y-%m-%d")
    head: dict[str, Section | str] = {
        "name": name,
        "description": f"What was there on {taken}: {server}{there}.",
    }
    resource = usual_resource(pools)
    return head if resource == GPU else {**head, "gpu_resource": resource}


def _devices(pool: DraftedPool) -> int:
    return len(pool.nodes) * int(pool.part.value["gpu"].value["count"]) if pool.has_gpus else 0


def _stack_sections(stack: DraftedStack, pools: Sequence[DraftedPool], facts: Facts) -> dict[str, Section | str]:
    sections: dict[str, Section | str] = {}
    if stack.part is not None:
        sections["stack"] = _with_metrics(_with_dra(stack.part, pools), pools, stack.left_out)
    elif stack.left_out:
        sections["stack"] = list(stack.left_out)
    kai = drafted_kai(facts)
    return {**sections, "kai": kai} if kai is not None else sections


def _with_dra(stack: Part, pools: Sequence[DraftedPool]) -> Part:
    """The stack with a DRA driver where a pool's GPUs come from one, though no DaemonSet of the usual name shows it."""
    by_dra = any(pool.part.value["gpu"].value.get("allocated_by") == "dra" for pool in pools if pool.has_gpus)
    if not by_dra or stack.value["kind"] == "dra-driver" or "dra" in stack.value:
        return stack
    guess = Guess("ResourceSlices: no DaemonSet tells where the driver runs", decide="the namespace of the DRA driver")
    value = {**stack.value, "dra": {"namespace": stack.value["namespace"]}}
    return stack._replace(value=value, guesses={**stack.guesses, "dra": guess})


def _with_metrics(stack: Part, pools: Sequence[DraftedPool], left_out: Sequence[LeftOut]) -> Part:
    """The stack, which attributes devices to pods unless every one of them is shared; what is left out is remarked."""
    shared = [bool(pool.part.value["gpu"].value.get("shared_by")) for pool in pools if pool.has_gpus]
    notes = stack.guess.contradicted + tuple(f"{each.what}: {each.why}" for each in left_out)
    part = stack._replace(guess=stack.guess._replace(contradicted=notes))
    if not (shared and all(shared)) or part.value.get("dcgm_exporter") is False:
        return part
    guess = Guess("every GPU is shared, and dcgm-exporter names no pod for replicas of one")
    return part._replace(
        value={**part.value, "metrics": {"per_pod": False}}, guesses={**part.guesses, "metrics": guess}
    )
