"""The machine of the run: versions, the kubeconfig, and the programs that give its credentials."""

import platform
import shutil
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

import conformance
from conformance.doctor.answers import Answer, State
from conformance.kube.errors import KubeconfigError
from conformance.kube.kubeconfig import ExecPlugin, contexts, exec_plugin, search

_TOLD = ("pytest", "kubernetes", "urllib3")


def versions() -> Answer:
    """The versions of the plugin, of Python and of what the plugin stands on."""
    wrong = [problem for text in metadata.requires("gpu-conformance") or () if (problem := _why_not(text))]
    told = ", ".join(f"{name} {version}" for name in _TOLD if (version := _version(name)))
    text = f"gpu-conformance {conformance.__version__}, Python {platform.python_version()}, {told}"
    if wrong:
        return Answer("versions", State.ATTENTION, f"{text}; {'; '.join(wrong)}", "Run: pip install -U gpu-conformance")
    return Answer("versions", State.OK, text)


def kubeconfig(path: Path | None) -> Answer:
    """Which kubeconfig files there are, and whether they can be read. ``path`` is what the user named."""
    found, missing = search(path)
    named, absent = ", ".join(map(_from_home, found)), ", ".join(map(_from_home, missing))
    if not found:
        return Answer(
            "kubeconfig", State.BLOCKED, f"there is no kubeconfig at {absent}",
            "Name one with --kubeconfig or KUBECONFIG, or let your provider write it.",
        )  # fmt: skip
    try:
        count = len(contexts(path))
    except KubeconfigError as error:
        return Answer(
            "kubeconfig", State.BLOCKED, str(error), "Repair the file: kubectl config view shows what is read."
        )
    text = f"{named}, {count} {'context' if count == 1 else 'contexts'}"
    if missing:
        return Answer("kubeconfig", State.NOTE, f"{text}; {absent} of KUBECONFIG is not there")
    return Answer("kubeconfig", State.OK, text)


def credentials(path: Path | None, context: str | None) -> Answer | None:
    """Whether the program that gives the credentials of a context can be run; None where none does."""
    plugin = exec_plugin(path, context)
    if plugin is None:
        return None
    program = _program(plugin)
    if program is None:
        where = "is not there" if "/" in plugin.command else "is not on the PATH"
        return Answer(
            "credentials", State.BLOCKED, f"the context gets its credentials from {plugin.command}, which {where}",
            plugin.install_hint or f"Install {plugin.command}, or use a context with other credentials.",
        )  # fmt: skip
    return Answer("credentials", State.OK, f"from the program {program}")


def _from_home(file: Path) -> str:
    return f"~/{file.relative_to(Path.home())}" if file.is_relative_to(Path.home()) else str(file)


def helm() -> Answer:
    """Whether helm is there, which only deploying a stack needs."""
    found = shutil.which("helm")
    text = f"{found}" if found else "is not on the PATH; only --gpu-deploy needs it"
    return Answer("helm", State.OK if found else State.NOTE, text)


def _program(plugin: ExecPlugin) -> str | None:
    # A command with a slash is relative to its kubeconfig, as for kubectl (client-go: clientcmd, ResolveLocalPaths).
    if "/" in plugin.command:
        file = plugin.folder / plugin.command
        return str(file) if file.is_file() else None
    return shutil.which(plugin.command)


@cache
def _version(name: str) -> str:
    """The version that is installed, read from its file once; empty where none is."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _why_not(text: str) -> str:
    """Why a dependency is not met; empty where it is, or does not concern this machine."""
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return ""
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return ""
    version = _version(wanted.name)
    if not version:
        return f"{wanted.name} is not installed"
    fits = wanted.specifier.contains(version, prereleases=True)
    return "" if fits else f"{wanted.name} {version} is not {wanted.specifier}"
