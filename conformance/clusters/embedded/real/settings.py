"""What the programs of a real node read: configuration of containerd, of its network, of the kubelet.

Each setting that is not obvious has its reason beside it; all were tried with Kubernetes 1.36 and containerd 1.6.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from conformance.realnode import oci, registry
from conformance.realnode.orders import INSIDE

if TYPE_CHECKING:
    from pathlib import Path

KUBELET_PORT = 10250
BRIDGE = "cni0"
RUNTIME = INSIDE / "runc"
RUNTIME_CLASSES = ("nvidia", "nvidia-cdi", "nvidia-legacy")
SOCKET = INSIDE / "containerd.sock"
"""Where containerd listens, inside the node."""

CDI = INSIDE / "cdi"
"""Where the CDI specifications of devices and claims are, for a containerd that reads them (1.7 or newer)."""

TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet sets on its machine (kubernetes, pkg/kubelet/cm/container_manager_linux.go). It finds them set."""

COVERED = ("/run", "/var/lib", "/var/log")
"""Where fixed places are written to: shims' sockets, device plugins, CNI's cache, links to logs."""


def containerd(cni_plugins: Path, pause_image: str, *, gpus: bool = False, lowers_scores: bool = True) -> str:
    """The configuration of containerd (version 2, which 1.3 to 2.x read) in TOML; what it keeps is the node's own.

    With ``gpus`` it knows the handlers of NVIDIA's runtime classes, and asks the node's own registry for images.
    ``lowers_scores``: whether root may lower oom_score_adj here, which takes the capability SYS_RESOURCE. Where it may
    not, a container that is to have a low score would not start.
    """
    home = INSIDE / "containerd"
    runtimes = "".join(_runtime(name) for name in ("runc", *(RUNTIME_CLASSES if gpus else ())))
    mirrors = f"""  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {_quoted(INSIDE / "registries")}
"""
    return f"""version = 2
root = {_quoted(home / "root")}
state = {_quoted(home / "state")}
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = {_quoted(SOCKET)}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {_quoted(pause_image)}
  # A profile would be loaded into the machine's kernel, and stay there.
  disable_apparmor = true
  restrict_oom_score_adj = {json.dumps(not lowers_scores)}
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  enable_cdi = true
  cdi_spec_dirs = [{_quoted(CDI)}]
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {_quoted(cni_plugins)}
    conf_dir = {_quoted(INSIDE / "cni")}
{mirrors if gpus else ""}{runtimes}"""


def _runtime(name: str) -> str:
    return f"""  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
      SystemdCgroup = false
      BinaryName = {_quoted(RUNTIME)}
"""


def registries() -> str:
    """What containerd knows of every registry: that the node's own one answers for it (hosts.toml)."""
    server = f"http://127.0.0.1:{registry.PORT}"
    return f'server = "{server}"\n[host."{server}"]\n  capabilities = ["pull", "resolve"]\n'


def runtime(runc: Path, python: str) -> str:
    """The program that containerd runs in place of runc: it has stand-in images run their program (oci.py).

    Most containers have other images. They are told apart without starting an interpreter, which takes a tenth of a
    second of each pod's start, and several where the machine is busy.
    """
    change = shlex.join([python, "-I", "-S", oci.__file__])
    return f"""#!/bin/sh
case " $* " in
*" create "*)
    bundle= before=
    for word; do
        [ "$before" != --bundle ] || bundle=$word
        before=$word
    done
    grep -qF {shlex.quote(json.dumps(oci.MARK))} "$bundle/config.json"
    [ $? = 1 ] || {change} "$@" || exit 1
    ;;
esac
exec {shlex.quote(str(runc))} "$@"
"""


def cni(pods: str) -> str:
    """One bridge for the node's pods, whose addresses are ``pods`` and which is their gateway. None is translated."""
    bridge: dict[str, Any] = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(INSIDE / "addresses"),
        },
    }
    return json.dumps({"cniVersion": "0.4.0", "name": "gpu-conformance", "plugins": [bridge]}, indent=2)


def kubelet(
    cgroup: str, address: str, taints: list[dict[str, str]], pods: int = 110, *, finds_storage: bool = True
) -> str:
    """The KubeletConfiguration. ``address`` is where the API server reaches it; JSON is YAML, too.

    ``finds_storage``: whether the kubelet can measure the file system of its pods. Where it cannot, it ends unless it
    is told to leave that alone.
    """
    settings: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(INSIDE / "pki" / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(INSIDE / "pki" / "serving.crt"),
        "tlsPrivateKeyFile": str(INSIDE / "pki" / "serving.key"),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "registerWithTaints": taints,
        "maxPods": pods,
        # No name server is asked: nobody outside is to hear of a test's pods.
        "resolvConf": str(INSIDE / "resolv.conf"),
        "podLogsDir": str(INSIDE / "pod-logs"),
        "volumePluginDir": str(INSIDE / "volume-plugins"),
        # Nothing of the machine is set; see TUNABLES.
        "protectKernelDefaults": True,
        "makeIPTablesUtilChains": False,
        # When memory runs out, what belongs to the machine goes last, and not the kubelet of a test.
        "oomScoreAdj": 0,
        # The node shares its disk with others: how full that is says nothing of the node.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        # Devices and conditions are seen within a second.
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "30s",
        "serializeImagePulls": False,
        "enableServer": True,
    }
    if not finds_storage:
        settings["localStorageCapacityIsolation"] = False
    return json.dumps(settings, indent=2)


def _quoted(text: object) -> str:
    # A TOML string has JSON's escapes.
    return json.dumps(str(text))
