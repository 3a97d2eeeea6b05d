"""What two or more profiles need: nodes of pools, operands, the GPUs of nodes, probes, formatting.

A helper of one profile is in that profile's folder; it moves here when a second one needs it.
"""
