"""What the caller and the control-plane container agree on."""

from pathlib import PurePosixPath

READY = "READY"
FAILED = "FAILED"
PORT = 6443
KUBECONFIG_PATH = PurePosixPath("/run/gpu-conformance-kubeconfig")
BINARIES_PATH = PurePosixPath("/usr/local/lib/gpu-conformance")
ALONE_AFTER = 60.0
"""Seconds after which a container ends that nobody has attached to."""
