"""Tenancy: what the workloads of a team may access, and what is denied to them.

Roles and bindings are compared with the declaration, then each access is checked by a SubjectAccessReview and by a
request with a token of the service account, because a second binding may grant more than the declared role.
"""
