"""Quota: how many GPUs the pods of a team may hold, and the ways around the number.

First the ResourceQuotas of the teams; then how Kubernetes counts GPUs against a quota, tried in namespaces of the run.
"""
