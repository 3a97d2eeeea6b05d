"""Pipelines for users, read by what the CI systems publish: schemas, models, shells; and by our own commands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import iri_grammar
import pytest
import yaml
from shipped_ci import MODES, PIPELINES, documents, known_options, output
from whole_runs import whole_run

from conformance import cli
from conformance.report.formats import FORMATS

EVERY_FILE = sorted(path for path in PIPELINES.rglob("*") if path.is_file() and path.suffix != ".md")


# As ``python -m check_jsonschema``, which imports jsonschema (iri_grammar.py).
CHECK_JSONSCHEMA = f"""
import sys
sys.path.append({str(Path(iri_grammar.__file__).parent)!r})
import iri_grammar
iri_grammar.stand_in()
from check_jsonschema import main
main()
"""


@whole_run
@pytest.mark.parametrize(
    ("files", "schema"),
    [
        ("github/*.yaml", ["vendor.github-workflows"]),
        ("gitlab/*.yml", ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
    ],
)
def test_the_schema_that_the_ci_system_publishes_is_obeyed(files, schema):
    found = sorted(PIPELINES.glob(files))

    assert found
    output(sys.executable, "-c", CHECK_JSONSCHEMA, "--builtin-schema", *schema, *found)


ARGO = [path for path in EVERY_FILE if path.parent.name == "argo" and "argoproj" in path.read_text()]


@pytest.mark.parametrize("path", ARGO, ids=lambda path: path.stem)
def test_argo_knows_every_field(path):
    # A fifth of what collecting all tests takes, which only whoever runs this test shall pay.
    from hera.workflows import models as argo

    (written,) = documents(path.read_text())

    read = getattr(argo, written["kind"]).model_validate(written)

    # Its models pass over what they do not know, so that what comes back tells what they understood.
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == written


def test_argo_gives_every_parameter_that_has_no_value():
    template = yaml.safe_load((PIPELINES / "argo" / "template.yaml").read_text())["spec"]
    wanted = {each["name"] for each in template["arguments"]["parameters"] if "value" not in each}
    known = {each["name"] for each in template["arguments"]["parameters"]}

    for path in ARGO:
        spec = yaml.safe_load(path.read_text())["spec"]
        if path.stem != "template":
            given = {each["name"] for each in spec.get("workflowSpec", spec)["arguments"]["parameters"]}
            assert wanted <= given <= known, path
    used = set(
        re.findall(r"\{\{workflow\.parameters\.([\w-]+)\}\}", (PIPELINES / "argo" / "template.yaml").read_text())
    )
    assert used == known


def _tekton(kind: str) -> list[dict[str, Any]]:
    files = sorted((PIPELINES / "tekton").rglob("*.yaml"))
    return [each for path in files for each in documents(path.read_text()) if each.get("kind") == kind]


def test_tekton_passes_on_only_what_the_next_one_declares():
    (task,), (pipeline,), runs = _tekton("Task"), _tekton("Pipeline"), _tekton("PipelineRun")
    judging = next(each for each in pipeline["spec"]["tasks"] if each["name"] == "judge")

    assert len(runs) == 3
    for given, wanted in [(judging, task["spec"]), *((run["spec"], pipeline["spec"]) for run in runs)]:
        for what, optional in (("params", "default"), ("workspaces", "optional")):
            declared = {each["name"] for each in wanted[what]}
            needed = {each["name"] for each in wanted[what] if optional not in each}
            assert needed <= {each["name"] for each in given[what]} <= declared
    text = str(task["spec"]["steps"])
    assert set(re.findall(r"\$\(params\.([\w-]+)\)", text)) == {each["name"] for each in task["spec"]["params"]}
    assert set(re.findall(r"\$\(workspaces\.([\w-]+)\.path\)", text)) == {
        each["name"] for each in task["spec"]["workspaces"]
    }


SHELL = re.compile(r"(?:sh '''|sh\(returnStatus: true, script: ''')(.*?)'''|sh '([^'\n]*)'", re.DOTALL)


def _scripts(path: Any) -> list[str]:
    """The shell of a pipeline."""
    if path.suffix == ".Jenkinsfile":
        # Its Groovy is read by npm-groovy-lint (ci/readers groovy), which takes too long here; its shell can be read.
        return [(block or line).replace("\\\\", "\\") for block, line in SHELL.findall(path.read_text())]
    found: list[str] = []

    def walk(value: Any, key: str = "") -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                walk(each, name)
        elif isinstance(value, list):
            if key in ("script", "before_script", "after_script"):
                found.extend(value)
            else:
                for each in value:
                    walk(each)
        elif key in ("run", "script", "source") and isinstance(value, str) and "import json" not in value[:20]:
            found.append(value)

    for document in documents(path.read_text()):
        walk(document)
    return found


PIPELINE_FILES = [path for path in EVERY_FILE if _scripts(path)] if EVERY_FILE else []


@pytest.mark.parametrize("path", PIPELINE_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shell_reads_every_script(path):
    for script in _scripts(path):
        read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, ""), script


@pytest.mark.parametrize("path", PIPELINE_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_option_and_command_exists(path):
    text = path.read_text()

    assert set(re.findall(r"--(?:gpu-(?!conformance)[a-z-]+|cluster(?= ))", text)) <= known_options()
    for formats in re.findall(r"(?:--gpu-report-formats=|GPU_CONFORMANCE_REPORT_FORMATS(?:: | = '))([a-z,]+)", text):
        assert set(formats.split(",")) <= set(FORMATS)
    for command in re.findall(r"gpu-conformance (check|doctor|clean)([^\n]*)", text):
        words = shlex.split(" ".join(command).partition("||")[0].rstrip("'"))
        cli._parser().parse_args([word.rstrip("'") for word in words])


def test_each_system_has_a_night_an_audit_and_a_rehearsal():
    texts: dict[str, str] = {}
    for path in EVERY_FILE:
        if path.parent != PIPELINES:
            system = path.relative_to(PIPELINES).parts[0]
            texts[system] = texts.get(system, "") + path.read_text()

    assert set(texts) == {"github", "gitlab", "jenkins", "tekton", "argo"}
    for system, text in texts.items():
        assert "full" in text, system
        assert "audit" in text, system
        assert "embedded" in text, system
        assert set(re.findall(r"(?:--gpu-mode[= ]|--mode[= ])([a-z]+)", text)) <= set(MODES)
