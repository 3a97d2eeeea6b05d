"""The GPU stack behind the API of a cluster without GPUs: operator, node agents, device allocation, workloads.

A process of its own that is driven through the API server only: the real scheduler and the real DaemonSet controller
decide where operands run, and what no operand runs for does not happen. It never imports suites, catalog or facts, so
that the two cannot agree by sharing a mistake. What a machine holds stands in its node's annotation (hardware.py).
"""
