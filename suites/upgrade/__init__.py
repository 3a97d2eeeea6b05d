"""Upgrade: whether the drivers may be upgraded now, from reads alone, and whether all is back afterwards.

Judged only where a run is asked for it (``--gpu-pre-upgrade``). Other profiles judge a part of the same question, and
their requirements are selected with this profile: nodes (POOL-10), the stack (OPER-02, OPER-12, OPER-13), upgrades that
are stuck (OPER-18) and pods that an upgrade may not delete or does not know (OPER-19).
"""
