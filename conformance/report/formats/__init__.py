"""What a report can be turned into: one module for each format, and the list of them.

A format is a function of the report model alone; it reads no cluster, no clock and no environment, so that the same
report always gives the same file.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from conformance.report.formats import badge, cncf, ctrf, html, junit, line, markdown, openmetrics, sarif
from conformance.report.model import Report


def _refuses_nothing(report: Report) -> str:
    return ""


class Format(msgspec.Struct, frozen=True):
    """A format: the usual name of its file, what it is for, and how it is written.

    One of several files gives their texts by name, and its own name is that of their folder. ``refuses`` says why a
    report cannot be turned into the format, and is empty where it can; ``render`` raises FormatRefused with the same.
    """

    file_name: str
    purpose: str
    render: Callable[[Report], str | Mapping[str, str]]
    refuses: Callable[[Report], str] = _refuses_nothing

    def write(self, report: Report, path: Path) -> list[Path]:
        """Write the report in this format to a file, or a folder that is made; the paths of the files written."""
        rendered = self.render(report)
        if isinstance(rendered, str):
            path.write_text(rendered, encoding="utf-8")
            return [path]
        path.mkdir(parents=True, exist_ok=True)
        for name, text in rendered.items():
            (path / name).write_text(text, encoding="utf-8")
        return [path / name for name in rendered]


FORMATS: Mapping[str, Format] = {
    "junit": Format("junit.xml", "the test results of a CI system", junit.render),
    "html": Format("report.html", "a page to read, in one file that loads nothing", html.render),
    "markdown": Format("summary.md", "the summary of a CI step", markdown.render),
    "openmetrics": Format("metrics.prom", "alerts and dashboards of Prometheus", openmetrics.render),
    "sarif": Format("report.sarif", "code scanning, and viewers of SARIF 2.1.0", sarif.render),
    "ctrf": Format("ctrf.json", "readers of the Common Test Report Format", ctrf.render),
    "cncf": Format("cncf", "a submission to CNCF's AI Conformance programme", cncf.render, cncf.why_refused),
    "line": Format("status.txt", "one line for a chat message", line.render),
    "badge": Format("badge.svg", "a badge for a page", badge.render),
}
"""The formats by the names that ``gpu-conformance report convert --to`` and ``--gpu-report-formats`` take."""


def formats_named(names: Iterable[str]) -> list[Format]:
    """The formats with these names, each once. Raises ValueError for a name that none has."""
    chosen = list(dict.fromkeys(names))
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise ValueError(f"there is no report format {', '.join(unknown)}; there are {', '.join(FORMATS)}")
    return [FORMATS[name] for name in chosen]
