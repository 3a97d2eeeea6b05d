"""MIG: a GPU partitioned into devices with memory and compute of their own.

Reading order: the declared layouts, how the MIG manager applied them, the devices that nodes offer, pods that request.
"""
