"""``gpu-conformance cluster ...`` and ``binaries``: embedded clusters that stay up, and what clusters are made of."""

import argparse
from collections.abc import Mapping
from pathlib import Path

# Commands that cannot be carried out raise.
OK = 0


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the actions of the command ``cluster``. Each sets ``command``, a function that returns the exit code."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    up = actions.add_parser("up", help="start a cluster and leave it running")
    up.add_argument("name", nargs="?", default="dev")
    up.add_argument("--topology", default="guide", metavar="NAME|PATH", help="the simulated fleet (default: guide)")
    up.add_argument("--kubernetes", metavar="VERSION", help="1.34, 1.35, 1.36 (default) or 1.37")
    up.add_argument("--assets", type=Path, metavar="DIR", help="a folder that has the binaries")
    played = up.add_mutually_exclusive_group()
    played.add_argument("--no-simulator", action="store_true", help="nobody plays the GPU stack: you deploy a real one")
    played.add_argument(
        "--without-parts",
        default="",
        metavar="PART,...",
        help="parts of the simulator that something of yours plays, such as operator,upgrade",
    )
    up.add_argument(
        "--real-nodes", default="0", metavar="N", help="GPU nodes with a real kubelet (default: 0; Linux, root)"
    )
    up.set_defaults(command=_up)
    down = actions.add_parser("down", help="stop a cluster and remove its state")
    down.add_argument("name", nargs="?", default="dev")
    down.set_defaults(command=_down)
    preflight = actions.add_parser("preflight", help="say what this machine lacks for nodes with real containers")
    preflight.add_argument("--assets", type=Path, metavar="DIR", help="a folder that has some of the programs")
    preflight.set_defaults(command=_preflight)
    image = actions.add_parser(
        "image", help="make the image of a cluster in a container, as an archive for docker load"
    )
    image.add_argument(
        "which",
        choices=("control-plane", "kind-node", "simulated-plugin"),
        help="of --cluster container, of --cluster kind, or of nodes without GPUs whose set-up declares that stack",
    )
    image.add_argument("--kubernetes", default="1.36", metavar="VERSION", help="1.34, 1.35, 1.36 (default) or 1.37")
    image.add_argument("--assets", type=Path, metavar="DIR", help="a folder that has the binaries")
    image.set_defaults(command=_image)
    listing = actions.add_parser("list", help="the clusters that are up")
    listing.set_defaults(command=_list)


def add_binaries_to(parser: argparse.ArgumentParser) -> None:
    """Let the command ``binaries`` take its arguments."""
    parser.add_argument("--kubernetes", default="1.36", metavar="VERSION", help="1.34, 1.35, 1.36 (default) or 1.37")
    parser.add_argument("--assets", type=Path, metavar="DIR", help="a folder that has some or all of them")
    parser.add_argument(
        "names", nargs="*", help="default: what a cluster needs; also kubectl, kubelet, kwokctl, containerd"
    )
    parser.add_argument("--into", type=Path, metavar="DIR", help="also copy them there: a folder for --gpu-assets")
    parser.set_defaults(command=_binaries)


def _count(flag: str, text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{flag} is {text!r}: give a number of nodes, such as 1")
    return int(text)


def _binaries(chosen: argparse.Namespace) -> int:
    from conformance.clusters.embedded.binaries import CONTROL_PLANE, resolve
    from conformance.progress import TerminalProgress

    with TerminalProgress() as progress:
        found = resolve(chosen.kubernetes, chosen.names or CONTROL_PLANE, assets=chosen.assets, progress=progress)
    if chosen.into is not None:
        from conformance.clusters.embedded.binaries.assets import put

        found = put(found, chosen.into)
    _print_paths(found)
    return OK


def _up(chosen: argparse.Namespace) -> int:
    from conformance.clusters.embedded import EmbeddedSpec, cluster_up
    from conformance.progress import TerminalProgress

    given = {
        "topology": chosen.topology,
        "version": chosen.kubernetes,
        "assets": chosen.assets,
        "without_parts": tuple(filter(None, chosen.without_parts.split(","))),
        "real_nodes": _count("--real-nodes", chosen.real_nodes),
        "real_gpus": _count("--real-nodes", chosen.real_nodes) > 0,
    }
    kept = {name: value for name, value in given.items() if value}
    with TerminalProgress() as progress:
        cluster = cluster_up(chosen.name, EmbeddedSpec(simulator=not chosen.no_simulator, **kept), progress)
    print(f"cluster {chosen.name} is up: {cluster.server}")
    print(f"  kubectl --kubeconfig {cluster.kubeconfig} get nodes")
    print(f"  pytest --cluster embedded:{chosen.name}")
    print(f"  gpu-conformance cluster down {chosen.name}")
    return OK


def _image(chosen: argparse.Namespace) -> int:
    from conformance.clusters.docker import control_plane_image, kind_node_image, simulated_plugin_image
    from conformance.progress import TerminalProgress

    with TerminalProgress() as progress:
        if chosen.which == "kind-node":
            node = kind_node_image.obtain(chosen.kubernetes, assets=chosen.assets, cache=None, progress=progress)
            print(f"{node.name}\n  docker load --input {node.archive}")
            return OK
        if chosen.which == "simulated-plugin":
            plugin = simulated_plugin_image.spec()
            progress.step(f"Making the image {plugin.name}")
            archive = simulated_plugin_image.archive(plugin)
            print(f"{plugin.name}\n  docker load --input {archive}")
            return OK
        image = control_plane_image.spec(chosen.kubernetes, assets=chosen.assets, cache=None, progress=progress)
        progress.step(f"Making the image {image.name}")
        archive = control_plane_image.archive(image)
    print(f"{image.name}\n  docker load --input {archive}")
    return OK


def _down(chosen: argparse.Namespace) -> int:
    from conformance.clusters.embedded import cluster_down

    cluster_down(chosen.name)
    print(f"cluster {chosen.name} is gone")
    return OK


def _preflight(chosen: argparse.Namespace) -> int:
    from conformance.clusters.embedded.real import required

    tools = required(chosen.assets, gpus=True)
    _print_paths(tools.programs)
    print(f"{'CNI plugins':<24} {tools.cni}")
    print(f"{'devices by CDI':<24} {'yes' if tools.cdi else 'no'}: containerd {tools.containerd}")
    print("nodes with real containers can run here: --gpu-real-nodes N, or `gpu-conformance cluster up --real-nodes N`")
    return OK


def _list(_chosen: argparse.Namespace) -> int:
    from conformance.clusters.embedded import cluster_list

    kept = list(cluster_list())
    for cluster in kept:
        print(cluster)
    if not kept:
        print("no embedded cluster is up; `gpu-conformance cluster up` starts one")
    return OK


def _print_paths(programs: Mapping[str, Path]) -> None:
    for name, path in programs.items():
        print(f"{name:<24} {path}")
