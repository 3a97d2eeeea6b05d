"""Priorities: which workload may take GPUs from which when they run out.

First the PriorityClasses as declared and as admission applies them; then preemption itself, on a borrowed node with a
resource that no other pod requests and priorities below zero, so that no pod of the owners can be preempted.
"""
