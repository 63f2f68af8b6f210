"""What Real World Value Mapping says of an image beside, or in place of, its rescale.

The values that the store gives follow RescaleSlope and RescaleIntercept, as DICOM's modality transformation
does (PS3.3 C.11.1). The classic MR object has no place for them: Philips writes what its enhanced export of
the same scan has as rescale into a mapping alone. There the mapping is the rescale, as dcm2niix has it too.
Any other mapping is told in obs and not applied: whoever wants real-world values multiplies stored ones by
its numbers (PS3.3 C.7.6.16.2.11).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.vendor import Vendor
from radiobject_assets.imaging.source import AttributeValue

IDENTITY = (1.0, 0.0)

COLUMNS = {
    "real_world_slope": "real-world value = stored value * this + `real_world_intercept`; not applied",
    "real_world_intercept": "of the same mapping (RealWorldValueMappingSequence of one linear item)",
}
"""Columns of obs that `real_world_attributes` gives, and what they mean."""


def in_place_of(
    rescale: tuple[float, float], items: Sequence[Elements], vendor: Vendor
) -> tuple[float, float]:
    """Slope and intercept of an image: of its rescale, or of the mapping that stands for it.

    Parameters
    ----------
    items
        Of RealWorldValueMappingSequence, of the image or of the frame.
    """
    if not items or rescale != IDENTITY or not vendor.mapping_is_rescale:
        return rescale
    return _line(items) or rescale


def real_world_attributes(elements: Elements, vendor: Vendor) -> dict[str, AttributeValue]:
    """Slope and intercept of an image's mapping where it is not applied; empty for none, several, a table."""
    items = _items(elements)
    line = _line(items)
    if line is None or in_place_of(rescale_of(elements), items, vendor) == line:
        return {}
    return dict(zip(COLUMNS, line, strict=True))


def _items(elements: Elements) -> Sequence[Elements]:
    """Of an image's mapping, or of those of all frames of an enhanced object."""
    shared = elements.first(t.SHARED_GROUPS)
    for group in (elements, shared):
        if group is not None and (items := group.items(t.REAL_WORLD_MAPPING)):
            return items
    frames = [group.items(t.REAL_WORLD_MAPPING) for group in elements.items(t.FRAME_GROUPS)]
    return [item for items in frames for item in items] if all(frames) else []


def rescale_of(elements: Elements | None) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept; those that change nothing where they are absent or impossible."""
    if elements is None:
        return IDENTITY
    slope, intercept = elements.number(t.SLOPE), elements.number(t.INTERCEPT)
    usable = slope is not None and math.isfinite(slope) and slope != 0
    offset = intercept if intercept is not None and math.isfinite(intercept) else 0.0
    return (slope if usable and slope is not None else 1.0), offset


def half_a_rescale(elements: Elements) -> str:
    """What is absent of RescaleSlope and RescaleIntercept where one is there; "" where both or none are.

    Each needs the other (PS3.3 C.11.1): a line of which half was lost, or is no number, gives other values.
    """
    slope, intercept = elements.number(t.SLOPE), elements.number(t.INTERCEPT)
    if (slope is None) == (intercept is None):
        return ""
    return "RescaleSlope" if slope is None else "RescaleIntercept"


def _line(items: Sequence[Elements]) -> tuple[float, float] | None:
    """The one line that all items of a mapping say."""
    lines = set()
    for item in items:
        slope, intercept = item.number(t.REAL_WORLD_SLOPE), item.number(t.REAL_WORLD_INTERCEPT)
        if slope is None or intercept is None or not math.isfinite(slope) or not math.isfinite(intercept):
            return None
        lines.add((slope, intercept))
    return lines.pop() if len(lines) == 1 and next(iter(lines))[0] != 0 else None
