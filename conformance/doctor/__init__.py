"""Doctor: what stands between a machine and a run on a cluster, each answer with what to do about it.

Nothing here judges the cluster's GPUs. Questions are asked in the order in which a run would fail on them, and every
one of them only reads, but for pods that are offered as a dry run where the mode of the run would create pods.
"""

from conformance.doctor.answers import Answer, State, exit_code

__all__ = ["Answer", "State", "exit_code"]
