"""Stands in for rfc3987_syntax until an IRI is checked: its import builds 38 parsers, half of what collecting takes.

jsonschema imports it for the formats ``iri`` and ``iri-reference``, wherever it is installed (CycloneDX brings it).
"""

import importlib
import importlib.util
import sys
from functools import cache
from types import ModuleType

NAME = "rfc3987_syntax"


@cache
def _package():
    sys.modules.pop(NAME)
    return importlib.import_module(NAME)


def is_valid_syntax(term, value):
    """What the package itself says, which is imported now."""
    return _package().is_valid_syntax(term, value)


def stand_in():
    """Be there before jsonschema looks for the package; where there is none, there is nothing to stand in for."""
    if NAME not in sys.modules and importlib.util.find_spec(NAME):
        sys.modules[NAME] = ModuleType(NAME)
        sys.modules[NAME].is_valid_syntax = is_valid_syntax
