"""The processes of an embedded cluster and their flags, as data. Nothing is started here.

The flags were proven by running them; what each group is for stands beside it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .annotations import SIMULATED_ANNOTATION, SIMULATED_VALUE
from .ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .spec import EmbeddedSpec

ETCD = "etcd"
APISERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
KWOK = "kwok"
SIMULATOR = "simulator"
BINARIES = (ETCD, APISERVER, CONTROLLER_MANAGER, SCHEDULER, KWOK)

SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.128.0.0/10"

# The defaults of client-go (20-50 requests a second) make a cold start take twice as long and a drain crawl.
_UNTHROTTLED = {"kube-api-qps": "1000", "kube-api-burst": "2000"}
# Garbage is collected when the heap is five times what was in use; Go's default is twice.
_SELDOM = "400"

# Kinds of which a simulated cluster has few objects and few watchers. With a watch cache of its own each answers a list
# only when the cache has heard from etcd how far it is (KEP-2340), which costs more than asking etcd for nothing: the
# namespace controller lists every kind of each namespace that goes. Without, 40 of them cost 4.1 s of CPU, not 4.8.
_UNCACHED = (
    "controllerrevisions.apps", "cronjobs.batch", "csistoragecapacities.storage.k8s.io", "deployments.apps",
    "endpoints", "endpointslices.discovery.k8s.io", "horizontalpodautoscalers.autoscaling",
    "ingresses.networking.k8s.io", "leases.coordination.k8s.io", "networkpolicies.networking.k8s.io",
    "persistentvolumeclaims", "podtemplates", "replicasets.apps", "replicationcontrollers",
    "rolebindings.rbac.authorization.k8s.io", "roles.rbac.authorization.k8s.io", "secrets", "statefulsets.apps",
)  # fmt: skip

# KWOK renews a node's lease every quarter of this; the controller-manager waits longer before it believes a node lost.
_LEASE_SECONDS = 200
_NODE_GRACE_SECONDS = 240

# What a seed has brought along, and the API server looks for only a second after it serves.
_SEEDED_HOOKS = ("rbac/bootstrap-roles", "scheduling/bootstrap-system-priority-classes")

# MutatingAdmissionPolicy (KEP-3962) is beta and off by default in 1.34 and 1.35, on by default from 1.36.
_POLICY_BETA_MINORS = ("1.34", "1.35")
_POLICY_BETA_API = "admissionregistration.k8s.io/v1beta1=true"

# What the simulator imports from outside the standard library. It runs with an environment of its own, and finds these
# wherever we have them.
_IMPORTED = ("conformance", "msgspec", "urllib3", "yaml")


@dataclass(frozen=True)
class Ports:
    """The loopback port of each process."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int
    kwok: int

    COUNT = 6


@dataclass(frozen=True)
class Component:
    """One process: what to run, and how to know whether it is ready: a URL to get, a file to be there, or None.

    ``afterwards`` is a command for when it has been killed: it takes away what the process would have taken away.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    ready: str | None = None
    afterwards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Where the files of one cluster are, and its ports."""

    folder: Path
    ports: Ports

    @property
    def pki(self) -> Path:
        """The certificates and keys."""
        return self.folder / "pki"

    @property
    def etcd(self) -> Path:
        """The data of etcd."""
        return self.folder / "etcd"

    @property
    def server(self) -> str:
        """The address of the API server."""
        return f"https://{LOOPBACK}:{self.ports.apiserver}"

    @property
    def container_logs(self) -> Path:
        """What simulated containers print."""
        return self.folder / "container-logs"

    def kubeconfig(self, identity: str) -> Path:
        """The kubeconfig of one of pki.IDENTITIES."""
        return self.folder / f"{identity}.kubeconfig"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.folder / f"{name}.log"


