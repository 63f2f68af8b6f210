"""The record of a file that is no image that can be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from radiobject_assets.imaging.reasons import Reason


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is no image that can be used, and why."""

    path: Path
    reason: Reason
    detail: str
