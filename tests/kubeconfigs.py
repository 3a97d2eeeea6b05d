"""Reading kubeconfigs, for tests that name a cluster by its context."""

from pathlib import Path

import yaml


def context_of(kubeconfig: Path) -> str:
    """The current context of a kubeconfig."""
    context: str = yaml.safe_load(kubeconfig.read_text())["current-context"]
    return context
