"""Driver upgrades: what a cluster has before one, kept for the comparison with what it has afterwards."""
