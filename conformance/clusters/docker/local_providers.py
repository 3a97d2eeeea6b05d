"""kind, k3d and minikube through pytest-kubernetes 0.9, whose command lines are used and whose faults are not.

Worked round, each measured on 0.9.0: commands joined into a line for a shell; an environment that is changed for the
whole process; a failed command whose error output is thrown away; k3d versions compared as text; a default Kubernetes
of 2022; readiness that needs a kubectl and looks at no node; names that get ``pytest-`` put before them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ContainerClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .reaping import Reaper

PROVIDERS = ("kind", "k3d", "minikube")
_EXTRA = "pip install 'gpu-conformance[kind]'"
_MADE_WITHIN = 600  # seconds
_LINES = 12
_OLDEST = {"kind": (0, 31), "k3d": (5, 0), "minikube": (1, 33)}
_VERSION_OF = {"kind": ["version"], "k3d": ["version"], "minikube": ["version"]}
_VERSION = re.compile(r"v(\d+)\.(\d+)\.\d+")


@dataclass(frozen=True)
class LocalSpec:
    """A cluster that a provider makes: ``config`` is a file of the provider's own, which then decides all but the name.

    ``version`` is a whole Kubernetes version (``1.36.3``); ``program`` where the provider's program is; ``variables``
    are set for it in its environment.
    """

    provider: str
    name: str
    version: str
    program: Path
    kubeconfig: Path
    config: Path | None = None
    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


class LocalCluster:
    """A cluster of one of the providers. ``create`` and ``delete`` are each called once."""

    def __init__(self, spec: LocalSpec, reaper: Reaper | None = None) -> None:
        self.spec = spec
        self._manager = _manager(spec, reaper)

    def create(self) -> None:
        """Make the cluster. Raises ContainerClusterError with the end of what the provider's program said."""
        options = _cluster_options(self.spec)
        self._manager.create(options, options=list(self.spec.options))

    def delete(self) -> None:
        """Delete the cluster. Raises ContainerClusterError."""
        self._manager._on_delete()

    def load(self, image: str) -> None:
        """Bring an image that Docker has to the cluster's nodes. Raises ContainerClusterError."""
        self._manager.load_image(image)


def program_of(provider: str, given: Path | None = None) -> Path:
    """The provider's program: the one given, else the one on PATH. Raises ContainerClusterError: none, or too old."""
    found = str(given) if given else shutil.which(provider)
    if not found:
        raise ContainerClusterError(f"no program {provider} on PATH: install it, or put it there")
    ran = subprocess.run([found, *_VERSION_OF[provider]], capture_output=True, text=True, check=False, timeout=60)
    said = _VERSION.search(ran.stdout)
    oldest = _OLDEST[provider]
    if said is None or (int(said[1]), int(said[2])) < oldest:
        shown = said[0] if said else (ran.stdout + ran.stderr).strip()[:100] or "nothing"
        raise ContainerClusterError(
            f"{found} says {shown} as its version, and {provider} {oldest[0]}.{oldest[1]} or newer is needed"
        )
    return Path(found)


def delete_command(spec: LocalSpec) -> list[str]:
    """The command that deletes the cluster, for whoever does it in our stead."""
    program = str(spec.program)
    return {
        "kind": [program, "delete", "cluster", "--name", spec.name, "--kubeconfig", str(spec.kubeconfig)],
        "k3d": [program, "cluster", "delete", spec.name],
        "minikube": [program, "delete", "-p", spec.name],
    }[spec.provider]


def _cluster_options(spec: LocalSpec) -> Any:
    from pytest_kubernetes.options import ClusterOptions

    return ClusterOptions(
        cluster_name=spec.name,
        api_version=spec.version,
        kubeconfig_path=spec.kubeconfig,
        provider_config=spec.config,
        cluster_timeout=_MADE_WITHIN,
    )


def _manager(spec: LocalSpec, reaper: Reaper | None) -> Any:
    """A manager of pytest-kubernetes whose commands are run by us."""
    try:
        from pytest_kubernetes.providers import select_provider_manager
    except ImportError as error:
        raise ContainerClusterError(f"--cluster {spec.provider} needs more packages ({error}): {_EXTRA}") from error
    base: Any = select_provider_manager(spec.provider)
    run = _runner(spec, reaper)
    made = False

    class Careful(base):  # type: ignore[misc]
        @classmethod
        def get_binary_name(cls) -> str:
            return str(spec.program)

        def _set_cluster_name(self, cluster_name: str | None, provider_config: str | None) -> str:
            self._cluster_options.cluster_name = spec.name
            return spec.name

        def _exec(
            self, arguments: list[str], additional_env: Mapping[str, str] | None = None, timeout: int | None = None
        ) -> Any:
            return run(arguments, additional_env or {})

        def ready(self, timeout: int = 0) -> bool:
            return made  # whether nodes are, the caller sees, through the API server

        def _on_create(self, cluster_options: Any, **options: Any) -> None:
            nonlocal made
            if spec.provider == "k3d":
                # It would compare versions as text; program_of has compared them as numbers.
                run(_k3d_create(spec), {})
                run(["kubeconfig", "get", spec.name, ">", str(spec.kubeconfig)], {})
            else:
                super()._on_create(cluster_options, **options)
            made = True

    return Careful(spec.name)


def _k3d_create(spec: LocalSpec) -> list[str]:
    chosen = ["--config", str(spec.config)] if spec.config else ["--image", f"rancher/k3s:v{spec.version}-k3s1"]
    asked = [spec.name, *spec.options, *chosen, "--kubeconfig-update-default=0", "--wait"]
    return ["cluster", "create", *asked, f"--timeout={_MADE_WITHIN}s"]


def _runner(spec: LocalSpec, reaper: Reaper | None) -> Callable[[Sequence[str], Mapping[str, str]], Any]:
    def run(arguments: Sequence[str], environment: Mapping[str, str]) -> Any:
        words, output = _redirected(arguments)
        command = [str(spec.program), *words]
        # A group of its own: Ctrl-C is ours to answer, by deleting the cluster, and the reaper can end it.
        setting = {**os.environ, "KUBECONFIG": str(spec.kubeconfig), **dict(spec.variables), **environment}
        process = subprocess.Popen(
            command, env=setting, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        if reaper is not None:
            reaper.watch(process.pid)
        try:
            said, complained = process.communicate(timeout=_MADE_WITHIN)
        except subprocess.TimeoutExpired as error:
            raise ContainerClusterError(f"{' '.join(command)} took longer than {_MADE_WITHIN} s") from error
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
            if reaper is not None:
                reaper.watch(0)
        if process.returncode:
            end = "\n".join((said + complained).strip().splitlines()[-_LINES:])
            raise ContainerClusterError(f"{' '.join(command)} ended with {process.returncode}:\n{end}")
        if output is not None:
            output.write_text(said, encoding="utf-8")
        return subprocess.CompletedProcess(command, 0, said, complained)

    return run


def _redirected(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """The words of a command that was meant for a shell, and the file that its output was to go to."""
    words = list(arguments)
    if ">" not in words:
        return words, None
    place = words.index(">")
    return words[:place], Path(words[place + 1])