class Components:
    """Makes the processes of one cluster from its binaries, its layout and its specification."""

    def __init__(self, binaries: Mapping[str, Path], layout: Layout, spec: EmbeddedSpec) -> None:
        self.binaries = binaries
        self.layout = layout
        self.spec = spec

    def etcd(self) -> Component:
        """The store: one member, plain HTTP on the loopback address, no fsync because nothing has to survive."""
        client = f"http://{LOOPBACK}:{self.layout.ports.etcd}"
        peer = f"http://{LOOPBACK}:{self.layout.ports.etcd_peer}"
        flags = {
            "name": "embedded",
            "data-dir": str(self.layout.etcd),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            # Fixed, not the peer port: the member keeps its identity when a seed is started on another port.
            "initial-advertise-peer-urls": "http://localhost:2380",
            "initial-cluster": "embedded=http://localhost:2380",
            "unsafe-no-fsync": "true",
            # A lone member waits for others before it elects itself, by default for up to a second.
            "heartbeat-interval": "10",
            "election-timeout": "100",
            "auto-compaction-retention": "1",
            "log-level": "warn",
        }
        return self._component(ETCD, flags, ready=f"{client}/readyz")

    def apiserver(self, *, seeded: bool = True) -> Component:
        """The API server, with the admission plugins that are on by default and NodeRestriction.

        ``seeded``: its data come from a seed, so that it is ready before it has made sure of what every start needs.
        """
        pki = self.layout.pki
        flags = {
            "etcd-servers": f"http://{LOOPBACK}:{self.layout.ports.etcd}",
            "bind-address": LOOPBACK,
            "advertise-address": LOOPBACK,
            "secure-port": str(self.layout.ports.apiserver),
            "tls-cert-file": str(pki / "serving.crt"),
            "tls-private-key-file": str(pki / "serving.key"),
            "client-ca-file": str(pki / "ca.crt"),
            "service-account-key-file": str(pki / "service-account.pub"),
            "service-account-signing-key-file": str(pki / "service-account.key"),
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-cluster-ip-range": SERVICE_RANGE,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "allow-privileged": "true",
            # There is one server: no need to publish its loopback address as the endpoint of service kubernetes.
            "endpoint-reconciler-type": "none",
            "profiling": "false",
            # For logs of pods: a simulated node's name resolves nowhere, but its address is where KWOK listens.
            "kubelet-preferred-address-types": "InternalIP,Hostname",
            "kubelet-client-certificate": str(pki / "apiserver-kubelet-client.crt"),
            "kubelet-client-key": str(pki / "apiserver-kubelet-client.key"),
        }
        flags |= self._apis()
        if self.spec.small:
            flags |= {"watch-cache-sizes": ",".join(f"{kind}#0" for kind in _UNCACHED)}
        exclude = "&".join(f"exclude=poststarthook/{hook}" for hook in _SEEDED_HOOKS) if seeded else ""
        ready = f"{self.layout.server}/readyz?{exclude}"
        return self._component(APISERVER, flags, self.spec.apiserver_flags, ready=ready)

    def controller_manager(self) -> Component:
        """All controllers, each with its own service account, as on a real cluster."""
        pki = self.layout.pki
        port = self.layout.ports.controller_manager
        flags = {
            **self._serving(port),
            **self._delegated("controller-manager"),
            "kubeconfig": str(self.layout.kubeconfig("controller-manager")),
            "root-ca-file": str(pki / "ca.crt"),
            "service-account-private-key-file": str(pki / "service-account.key"),
            "use-service-account-credentials": "true",
            "cluster-signing-cert-file": str(pki / "ca.crt"),
            "cluster-signing-key-file": str(pki / "ca.key"),
            "leader-elect": "false",
            "node-monitor-period": "1s" if self.spec.small else "5s",
            "node-monitor-grace-period": f"{_NODE_GRACE_SECONDS}s",
            "profiling": "false",
            **self._gates(),
            **_UNTHROTTLED,
        }
        ready = f"https://{LOOPBACK}:{port}/healthz"
        return self._component(CONTROLLER_MANAGER, flags, self.spec.controller_manager_flags, ready=ready)

    def scheduler(self) -> Component:
        """The scheduler with the configuration that files() writes."""
        port = self.layout.ports.scheduler
        flags = {
            **self._serving(port),
            **self._delegated("scheduler"),
            "config": str(self.layout.folder / "scheduler.yaml"),
            **self._gates(),
        }
        ready = f"https://{LOOPBACK}:{port}/readyz"
        return self._component(SCHEDULER, flags, self.spec.scheduler_flags, ready=ready)

    def kwok(self) -> Component:
        """The player of simulated nodes and their pods; it answers for kubelets' HTTPS port, too."""
        pki, port = self.layout.pki, self.layout.ports.kwok
        flags = {
            "kubeconfig": str(self.layout.kubeconfig("kwok")),
            "config": str(self.layout.folder / "kwok.yaml"),
            "manage-nodes-with-annotation-selector": f"{SIMULATED_ANNOTATION}={SIMULATED_VALUE}",
            "node-ip": LOOPBACK,
            "node-name": "localhost",
            "node-port": str(port),
            # Without it KWOK would listen on all addresses.
            "server-address": f"{LOOPBACK}:{port}",
            "cidr": POD_RANGE,
            "tls-cert-file": str(pki / "serving.crt"),
            "tls-private-key-file": str(pki / "serving.key"),
            "enable-crds": "Logs,ClusterLogs,PortForward,ClusterPortForward",
            "node-lease-duration-seconds": str(_LEASE_SECONDS),
        }
        return self._component(KWOK, flags, ready=f"https://{LOOPBACK}:{port}/healthz")

    def simulator(self) -> Component:
        """The player of the GPU stack, in our own Python; nobody else's modules get in its way."""
        ready = self.layout.folder / f"{SIMULATOR}.ready"
        flags = {
            "kubeconfig": str(self.layout.kubeconfig(SIMULATOR)),
            "logs": str(self.layout.container_logs),
            "ready": str(ready),
        }
        if self.spec.without_parts:
            flags["without"] = ",".join(self.spec.without_parts)
        module = (sys.executable, "-P", "-m", "conformance.simulator")
        argv = (*module, *(f"--{flag}={value}" for flag, value in flags.items()))
        found = [importlib.util.find_spec(name) for name in _IMPORTED]
        homes = [str(Path(spec.origin).parent.parent) for spec in found if spec and spec.origin]
        env = {**self._env(), "PYTHONPATH": os.pathsep.join(dict.fromkeys(homes))}
        return Component(SIMULATOR, argv, env, self.layout.log(SIMULATOR), ready.as_uri())

    def scheduler_configuration(self) -> dict[str, Any]:
        """The KubeSchedulerConfiguration: ours, overlaid with that of the specification."""
        ours: dict[str, Any] = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "clientConnection": {
                "kubeconfig": str(self.layout.kubeconfig("scheduler")),
                "qps": float(_UNTHROTTLED["kube-api-qps"]),
                "burst": int(_UNTHROTTLED["kube-api-burst"]),
            },
        }
        return _overlaid(ours, self.spec.scheduler_config or {})

    def _apis(self) -> dict[str, str]:
        runtime = list(self.spec.runtime_config)
        if self.spec.minor in _POLICY_BETA_MINORS and _POLICY_BETA_API not in runtime:
            runtime.append(_POLICY_BETA_API)
        flags = self._gates(MutatingAdmissionPolicy=True) if self.spec.minor in _POLICY_BETA_MINORS else self._gates()
        return flags | ({"runtime-config": ",".join(runtime)} if runtime else {})

    def _gates(self, **always: bool) -> dict[str, str]:
        gates = always | dict(self.spec.feature_gates)
        text = ",".join(f"{name}={str(on).lower()}" for name, on in sorted(gates.items()))
        return {"feature-gates": text} if text else {}

    def _serving(self, port: int) -> dict[str, str]:
        pki = self.layout.pki
        return {
            "bind-address": LOOPBACK,
            "secure-port": str(port),
            "tls-cert-file": str(pki / "serving.crt"),
            "tls-private-key-file": str(pki / "serving.key"),
        }

    def _delegated(self, identity: str) -> dict[str, str]:
        path = str(self.layout.kubeconfig(identity))
        return {
            "authentication-kubeconfig": path,
            "authorization-kubeconfig": path,
            # Otherwise the process asks the API server for this at once and ends when it does not answer yet.
            "authentication-skip-lookup": "true",
            "client-ca-file": str(self.layout.pki / "ca.crt"),
        }

    def _component(
        self, name: str, flags: Mapping[str, str], extra: Mapping[str, str] | None = None, *, ready: str | None = None
    ) -> Component:
        chosen = {**flags, **{key.lstrip("-"): value for key, value in (extra or {}).items()}}
        argv = (str(self.binaries[name]), *(f"--{flag}={value}" for flag, value in chosen.items()))
        return Component(name, argv, {**self._env(), **self._go(name)}, self.layout.log(name), ready)

    def _go(self, name: str) -> dict[str, str]:
        """How Go runs a program. In a small cluster memory is cheaper than the tenth of the CPUs that garbage costs.

        All but the API server have so little to do that one thread does it; several wake each other for each request.
        """
        if not self.spec.small:
            return {}
        return {"GOGC": _SELDOM} if name == APISERVER else {"GOGC": _SELDOM, "GOMAXPROCS": "1"}

    def _env(self) -> dict[str, str]:
        """Just enough: a user's KUBECONFIG, proxies and ~/.kwok are no business of these processes."""
        home = str(self.layout.folder)
        return {"HOME": home, "TMPDIR": home, "PATH": os.environ.get("PATH", os.defpath)}


def _overlaid(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        result[key] = _overlaid(below, value) if both and below is not None else value
    return result
