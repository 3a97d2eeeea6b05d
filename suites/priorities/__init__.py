"""Priorities: which workload may take GPUs from which when they run out.

First the PriorityClasses as they are declared and as admission applies them; then preemption itself, on a borrowed node
with a resource that nobody else asks for and priorities below zero, so that no pod of the owners can become a victim.
"""
