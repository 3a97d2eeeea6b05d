"""Quota: how many GPUs the pods of a team may hold, and what no quota counts.

First the ResourceQuotas of the teams; then how Kubernetes counts GPUs against a quota, in namespaces of the run.
"""
