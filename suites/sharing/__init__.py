"""Sharing: one GPU offered to several pods, by time-slicing (they take turns) or by MPS (they run at the same time).

Both chapters ask the same of the device plugin: a configuration that it accepts, the replicas that it makes known, the
labels that tell of them. What keeps the pods apart differs: nothing in time-slicing, a server for each GPU in MPS.
"""
