"""Pools: GPU nodes carry the declared labels and taints, offer the declared GPUs, and are free of ordinary pods.

Everything else stands on this: a node without its label is never found, one without its taint fills with web servers,
and one that offers seven GPUs of eight costs an eighth of its price every day.
"""
