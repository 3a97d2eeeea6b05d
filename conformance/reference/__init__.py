"""The declared truth: what a cluster's owners say that it should be, and how it comes to be so."""

from conformance.reference.deploying import Deployed, Journal, deploy
from conformance.reference.errors import ForeignObject, InvalidReference, ReferenceError
from conformance.reference.loading import load
from conformance.reference.model import Reference
from conformance.reference.objects import objects
from conformance.reference.withdrawing import Withdrawn, withdraw

__all__ = [
    "Deployed",
    "ForeignObject",
    "InvalidReference",
    "Journal",
    "Reference",
    "ReferenceError",
    "Withdrawn",
    "deploy",
    "load",
    "objects",
    "withdraw",
]
