#!/usr/bin/env python3
"""One scheduled run, as a container does it: clean up after a killed one, judge, keep the results, end as the run did.

It calls the same commands as docs/nightly.md and adds where results go: a folder, a ConfigMap, an S3-compatible store,
a Pushgateway, a file that is scraped. Needs gpu-conformance beside it; boto3 where --s3 is given. Exit codes: those of
the run (docs/exit-codes.md), and 11 where the run ended with 0 and its results did not get to every place.
"""

import argparse
import base64
import gzip
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from urllib.parse import quote, urlsplit

import urllib3

FORMATS = "html,markdown,openmetrics,line"
REPORT, EVENTS, METRICS = "report.json", "events.ndjson", "metrics.prom"
NOT_KEPT = 11
# A ConfigMap holds 1 MiB (kubernetes.io: ConfigMaps); the object around the values takes some of it.
CONFIG_MAP_BYTES = 950_000
# With the most telling first: what has no room is left out and named.
IN_CONFIG_MAP = ("status.txt", REPORT, METRICS, "summary.md")
SECONDS = 60.0


class NotKeptError(Exception):
    """Results that did not get to a place, and why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one run; its exit code."""
    chosen = _parser().parse_args(arguments)
    home = chosen.reports / quote(chosen.cluster, safe="")
    last = _last_report(home, chosen)
    folder = home / datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    if chosen.mode != "audit":
        # What it cannot remove it names, and the run decides whether it can begin beside that.
        _call(["gpu-conformance", "clean", "--cluster", chosen.cluster])
    code = _call([*_judging(chosen, folder, last), *chosen.rest])
    if not (folder / REPORT).exists() and (folder / EVENTS).exists():
        _call(["gpu-conformance", "report", "recover", str(folder)])
    if not (folder / REPORT).exists():
        print(f"there is no report to keep: the run ended with {code}", file=sys.stderr)
        return code or NOT_KEPT
    kept = _keep(folder, chosen)
    _forget(home, chosen.keep)
    return code if code or kept else NOT_KEPT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpu-conformance-nightly", description=__doc__.split("\n")[0])
    parser.add_argument("--cluster", required=True, metavar="NAME", help="as pytest's --cluster")
    parser.add_argument("--mode", choices=("audit", "verify", "full"), default="audit")
    parser.add_argument("--reference", type=Path, metavar="DIR", help="the declared set-up; used where it has files")
    parser.add_argument("--waivers", type=Path, metavar="FILE", help="used where it is there")
    parser.add_argument("--reports", type=Path, default=Path("/reports"), metavar="DIR", help="default: /reports")
    parser.add_argument("--keep", type=int, default=30, metavar="N", help="so many runs stay in DIR (default: 30)")
    parser.add_argument("--configmap", metavar="NAMESPACE/NAME", help="the last results, for kubectl and controllers")
    parser.add_argument("--s3", metavar="s3://BUCKET/PREFIX", help="AWS_ENDPOINT_URL names another server than AWS")
    parser.add_argument("--pushgateway", metavar="URL", help="of a Prometheus Pushgateway")
    parser.add_argument(
        "--metrics-file", type=Path, metavar="FILE", help="what a node exporter's textfile collector reads"
    )
    parser.add_argument("rest", nargs="*", metavar="-- OPTION", help="further options of pytest")
    return parser


def _judging(chosen: argparse.Namespace, folder: Path, last: Path | None) -> list[str]:
    command = ["pytest", "-p", "no:cacheprovider", "--cluster", chosen.cluster, f"--gpu-mode={chosen.mode}"]
    command += [f"--gpu-report={folder}", f"--gpu-report-formats={FORMATS}"]
    if chosen.reference and any(chosen.reference.glob("*.yaml")):
        command.append(f"--gpu-reference={chosen.reference}")
    if chosen.waivers and chosen.waivers.is_file():
        command.append(f"--gpu-waivers={chosen.waivers}")
    return [*command, f"--gpu-baseline={last}"] if last else command


def _call(command: Sequence[str]) -> int:
    """Run a command to its end. A kubelet's SIGTERM goes on to it: a run that hears it cleans up after itself."""
    print(f"$ {' '.join(command)}", flush=True)
    with subprocess.Popen(command) as process:

        def pass_on(number: int, _frame: FrameType | None) -> None:
            process.send_signal(number)

        earlier = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            code = process.wait()
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _last_report(home: Path, chosen: argparse.Namespace) -> Path | None:
    """The report of the run before, from the folder, else from the ConfigMap; None for the first run of all."""
    for before in sorted(home.glob(f"*/{REPORT}"), reverse=True):
        if _is_readable(before):
            return before
    if not chosen.configmap:
        return None
    try:
        packed = (_config_map(chosen.configmap).get("binaryData") or {}).get(f"{REPORT}.gz")
    except NotKeptError as error:
        print(f"what is new cannot be told: {error}", file=sys.stderr)
        return None
    if packed is None:
        return None
    home.mkdir(parents=True, exist_ok=True)
    file = home / "last.json"
    file.write_bytes(gzip.decompress(base64.b64decode(packed)))
    return file if _is_readable(file) else None


