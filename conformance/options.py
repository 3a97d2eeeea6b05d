"""The plugin's options as data: each on the command line, as an environment variable and in the ini file."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class Option:
    """One setting. ``many`` ones may be given several times, and commas part the values of each."""

    flag: str
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    many: bool = False
    switch: bool = False

    @property
    def dest(self) -> str:
        """The attribute of pytest's options that holds it, prefixed so that no other plugin has it."""
        return self.ini if self.ini.startswith("gpu_") else f"gpu_{self.ini}"

    @property
    def ini(self) -> str:
        """Its name in the ini file."""
        return "gpu_cluster" if self.flag == "--cluster" else self.flag.removeprefix("--").replace("-", "_")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "GPU_CONFORMANCE_" + self.ini.removeprefix("gpu_").upper()


@dataclass(frozen=True)
class Setting:
    """What an option was set to, and by what: ``option``, ``environment``, ``ini`` or ``default``."""

    value: Any
    source: str


class UpgradeQuestion(NamedTuple):
    """An option by which a run is asked about an upgrade: ``subject`` says of what, ``takes`` what its value is."""

    flag: str
    subject: str
    takes: str

    @property
    def key(self) -> str:
        """Its name among the settings."""
        return self.flag.removeprefix("--gpu-").replace("-", "_")

    @property
    def dest(self) -> str:
        """The attribute under which argparse keeps it."""
        return self.flag.removeprefix("--").replace("-", "_")


PRE_UPGRADE = UpgradeQuestion("--gpu-pre-upgrade", "of the drivers", "VERSION")
PRE_UPGRADE_OPERATOR = UpgradeQuestion("--gpu-pre-upgrade-operator", "of the GPU Operator", "VERSION")
PRE_UPGRADE_KUBERNETES = UpgradeQuestion("--gpu-pre-upgrade-kubernetes", "of Kubernetes", "VERSION")
POST_UPGRADE = UpgradeQuestion("--gpu-post-upgrade", "that is done", "BASELINE")
UPGRADE_QUESTIONS = (PRE_UPGRADE, PRE_UPGRADE_OPERATOR, PRE_UPGRADE_KUBERNETES, POST_UPGRADE)

