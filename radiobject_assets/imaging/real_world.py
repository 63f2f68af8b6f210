"""What Real World Value Mapping says beside the rescale of an image.

It is no part of the values that the store gives: those follow RescaleSlope and RescaleIntercept, as DICOM's
modality transformation does (PS3.3 C.11.1), and Philips writes MR images that have a mapping and no rescale.
Whoever wants real-world values multiplies stored ones by these numbers (PS3.3 C.7.6.16.2.11).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from radiobject_assets.imaging import tags as t
from radiobject_assets.imaging.elements import Elements
from radiobject_assets.imaging.source import AttributeValue

COLUMNS = {
    "real_world_slope": "real-world value = stored value * this + `real_world_intercept`; not applied",
    "real_world_intercept": "of the same mapping (RealWorldValueMappingSequence of one linear item)",
}
"""Columns of obs that `real_world_attributes` gives, and what they mean."""


def real_world_attributes(elements: Elements) -> dict[str, AttributeValue]:
    """Slope and intercept of an image with one linear mapping; empty for none, several, or a table."""
    items = elements.items(t.REAL_WORLD_MAPPING)
    if len(items) != 1:
        return {}
    found = [items[0].number(tag) for tag in (t.REAL_WORLD_SLOPE, t.REAL_WORLD_INTERCEPT)]
    if any(value is None or not math.isfinite(value) for value in found):
        return {}
    return dict(zip(COLUMNS, found, strict=True))


def agree(images: Iterable[Mapping[str, AttributeValue]]) -> bool:
    """Whether the images of a series have one mapping, or none."""
    return len({tuple(image.get(name) for name in COLUMNS) for image in images}) <= 1
