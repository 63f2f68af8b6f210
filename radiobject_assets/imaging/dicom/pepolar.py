"""GE's `epi_pepolar` sequence: volumes of forward and of reversed phase encoding in one series.

The rows of reversed volumes are stored in reverse order, while position and orientation are those of the
forward ones. The sequence is known by (0019,109C), and (0019,10B3) says which volumes are reversed: none (0),
all (1), the first, third... (2), the second, fourth... (3), counted by TemporalPositionIdentifier.

Rests on: real files of mode 2 in the reference data; the public data set of all four modes and its
description (vendor_rules.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.instance import Instance

Polarity = Literal["forward", "reversed", "unknown"]

_FORWARD, _REVERSED, _REVERSED_FIRST, _FORWARD_FIRST = range(4)
POLARITY_COLUMN: Final = "phase_encoding_polarity"
TURNED: Final = b"rows turned"
"""What the digest of a source has besides its files, where rows are turned: a volume that was stored before
they were is written anew."""


def polarity_of(elements: Elements, manufacturer: str) -> Polarity | None:
    """Phase encoding of a GE `epi_pepolar` image; None for other images; `manufacturer` in upper case.

    `unknown` where the header names the sequence and does not tell whether the image is reversed.
    """
    if t.GE_SEQUENCE not in elements.values or not manufacturer.startswith("GE"):
        return None
    if "epi_pepolar" not in elements.text(t.GE_SEQUENCE).lower():
        return None
    mode = elements.number(t.GE_USER_DATA_12)
    if mode == _FORWARD:
        return "forward"
    if mode == _REVERSED:
        return "reversed"
    volume = elements.integer(t.TEMPORAL_POSITION)
    if mode not in (_REVERSED_FIRST, _FORWARD_FIRST) or volume is None or volume < 1:
        return "unknown"
    first_kind = volume % 2 == 1
    return "reversed" if first_kind == (mode == _REVERSED_FIRST) else "forward"


def turns_rows(instances: Iterable[Instance]) -> bool:
    """Whether rows of a volume are turned when it is read: a part of its digest, beside its files."""
    return any(frame.rows_reversed for instance in instances for frame in instance.frames)


def rows_reversed(polarity: Polarity | None) -> bool | None:
    """`Frame.rows_reversed` of an image of that polarity."""
    return None if polarity == "unknown" else polarity == "reversed"