def _is_readable(report: Path) -> bool:
    """Whether a run would take it as its baseline: a damaged one must not keep every later night from beginning."""
    from conformance.report.reading import ReportError, read

    try:
        read(report)
    except ReportError as error:
        print(f"passed over as a baseline: {error}", file=sys.stderr)
        return False
    return True


def _keep(folder: Path, chosen: argparse.Namespace) -> bool:
    """Put the results of a run wherever they were asked for. One place that fails keeps no other from its copy."""
    places = [
        (chosen.configmap, lambda: _into_config_map(folder, chosen.configmap)),
        (chosen.s3, lambda: _into_s3(folder, chosen.s3, f"{chosen.cluster}/{folder.name}")),
        (chosen.pushgateway, lambda: _push(folder / METRICS, chosen.pushgateway, chosen.cluster)),
        (chosen.metrics_file, lambda: _replace(chosen.metrics_file, (folder / METRICS).read_bytes())),
    ]
    kept = True
    for place, put in places:
        if not place:
            continue
        try:
            put()
            print(f"kept in {place}", flush=True)
        except (NotKeptError, OSError, urllib3.exceptions.HTTPError) as error:
            print(f"NOT kept in {place}: {error}", file=sys.stderr, flush=True)
            kept = False
    return kept


def _config_map(place: str, change: dict[str, object] | None = None) -> dict[str, dict[str, str]]:
    """Read a ConfigMap (empty where there is none), or apply ``change`` to it."""
    from conformance.kube.client import Client
    from conformance.kube.effects import Effect
    from conformance.kube.errors import KubeconfigError, KubeError, NotFound
    from conformance.kube.guard import Guard
    from conformance.kube.kubeconfig import connect

    namespace, _, name = place.partition("/")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name}}
    try:
        with connect() as connection:
            client = Client(connection, Guard(Effect.DISRUPTIVE if change else Effect.READS))
            if change is None:
                return client.get(client.path_of(body))
            return client.apply({**body, **change}, manager="gpu-conformance-nightly", force=True)
    except NotFound as error:
        if change is None:
            return {}
        raise NotKeptError(str(error)) from error
    except (KubeError, KubeconfigError) as error:
        raise NotKeptError(str(error)) from error


def _into_config_map(folder: Path, place: str) -> None:
    data: dict[str, str] = {}
    binary: dict[str, str] = {}
    left_out, room = [], CONFIG_MAP_BYTES
    for name in IN_CONFIG_MAP:
        if not (folder / name).exists():
            continue
        content = (folder / name).read_bytes()
        packed: bytes = base64.b64encode(gzip.compress(content, mtime=0)) if name == REPORT else content
        # A value is written as JSON, in which a line feed or a quote takes two characters.
        size = len(json.dumps(packed.decode(), ensure_ascii=False).encode())
        if size > room:
            left_out.append(name)
            continue
        room -= size
        (binary if name == REPORT else data)[f"{name}.gz" if name == REPORT else name] = packed.decode()
    data["run"] = folder.name
    if left_out:
        data["left-out"] = (
            f"{', '.join(left_out)}: no room in a ConfigMap; keep results in a volume or a store as well\n"
        )
    labels = {"metadata": {"namespace": place.partition("/")[0], "name": place.partition("/")[2]}}
    _config_map(place, {**labels, "data": data, "binaryData": binary})


def _into_s3(folder: Path, place: str, below: str) -> None:
    """Copy the folder of a run. Credentials, region and endpoint are found as every program of AWS finds them."""
    try:
        import boto3
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise NotKeptError("boto3 is missing: pip install boto3") from error
    parts = urlsplit(place)
    prefix = "/".join(filter(None, (parts.path.strip("/"), below)))
    try:
        store = boto3.client("s3")
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            store.upload_file(str(file), parts.netloc, f"{prefix}/{file.relative_to(folder).as_posix()}")
    except (BotoCoreError, Boto3Error, ClientError) as error:
        raise NotKeptError(str(error)) from error


def _push(metrics: Path, gateway: str, cluster: str) -> None:
    """Replace the metrics of the cluster in a Pushgateway; a group has the cluster as its label."""
    # A value that a path cannot hold goes in base64 (github.com/prometheus/pushgateway: README, URL).
    group = base64.urlsafe_b64encode(cluster.encode()).decode()
    url = f"{gateway.rstrip('/')}/metrics/job/gpu-conformance/cluster@base64/{group}"
    answer = urllib3.request("PUT", url, body=metrics.read_bytes(), timeout=SECONDS, retries=2)
    if answer.status >= 300:
        raise NotKeptError(f"it answered {answer.status}: {answer.data.decode(errors='replace')[:200]}")


def _replace(file: Path, content: bytes) -> None:
    """Write a file that somebody else reads at any time: all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.write_bytes(content)
    beside.chmod(0o644)
    beside.replace(file)


def _forget(home: Path, keep: int) -> None:
    runs: Iterable[Path] = sorted(path.parent for path in home.glob(f"*/{REPORT}"))
    for old in list(runs)[: -max(keep, 1)]:
        shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
