"""Isolation: a pod reaches the GPUs that are allocated to it, and no other."""
