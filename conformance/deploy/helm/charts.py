"""Installing charts with the helm program of the machine, which speaks to the cluster as we do and asks nobody.

Sources: helm.sh, ``helm install``, ``helm uninstall`` and ``helm get values`` (Helm 3.8 and later read charts from
oci://).
"""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from conformance.deploy.helm.mirrors import mirrored
from conformance.deploy.helm.releases import Installed, Release, token_of
from conformance.deploy.helm.values import merged
from conformance.deploy.installing import InstallError, NotOurs, StackPresent
from conformance.deploy.preflight import listed
from conformance.kube.client import Client
from conformance.kube.effects import Effect
from conformance.kube.errors import AlreadyExists, EffectRefused, KubeError, NotFound
from conformance.kube.names import MANAGED_BY, MANAGED_BY_US, RUN_LABEL
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.realnode import death

__all__ = ["Helm", "HelmInstaller", "uninstall_command"]

PROGRAM = "helm"
# Helm ends by itself at its own timeout; this much later it hangs.
_LENIENCE = 60.0
_SHOWN = 20
_NO_SUCH_RELEASE = "release: not found"
_HOOK = "helm.sh/hook"
_INSTANCE = "app.kubernetes.io/instance"
# What hooks of these charts make outside namespaces.
_OF_HOOKS = ("ClusterRoleBinding", "ClusterRole")


class Helm(msgspec.Struct, frozen=True):
    """The helm program, and the cluster that it is to speak to: a kubeconfig and a context, None for the usual ones."""

    kubeconfig: Path | None = None
    context: str | None = None

    def run(self, arguments: Sequence[str], *, timeout: float, to_do: str, stdin: str = "") -> str:
        """Run helm and return what it says. ``to_do`` is in words what for, ``timeout`` in seconds.

        Raises InstallError when there is no helm, when it takes too long, and when it fails, with the end of what it
        said.
        """
        try:
            done = self._ended(arguments, timeout, stdin)
        except FileNotFoundError:
            raise InstallError(_missing(to_do)) from None
        except subprocess.TimeoutExpired:
            raise InstallError(f"{to_do}: {PROGRAM} did not end within {timeout:.0f} s") from None
        if done.returncode != 0:
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_SHOWN:])
            raise InstallError(f"{to_do}: {PROGRAM} failed with exit code {done.returncode}:\n{said}")
        return done.stdout

    def values(self, name: str, namespace: str, *, timeout: float) -> dict[str, Any] | None:
        """What was given to a release, whatever its state; None when there is no release of that name."""
        to_do = f"looking for release {name}"
        arguments = ["get", "values", name, "--namespace", namespace, "--output", "json"]
        try:
            said = self.run(arguments, timeout=timeout, to_do=to_do)
        except InstallError as error:
            if _NO_SUCH_RELEASE in str(error).rpartition(":\n")[2]:
                return None
            raise
        try:
            return dict(json.loads(said) or {})
        except ValueError as error:
            raise InstallError(f"{to_do}: {PROGRAM} printed no JSON: {error}") from None

    def _ended(self, arguments: Sequence[str], timeout: float, stdin: str) -> "subprocess.CompletedProcess[str]":
        program = shutil.which(PROGRAM)
        if program is None:
            raise FileNotFoundError(PROGRAM)
        return subprocess.run(
            [program, *arguments, *self.cluster_flags()],
            capture_output=True,
            text=True,
            timeout=timeout,
            input=stdin,
            check=False,
            preexec_fn=_ending_with(os.getpid()),
        )

    def cluster_flags(self) -> list[str]:
        """The flags by which helm finds the cluster."""
        file = ["--kubeconfig", str(self.kubeconfig)] if self.kubeconfig is not None else []
        return [*file, *(["--kube-context", self.context] if self.context else [])]


