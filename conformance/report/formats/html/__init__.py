"""A report as one HTML file that loads nothing: it can be mailed, kept as an artefact, and opened from a disk.

Its policy (CSP) is in the file and allows its own style and script by their hashes, and nothing else. All text goes
through autoescape, and what a reader could not see (control characters, marks that turn the direction) is made visible.
"""

import base64
import hashlib
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.report.comparing.text import since_baseline
from conformance.report.formats import references
from conformance.report.formats.html import page
from conformance.report.model import Report
from conformance.report.shown import SUBJECTS
from conformance.report.visible import visible

if TYPE_CHECKING:
    import jinja2

_HERE = Path(__file__).parent / "templates"


def render(report: Report) -> str:
    """The page."""
    from markupsafe import Markup

    style, script = _inlined("report.css"), _inlined("report.js")
    template = _environment().get_template("report.html")
    return template.render(
        page=page.of(report),
        report=report,
        since=list(since_baseline(report)),
        subjects=SUBJECTS,
        ids=frozenset(each.requirement for each in report.requirements),
        policy=policy(style, script),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
    )


def document(template: str, **content: object) -> str:
    """A page that has our style and no script, from a template."""
    from markupsafe import Markup

    style = _inlined("report.css")
    return (
        _environment()
        .get_template(template)
        .render(
            policy=f"default-src 'none'; style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'",
            style=Markup(style),  # noqa: S704 - our own file
            **content,
        )
    )


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy of a page with this style and script.

    https://www.w3.org/TR/CSP3/#framework-directive-source-list has the form of a hash.
    """
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _inlined(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@cache
def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["linked"] = _linked
    return environment


def _linked(text: str, ids: Collection[str]) -> object:
    """The text, in which requirements that the page has (``ids``) are links to them."""
    from markupsafe import Markup

    link = Markup('<a href="#{0}">{0}</a>')
    parts = references.split(visible(str(text)), ids)
    return Markup("").join(link.format(part) if is_id else part for part, is_id in parts)


def _shown(value: object) -> object:
    """What an expression gives to the page; mark-up of our own stays, whatever else is put as text hides nothing."""
    return value if hasattr(value, "__html__") or isinstance(value, int | float) else visible(str(value))
