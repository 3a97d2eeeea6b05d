"""Audits of snapshots, many in one process: most of a short audit is the start of its interpreter (auditor.py)."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from outcomes import Outcome, environment

AUDITOR = Path(__file__).parent / "auditor.py"


def audits(asked: Iterable[Mapping[str, Any]], folder: Path) -> dict[str, Outcome]:
    """The outcome of each audit by its ``id``; the reports go below ``folder``.

    ``snapshot`` is the file of one, ``reference`` its set-up where it is not the shipped one,
    ``options`` is what else pytest is given.
    """
    lines = "".join(json.dumps({**each, "folder": str(_report(each["id"], folder))}) + "\n" for each in asked)
    ended = subprocess.run(
        [sys.executable, str(AUDITOR)],
        input=lines, capture_output=True, text=True, cwd=folder, env=environment(), check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    return {each["id"]: Outcome.of(each["exit_code"], each["output"], _report(each["id"], folder)) for each in answers}


def _report(id: str, folder: Path) -> Path:
    return folder / f"{id}-report"
