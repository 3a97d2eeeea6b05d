"""The programs of a real node of an embedded cluster: its keeper outside, its first process inside, what they share.

Standard library only: they start before everything else on the node and must not wait for imports. What they have to
do stands in one file (orders.py); who writes it is conformance.clusters.embedded.real.
"""
