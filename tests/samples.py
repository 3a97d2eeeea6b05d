"""The sample reports in reports/samples, made anew: ``ci/samples`` runs this. Also what the test of them needs.

Two are runs on embedded clusters. The others are audits of a made fleet, the same in every run: EKS' set-up with 1,001
nodes on two nights, with other faults on each, and what changed between them.
"""

import argparse
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests"), str(CHECKOUT / "tests" / "setups")]

import seeded  # noqa: E402
from fleets import load, objects_of, save  # noqa: E402
from multiplied import multiplied  # noqa: E402

from conformance.cli import main as command_line  # noqa: E402

Object = dict[str, Any]

SAMPLES = CHECKOUT / "reports" / "samples"
EKS = CHECKOUT / "fixtures" / "setups" / "eks"
TIMES = 143
ON_CLUSTERS = {"embedded": [], "guide": [f"--gpu-reference={CHECKOUT / 'fixtures' / 'guide'}"]}
FIRST, SECOND, DIFF = "night-1", "night-2", "difference"
# What befell a node that stands for its whole group, and what befell one node alone; by night.
NIGHTS = {
    FIRST: (["OPER-15-older-image"], ["SCHED-13-training-job-tolerates-nothing"]),
    SECOND: (
        ["POOL-04-plugin-kept-away"],
        ["POOL-10-hardware-condition", "SCHED-13-training-job-tolerates-nothing"],
    ),
}
_PAGES = ("report.html", "summary.md", "status.txt")


def fleet(night: str) -> tuple[list[Object], str]:
    """The objects of the fleet on a night, and the version of its server. On the second, nodes joined without taint."""
    made = load(EKS / "fleet.yaml")
    everywhere, alone = NIGHTS[night]
    objects = multiplied(_broken(objects_of(made), everywhere), TIMES)
    objects = _broken(objects, alone)
    if night == SECOND:
        objects = [_joined_without_taint(each) for each in objects]
    return objects, made.server_version


def _broken(objects: list[Object], faults: Iterable[str]) -> list[Object]:
    for fault in faults:
        objects = seeded.broken(objects, seeded.read(EKS / "faults" / f"{fault}.yaml"))
    return objects


def _joined_without_taint(obj: Object) -> Object:
    """A node of the last few that joined the group of training nodes, without what its group declares."""
    late = obj["kind"] == "Node" and re.fullmatch(r"ip-10-0-30-1\..*-14\d", obj["metadata"]["name"])
    return {**obj, "spec": {**obj["spec"], "taints": []}} if late else obj


def make_night(night: str, to: Path, baseline: Path | None = None) -> None:
    """Make the report of a night."""
    objects, version = fleet(night)
    with tempfile.TemporaryDirectory() as name:
        save(objects, version, Path(name) / "prod-eks.json.gz")
        arguments = ["--cluster", "snapshot:prod-eks.json.gz", f"--gpu-reference={EKS / 'reference'}"]
        if baseline is not None:
            shutil.copy(baseline, Path(name) / "before.json")
            arguments.append("--gpu-baseline=before.json")
        _run(arguments, Path(name), to, () if night == FIRST else _PAGES)


def make_difference(folder: Path) -> None:
    """Make what changed between the nights of which the reports are in the folder."""
    (folder / DIFF).mkdir(parents=True, exist_ok=True)
    runs = [str(folder / FIRST), str(folder / SECOND)]
    for form, file in (("text", "difference.txt"), ("json", "difference.json"), ("html", "difference.html")):
        with contextlib.redirect_stdout(io.StringIO()):
            command_line(["report", "diff", *runs, "--to", form, "-o", str(folder / DIFF / file)])


def make_offline(folder: Path) -> None:
    """Make the reports of both nights, the second with the first as its baseline, and what changed."""
    make_night(FIRST, folder / FIRST)
    make_night(SECOND, folder / SECOND, folder / FIRST / "report.json")
    make_difference(folder)


def make_on_clusters(folder: Path, names: Iterable[str]) -> None:
    """Run every scenario on an embedded cluster for each name."""
    for name in names:
        with tempfile.TemporaryDirectory() as work:
            _run(["--cluster", "embedded", *ON_CLUSTERS[name]], Path(work), folder / name, _PAGES)


def _run(arguments: list[str], work: Path, to: Path, pages: Iterable[str]) -> None:
    """Run pytest in ``work``, keep its report and pages. Raises RuntimeError where there is no report."""
    formats = ["--gpu-report=report", "--gpu-report-formats=html,markdown,line"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, *formats]
    ended = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if not (work / "report" / "report.json").exists():
        raise RuntimeError(f"{' '.join(command)} wrote no report:\n{ended.stdout}{ended.stderr}")
    to.mkdir(parents=True, exist_ok=True)
    for file in ("report.json", *pages):
        text = (work / "report" / file).read_text(encoding="utf-8").replace(f"{CHECKOUT}/", "")
        (to / file).write_text(text, encoding="utf-8")


# --- what is the same in every run ---------------------------------------------------------------------------------

_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?([+-]\d\d:\d\d|Z)?")
_DURATION = re.compile(r'"duration": [0-9.e-]+')


def without_times_and_ids(text: str) -> str:
    """The text of a report or a comparison as it is in every run: times, durations and ids of runs are left out."""
    for run in sorted(_runs(json.loads(text))):
        text = text.replace(run, "RUN")
    return _DURATION.sub('"duration": 0', _TIME.sub("TIME", text))


def _runs(found: Any) -> set[str]:
    """Every id of a run in a report or a comparison."""
    if isinstance(found, list):
        return set[str]().union(*map(_runs, found))
    if not isinstance(found, dict):
        return set()
    own = {found["run"]} if isinstance(found.get("run"), str) else set()
    run = found.get("run")
    own |= {run["id"]} if isinstance(run, dict) and "id" in run else set()
    return own.union(*map(_runs, found.values()))


def differing(folder: Path) -> list[str]:
    """Which reports and comparisons of a folder are not those that are kept, apart from times and ids."""
    kept = {file.relative_to(SAMPLES): _same(file) for file in SAMPLES.rglob("*.json")}
    made = {file.relative_to(folder): _same(file) for file in sorted(folder.rglob("*.json"))}
    return [str(name) for name, content in made.items() if kept.get(name) != content]


def _same(file: Path) -> str:
    return without_times_and_ids(file.read_text(encoding="utf-8"))


def main() -> int:
    """Make all samples, or those named; with --check elsewhere, and say which differ from those that are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=SAMPLES)
    parser.add_argument("--only", choices=("offline", *ON_CLUSTERS), action="append")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a sample would change")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as elsewhere:
        folder = Path(elsewhere) if given.check else given.folder
        wanted = given.only or ["offline", *ON_CLUSTERS]
        if "offline" in wanted:
            make_offline(folder)
        make_on_clusters(folder, [name for name in ON_CLUSTERS if name in wanted])
        changed = differing(folder) if given.check else []
    for name in changed:
        print(f"reports/samples/{name} would be another one: make it anew with ci/samples")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
