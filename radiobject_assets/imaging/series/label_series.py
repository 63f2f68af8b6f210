"""Label series: segmentations and contours, each judged against the grid of its image (`label_images`).

A SEG becomes one label volume on its image's grid. Overlapping or fractional segments become one volume
each. What cannot be placed on an image is quarantined with the reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from radiobject_assets.imaging.dicom.instance import Instance, Segment
from radiobject_assets.imaging.dicom.label_headers import LABELMAP_STORAGE, RTSTRUCT_STORAGE
from radiobject_assets.imaging.pixels.acceptance import COMPRESSED, Problem, encoding_problem, size_problem
from radiobject_assets.imaging.policy import REFUSE, SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.label_images import FoundImages, ImagesHere, find_images
from radiobject_assets.imaging.series.record import Series, quarantined, series_key
from radiobject_assets.imaging.source import AttributeValue


def label_series(
    uid: str,
    instances: Sequence[Instance],
    images: ImagesHere,
    refused: Collection[Series],
    policy: SeriesPolicy = REFUSE,
) -> list[Series]:
    """The series of the label objects that share a SeriesInstanceUID: one or more for each object."""
    result: list[Series] = []
    for number, instance in enumerate(sorted(instances, key=lambda i: (i.instance_number or 0, i.path))):
        component = "" if len(instances) == 1 else f"object{number + 1}"
        parts = _by_frame_of_reference(instance)
        for part in parts:
            judged = _judge(uid, component, part, images, refused, policy)
            if len(parts) > 1 and judged[0].verdict == "quarantined":
                name = "_".join(filter(None, (component, f"from_roi{part.segments[0].number}")))
                judged = [replace(judged[0], component=name, key=series_key(uid, name))]
            result.extend(judged)
    return _listed_once(result)


def _by_frame_of_reference(instance: Instance) -> list[Instance]:
    """The object, or one with the regions of each frame of reference: they lie on different images."""
    frames = dict.fromkeys((s.references, s.frame_of_reference_uid) for s in instance.segments)
    if len(frames) < 2:
        return [instance]
    return [
        replace(
            instance,
            references=references,
            reference_sops=(),  # not told apart by image
            reference_owners=(),
            frame_of_reference_uid=frame,
            segments=tuple(
                s
                for s in instance.segments
                if (s.references, s.frame_of_reference_uid) == (references, frame)
            ),
        )
        for references, frame in frames
    ]


def _listed_once(found: Sequence[Series]) -> list[Series]:
    """A file is counted with the first series that is made of it."""
    listed: set[Path] = set()
    result = []
    for series in found:
        files = tuple(path for path in series.files if path not in listed)
        listed.update(files)
        result.append(replace(series, files=files))
    return result


def _judge(
    uid: str,
    component: str,
    instance: Instance,
    images: ImagesHere,
    refused: Collection[Series],
    policy: SeriesPolicy,
) -> list[Series]:
    found = find_images(instance, images, refused, policy)
    problem = found if isinstance(found, Problem) else _object_problem(instance)
    if problem is not None or isinstance(found, Problem):
        problem = problem or Problem(Reason.REFERENCE_MISSING, "the labels refer to no image")
        held = quarantined(uid, component, "labels", [instance], problem)
        # what may lie on images that it does not name waits for any of the subject
        return [replace(held, references=()) if policy.labels_on == "same_frame_of_reference" else held]
    made = [
        _ingestable(uid, "_".join(filter(None, (component, name))), instance, found, segments)
        for name, segments in _divided(instance)
    ]
    left = sum(not segment.contours for segment in instance.segments)
    if left and instance.sop_class_uid == RTSTRUCT_STORAGE:
        told = f"{left} of {len(instance.segments)} regions have no closed planar contour and are left out"
        made = [replace(series, detail=told) for series in made]
    return made


def _object_problem(instance: Instance) -> Problem | None:
    if not instance.segments and instance.sop_class_uid != LABELMAP_STORAGE:
        return Problem(Reason.LABELS_EMPTY, "the object describes no segment")
    if (problem := _numbering_problem(instance)) is not None:
        return problem
    if instance.sop_class_uid == RTSTRUCT_STORAGE:
        closed = any(segment.contours for segment in instance.segments)
        return None if closed else Problem(Reason.LABELS_EMPTY, "no region has a closed contour")
    if instance.bits_allocated not in (1, 8, 16) or instance.samples != 1:
        return Problem(
            Reason.UNSUPPORTED_PIXELS, f"{instance.bits_allocated} bits allocated in a segmentation"
        )
    return encoding_problem(instance) or size_problem(instance)


def _numbering_problem(instance: Instance) -> Problem | None:
    """Why the numbers of segments or regions do not tell which voxels are whose."""
    contours = instance.sop_class_uid == RTSTRUCT_STORAGE
    numbers = [segment.number for segment in instance.segments]
    what = "region" if contours else "segment"
    if len(set(numbers)) < len(numbers):
        return Problem(Reason.DAMAGED_HEADER, f"several {what}s have one number")
    if contours or instance.sop_class_uid == LABELMAP_STORAGE or instance.segmentation_type == "LABELMAP":
        return None
    if numbers and min(numbers) < 1:
        return Problem(Reason.DAMAGED_HEADER, "a segment has no number, or 0, which is the background's")
    unknown = {frame.segment for frame in instance.frames} - set(numbers) - {None}
    if unknown:
        return Problem(Reason.DAMAGED_HEADER, f"frames of {len(unknown)} segments that are not described")
    return None


def _divided(instance: Instance) -> list[tuple[str, tuple[Segment, ...]]]:
    """Segments of each volume: all together, or one by one where they may share voxels."""
    if instance.sop_class_uid == RTSTRUCT_STORAGE:  # regions contain each other as a rule
        return [(f"roi{s.number}", (s,)) for s in instance.segments if s.contours]
    apart = instance.segmentation_type == "FRACTIONAL" or instance.segments_overlap == "YES"
    if apart and len(instance.segments) > 1:
        return [(f"segment{segment.number}", (segment,)) for segment in instance.segments]
    return [("", instance.segments)]


def _ingestable(
    uid: str, component: str, instance: Instance, found: FoundImages, segments: tuple[Segment, ...]
) -> Series:
    grid = found.images[0].grid
    fractional = instance.segmentation_type == "FRACTIONAL"
    contours = instance.sop_class_uid == RTSTRUCT_STORAGE
    highest = 1 if contours else max([segment.number for segment in segments], default=0)
    dtype = np.dtype(np.uint16 if highest > 255 or instance.bits_allocated == 16 else np.uint8)
    attributes: dict[str, AttributeValue] = {
        "segments": json.dumps(
            [
                {
                    "value": 1 if contours else s.number,  # regions may overlap: each is a mask of its own
                    "label": s.label,
                    "type": s.type,
                    "category": s.category,
                    "algorithm": s.algorithm,
                }
                for s in segments
            ],
            ensure_ascii=False,
        ),
        "segmentation_type": "CONTOURS" if contours else instance.segmentation_type or "BINARY",
        "labels_found_by": found.by,
    }
    base = quarantined(uid, component, "labels", [instance], Problem(Reason.LABELS_EMPTY, ""))
    return replace(
        base,
        key=series_key(uid, component),
        verdict="ingestable",
        reason=None,
        detail="",
        shape=grid.shape,
        dtype=dtype,
        affine=grid.affine,
        slope=1.0 / instance.max_fraction if fractional and instance.max_fraction else 1.0,
        intercept=0.0,
        decoded_bytes=math.prod(grid.shape) * dtype.itemsize,
        native_codec=instance.transfer_syntax in COMPRESSED,
        attributes={**instance.attributes, **attributes},
        segments=segments,
        references=found.series_uids,
    )
