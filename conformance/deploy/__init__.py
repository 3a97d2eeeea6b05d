"""Deploying a reference set-up and withdrawing it: whatever writes the declaration to a cluster, and only that.

``preflight`` says what is in the way, ``deploying`` writes, ``readiness`` waits, ``withdrawing`` undoes exactly
what was made. ``helm/`` knows charts: their releases, values and mirrors.
"""

from conformance.deploy.deploying import Deployed, Foreseen, Journal, deploy, foresee
from conformance.deploy.errors import ForeignObject
from conformance.deploy.withdrawing import Withdrawn, withdraw

__all__ = ["Deployed", "ForeignObject", "Foreseen", "Journal", "Withdrawn", "deploy", "foresee", "withdraw"]
