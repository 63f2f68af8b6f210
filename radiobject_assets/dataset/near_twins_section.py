"""`near_twins` of dataset.yaml: what is known of images that look the same."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from radiobject_assets.dataset.section import Section

_PAIR = re.compile(r"[0-9a-f]{10}-[0-9a-f]{10}")


class NearTwinsConfig(Section):
    """Images of different subjects that are the same under another name: near twins."""

    known: list[str] = Field(default_factory=list)
    """Pairs that somebody looked at and that are fine, as the check `near_twins` names them (the beginnings
    of two tokens, `0123456789-abcdef0123`). They are not told again."""

    @field_validator("known")
    @classmethod
    def _pairs(cls, value: list[str]) -> list[str]:
        for pair in value:
            if not _PAIR.fullmatch(pair):
                raise ValueError(f"{pair!r} is no pair; copy it from the check `near_twins`")
        return value
