"""Reading a report.json back into the report model. Other people's files are refused with what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import msgspec

from conformance.report import older
from conformance.report.emitters import JSON_NAME, STREAM_NAME
from conformance.report.model import API_VERSION, KIND, Report

_GROUP = API_VERSION.partition("/")[0]
# The versions that are read: today's, and those that older.py knows.
_READ = (API_VERSION, older.FIRST)


class _Head(msgspec.Struct, rename="camel"):
    """What a file says it is."""

    kind: str = ""
    api_version: str = ""


# Made before any thread needs them; see kube/client.py.
_DECODER = msgspec.json.Decoder(Report)
_HEAD = msgspec.json.Decoder(_Head)


class ReportError(ValueError):
    """A file is no report that can be read; the text says why, and what to do."""


def read(path: Path) -> Report:
    """The report in a file, or in the folder of a run.

    Raises ReportError when there is none, when it was cut off, is no report of ours, or is of a newer version.
    """
    file = path / JSON_NAME if path.is_dir() else path
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ReportError(f"{file} does not exist{_left_by_a_killed_run(file)}") from None
    except OSError as error:
        raise ReportError(f"{file} cannot be read: {error.strerror}") from None
    try:
        return _report(content)
    except msgspec.DecodeError as error:
        raise ReportError(f"{file} {_why(content, error)}{_left_by_a_killed_run(file)}") from None


def _report(content: bytes) -> Report:
    """The report, of whichever version it is. Raises msgspec.DecodeError, which ValidationError is one of."""
    head = _HEAD.decode(content)
    if head.kind != KIND or head.api_version not in _READ:
        raise msgspec.ValidationError(f"{head.kind} {head.api_version}")
    try:
        return _DECODER.decode(content)
    except msgspec.ValidationError as error:
        try:
            upgraded = older.as_of_today(json.loads(content))
        except (KeyError, TypeError, AttributeError, ValueError):
            raise error from None
        return msgspec.convert(upgraded, Report)


def _left_by_a_killed_run(file: Path) -> str:
    stream = file.parent / STREAM_NAME
    return f"; {stream} holds what its run had found" if file.name == JSON_NAME and stream.is_file() else ""


def _why(content: bytes, error: msgspec.DecodeError) -> str:
    """What is wrong with a file that is no report: cut off, somebody else's, of another version, or damaged."""
    try:
        found = json.loads(content)
    except ValueError as problem:
        if not content.strip():
            return "is empty: the run ended before it was written"
        return f"is no JSON, or only a part of it ({problem}): copy it again, or repeat the run"
    if not isinstance(found, dict) or not _is_ours(found):
        return f"is no report of gpu-conformance: it has no kind {KIND} of {_GROUP}"
    version = str(found.get("apiVersion"))
    if version not in _READ:
        return f"is of version {version}; this gpu-conformance reads {', '.join(_READ)}: use the version that wrote it"
    return f"is damaged: {error}"


def _is_ours(found: dict[str, Any]) -> bool:
    return found.get("kind") == KIND and str(found.get("apiVersion")).partition("/")[0] == _GROUP
