"""MIG: a GPU cut into devices with memory and compute of their own.

Reading order: the declared layouts, how the MIG manager applied them, the devices that nodes offer, the pods that ask.
"""
