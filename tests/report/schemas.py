"""Documents against the schemas that we ship; ``jsonschema.validate`` would check the schema again for each of them."""

import json
from functools import cache
from typing import Any

import jsonschema

from conformance.shipped import shipped


def validate(document: Any, file: str) -> None:
    """Raises jsonschema.ValidationError for what the shipped schema ``file`` does not allow."""
    _validator(file).validate(document)


@cache
def _validator(file: str) -> Any:
    schema = json.loads(shipped(file).read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)
