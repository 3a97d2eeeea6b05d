"""Pages of the site that are made from the code. ci/test builds the whole site and holds its links."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.options import OPTIONS
from conformance.session.catalogue import requirements

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "docs" / "site"))

import code_pages  # noqa: E402
import hooks  # noqa: E402
import requirement_pages  # noqa: E402
import seeded_faults  # noqa: E402


def test_every_requirement_has_a_page_that_says_how_it_is_judged_and_what_proves_it():
    pages = requirement_pages.pages()

    assert set(pages) == {f"requirements/{rule.id.lower()}.md" for rule in requirements()}
    for rule in requirements():
        page = pages[f"requirements/{rule.id.lower()}.md"]
        assert f'"{rule.id}"' in page  # the decorator of its function
        assert "??? example" in page or not seeded_faults.noticed_by(rule.id)
        assert all(each.title.split(":")[0].split("*")[0].split("_")[0] in page for each in rule.sources)
    assert "dedicated=gpu" in pages["requirements/pool-03.md"]


def test_every_option_and_command_is_told():
    pages = code_pages.pages()

    assert all(f"## `{option.flag}" in pages["options.md"] for option in OPTIONS)
    assert "## gpu-conformance cluster up" in pages["command.md"]
    assert "| `exitCode` | integer | always |" in pages["report-reference.md"]
    assert pages["faults.md"].count("\n| ") > 200


@pytest.mark.parametrize(
    ("link", "depth", "led"),
    [
        ("[schema](../reports/report.schema.json)", 0, "[schema](schemas/report.schema.json)"),
        ("[the chapter](../suites/pools/test_pools.py)", 0, "`the chapter`"),
        ("[`side_by_side.py`](../tests/side_by_side.py)", 0, "`side_by_side.py`"),
        ("[glossary](../glossary.md)", 1, "[glossary](../glossary.md)"),
        ("[faults](../../fixtures/faults/README.md)", 1, "[faults](../faults.md)"),
        ("[a page](reports.md#waivers)", 0, "[a page](reports.md#waivers)"),
    ],
)
def test_links_out_of_the_docs_lead_to_where_the_site_has_it(link, depth, led):
    assert hooks._LINK.sub(lambda match: hooks._led(match, depth), link) == led


def test_every_page_is_in_the_navigation():
    listed = (CHECKOUT / "mkdocs.yml").read_text()
    written = {
        path.relative_to(CHECKOUT / "docs").as_posix()
        for path in (CHECKOUT / "docs").rglob("*.md")
        if path.parent.name != "decisions"
    }

    missing = {name for name in written if not re.search(rf"[ \[]{re.escape(name)}[,\]\n]", listed)}

    assert missing == set(), "name them in nav of mkdocs.yml"


def test_a_broken_link_ends_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Start\n\n[nowhere](no-such-page.md)\n")
    config = (CHECKOUT / "mkdocs.yml").read_text()
    validation = config[config.index("validation:") : config.index("nav:")]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: one page\n{validation}")

    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert built.returncode != 0
    assert "no-such-page.md" in built.stdout + built.stderr
