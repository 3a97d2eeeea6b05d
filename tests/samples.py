"""The sample reports in reports/samples, made anew: ``ci/samples`` runs this. Also what the test of them needs.

Two are runs on embedded clusters. The others are audits of a made fleet, the same in every run: EKS' set-up with 1,001
nodes on two nights, with other faults on each, and what changed between them.
"""

import argparse
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

from conformance.report import reading  # noqa: E402
from conformance.report.comparing.difference import compare  # noqa: E402
from conformance.report.comparing.formats import DIFFERENCE  # noqa: E402
from conformance.report.formats import FORMATS  # noqa: E402

Object = dict[str, Any]

SAMPLES = CHECKOUT / "reports" / "samples"
EKS = CHECKOUT / "fixtures" / "setups" / "eks"
TIMES = 143
UID = "c3a9e1d4-52b7-4c80-9d1e-7f60a8b2c915"
# What a checkout calls itself that nobody installed: samples are the same whichever commit makes them.
VERSION = "0.0.0"
ON_CLUSTERS = {"embedded": [], "guide": [f"--gpu-reference={CHECKOUT / 'fixtures' / 'guide'}"]}
FIRST, SECOND, DIFF = "night-1", "night-2", "difference"
DIFFERENCES = {"text": "txt", "json": "json", "markdown": "md", "html": "html"}
# What befell a node that stands for its whole group, and what befell one node alone; by night.
NIGHTS = {
    FIRST: (["OPER-15-older-image"], ["SCHED-13-training-job-tolerates-nothing"]),
    SECOND: (
        ["POOL-04-plugin-kept-away"],
        ["POOL-10-hardware-condition", "SCHED-13-training-job-tolerates-nothing"],
    ),
}
PAGES = ("html", "markdown", "line")
_RUN = f"import sys, conformance, pytest; conformance.__version__ = {VERSION!r}; sys.exit(pytest.main(sys.argv[1:]))"


def fleet(night: str) -> tuple[list[Object], str]:
    """The objects of the fleet on a night, and the version of its server. On the second, nodes joined without taint."""
    made = load(EKS / "fleet.yaml")
    everywhere, alone = NIGHTS[night]
    objects = multiplied(_broken(objects_of(made), everywhere), TIMES)
    objects = [_of_the_cluster(each) for each in _broken(objects, alone)]
    if night == SECOND:
        objects = [_joined_without_taint(each) for each in objects]
    return objects, made.server_version


def _of_the_cluster(obj: Object) -> Object:
    """The namespace by which a cluster is known, with a UID as an API server makes them."""
    known = obj["kind"] == "Namespace" and obj["metadata"]["name"] == "kube-system"
    return {**obj, "metadata": {**obj["metadata"], "uid": UID}} if known else obj


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
        _run(arguments, Path(name), to)


def make_nights(folder: Path) -> None:
    """Make the reports of both nights, the second with the first as its baseline."""
    make_night(FIRST, folder / FIRST)
    make_night(SECOND, folder / SECOND, folder / FIRST / "report.json")


def make_on_cluster(name: str, folder: Path) -> None:
    """Make the report of every requirement on an embedded cluster."""
    with tempfile.TemporaryDirectory() as work:
        _run(["--cluster", "embedded", *ON_CLUSTERS[name]], Path(work), folder / name)


def make_pages(folder: Path) -> None:
    """Make what is made of the reports in the folder: their pages, and what changed between the nights."""
    for name in (SECOND, *ON_CLUSTERS):
        if (folder / name).exists():
            report = reading.read(folder / name)
            for form in PAGES:
                FORMATS[form].write(report, folder / name / FORMATS[form].file_name)
    if not (folder / SECOND).exists():
        return
    (folder / DIFF).mkdir(exist_ok=True)
    difference = compare([reading.read(folder / FIRST)], reading.read(folder / SECOND))
    for form, ending in DIFFERENCES.items():
        (folder / DIFF / f"difference.{ending}").write_text(DIFFERENCE[form](difference), encoding="utf-8")


def _run(arguments: list[str], work: Path, to: Path) -> None:
    """Run pytest in ``work`` and keep its report. Raises RuntimeError where there is none."""
    command = [sys.executable, "-c", _RUN, "-q", "-p", "no:cacheprovider", *arguments, "--gpu-report=report"]
    ended = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    made = work / "report" / "report.json"
    if not made.exists():
        raise RuntimeError(f"{' '.join(command)} wrote no report:\n{ended.stdout}{ended.stderr}")
    to.mkdir(parents=True, exist_ok=True)
    text = made.read_text(encoding="utf-8").replace(f"{CHECKOUT}/", "")
    (to / "report.json").write_text(text, encoding="utf-8")


# --- what is the same in every run ---------------------------------------------------------------------------------

_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?([+-]\d\d:\d\d|Z)?")
_OF_VERDICTS = ("title", "level", "profile", "status", "evidence", "judged", "broken", "unseen", "waitsFor", "remedy")
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


def differing(folder: Path) -> list[Path]:
    """Which reports and comparisons of a folder are not those that are kept, apart from times and ids."""
    made = [file.relative_to(folder) for file in sorted(folder.rglob("*.json"))]
    return [name for name in made if _content(folder / name) != _content(SAMPLES / name)]


def _content(file: Path) -> Any:
    if not file.exists():
        return None
    content = json.loads(without_times_and_ids(file.read_text(encoding="utf-8")))
    return verdicts(content) if file.parent.name in ON_CLUSTERS else content


def verdicts(report: Object) -> dict[str, Object]:
    """What a run on a cluster says of each requirement, whatever nodes its scheduler chose and names it made up."""
    return {each["requirement"]: {name: each[name] for name in _OF_VERDICTS} for each in report["requirements"]}


def differing_pages(folder: Path) -> list[Path]:
    """Which of the kept pages are not those that the kept reports give now; they are made anew in the folder."""
    shutil.copytree(SAMPLES, folder, dirs_exist_ok=True)
    make_pages(folder)
    made = [file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file()]
    return [name for name in made if _text(folder / name) != _text(SAMPLES / name)]


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


def main() -> int:
    """Make all samples, or those named; with --check elsewhere, and say which differ from those that are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=SAMPLES)
    parser.add_argument("--only", choices=("offline", *ON_CLUSTERS, "pages"), action="append")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a sample would change")
    given = parser.parse_args()
    wanted = given.only or ["offline", *ON_CLUSTERS]
    if not given.check:
        make(wanted, given.folder)
        return 0
    with tempfile.TemporaryDirectory() as elsewhere:
        folder = Path(elsewhere)
        changed = differing_pages(folder)
        make(wanted, folder)
        changed += differing(folder)
    for name in dict.fromkeys(changed):
        print(f"reports/samples/{name} would be another one: make it anew with ci/samples")
    return int(bool(changed))


def make(wanted: Iterable[str], folder: Path) -> None:
    """Make the samples of these names in the folder, and the pages of all that are there."""
    if "offline" in wanted:
        make_nights(folder)
    for name in ON_CLUSTERS:
        if name in wanted:
            make_on_cluster(name, folder)
    make_pages(folder)


if __name__ == "__main__":
    sys.exit(main())
