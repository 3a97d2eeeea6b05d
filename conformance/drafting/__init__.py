"""Drafting: what a cluster has, written down as a reference set-up that its owners can correct and keep.

A stranger has no declaration to be held to. This package makes the first one from the facts, reads nothing else and
decides nothing: every guess says from what it was derived, what contradicts it and what is left to decide.
"""

from conformance.drafting.draft import Draft, NotEmpty, draft, write

__all__ = ["Draft", "NotEmpty", "draft", "write"]
