"""Operator: the GPU stack is complete on every GPU node, and set up as declared.

The stack is the GPU Operator, a device plugin alone, or the DRA driver.

Reading order: the operator and its resource, the coverage of nodes by operands, the driver and its upgrades.
"""
