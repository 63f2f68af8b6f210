"""Images whose rows are stored in reverse order, while position and orientation are those of the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from radiobject_assets.imaging.dicom.instance import Instance

POLARITY_COLUMN: Final = "phase_encoding_polarity"
TURNED: Final = b"rows turned"
"""What the digest of a source has besides its files, where rows are turned: a volume that was stored before
they were is written anew."""


def turns_rows(instances: Iterable[Instance]) -> bool:
    """Whether rows of a volume are turned when it is read: a part of its digest, beside its files."""
    return any(frame.rows_reversed for instance in instances for frame in instance.frames)
