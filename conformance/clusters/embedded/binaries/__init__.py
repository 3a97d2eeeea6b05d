"""Where the programs of the embedded cluster come from: ``resolve`` gives their paths or one error with a way out."""

from conformance.clusters.embedded.binaries.failures import (
    AssetsRefused,
    BinariesError,
    BinariesUnavailable,
    CacheUnusable,
    UnknownVersion,
)
from conformance.clusters.embedded.binaries.resolving import resolve
from conformance.clusters.embedded.binaries.versions import CONTROL_PLANE, DEFAULT_MINOR, KUBERNETES_PINS

__all__ = [
    "CONTROL_PLANE",
    "DEFAULT_MINOR",
    "KUBERNETES_PINS",
    "AssetsRefused",
    "BinariesError",
    "BinariesUnavailable",
    "CacheUnusable",
    "UnknownVersion",
    "resolve",
]
