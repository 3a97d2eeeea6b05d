"""What two or more chapters need: nodes of pools, the stack's operands, GPUs as nodes tell of them, probes, formatting.

A helper with one chapter lives in that chapter's folder; it moves here when a second one needs it.
"""
