"""Gangs: pods that work only together, the queues in which they wait, and the pods that are preempted for them."""
