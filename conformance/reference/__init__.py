"""The declaration: what a cluster's owners say that it should be. Nothing here reads a cluster or writes to one."""

from conformance.reference.errors import InvalidReference, ReferenceError
from conformance.reference.loading import load
from conformance.reference.model import Reference
from conformance.reference.objects import objects

__all__ = ["InvalidReference", "Reference", "ReferenceError", "load", "objects"]
