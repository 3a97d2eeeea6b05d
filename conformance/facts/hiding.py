"""What is taken out of an object before it is saved: credentials, and copies that only cost room."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from conformance.facts.environment import CREDENTIAL, is_credential, is_kept
from conformance.facts.wire import LAST_APPLIED

HIDDEN = "(hidden)"

_SECRET_MEMBERS = ("data", "stringData")

_ASSIGNED = re.compile(rf"(?i)({CREDENTIAL}[\w.-]*[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)")
_FLAG = re.compile(rf"(?i)--?[\w.-]*{CREDENTIAL}[\w.-]*")
# For texts of any length: what surrounds the word is bounded, so that a long line of base64 costs no more than another.
# A value ends with its line, for in YAML the next one may be a list, and a list or mapping is looked into by itself.
_ENTRY = rf"{CREDENTIAL}[\w.-]{{0,60}}[\"']?[ \t]*[=:][ \t]*"
_ASSIGNED_IN_LINE = re.compile(rf"(?i)({_ENTRY})(\"[^\"\n]*\"|'[^'\n]*'|[^\s,|>{{}}\[\]][^\s,}}\]]*)")
# The password of a URL: https://user:password@host.
_IN_URL = re.compile(r"(://[^\s/:@]{0,200}:)[^\s/@]{1,500}(@)")
# What drivers of volumes are told: names of shares, and sometimes keys. What Ray is started with, with its password.
_PARAMETERS = ("volumeAttributes", "options", "parameters", "rayStartParams")
# What KubeRay is told as a text: a command, and YAML with environment variables (ray-project/kuberay, apis/ray/v1).
_TEXTS = ("entrypoint", "runtimeEnvYAML", "serveConfigV2")
# A copy of an object, its environment values included: of kubectl apply, kopf, banzaicloud, Rancher (compressed).
_COPY_KEY = re.compile(r"(?i)last[-.]?applied|last[-.]?handled|/applied$")
_COPY = re.compile(r"[\"']?\b(?:env|containers)\b[\"']?[ \t]*:\s*[\[-]")


def presentable(obj: Mapping[str, Any], *, keeps_change: bool = False) -> dict[str, Any]:
    """A copy of a Kubernetes object without Secret data, managed fields, copies of it in annotations and credentials.

    Credentials are literal environment values (but those that say how GPUs are given), headers of probes, parameters of
    volumes and of Ray, what Ray is told as text, annotations with a name like token, password or secret, what follows
    such a name in commands, arguments, ConfigMaps, annotations, messages and queries, and passwords in URLs. A
    credential that its author put elsewhere stays.
    With ``keeps_change`` the time of the last change of anything but the status stays among the managed fields, and the
    API versions through which the object was written; of a node with a taint that does not say since when, the time at
    which its taints were written.
    """
    members = {key: value for key, value in obj.items() if key not in _SECRET_MEMBERS or obj.get("kind") != "Secret"}
    if obj.get("kind") == "ConfigMap":
        members |= _hidden_entries(obj)
    metadata = members.get("metadata")
    if isinstance(metadata, Mapping):
        members["metadata"] = _without_copies(metadata, keeps_change)
        if obj.get("kind") == "Node" and (written := _taints_written(obj, metadata)):
            members["metadata"]["managedFields"] = written
    return {key: _cleaned(key, value) for key, value in members.items()}


def without_credentials(member: str, value: Any) -> Any:
    """The value of a member of an object, such as ``env``, without what a snapshot leaves out of it."""
    return _cleaned(member, value)


def _hidden_entries(config_map: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a ConfigMap: text without credentials, and of what is no text the names only."""
    hidden: dict[str, Any] = {}
    texts, blobs = config_map.get("data"), config_map.get("binaryData")
    if isinstance(texts, Mapping):
        hidden["data"] = {
            name: HIDDEN if is_credential(str(name)) else _ASSIGNED_IN_LINE.sub(_hidden_entry, str(text))
            for name, text in texts.items()
        }
    if isinstance(blobs, Mapping):
        hidden["binaryData"] = dict.fromkeys(blobs, HIDDEN)
    return hidden