class HelmInstaller:
    """Installs charts with Helm.

    ``charts`` says where they are instead of where NVIDIA publishes them: a chart (a folder or a .tgz), a folder of
    charts, the URL of a repository, or ``oci://`` with a path. ``registry`` takes the place of every image's registry,
    ``pull_secret`` is ``namespace/name`` of a Secret that is copied into the release's namespace.
    """

    def __init__(
        self,
        helm: Helm,
        *,
        charts: str | None = None,
        registry: str | None = None,
        pull_secret: str | None = None,
    ) -> None:
        self._helm = helm
        self._charts = charts
        self._registry = registry
        self._pull_secret = pull_secret

    def has(self, client: Client, release: Release, timeouts: Timeouts) -> bool:
        """See Installer."""
        _allowed(client, release)
        return self._helm.values(release.name, release.namespace, timeout=timeouts.read) is not None

    def install(self, client: Client, release: Release, timeouts: Timeouts, *, replace: bool = False) -> None:
        """See Installer. Waits until what the chart itself starts is ready; operands are not part of that."""
        _allowed(client, release)
        source = chart_source(release, self._charts)
        there = self._helm.values(release.name, release.namespace, timeout=timeouts.read)
        if there is not None and not (replace and release.token and token_of(there) == release.token):
            raise StackPresent(
                f"a Helm release {release.name} is in namespace {release.namespace} already, and it is not ours: judge "
                f"it as it is (without deploying), or remove it: {uninstall_command(self._helm, release)}"
            )
        values = merged(mirrored(release.chart, self._registry, self._copied_secret(client, release)), release.values)
        seconds = timeouts.stack
        verb = ["upgrade", "--install"] if replace else ["install"]
        arguments = [*verb, release.name, *source, "--namespace", release.namespace, "--create-namespace"]
        # From our hand, not from a file: nobody removes the file of a run that is killed.
        arguments += ["--values", "-", "--wait", "--timeout", f"{seconds:.0f}s"]
        to_do = f"installing {release}"
        self._helm.run(arguments, timeout=seconds + _LENIENCE, to_do=to_do, stdin=_yaml(values))

    def uninstall(self, client: Client, installed: Installed, timeouts: Timeouts) -> None:
        """See Installer. Waits as long as a namespace may take to go, and as long again without hooks.

        The operator's chart removes with a hook what would outlive it, in a pod of the operator's image; where that
        cannot be pulled, only an attempt without hooks succeeds. It leaves nothing behind unless there is a GPUCluster.
        """
        _allowed(client, installed)
        command = uninstall_command(self._helm, installed)
        if shutil.which(PROGRAM) is None:
            raise InstallError(f"{PROGRAM} is not on PATH; run: {command}{installed.proof}")
        if not self._is_there(installed, timeouts):
            return
        try:
            self._remove(installed, timeouts)
        except InstallError as error:
            if listed(client, path("GPUCluster")):
                raise InstallError(f"{error}\nrun: {command}; --no-hooks would leave the GPUCluster behind") from error
            try:
                # Minutes have passed: the release may be gone, and another one there.
                if self._is_there(installed, timeouts):
                    self._remove(installed, timeouts, "--no-hooks")
            except NotOurs:
                raise
            except InstallError as again:
                raise InstallError(f"{error}\n{again}\nboth failed: {command}, and the same with --no-hooks") from again
        # They are no part of the release: one that ran when its run was killed stays, however well helm uninstalls.
        _remove_hooks(client, installed)

    def _is_there(self, installed: Installed, timeouts: Timeouts) -> bool:
        """Whether the release is there. Raises NotOurs for one that does not bear the mark that is on record."""
        values = self._helm.values(installed.name, installed.namespace, timeout=timeouts.read)
        if values is None:
            return False
        if not installed.token:
            raise InstallError(f"run: {uninstall_command(self._helm, installed)}{installed.proof}")
        if token_of(values) != installed.token:
            raise NotOurs(installed)
        return True

    def _remove(self, installed: Installed, timeouts: Timeouts, *flags: str) -> None:
        seconds = timeouts.namespace_deleted
        arguments = ["uninstall", installed.name, "--namespace", installed.namespace]
        arguments += ["--wait", "--timeout", f"{seconds:.0f}s", *flags]
        to_do = " ".join([f"removing {installed}", *flags])
        self._helm.run(arguments, timeout=seconds + _LENIENCE, to_do=to_do)

    def _copied_secret(self, client: Client, release: Release) -> str | None:
        """The name of the pull secret, after it has been copied into the release's namespace."""
        if not self._pull_secret:
            return None
        source, _, name = self._pull_secret.partition("/")
        try:
            found = client.get(path("Secret", namespace=source, name=name))
        except KubeError as error:
            raise InstallError(f"pull secret {self._pull_secret} cannot be read: {error}") from error
        keep: dict[str, Any] = {key: found[key] for key in ("type", "data") if key in found}
        labels = {MANAGED_BY: MANAGED_BY_US, **_run_of(client, release.namespace)}
        metadata = {"name": name, "namespace": release.namespace, "labels": labels}
        if source != release.namespace:
            with suppress(AlreadyExists):
                copy = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **keep}
                client.create(path("Secret", namespace=release.namespace), copy)
        return name


