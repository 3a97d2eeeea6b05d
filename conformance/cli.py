"""The command gpu-conformance: what pytest alone cannot do - clusters to keep, leftovers, the catalogue, snapshots."""

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import conformance
from conformance.clusters import commands as cluster_commands
from conformance.options import UPGRADE_QUESTIONS
from conformance.report import commands as report_commands

if TYPE_CHECKING:
    from conformance.catalog import Requirement

# Exit codes: 0 done, 1 done but something needs attention, 4 the request cannot be carried out as given (as pytest's).
OK, ATTENTION, USAGE = 0, 1, 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; returns its exit code. What a user can fix is one line on stderr, never a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["run"]:
        import pytest

        return int(
            pytest.main(
                given[1:] if any(a.startswith("--cluster") for a in given) else ["--cluster", "embedded", *given[1:]]
            )
        )
    chosen = _parser().parse_args(given)
    command: Callable[[argparse.Namespace], int] = chosen.command
    return _without_traceback(command, chosen)


def _without_traceback(command: Callable[[argparse.Namespace], int], chosen: argparse.Namespace) -> int:
    from conformance.session.refusals import USER_ERRORS, explained

    try:
        with explained():
            return command(chosen)
    except USER_ERRORS as error:
        print(f"gpu-conformance: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("gpu-conformance: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Ends with our exit code for usage errors; subcommands' parsers are of this class too."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


@cache
def _parser() -> argparse.ArgumentParser:
    parser = _Parser("gpu-conformance", description=conformance.__doc__)
    parser.add_argument("--version", action="version", version=f"gpu-conformance {conformance.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    commands.add_parser(
        "run", help="run the suites: pytest with --cluster embedded unless another is named", add_help=False
    )

    catalog = commands.add_parser("catalog", help="list every requirement")
    catalog.add_argument("--markdown", action="store_true", help="as the page docs/requirements.md")
    catalog.set_defaults(command=_catalog)

    explain = commands.add_parser("explain", help="say what a requirement demands, why, and what to do when it fails")
    explain.add_argument("id", help="such as PRIO-03")
    explain.set_defaults(command=_explain)

    why = commands.add_parser("explain-pod", help="say why a pod, or the pods of a workload, do not run; only reads")
    _names_cluster(why)
    why.add_argument("asked", metavar="NAMESPACE/POD", help="a pod, or KIND/NAMESPACE/NAME such as job/team/train")
    why.add_argument("--json", action="store_true", help="for programs")
    why.set_defaults(command=_explain_pod)

    init = commands.add_parser("init", help="draft a reference set-up of what a cluster has, to be corrected and kept")
    _names_cluster(init)
    init.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="a new or empty folder (default: references/NAME)"
    )
    init.set_defaults(command=_init)

    check = commands.add_parser("check", help="say what is wrong or unwise with a reference set-up, without a cluster")
    check.add_argument("reference", type=Path, metavar="DIR", help="a set-up, as --gpu-reference takes it")
    check.set_defaults(command=_check)

    doctor = commands.add_parser("doctor", help="say what stands between this machine and a run on a cluster")
    _names_cluster(doctor)
    doctor.add_argument("--mode", choices=("audit", "verify", "full"), help="of the run (default: the cluster's own)")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(command=_doctor)

    planned = commands.add_parser("plan", help="say what a run would create, occupy, borrow and evict; only reads")
    _names_cluster(planned)
    planned.add_argument(
        "--gpu-mode", choices=("audit", "verify", "full"), help="of the run (default: the cluster's own)"
    )
    planned.add_argument("--gpu-reference", type=Path, metavar="PATH", help="the declared set-up, as for the run")
    planned.add_argument("--gpu-baseline", type=Path, metavar="FILE", help="an earlier report: how long, how many pods")
    planned.add_argument("--gpu-deploy", action="store_true", help="the run deploys the set-up first")
    planned.add_argument(
        "--gpu-suites",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="requirements of your own beside these",
    )
    asked = planned.add_mutually_exclusive_group()
    for each in UPGRADE_QUESTIONS:
        told = f"the run is asked about an upgrade {each.subject}: see docs/upgrade.md"
        asked.add_argument(each.flag, metavar=each.takes, help=told)
    planned.add_argument("--json", action="store_true", help="for programs")
    planned.set_defaults(command=_plan)

    rehearsed = commands.add_parser(
        "rehearse-upgrade", help="ask, upgrade the drivers by the simulator, and ask again: on an embedded cluster"
    )
    rehearsed.add_argument("version", metavar="VERSION", help="the driver that is to be installed, such as 595.91.07")
    rehearsed.add_argument("--gpu-reference", type=Path, metavar="PATH", help="the declared set-up, as for a run")
    rehearsed.add_argument("--topology", default="guide", metavar="NAME|PATH", help="the simulated fleet")
    rehearsed.add_argument("--gpu-report", type=Path, default=Path("upgrade-rehearsal"), metavar="DIR")
    rehearsed.add_argument("--patience", type=float, default=600.0, metavar="SECONDS", help="for the upgrade itself")
    rehearsed.set_defaults(command=_rehearse_upgrade)

    rbac = commands.add_parser("rbac", help="the ClusterRole that a run needs, for kubectl apply -f -")
    rbac.add_argument(
        "--mode", choices=("audit", "verify", "full"), default="audit", help="of the run (default: audit)"
    )
    rbac.add_argument(
        "--explain-pods", action="store_true", help="only what explain-pod and --gpu-explain-pods read beyond an audit"
    )
    rbac.set_defaults(command=_rbac)

    images = commands.add_parser("images", help="every image that a run can pull, for whoever mirrors them")
    images.add_argument("--registry", metavar="PREFIX", help="as a registry prefix would rewrite them")
    images.set_defaults(command=_images)

    values = commands.add_parser(
        "values", help="the Helm values of a set-up's GPU stack, for whoever installs it without --gpu-deploy"
    )
    values.add_argument("--reference", type=Path, metavar="PATH", help="the declared set-up (default: the shipped one)")
    values.add_argument("--registry", metavar="PREFIX", help="with every image from this registry")
    values.add_argument(
        "part",
        nargs="?",
        metavar="PART",
        help="only the values of this release, or 'objects'; all of them if not given",
    )
    values.set_defaults(command=_values)

    clean = commands.add_parser("clean", help="remove what killed runs left on a cluster, and only that")
    _names_cluster(clean)
    clean.add_argument("run", nargs="?", metavar="RUN", help="only this run, by its id")
    clean.add_argument("--force", action="store_true", help="even if RUN still seems alive")
    clean.add_argument("--dry-run", action="store_true", help="only say what is left")
    clean.set_defaults(command=_clean)

    snapshot = commands.add_parser(
        "snapshot", help="save what an audit reads, to be judged offline with --cluster snapshot:FILE"
    )
    _names_cluster(snapshot)
    snapshot.add_argument("file", type=Path)
    report_commands.redacts(snapshot)
    snapshot.set_defaults(command=_snapshot)

    cluster_commands.add_binaries_to(
        commands.add_parser("binaries", help="fetch or build the binaries of the embedded cluster now")
    )
    report_commands.add_to(
        commands.add_parser("report", help="show, convert, compare and recover the reports of runs"), _requirements
    )
    cluster_commands.add_to(
        commands.add_parser("cluster", help="embedded clusters that stay up, for kubectl and for runs")
    )
    return parser


