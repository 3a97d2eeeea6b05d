"""Scheduling: taints keep ordinary pods off GPU nodes, affinity brings GPU pods to their pool, GPUs are whole.

First the rules of the scheduler itself, with pods that hold no GPU; then the placement of the declared workloads.
"""
