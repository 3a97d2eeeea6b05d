"""Gangs: pods that are of use only together, the queues in which they wait, and the pods that make room for them."""