def _names_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", required=True, metavar="NAME", help="as pytest's --cluster")
    parser.add_argument("--clusters-file", type=Path, metavar="FILE")
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE")


def _requirements() -> "Iterable[Requirement]":
    from conformance.session import catalogue

    return catalogue.requirements()


def _catalog(chosen: argparse.Namespace) -> int:
    from conformance.session import catalogue

    if chosen.markdown:
        print(catalogue.markdown(), end="")
        return OK
    for rule in catalogue.requirements():
        print(f"{rule.id:<9} {rule.level:<6} {rule.effect.label:<19} {rule.title}")
    return OK


def _explain_pod(chosen: argparse.Namespace) -> int:
    import msgspec

    from conformance.explaining import Explanations, lines
    from conformance.session import explaining_pods

    found = explaining_pods.explanations(chosen.cluster, chosen.asked, chosen.clusters_file, chosen.kubeconfig)
    if chosen.json:
        written = Explanations(chosen.cluster, chosen.asked, tuple(found))
        print(msgspec.json.format(msgspec.json.encode(written), indent=2).decode())
    else:
        print("\n".join(line for each in found for line in lines(each)))
    return OK


def _explain(chosen: argparse.Namespace) -> int:
    from conformance.session import catalogue

    rules = {rule.id: rule for rule in catalogue.requirements()}
    rule = rules.get(chosen.id.upper())
    if rule is None:
        raise ValueError(f"no requirement {chosen.id}; `gpu-conformance catalog` lists them")
    chapter = catalogue.chapter_of(rule)
    print(f"{rule.id} {rule.level}  {rule.title}")
    for label, text in (
        ("profile", rule.profile),
        ("effect", rule.effect.label),
        ("remedy", rule.remedy),
        ("sources", "\n".join(map(str, rule.sources))),
        ("chapter", f"{chapter.path}: {chapter.title}"),
        ("why", chapter.why),
    ):
        print(textwrap.indent(text, " " * 11).replace(" " * 11, f"  {label:<9}", 1))
    return OK


