"""What is taken out of an object before it is saved: credentials, and copies that only cost room."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from conformance.facts.wire import LAST_APPLIED

HIDDEN = "(hidden)"

_SECRET_MEMBERS = ("data", "stringData")

# The environment that says how GPUs are given to a container. Every other literal value may be a credential.
_KEPT_ENVIRONMENT = ("NVIDIA_", "CUDA_", "DCGM_", "MIG_")
_CREDENTIAL = r"[\w.-]*(?:token|passw|secret|api[-_]?key|access[-_]?key|private[-_]?key|credential)[\w.-]*"
_ASSIGNED = re.compile(rf"(?i)({_CREDENTIAL}[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)")
_FLAG = re.compile(rf"(?i)--?{_CREDENTIAL}")


def presentable(obj: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a Kubernetes object without Secret data, managed fields, the copy of kubectl apply and credentials.

    Credentials are literal environment values (but those that say how GPUs are given), and what follows a name like
    token, password or secret in commands and arguments. A credential that its author put elsewhere stays.
    """
    members = {key: value for key, value in obj.items() if key not in _SECRET_MEMBERS or obj.get("kind") != "Secret"}
    metadata = members.get("metadata")
    if isinstance(metadata, Mapping):
        members["metadata"] = _without_copies(metadata)
    return {key: _cleaned(key, value) for key, value in members.items()}


def _without_copies(metadata: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in metadata.items() if key != "managedFields"}
    annotations = kept.get("annotations")
    if isinstance(annotations, Mapping) and LAST_APPLIED in annotations:
        kept["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return kept


def _cleaned(key: str, value: Any) -> Any:
    """A member of any depth, cleaned by the name under which it stands."""
    if isinstance(value, Mapping):
        return {name: _cleaned(name, member) for name, member in value.items()}
    if not isinstance(value, list):
        return value
    if key == "env":
        return [_hidden_variable(each) for each in value]
    if key in ("args", "command"):
        return _hidden_arguments(value)
    return [_cleaned("", each) for each in value]


def _hidden_variable(variable: Any) -> Any:
    if not isinstance(variable, Mapping) or "value" not in variable:
        return variable
    if str(variable.get("name")).startswith(_KEPT_ENVIRONMENT):
        return variable
    return {**variable, "value": HIDDEN}


def _hidden_arguments(arguments: Sequence[Any]) -> list[Any]:
    hidden: list[Any] = []
    follows_flag = False
    for argument in arguments:
        text = str(argument)
        hidden.append(HIDDEN if follows_flag else _ASSIGNED.sub(rf"\1{HIDDEN}", text))
        follows_flag = _FLAG.fullmatch(text) is not None
    return hidden
