"""A letter for each status, where many verdicts stand in a line: a run on a terminal, a requirement's history."""

from collections.abc import Mapping

from conformance.verdict import Status

LETTERS: Mapping[Status, str] = {
    Status.PASSED: ".",
    Status.FAILED: "F",
    Status.ERROR: "E",
    Status.UNKNOWN: "?",
    Status.WAITING: "~",
    Status.UNSUPPORTED: "u",
    Status.NOT_APPLICABLE: "n",
    Status.WAIVED: "w",
    Status.NOT_RUN: "-",
}
ABSENT = " "
