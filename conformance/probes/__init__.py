"""Programs that run inside pods: one file each, standard library only, Python 3.8 or later; see docs/probes.md."""
