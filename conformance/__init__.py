"""Proves that a Kubernetes cluster runs GPU workloads the way its owners declared."""

__version__ = "0.1.0"
