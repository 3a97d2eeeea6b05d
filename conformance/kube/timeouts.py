"""How long we wait for what: one name for each kind of wait, each of which a user can override."""

from collections.abc import Iterable

import msgspec


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds for each kind of wait. The defaults suit a cluster that pulls images and runs containers."""

    connect: float = 5
    """Until a TCP and TLS connection to the API server stands."""
    read: float = 30
    """Silence on a connection before a request counts as lost."""
    retry: float = 30
    """Pauses between the attempts of one request, all together."""
    scheduled: float = 30
    """A pod gets its node."""
    running: float = 120
    """A pod runs: scheduled, image pulled, started."""
    deleted: float = 60
    """A deleted object is gone."""
    evicted: float = 60
    """A victim of preemption is marked for deletion."""
    condition: float = 60
    """A status condition, or a controller's count, takes the expected value."""
    namespace_deleted: float = 120
    """A deleted namespace and everything in it is gone."""
    allocatable: float = 60
    """A node's allocatable follows a change of its capacity."""
    quota_counted: float = 30
    """A quota's used follows what was created or deleted."""
    permission: float = 15
    """A new role binding is known to the authorizer."""
    stack: float = 900
    """An installed GPU stack has the nodes of all pools offer their GPUs: drivers are built and images pulled."""
    hold: float = 3
    """How long a negative expectation ("stays Pending") is held."""
    lease: float = 30
    """A run whose Lease has not been renewed for this long counts as dead."""

    @classmethod
    def parse(cls, overrides: Iterable[str], base: "Timeouts | None" = None) -> "Timeouts":
        """Replace some of ``base`` (the defaults, if None) by settings such as ``hold=5`` or ``running=10m``.

        Values are seconds, or numbers with the unit ``ms``, ``s``, ``m`` or ``h``. Raises ValueError, naming the
        allowed names, for one that does not exist, and for a value that is not a positive time.
        """
        return msgspec.structs.replace(
            base or cls(), **dict(_setting(text, cls.__struct_fields__) for text in overrides)
        )


EMBEDDED = Timeouts(hold=1.0, stack=180)
"""For the embedded control plane, whose controllers act within milliseconds."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _setting(text: str, allowed: tuple[str, ...]) -> tuple[str, float]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or name not in allowed:
        raise ValueError(f"{text!r} is no timeout: write NAME=SECONDS, where NAME is one of {', '.join(allowed)}")
    return name, _seconds(name, value)


def _seconds(name: str, value: str) -> float:
    number = value.rstrip("hms")
    unit = value[len(number) :] or "s"
    try:
        seconds = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"timeout {name}={value} is no positive time: write seconds (5, 0.5) or 500ms, 5s, 2m, 1h")
    return seconds
