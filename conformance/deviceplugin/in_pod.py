"""The API server as a pod's service account reaches it, without the official client, which the plugin's image lacks.

Source: kubernetes.io: Accessing the Kubernetes API from a Pod.
"""

from __future__ import annotations

import os
from pathlib import Path

from conformance.kube.connection import Connection, trusting
from conformance.kube.errors import KubeconfigError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect_in_pod(account: Path = ACCOUNT) -> Connection:
    """A connection with the token of this pod, read anew for each request: kubelets replace it.

    Raises KubeconfigError outside of a pod, and in one without a token.
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    token = account / "token"
    if not host or not port or not token.is_file():
        raise KubeconfigError(
            f"this is no pod with the token of a service account ({token}): name a kubeconfig with --kubeconfig"
        )
    address = f"[{host}]" if ":" in host else host
    return Connection(
        f"https://{address}:{port}",
        trusting(account / "ca.crt"),
        lambda: {"Authorization": f"Bearer {token.read_text(encoding='utf-8').strip()}"},
    )
