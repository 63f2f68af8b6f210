"""From a label series to the source of its values on the voxels of the image that it belongs to.

Segmentations and contours (SEG, RTSTRUCT) are drawn on a grid that they are given. An image of labels (NIfTI,
or DICOM that dataset.yaml calls labels) finds its image by its own grid; then it becomes whole numbers, one a
voxel, on the image's axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.label_headers import RTSTRUCT_STORAGE
from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.labels.grid_difference import difference
from radiobject_assets.imaging.labels.one_hot import OneHotLabels
from radiobject_assets.imaging.labels.turning import TurnedVoxels, turn_onto
from radiobject_assets.imaging.labels.whole_numbers import whole_numbers
from radiobject_assets.imaging.opening.contour_source import lies_on
from radiobject_assets.imaging.opening.members import local_copy
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.pixels.decoders import Decoders
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.source import ImageSource
from radiobject_assets.ingest.labels_on_images.labelled_image import Entities, ImageCandidate, image_of_labels
from radiobject_assets.ingest.naming.file_place import FilePlace

LabelChannels = Literal["quarantine", "one_hot", "one_hot_with_background", "each_point"]
# Physical values are float64 while they are looked at, beside what says which are whole.
_BYTES_A_VALUE = 32


def open_drawn_labels(
    series: Series, images: Sequence[ImageCandidate], decoders: Decoders | None
) -> tuple[ImageSource, ImageCandidate]:
    """A segmentation or contours on one of the images that they refer to.

    Raises
    ------
    ImageReadError
        There is none, or the labels lie on none of them (the reason of the last that was tried).
    """
    found_by = str(series.attributes.get("labels_found_by") or "reference")
    if series.instances[0].sop_class_uid == RTSTRUCT_STORAGE:
        images = _drawn_on(series, images, certain=found_by in ("reference", "instances"))
    refused: ImageReadError | None = None
    for image in _likeliest_first(series, images):
        try:
            return open_series(series, image.grid, decoders), replace(image, found_by=found_by)
        except ImageReadError as error:
            refused = error
    if refused is not None:
        raise refused
    raise ImageReadError(Reason.REFERENCE_MISSING, "the image that it refers to is not in the store")


def _likeliest_first(series: Series, images: Sequence[ImageCandidate]) -> list[ImageCandidate]:
    """Of a series that is several volumes (orientations) first the one that the scan found to be meant."""
    judged = series.grid
    order = {uid: number for number, uid in enumerate(series.references)}
    return sorted(
        images,
        key=lambda image: (
            judged is None or not judged.same_as(image.grid),
            order.get(image.series_uid, len(order)),
        ),
    )


def _drawn_on(series: Series, images: Sequence[ImageCandidate], *, certain: bool) -> Sequence[ImageCandidate]:
    """Of several images those on whose slices contours lie.

    Where the image is not certain (the contours do not name it), what lies on slices of several series, or on
    those of none, is held back.
    """
    distinct = {image.series_uid for image in images}
    named_space = series.attributes.get("labels_found_by") != "grid"
    if len(images) < 2 and named_space:
        return images
    with local_copy(series) as local:
        on = [image for image in images if lies_on(local, image.grid)]
    if certain:
        return on or images
    if len({image.series_uid for image in on}) == 1 or (named_space and len(distinct) == 1):
        return on or images
    where = f"lie on the slices of {len({image.series_uid for image in on}) or 'none'} of {len(distinct)}"
    raise ImageReadError(
        Reason.REFERENCE_AMBIGUOUS if on or named_space else Reason.REFERENCE_MISSING,
        f"the contours name no image series, and {where} that may be theirs",
    )


def open_image_of_labels(
    series: Series,
    images: Sequence[ImageCandidate],
    told: Entities,
    file: FilePlace | None,
    *,
    channels: LabelChannels,
    held_bytes: int,
    decoders: Decoders | None,
) -> tuple[ImageSource, ImageCandidate]:
    """An image of labels, as whole numbers on the axes of the image that has its voxels.

    Parameters
    ----------
    told
        What the labels say to tell their image from others (`labelled_image.entities_of`).
    channels
        What a fourth axis is.
    held_bytes
        Of decoded voxels at once.

    Raises
    ------
    ImageReadError
        There is no such image or several (`labelled_image.image_of_labels`); LABELS_WITH_CHANNELS for a
        fourth axis that is not their image's, LABELS_NOT_WHOLE for values between whole numbers.
    """

    def reopen() -> ImageSource:
        return open_series(series, decoders=decoders)

    def depth_of(source: ImageSource) -> int:
        return max(1, held_bytes // (_BYTES_A_VALUE * math.prod(source.shape[:2])))

    source = reopen()
    grid = Grid((source.shape[0], source.shape[1], source.shape[2]), source.affine)
    image = image_of_labels(grid, told, images, file, series.study_uid)
    _check_channels(source.shape, image, channels)
    turn = turn_onto(grid, image.grid)
    if turn is None:
        raise ImageReadError(Reason.LABELS_OFF_GRID, difference(grid, image.grid))
    values = whole_numbers(reopen, depth_of)
    if len(values.shape) == 4 and (channels == "one_hot" or channels == "one_hot_with_background"):
        values = OneHotLabels(values, channels)
    return TurnedVoxels(values, turn, image.grid), replace(image, found_by="grid")


def _check_channels(shape: tuple[int, ...], image: ImageCandidate, channels: LabelChannels) -> None:
    """A fourth axis of labels is their image's, or is made into values; else nobody knows what it is."""
    if len(shape) == 3 or channels in ("one_hot", "one_hot_with_background"):
        return
    known = image.fourth_axis not in ("", "unknown", "channel", "component")
    if shape[3] == image.n_points and (channels == "each_point" or known):
        return
    points = f"{image.n_points} points" if image.n_points > 1 else "no fourth axis"
    raise ImageReadError(
        Reason.LABELS_WITH_CHANNELS, f"the labels have {shape[3]} channels, and their image {points}"
    )
