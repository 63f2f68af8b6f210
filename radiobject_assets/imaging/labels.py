"""What the headers of segmentations (SEG) and contours (RTSTRUCT) say: their images and their segments."""

from __future__ import annotations

from collections import Counter

from radiobject_assets.imaging import tags as t
from radiobject_assets.imaging.elements import Elements
from radiobject_assets.imaging.instance import Segment
from radiobject_assets.imaging.terms import in_terms
from radiobject_assets.imaging.withholding import names_somebody, words_of_persons

SEG_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
RTSTRUCT_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED_PLANAR = "CLOSED_PLANAR"
CLOSED = frozenset({CLOSED_PLANAR, "CLOSEDPLANAR_XOR"})
"""ContourGeometricType values that enclose an area (PS3.3 C.8.8.6.3)."""


def referenced_images(elements: Elements) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """SeriesInstanceUIDs and SOPInstanceUIDs of the images that labels refer to (empty for images)."""
    if elements.text(t.SOP_CLASS_UID) not in (SEG_STORAGE, LABELMAP_STORAGE, RTSTRUCT_STORAGE):
        return (), ()
    series: dict[str, None] = {}
    instances: dict[str, None] = {}
    for item in elements.items(t.REFERENCED_SERIES):
        series[item.text(t.SERIES_UID)] = None
        for instance in item.items(t.REFERENCED_INSTANCES):
            instances[instance.text(t.REFERENCED_SOP_INSTANCE)] = None
    for frame_of_reference in elements.items(t.RT_FRAMES_OF_REFERENCE):
        for study in frame_of_reference.items(t.RT_STUDIES):
            for item in study.items(t.RT_SERIES):
                series[item.text(t.SERIES_UID)] = None
                for image in item.items(t.RT_CONTOUR_IMAGES):
                    instances[image.text(t.REFERENCED_SOP_INSTANCE)] = None
    for group in (*elements.items(t.SHARED_GROUPS), *elements.items(t.FRAME_GROUPS)):
        for derivation in group.items(t.DERIVATION_IMAGES):
            for source in derivation.items(t.SOURCE_IMAGES):
                instances[source.text(t.REFERENCED_SOP_INSTANCE)] = None
    if not instances:  # a structure set may name its images with each contour alone
        for region in elements.items(t.ROI_CONTOURS):
            for contour in region.items(t.CONTOURS):
                for image in contour.items(t.RT_CONTOUR_IMAGES):
                    instances[image.text(t.REFERENCED_SOP_INSTANCE)] = None
    series.pop("", None)
    instances.pop("", None)
    return tuple(series), tuple(instances)


def describe_segments(elements: Elements) -> tuple[Segment, ...]:
    """Segments of a SEG or regions of an RTSTRUCT, in the order of the file."""
    words = words_of_persons(elements)

    def harmless(text: str) -> str:
        return "" if names_somebody(text, words) else text

    found = [
        Segment(
            number=item.integer(t.SEGMENT_NUMBER) or 0,
            label=harmless(item.text(t.SEGMENT_LABEL)),
            category=harmless(_code(item.first(t.SEGMENT_CATEGORY))),
            type=harmless(_code(item.first(t.SEGMENT_TYPE))),
            algorithm=in_terms(t.SEGMENT_ALGORITHM, item.text(t.SEGMENT_ALGORITHM)),
        )
        for item in elements.items(t.SEGMENTS)
    ]
    types = {
        item.integer(t.OBSERVED_ROI): item.text(t.ROI_TYPE) for item in elements.items(t.ROI_OBSERVATIONS)
    }
    contours = _closed_contours(elements)
    frames = _images_by_frame_of_reference(elements)
    for item in elements.items(t.ROIS):
        number = item.integer(t.ROI_NUMBER) or 0
        found.append(
            Segment(
                number,
                harmless(item.text(t.ROI_NAME)),
                type=in_terms(t.ROI_TYPE, types.get(number, "")),
                algorithm=in_terms(t.ROI_ALGORITHM, item.text(t.ROI_ALGORITHM)),
                contours=contours[number],
                references=frames.get(item.text(t.ROI_FRAME_OF_REFERENCE), ()) if len(frames) > 1 else (),
            )
        )
    return tuple(found)


def _images_by_frame_of_reference(elements: Elements) -> dict[str, tuple[str, ...]]:
    """SeriesInstanceUIDs of the images that an RTSTRUCT names, by FrameOfReferenceUID; those with any."""
    found: dict[str, tuple[str, ...]] = {}
    for frame in elements.items(t.RT_FRAMES_OF_REFERENCE):
        images = [item for study in frame.items(t.RT_STUDIES) for item in study.items(t.RT_SERIES)]
        series = [item.text(t.SERIES_UID) for item in images]
        if any(series):
            found[frame.text(t.FRAME_OF_REFERENCE)] = tuple(filter(None, series))
    return found


def _closed_contours(elements: Elements) -> Counter[int | None]:
    """Number of closed planar contours of each region, by ROI number."""
    counts: Counter[int | None] = Counter()
    for item in elements.items(t.ROI_CONTOURS):
        kinds = [contour.text(t.CONTOUR_TYPE) for contour in item.items(t.CONTOURS)]
        counts[item.integer(t.OBSERVED_ROI)] += sum(kind in CLOSED for kind in kinds)
    return counts


def _code(item: Elements | None) -> str:
    """A coded concept as `scheme:value meaning`."""
    if item is None or not item.text(t.CODE_VALUE):
        return ""
    return f"{item.text(t.CODE_SCHEME)}:{item.text(t.CODE_VALUE)} {item.text(t.CODE_MEANING)}".strip()