CLUSTER = Option(
    "--cluster",
    "run the suites against this cluster: embedded, embedded:NAME (kept by `gpu-conformance cluster up`), "
    "container (the same in a Docker container), kind (made for the run) or kind:NAME (which stays), k3s (in a Docker "
    "container, for the run), snapshot:FILE, a cluster of the clusters file, or a kubeconfig context; without it the "
    "plugin does nothing",
    "NAME",
)
OPTIONS = (
    CLUSTER,
    Option(
        "--gpu-mode",
        "how far the run may go: audit only reads, verify stays within objects of its own, full also patches nodes "
        "and preempts (default: the cluster's own mode; embedded gets full, a bare kubeconfig context audit)",
        "MODE",
        choices=("audit", "verify", "full"),
    ),
    Option(
        "--gpu-reference",
        "the declared set-up, a folder or file, or corrected-guide for the shipped one (default: the cluster's; "
        "without one, only what does not depend on the names of the shipped one is judged)",
        "PATH",
    ),
    Option(
        "--gpu-deploy",
        "deploy the reference set-up first and withdraw it afterwards (always so on embedded)",
        switch=True,
    ),
    Option(
        "--gpu-chart",
        "where the charts of the GPU stack are that --gpu-deploy installs: a chart, a folder of charts, the URL of a "
        "repository, or oci://... (default: the cluster's, else where NVIDIA publishes them)",
        "PLACE",
    ),
    Option(
        "--gpu-parallel-scenarios",
        "how many scenarios may act at the same time, each on idle nodes that it has borrowed or with pods that get to "
        "no node (default: 1; 4 on an embedded cluster and on one in containers that the run makes)",
        "N",
    ),
    Option("--gpu-topology", "the simulated fleet of an embedded cluster (default: guide)", "NAME|PATH"),
    Option(
        "--gpu-kubernetes",
        "the Kubernetes version of an embedded cluster: 1.34, 1.35, 1.36 or 1.37 (default: 1.36)",
        "VERSION",
    ),
    Option(
        "--gpu-real-nodes",
        "how many GPU nodes of an embedded cluster have a real kubelet and real containers with simulated devices "
        "(default: 0; Linux, root; see docs/real-nodes.md)",
        "N",
    ),
    Option(
        "--gpu-assets", "a folder that has the binaries of the embedded cluster (default: KUBEBUILDER_ASSETS)", "DIR"
    ),
    Option(
        "--gpu-cluster-image",
        "the image of the containers that --cluster container, kind or k3s starts, made-here for one that is made here "
        "(default: container made-here, kind and k3s their own; see docs/containers.md)",
        "IMAGE",
    ),
    Option(
        "--gpu-cluster-registry",
        "the registry, or one with a path, that takes the place of the registry in the images of --cluster kind or "
        "k3s: of its nodes and of the run's pods",
        "PREFIX",
    ),
    Option(
        "--gpu-cluster-port",
        "the loopback port of the API server of --cluster container (default: any that is free)",
        "PORT",
    ),
    Option("--gpu-report", "where the reports go (default: gpu-conformance-report)", "DIR"),
    Option(
        "--gpu-report-formats",
        "also write the report in these formats, such as html,badge; docs/reports.md has them",
        "FORMAT",
        many=True,
    ),
    Option(
        "--gpu-explain-pods",
        "say in the report why pods that ask for GPUs wait or fail, by owner and cause; reads the cluster once more, "
        "see docs/explain-pod.md",
        switch=True,
    ),
    Option(
        "--gpu-suites",
        "also judge the requirements of your own in this folder or file; docs/own-requirements.md",
        "PATH",
        many=True,
    ),
    Option(
        "--gpu-baseline",
        "the report of an earlier run on the same cluster: terminal and reports mark what is new since then",
        "FILE",
    ),
    Option(
        PRE_UPGRADE.flag,
        "say whether the GPU Operator may upgrade the drivers to this version, such as 595.91.07: judges the profile "
        "upgrade, and writes what the cluster has now as a baseline; see docs/upgrade.md",
        "VERSION",
    ),
    Option(
        PRE_UPGRADE_OPERATOR.flag,
        "say whether the GPU Operator itself may be upgraded to this version, such as v26.7.0: the path, Kubernetes, "
        "runtimes, drivers and fields that it takes; see docs/upgrade.md",
        "VERSION",
    ),
    Option(
        PRE_UPGRADE_KUBERNETES.flag,
        "say whether the GPU stack takes an upgrade of Kubernetes to this release, such as 1.36; see docs/upgrade.md",
        "VERSION",
    ),
    Option(
        POST_UPGRADE.flag,
        "say whether an upgrade of the drivers is done and nothing is missing: compares with the baseline that a run "
        "with --gpu-pre-upgrade wrote (upgrade-baseline.json); see docs/upgrade.md",
        "BASELINE",
    ),
    Option(
        "--gpu-redact",
        "replace host names, UUIDs, serial numbers, addresses and the names of cluster and registries in everything "
        "that is written, each value the same way",
        switch=True,
    ),
    Option(
        "--gpu-redact-key",
        "a file with the key of the replacements, so that several runs have the same ones (default: a new key for each "
        "run, which nobody keeps)",
        "FILE",
    ),
    Option(
        "--gpu-profile",
        "judge this profile and what --gpu-requirement names; several with commas, or given several times",
        "NAME",
        many=True,
    ),
    Option(
        "--gpu-requirement",
        "judge this requirement, such as PRIO-03, and what --gpu-profile names; several with commas, or given several "
        "times",
        "ID",
        many=True,
    ),
    Option(
        "--gpu-timeout",
        "override one named timeout, such as running=300; several with commas, or given several times",
        "NAME=SECONDS",
        many=True,
    ),
    Option("--gpu-waivers", "a file of exceptions: requirement, subject, owner, reason, expiry", "FILE"),
    Option(
        "--gpu-clusters-file", "the file of named clusters (default: clusters.yaml, see docs/clusters-file.md)", "FILE"
    ),
    Option("--gpu-kubeconfig", "the kubeconfig (default: KUBECONFIG, ~/.kube/config)", "FILE"),
)


@dataclass(frozen=True)
class Settings:
    """All settings of a run, each with its source, by ini name without its prefix."""

    by_name: dict[str, Setting] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """The value of ``name`` (``mode``, ``reference``, ...), None or an empty list when nobody set it."""
        return self.by_name[name].value

    def source(self, name: str) -> str:
        """Who set ``name``."""
        return self.by_name[name].source


def add_to(parser: "pytest.Parser") -> None:
    """Declare every option and its ini twin to pytest."""
    group = parser.getgroup("gpu-conformance", "GPU conformance of a Kubernetes cluster")
    for option in OPTIONS:
        shared: dict[str, Any] = {"dest": option.dest, "default": None, "help": option.help}
        if option.switch:
            group.addoption(option.flag, action="store_true", **shared)
        else:
            shared |= {"metavar": option.metavar} if not option.choices else {"choices": option.choices}
            group.addoption(option.flag, action="append" if option.many else "store", **shared)
        kind = "bool" if option.switch else "linelist" if option.many else "string"
        parser.addini(option.ini, f"ini twin of {option.flag}", type=kind, default=None)  # type: ignore[arg-type]


def resolve(config: "pytest.Config") -> Settings:
    """Each option by precedence: command line, environment, ini file."""
    return Settings({option.ini.removeprefix("gpu_"): _setting(option, config) for option in OPTIONS})


def _setting(option: Option, config: "pytest.Config") -> Setting:
    given = config.getoption(option.dest, None)
    if given not in (None, []):
        return Setting(_parted(given) if option.many else given, "option")
    text = os.environ.get(option.variable)
    if text:
        return Setting(_from_text(option, text), f"environment {option.variable}")
    written = config.getini(option.ini)
    if written not in (None, "", [], False):
        return Setting(_parted(written) if option.many else written, f"ini {option.ini}")
    return Setting([] if option.many else False if option.switch else None, "default")


def _from_text(option: Option, text: str) -> Any:
    if option.switch:
        return text.lower() not in ("0", "false", "no", "off")
    return _parted([text]) if option.many else text


def _parted(texts: Iterable[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]
