"""Which image of a subject an image of labels was drawn on: its grid, and what the names of both say.

A grid alone does not tell: the sessions of a study that was registered to one space, or a scanner's usual
field of view, have one grid for several images, and labels of one session must never go with another's image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.labels.grid_difference import difference
from radiobject_assets.imaging.labels.turning import nearest_turn, turn_onto
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.ingest.naming.file_place import FilePlace, one_acquisition, those_of_labels
from radiobject_assets.orientation import spacing_mm

_APART = ("session", "run")
TELLING = (
    *_APART, "task", "acquisition", "contrast_label", "tracer", "reconstruction", "direction", "echo", "part",
    "inversion",
)  # fmt: skip
"""Columns of obs by which labels and images of one subject find each other (BIDS entities)."""

Entities = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ImageCandidate:
    """A committed image volume that labels may belong to, and what its row says to tell it from others."""

    obs_id: str
    collection: str
    grid: Grid
    entities: Entities = ()
    file: FilePlace | None = None
    """Of an image that came with the labels: where its file lies."""
    series_uid: str = ""
    study_uid: str = ""
    n_points: int = 1
    """Along the fourth axis."""
    fourth_axis: str = ""
    """What that axis is, where it is known."""
    found_by: str = ""
    """How labels found it: `reference`, `instances`, `frame_of_reference`, `grid`."""

    @cached_property
    def centre_mm(self) -> NDArray[np.float64]:
        """The middle of the volume (3; RAS), wherever its first voxel is."""
        return _centre_mm(self.grid)


def _centre_mm(grid: Grid) -> NDArray[np.float64]:
    half = (np.array(grid.shape, dtype=np.float64) - 1) / 2
    return np.asarray(grid.affine[:3, :3] @ half + grid.affine[:3, 3], dtype=np.float64)


def images_on_grid(grid: Grid, images: Sequence[ImageCandidate]) -> list[ImageCandidate]:
    """Of many images those on the labels' voxels, however their axes are stored."""
    if not images:
        return []
    off = np.abs(np.array([image.centre_mm for image in images]) - _centre_mm(grid)).max(axis=1)
    # what shares voxels has one middle; a voxel's length leaves room for any tolerance
    near = np.flatnonzero(off <= max(spacing_mm(grid.affine)))
    return [images[i] for i in near.tolist() if turn_onto(grid, images[i].grid) is not None]


def entities_of(values: Mapping[str, Any], arrival: str) -> Entities:
    """What a row, or a series' attributes, says to tell an image from others of its subject."""
    told = {name: values.get(name) for name in TELLING} | {"arrival": arrival}
    return tuple((name, str(value)) for name, value in told.items() if value not in (None, ""))


def image_of_labels(
    grid: Grid,
    entities: Entities,
    images: Sequence[ImageCandidate],
    file: FilePlace | None = None,
    study_uid: str = "",
) -> ImageCandidate:
    """The image on the labels' voxels that agrees best with them; of several collections the first.

    The labels may be stored in another order or direction of axes (`turning.turn_onto`). Of DICOM labels the
    images of their own study come first. Where several agree alike, and all came with the labels, whose file
    is `file`: the files' folders and names decide; images of one acquisition (`file_place.one_acquisition`)
    are all theirs, and one is taken.

    Raises
    ------
    ImageReadError
        REFERENCE_MISSING where none of the labels' session and run is here, LABELS_OFF_GRID where none has
        their grid, REFERENCE_AMBIGUOUS where several of one collection agree with them equally.
    """
    own = dict(entities)
    if not images:
        raise ImageReadError(Reason.REFERENCE_MISSING, "no image of this subject is in the store")
    on_grid = images_on_grid(grid, images)
    if not on_grid:
        raise ImageReadError(Reason.LABELS_OFF_GRID, _off_grid(grid, own, images))
    if study_uid:
        on_grid = [image for image in on_grid if image.study_uid == study_uid] or on_grid
    possible = [
        image
        for image in on_grid
        if not _contradicts(own, dict(image.entities)) and not _of_other_dates(file, image.file)
    ]
    if not possible:
        raise ImageReadError(
            Reason.REFERENCE_MISSING, "no image of the labels' session and run has their grid here"
        )
    best = max(_agreement(own, dict(image.entities)) for image in possible)
    chosen = [image for image in possible if _agreement(own, dict(image.entities)) == best]
    # stored as the labels are, it is nearer to them than a turned copy of it
    chosen = [image for image in chosen if image.grid.same_as(grid)] or chosen
    files = [image.file for image in chosen if image.file is not None]
    told = file is not None and len(files) == len(chosen)
    if file is not None and told and len(chosen) > 1:
        chosen = [chosen[i] for i in those_of_labels(file, files)]
    rivals = [image for image in chosen if image.collection == chosen[0].collection]
    named = {image.file: image for image in rivals if image.file is not None}
    if len(rivals) > 1 and not (told and len(named) == len(rivals) and one_acquisition([*named])):
        raise ImageReadError(
            Reason.REFERENCE_AMBIGUOUS,
            f"{len(rivals)} images of {chosen[0].collection!r} have the labels' grid, session and run alike",
        )
    return named[min(named, key=lambda place: place.contrasts)] if len(rivals) > 1 else chosen[0]


def _off_grid(grid: Grid, own: Mapping[str, str], images: Sequence[ImageCandidate]) -> str:
    """By how much labels miss the image that is nearest to them, of those of their session and run."""
    possible = [image for image in images if not _contradicts(own, dict(image.entities))] or images
    nearest = min(possible, key=lambda image: _distance(grid, image.grid))
    which = f"none of {len(images)} images of the subject has their grid; of the nearest: "
    return (which if len(images) > 1 else "") + difference(grid, nearest.grid)


def _distance(labels: Grid, image: Grid) -> tuple[bool, float]:
    turn = nearest_turn(labels, image)
    turned = labels if turn is None else turn.grid(labels)
    alike = turned.shape == image.shape
    return not alike, turned.off_by_voxels(image) if alike else 0.0


def _contradicts(labels: Mapping[str, str], image: Mapping[str, str]) -> bool:
    return any(name in labels and name in image and labels[name] != image[name] for name in _APART)


def _of_other_dates(labels: FilePlace | None, image: FilePlace | None) -> bool:
    """Whether both lie in folders named after dates, which are not the same."""
    dates = {place.date for place in (labels, image) if place is not None and place.date}
    return len(dates) > 1


def _agreement(labels: Mapping[str, str], image: Mapping[str, str]) -> int:
    """What both say alike, less what only one says or they say differently."""
    alike = sum(labels[name] == image[name] for name in labels.keys() & image.keys())
    return 2 * alike - len(labels.keys() | image.keys())
