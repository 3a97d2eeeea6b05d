"""What mkdocs calls while it builds the site: pages made from the code, and links that lead out of docs/.

https://www.mkdocs.org/user-guide/configuration/#hooks
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

CHECKOUT = Path(__file__).resolve().parents[2]
for place in (str(CHECKOUT), str(Path(__file__).parent)):
    if place not in sys.path:
        sys.path.insert(0, place)

import code_pages  # noqa: E402 (its folder has just become importable)
import requirement_pages  # noqa: E402

_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>(?:\.\./)+[^)#\s]*)(?P<anchor>#[^)]*)?\)")
_SERVED = {
    "reports/report.schema.json": "schemas/report.schema.json",
    "reports/reference.schema.json": "schemas/reference.schema.json",
    **{f"reports/{name}.schema.json": f"schemas/{name}.schema.json" for name in ("diff", "fleet", "trend")},
    "fixtures/faults/README.md": "faults.md",
    "README.md": "index.md",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put what has many pages into the navigation."""
    decisions = sorted(f"decisions/{path.name}" for path in (CHECKOUT / "docs/decisions").glob("*.md"))
    rules = [{"Requirements, one by one": requirement_pages.navigation()}]
    config.nav = [*(config.nav or []), *rules, {"Decisions": decisions}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code."""
    from mkdocs.structure.files import File

    for name, content in (code_pages.pages() | requirement_pages.pages()).items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Lead links to files outside docs/ to where the site has them; of others only the text stays."""
    depth = page.file.src_uri.count("/")
    return _LINK.sub(lambda match: _led(match, depth), markdown)


def _led(match: re.Match[str], depth: int) -> str:
    target = match["target"]
    up = target.count("../")
    if up <= depth:
        return match[0]
    outside = target.removeprefix("../" * up)
    if outside in _SERVED:
        return f"[{match['text']}]({'../' * depth}{_SERVED[outside]})"
    return match["text"] if match["text"].startswith("`") else f"`{match['text']}`"
