"""Sharing: one GPU offered to several pods, by time-slicing (they take turns) or by MPS (they run at the same time).

Both judge the same of the device plugin: a valid configuration, the replicas that it advertises, and their labels. The
isolation of the pods differs: none with time-slicing, one MPS server for each GPU with MPS.
"""
