"""Clusters in Docker containers: a control plane of our own (``--cluster container``), and kind (``--cluster kind``).

Nothing here imports Docker's library before a cluster of this kind is asked for.
"""
