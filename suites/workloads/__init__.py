"""Workloads: a pod that requests GPUs gets exactly those, and computes right on each of them.

First probes on every free device; then the GPU pods that are there: what their manifests promise, and how they fare.
"""
