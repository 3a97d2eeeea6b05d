"""The grammar of IRIs is built when the first is checked, and says what it always said."""

import os
import subprocess
import sys
from pathlib import Path

import iri_grammar

# The package itself takes a second.
PACKAGE = "print('built')\ndef is_valid_syntax(term, value): return (term, value) == ('iri', 'good')"
PROGRAM = """
import iri_grammar
iri_grammar.stand_in()
import jsonschema
print("imported")
for value in ("good", "bad"):
    print(jsonschema.Draft7Validator.FORMAT_CHECKER.conforms(value, "iri"))
"""


def test_the_package_is_imported_once_by_the_first_check_and_judges(tmp_path):
    (tmp_path / f"{iri_grammar.NAME}.py").write_text(PACKAGE)
    places = os.pathsep.join([str(tmp_path), str(Path(iri_grammar.__file__).parent)])

    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PYTHONPATH": places}, capture_output=True, text=True, check=True
    )

    assert said.stdout.split() == ["imported", "built", "True", "False"]