def chart_source(release: Release, charts: str | None = None) -> list[str]:
    """The arguments that name the chart to helm. Raises InstallError for a place that does not have it."""
    if charts is None:
        return release.source
    if "://" in charts:
        return msgspec.structs.replace(release, repository=charts.rstrip("/")).source
    place = Path(charts).expanduser()
    candidates = (
        place if place.suffix == ".tgz" and place.name.startswith(f"{release.chart}-") else None,
        place if place.name == release.chart and (place / "Chart.yaml").is_file() else None,
        place / release.chart if (place / release.chart / "Chart.yaml").is_file() else None,
        place / f"{release.chart}-{release.version}.tgz",
        place / f"{release.chart}-{release.version.removeprefix('v')}.tgz",
    )
    for candidate in candidates:
        if candidate is not None and candidate.exists():
            return [str(candidate)]
    raise InstallError(
        f"{charts} has no chart {release.chart} {release.version}: give a chart (the folder {release.chart}, or "
        f"{release.chart}-{release.version}.tgz), a folder that has it, or the URL of a repository"
    )


def uninstall_command(helm: Helm, release: Release | Installed) -> str:
    """What removes a release, for somebody who runs it by hand."""
    flags = helm.cluster_flags()
    return " ".join([PROGRAM, "uninstall", release.name, "--namespace", release.namespace, *flags])


def _remove_hooks(client: Client, installed: Installed) -> None:
    """Remove what hooks left that did not succeed: Jobs in the namespace, and what Helm says is of the release."""
    for job in listed(client, path("Job", namespace=installed.namespace)):
        metadata = job["metadata"]
        of_release = (metadata.get("labels") or {}).get(_INSTANCE) == installed.name
        if of_release and _HOOK in (metadata.get("annotations") or {}):
            client.delete(path("Job", namespace=installed.namespace, name=metadata["name"]), uid=metadata["uid"])
    release = {
        "meta.helm.sh/release-name": installed.name,
        "meta.helm.sh/release-namespace": installed.namespace,
    }
    for kind in _OF_HOOKS:
        for obj in listed(client, path(kind)):
            annotations = obj["metadata"].get("annotations") or {}
            if _HOOK in annotations and release.items() <= annotations.items():
                client.delete(path(kind, name=obj["metadata"]["name"]), uid=obj["metadata"]["uid"])


def _run_of(client: Client, namespace: str) -> dict[str, str]:
    """The label of the run that made a namespace, so that what we put into it goes with that run; else nothing."""
    try:
        labels = client.get(path("Namespace", name=namespace))["metadata"].get("labels") or {}
    except NotFound:
        return {}
    return {RUN_LABEL: labels[RUN_LABEL]} if RUN_LABEL in labels else {}


def _allowed(client: Client, release: Release | Installed) -> None:
    """Refuse what the guard of the client would refuse, which sees no request of helm's."""
    guard = client.guard
    if guard.limit < Effect.DISRUPTIVE:
        raise EffectRefused(PROGRAM, str(release), Effect.DISRUPTIVE, guard.limit, guard.requirement)


def _ending_with(us: int) -> Callable[[], None] | None:
    """What makes a process of ours end when we do, however that is: helm would go on creating what nobody takes away.

    Only Linux can; elsewhere a run that is killed alone, without its process group, leaves helm at work.
    """
    if sys.platform != "linux":
        return None
    return functools.partial(death.signal_at_parents_death, signal.SIGKILL, us)


def _missing(to_do: str) -> str:
    return (
        f"{to_do}: {PROGRAM} is not on PATH (PATH is {os.environ.get('PATH', 'empty')}). Install Helm 3.8 or later "
        "(https://helm.sh/docs/intro/install/), or install the stack yourself with the values that "
        "`gpu-conformance values` prints, and run without --gpu-deploy"
    )


def _yaml(values: object) -> str:
    import yaml

    text: str = yaml.safe_dump(values, sort_keys=False)
    return text
