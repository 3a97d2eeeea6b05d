"""Pools: GPU nodes carry the declared labels and taints, offer the declared GPUs, and are free of ordinary pods.

All other profiles depend on this: no pod is scheduled to a node without its label, a node without its taint fills with
ordinary pods, and a node that offers seven GPUs of eight wastes an eighth of its price.
"""
