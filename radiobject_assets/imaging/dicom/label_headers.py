"""What the headers of segmentations (SEG) and contours (RTSTRUCT) say: their images and their segments."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.instance import Segment
from radiobject_assets.imaging.dicom.terms import in_terms
from radiobject_assets.imaging.dicom.withholding import names_somebody, words_of_persons

SEG_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
RTSTRUCT_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED_PLANAR = "CLOSED_PLANAR"
CLOSED = frozenset({CLOSED_PLANAR, "CLOSEDPLANAR_XOR"})
"""ContourGeometricType values that enclose an area (PS3.3 C.8.8.6.3)."""


@dataclass(frozen=True)
class NamedImages:
    """The images that labels name.

    owners
        For each instance the index of the series that it is named with, or -1.
    classes
        Their SOP classes, each once.
    """

    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    owners: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()


def referenced_images(elements: Elements) -> NamedImages:
    """SeriesInstanceUIDs and SOPInstanceUIDs of the images that labels refer to (none for images)."""
    if elements.text(t.SOP_CLASS_UID) not in (SEG_STORAGE, LABELMAP_STORAGE, RTSTRUCT_STORAGE):
        return NamedImages()
    series: dict[str, int] = {}
    instances: dict[str, int] = {}
    classes: dict[str, None] = {}

    def name(items: list[Elements], owner: int = -1) -> None:
        for item in items:
            if uid := item.text(t.REFERENCED_SOP_INSTANCE):
                instances.setdefault(uid, owner)
                classes[item.text(t.REFERENCED_SOP_CLASS)] = None

    def number(uid: str) -> int:
        return series.setdefault(uid, len(series)) if uid else -1

    for item in elements.items(t.REFERENCED_SERIES):
        name(item.items(t.REFERENCED_INSTANCES), number(item.text(t.SERIES_UID)))
    for frame in elements.items(t.RT_FRAMES_OF_REFERENCE):
        for study in frame.items(t.RT_STUDIES):
            for item in study.items(t.RT_SERIES):
                name(item.items(t.RT_CONTOUR_IMAGES), number(item.text(t.SERIES_UID)))
    for group in (*elements.items(t.SHARED_GROUPS), *elements.items(t.FRAME_GROUPS)):
        for derivation in group.items(t.DERIVATION_IMAGES):
            name(derivation.items(t.SOURCE_IMAGES))
    if not instances:  # older writers name them at the top level alone, without their series
        for tag in (t.SOURCE_IMAGES, t.REFERENCED_INSTANCES):
            name(elements.items(tag))
    if not instances:  # a structure set may name its images with each contour alone
        for region in elements.items(t.ROI_CONTOURS):
            for contour in region.items(t.CONTOURS):
                name(contour.items(t.RT_CONTOUR_IMAGES))
    classes.pop("", None)
    return NamedImages(tuple(series), tuple(instances), tuple(instances.values()), tuple(classes))


def frame_of_reference(elements: Elements) -> str:
    """FrameOfReferenceUID of an image or of labels; "" where there is none, or several.

    Of an RTSTRUCT that of its regions, which the standard requires (3006,0024), before what the object lists.
    """
    for frames in (
        [item.text(t.ROI_FRAME_OF_REFERENCE) for item in elements.items(t.ROIS)],
        [item.text(t.FRAME_OF_REFERENCE) for item in elements.items(t.RT_FRAMES_OF_REFERENCE)],
    ):
        distinct = set(filter(None, frames))
        if distinct:
            return distinct.pop() if len(distinct) == 1 else ""
    return elements.text(t.FRAME_OF_REFERENCE)


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
    drawn_in = {item.text(t.ROI_FRAME_OF_REFERENCE) for item in elements.items(t.ROIS)} - {""}
    # regions in a frame of reference that the object does not list are drawn on none of its images
    apart = len(frames) > 1 or len(drawn_in) > 1
    for item in elements.items(t.ROIS):
        number = item.integer(t.ROI_NUMBER) or 0
        frame = item.text(t.ROI_FRAME_OF_REFERENCE) or (next(iter(frames)) if len(frames) == 1 else "")
        found.append(
            Segment(
                number,
                harmless(item.text(t.ROI_NAME)),
                type=in_terms(t.ROI_TYPE, types.get(number, "")),
                algorithm=in_terms(t.ROI_ALGORITHM, item.text(t.ROI_ALGORITHM)),
                contours=contours[number],
                references=frames.get(frame, ()) if apart else (),
                frame_of_reference_uid=frame if apart else "",
            )
        )
    return tuple(found)


def _images_by_frame_of_reference(elements: Elements) -> dict[str, tuple[str, ...]]:
    """SeriesInstanceUIDs of the images that an RTSTRUCT names, by FrameOfReferenceUID."""
    found: dict[str, tuple[str, ...]] = {}
    for frame in elements.items(t.RT_FRAMES_OF_REFERENCE):
        images = [item for study in frame.items(t.RT_STUDIES) for item in study.items(t.RT_SERIES)]
        series = (item.text(t.SERIES_UID) for item in images)
        uid = frame.text(t.FRAME_OF_REFERENCE)
        found[uid] = tuple(dict.fromkeys((*found.get(uid, ()), *filter(None, series))))
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
