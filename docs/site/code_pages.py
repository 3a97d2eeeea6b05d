"""Pages made from the code: start page, options, commands, the report's schema, the seeded faults."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from seeded_faults import FOLDER, faults

from conformance import cli
from conformance.options import OPTIONS, Option

CHECKOUT = Path(__file__).resolve().parents[2]
_WIDTH = 100


def pages() -> dict[str, str]:
    """The Markdown of each page, and the schemas, by name."""
    schemas = {f"schemas/{path.name}": path.read_text() for path in (CHECKOUT / "reports").glob("*.schema.json")}
    return {
        "index.md": _start(),
        "options.md": _options(),
        "command.md": _command(),
        "report-reference.md": _report_reference(),
        "faults.md": _faults(),
        **schemas,
    }


def _start() -> str:
    """README.md, its links seen from docs/."""
    text = (CHECKOUT / "README.md").read_text()
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\]\((reports|fixtures|suites|ci)/", r"](../\1/", text)


def _options() -> str:
    head = [
        "# Options",
        "",
        "Made from the plugin's options. The command line beats the environment variable, which beats the ini file",
        "(`pyproject.toml`, `pytest.toml`, `pytest.ini`); the header of a run prints each value with its source.",
    ]
    return "\n".join([*head, *(line for option in OPTIONS for line in _option(option))]) + "\n"


def _option(option: Option) -> list[str]:
    value = "" if option.switch else f" {option.metavar}"
    choices = f"One of {', '.join(f'`{each}`' for each in option.choices)}. " if option.choices else ""
    return [
        "",
        f"## `{option.flag}{value}` {{ #{option.flag.removeprefix('--')} }}",
        "",
        f"{choices}{option.help[0].upper()}{option.help[1:]}.",
        "",
        f"Environment `{option.variable}`, ini `{option.ini}`.",
    ]


def _command() -> str:
    parts = ["# The command gpu-conformance", "", "What `--help` says of each command."]
    for name, parser in _commands(cli._parser(), "gpu-conformance"):
        parts += ["", f"## {name}", "", "```text", _help(parser), "```"]
    return "\n".join(parts) + "\n"


def _commands(parser: argparse.ArgumentParser, name: str) -> list[tuple[str, argparse.ArgumentParser]]:
    found = [(name, parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                found += _commands(below, f"{name} {word}")
    return found


def _help(parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=_WIDTH)  # type: ignore[assignment]
    return parser.format_help().rstrip()


def _report_reference() -> str:
    schema = json.loads((CHECKOUT / "reports/report.schema.json").read_text())
    parts = [
        "# Reference of report.json",
        "",
        "Made from [report.schema.json](schemas/report.schema.json), against which every report is checked.",
        "[Reports](reports.md) says how to read them.",
    ]
    for name, shape in schema["$defs"].items():
        parts += ["", f"## {name}", "", _prose(shape.get("description", "")), *_members(shape)]
    return "\n".join(parts) + "\n"


def _members(shape: dict[str, Any]) -> list[str]:
    if "enum" in shape:
        return ["", "One of " + ", ".join(f"`{each}`" for each in shape["enum"]) + "."]
    required = shape.get("required", ())
    rows = [
        f"| `{name}` | {_type(one)} | {_presence(one, always=name in required)} |"
        for name, one in shape.get("properties", {}).items()
    ]
    return ["", "| member | type | there, or its default |", "| --- | --- | --- |", *rows] if rows else []


def _presence(one: dict[str, Any], *, always: bool) -> str:
    return "always" if always else f"`{json.dumps(one.get('default'))}`"


def _type(one: dict[str, Any]) -> str:
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in one:
        return " or ".join(_type(each) for each in one["anyOf"])
    if one.get("type") == "array":
        return f"list of {_type(one.get('items', {}))}"
    if one.get("type") == "object":
        return f"object of {_type(one.get('additionalProperties') or {})}"
    return str(one.get("type", "anything"))


def _prose(text: str) -> str:
    """A docstring as Markdown."""
    lines = [line.strip() for line in text.replace("``", "`").splitlines()]
    return "\n".join(lines).replace("<", "&lt;")


def _faults() -> str:
    """What can be seeded, from the folder's own README, and a table of all that are."""
    text = (FOLDER / "README.md").read_text().rstrip()
    rows = []
    for fault in faults():
        noticed = ", ".join(f"[{each}](requirements/{each.lower()}.md)" for each in fault.get("fails", ()))
        rows.append(f"| {fault['title'].replace('|', '/').replace('<', '&lt;')} | {fault['kind']} | {noticed} |")
    head = ["## Every fault", "", "| fault | kind | noticed by |", "| --- | --- | --- |"]
    return "\n".join([text, "", *head, *rows, ""])