def _hidden_entry(entry: re.Match[str]) -> str:
    """An entry without its value, in the same quotes, so that what was YAML or JSON stays it."""
    quote = entry[2][0] if entry[2][0] in "\"'" else ""
    return f"{entry[1]}{quote}{HIDDEN}{quote}"


def _without_copies(metadata: Mapping[str, Any], keeps_change: bool) -> dict[str, Any]:
    kept = {key: value for key, value in metadata.items() if key != "managedFields"}
    managed = metadata.get("managedFields")
    changed = _changed(managed) if keeps_change else ""
    if changed:
        versions = sorted({str(each["apiVersion"]) for each in _entries(managed) if each.get("apiVersion")})
        kept["managedFields"] = [{"time": changed}, *({"apiVersion": each} for each in versions)]
    annotations = kept.get("annotations")
    if isinstance(annotations, Mapping):
        kept["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return kept


def _hidden_annotation(key: str, value: Any) -> Any:
    """An annotation without what could be a credential: some hold a whole configuration, as YAML or JSON."""
    if not isinstance(value, str):
        return value
    hidden = is_credential(key.rpartition("/")[2]) or _COPY_KEY.search(key) or _COPY.search(value)
    return HIDDEN if hidden else _hidden_text(value)


def _hidden_text(text: str) -> str:
    """Text of any kind, such as the last words of a program, without what follows the name of a credential."""
    return _IN_URL.sub(rf"\1{HIDDEN}\2", _ASSIGNED_IN_LINE.sub(_hidden_entry, text))


def _changed(managed: Any) -> str:
    """The newest time of managed fields outside the status: the API server writes them all in UTC, to the second."""
    entries = [each for each in _entries(managed) if each.get("subresource") != "status"]
    return max((str(each.get("time") or "") for each in entries), default="")


def _entries(managed: Any) -> list[Mapping[str, Any]]:
    return [each for each in managed or () if isinstance(each, Mapping)]


def _taints_written(node: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The managed fields that say when the taints of a node were written, where one of them does not."""
    spec = node.get("spec")
    taints = (spec.get("taints") if isinstance(spec, Mapping) else None) or ()
    if all(isinstance(each, Mapping) and each.get("timeAdded") for each in taints):
        return []
    return [
        {"time": each["time"], "fieldsV1": {"f:spec": {"f:taints": {}}}}
        for each in _entries(metadata.get("managedFields"))
        if each.get("time") and "f:taints" in _at(each, "fieldsV1", "f:spec")
    ]


def _at(value: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """A mapping inside of others; an empty one where there is none."""
    for key in path:
        inner = value.get(key)
        value = inner if isinstance(inner, Mapping) else {}
    return value


def _cleaned(key: str, value: Any) -> Any:
    """A member of any depth, cleaned by the name under which it stands.

    Most members are texts; whether something is a Mapping takes ten times as long to find out, and is asked last.
    """
    if isinstance(value, str):
        if key == "message" or "?" in value:
            return _hidden_text(value)
        if key in _TEXTS:
            return HIDDEN
        return _IN_URL.sub(rf"\1{HIDDEN}\2", value) if "://" in value else value
    if isinstance(value, list):
        return _cleaned_list(key, value)
    if isinstance(value, (dict, Mapping)):
        if key in _PARAMETERS:
            return dict.fromkeys(value, HIDDEN)
        if key == "annotations":
            return {name: _hidden_annotation(name, member) for name, member in value.items()}
        return {name: _cleaned(name, member) for name, member in value.items()}
    return value


def _cleaned_list(key: str, value: list[Any]) -> list[Any]:
    if key in ("env", "httpHeaders"):
        return [_hidden_variable(each) for each in value]
    if key in ("args", "command"):
        return _hidden_arguments(value)
    return [_cleaned("", each) for each in value]


def _hidden_variable(variable: Any) -> Any:
    if not isinstance(variable, Mapping) or "value" not in variable:
        return variable
    if is_kept(str(variable.get("name"))):
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