def _init(chosen: argparse.Namespace) -> int:
    from conformance.session import first_hour

    _say_each(first_hour.init(chosen.cluster, chosen.clusters_file, chosen.kubeconfig, chosen.output))
    return OK


def _check(chosen: argparse.Namespace) -> int:
    from conformance.session import first_hour

    _say_each(first_hour.check(chosen.reference))
    return OK


def _doctor(chosen: argparse.Namespace) -> int:
    import json

    from conformance.kube.effects import Mode
    from conformance.session import doctoring

    mode = Mode(chosen.mode) if chosen.mode else None
    found = doctoring.examine(doctoring.Request(chosen.cluster, chosen.clusters_file, chosen.kubeconfig, mode))
    _say_each([json.dumps(found.as_json(), indent=2)] if chosen.json else found.lines())
    return found.exit_code


def _plan(chosen: argparse.Namespace) -> int:
    import msgspec

    from conformance.kube.effects import Mode
    from conformance.session import planning
    from conformance.session.upgrades import Asked

    mode = Mode(chosen.gpu_mode) if chosen.gpu_mode else None
    where = (chosen.cluster, chosen.clusters_file, chosen.kubeconfig)
    upgrade = Asked.of({each.flag: vars(chosen)[each.dest] for each in UPGRADE_QUESTIONS})
    request = planning.Request(
        *where, mode, chosen.gpu_reference, chosen.gpu_baseline, upgrade, chosen.gpu_deploy, tuple(chosen.gpu_suites)
    )
    found = planning.plan(request)
    _say_each([msgspec.json.format(msgspec.json.encode(found), indent=2).decode()] if chosen.json else found.lines())
    return OK


def _rehearse_upgrade(chosen: argparse.Namespace) -> int:
    from conformance.progress import TerminalProgress
    from conformance.session import rehearsing
    from conformance.shipped import shipped

    reference = chosen.gpu_reference or shipped("fixtures/reference")
    asked = rehearsing.Request(chosen.version, reference, chosen.topology, chosen.gpu_report, chosen.patience)
    with TerminalProgress() as progress:
        found = rehearsing.rehearse(asked, progress)
    _say_each(found.lines())
    return OK if found.good else ATTENTION


def _rbac(chosen: argparse.Namespace) -> int:
    import yaml

    from conformance.kube.effects import Mode
    from conformance.session.rights import explaining_role, role

    printed = explaining_role() if chosen.explain_pods else role(Mode(chosen.mode))
    print(yaml.safe_dump(printed, sort_keys=False), end="")
    return OK


def _images(chosen: argparse.Namespace) -> int:
    from conformance.lab.images import Images

    _say_each(Images(registry=chosen.registry).all())
    return OK


def _values(chosen: argparse.Namespace) -> int:
    from conformance.deploy.helm.values_text import values_text
    from conformance.reference import load
    from conformance.shipped import shipped

    reference = load(chosen.reference or shipped("fixtures/reference"))
    print(values_text(reference, chosen.part, chosen.registry), end="")
    return OK


def _clean(chosen: argparse.Namespace) -> int:
    from conformance.lab.cleanup import leftovers
    from conformance.session.access import full_access

    with full_access(chosen.cluster, chosen.clusters_file, chosen.kubeconfig) as (client, installer):
        if chosen.dry_run:
            left = [each for each in leftovers.find_leftovers(client) if chosen.run in (None, each.run_id)]
            _say_each(left or ["no run has left anything"])
            return ATTENTION if left else OK
        cleaned = leftovers.clean(client, chosen.run, force=chosen.force, installer=installer)
    _say_each(
        [
            *(f"run {run}: cleaned" for run in cleaned.runs),
            *(f"  deleted {deleted}" for deleted in cleaned.deleted),
            *(f"  restored node {node}" for node in cleaned.nodes),
            *(f"skipped {skipped}" for skipped in cleaned.skipped),
            *(f"still there: {left}" for left in cleaned.left),
        ]
        or ["no run has left anything"]
    )
    return ATTENTION if cleaned.left or cleaned.skipped else OK


def _say_each(lines: Iterable[object]) -> None:
    for line in lines:
        print(line)


def _snapshot(chosen: argparse.Namespace) -> int:
    from conformance.facts import snapshot
    from conformance.session.access import reading_access

    with reading_access(chosen.cluster, chosen.clusters_file, chosen.kubeconfig) as client:
        taken = snapshot.take(client)
    if chosen.redact:
        from conformance.facts.redacting import redacted
        from conformance.redaction import Redactor, key_from

        taken = redacted(taken, Redactor(key_from(chosen.redact_key)))
    snapshot.save(taken, chosen.file)
    print(f"{chosen.file}: judge it with pytest --cluster snapshot:{chosen.file}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
