"""An API server's clock, as far as its answers tell: what a cluster wrote is compared with its own time, not with ours.

A workstation's clock may be minutes or hours off; a node that joined just now is then one that joined long ago, or one
that has not joined yet. Source: RFC 9110, section 6.6.1 (Date: when the answer was made, whole seconds); every
kube-apiserver sends it.
"""

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


class ServerClock:
    """The time of the newest answer, and our own monotonic clock since; our own time before any answer told one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: tuple[datetime, float] | None = None

    def hear(self, date: str | None) -> None:
        """Take in the header Date of an answer that has just come. One that is no date is not heard."""
        try:
            found = parsedate_to_datetime(date or "")
        except ValueError:
            return
        # A date in the zone -0000 is in UTC, and Python gives it none.
        told = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        with self._lock:
            self._told = (told, time.monotonic())

    def now(self) -> datetime:
        """The server's time in UTC, to about a second."""
        with self._lock:
            told = self._told
        if told is None:
            return datetime.now(UTC)
        when, heard = told
        return when + timedelta(seconds=time.monotonic() - heard)
