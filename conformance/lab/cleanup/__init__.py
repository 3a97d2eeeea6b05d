"""Clean-up: what a run recorded is undone, what it labelled is deleted, and what killed runs left is found.

``undo`` undoes step by step what this run did; ``deletion`` deletes the objects that carry a run's label;
``leftovers`` finds what killed runs left and puts both together, for the end of a run and for `gpu-conformance clean`.
"""
