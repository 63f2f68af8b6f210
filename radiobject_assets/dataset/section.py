"""What every section of dataset.yaml is: known keys, checked values, nothing that changes after reading."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
# An empty list would match everything.
Several = Annotated[list[str], Field(min_length=1)]


class Section(BaseModel):
    """A section of dataset.yaml: unknown keys are refused, and nothing is changed after reading."""

    # Validators are made when something is validated: without a dataset.yaml that is never.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def compiled(pattern: str) -> str:
    """`pattern`, if it is a regular expression; else a `ValueError` that says why not."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern
