"""Isolation: a pod reaches the GPUs that it was given, and no other."""
