"""Proves that a Kubernetes cluster runs GPU workloads the way its owners declared."""

__all__ = ["__version__"]

try:
    from conformance._version import __version__
except ModuleNotFoundError:  # a checkout that was never installed; installing it writes that file from the tag
    __version__ = "0.0.0"
