"""What known words in messages of runtimes, kubelets and programs mean on GPU nodes, and what to do about it.

Only the meaning is added; the message itself is always told. The same words mean different things where they stand:
a registry's "unauthorized" is no right to pull, that of a program is its own affair.
"""

import re

from conformance.explaining.known_signs import SIGNS, Sign, Where

_COMPILED = tuple((re.compile(sign.words, re.IGNORECASE), sign) for sign in SIGNS)


def read(text: str, where: Where) -> Sign | None:
    """The first sign in a message, None where there is none that is known."""
    return next((sign for pattern, sign in _COMPILED if sign.where & where and pattern.search(text)), None)
