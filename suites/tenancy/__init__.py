"""Tenancy: what the workloads of a team may touch, and what stays closed to them.

Roles and bindings are compared with the declaration, then each access is asked of the API server and tried with a token
of the service account, because a role that looks right may be widened by a second binding.
"""
