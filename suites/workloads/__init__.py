"""Workloads: a pod that requests GPUs gets exactly those, and computes correctly on each of them.

First probes on every free device; then the GPU pods of the cluster: their manifests and their status.
"""
