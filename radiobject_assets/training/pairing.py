"""Which label volume belongs to which image, from the obs rows of both collections.

Pairs are never made by position. A label row that names its image (`labels_of`) belongs to that image;
without a name, it belongs to the one image of its subject that has the same grid. Whatever stays without
exactly one partner is left out, with a reason.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError
from radiobject_assets.training.alignment import affine_of, check_same_grid


class LeftOutReason(StrEnum):
    """Why an image gives no patches."""

    NO_LABELS = "no_labels"
    """No label volume belongs to it."""
    SEVERAL_LABEL_VOLUMES = "several_label_volumes"
    """More than one label volume claims it, and none is marked as the one to use."""
    GRIDS_DIFFER = "grids_differ"
    """Its label volume has another shape or place; it must be resampled first."""
    NOT_3D = "labels_not_3d"
    """Its label volume is not 3D."""
    LABELS_RESCALED = "labels_rescaled"
    """Its label volume has a rescale slope or intercept: what its stored numbers stand for is unclear."""
    NO_SUCH_POINT = "no_such_point"
    """Its fourth axis has no such point as is asked for, or it has no fourth axis."""


@dataclass(frozen=True)
class LeftOut:
    """An image that gives no patches, and why. The ids may identify a person: count them, don't log them."""

    obs_id: str
    obs_subject_id: str
    reason: LeftOutReason
    detail: str
    volume: str = ""
    """The token of its array, which identifies nobody."""


@dataclass(frozen=True)
class VolumeRow:
    """What cutting patches needs to know of one obs row."""

    obs_id: str
    obs_subject_id: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: NDArray[np.float64]
    slope: float
    intercept: float
    content: str
    """The voxel digest; where a row has none, the token of its array, which is new at every write."""
    labels_of: str
    """obs_id of the image that a label volume names; empty for others."""
    lineage: tuple[tuple[str, str], ...]
    """Where the volume came from: `series_uid`, `study_uid`, `source_digest`."""
    points: tuple[str | float, ...] = ()
    """The entries of its fourth axis (obs `fourth_axis_values`)."""
    volume: str = ""
    """The token of its array."""

    def index_of(self, point: str | float) -> int | None:
        """The index of a point along the fourth axis; None where there is none of this name or value."""
        return self.points.index(point) if point in self.points else None


LINEAGE_COLUMNS = ("series_uid", "study_uid", "source_digest")


def volume_rows(obs: pd.DataFrame) -> list[VolumeRow]:
    """The obs table of one collection as values, sorted by obs_id."""
    table = obs.reset_index() if "obs_id" not in obs or "obs_subject_id" not in obs else obs
    rows = [_volume_row(row) for row in table.to_dict("records")]
    return sorted(rows, key=lambda row: row.obs_id)


def _volume_row(row: Mapping[Hashable, Any]) -> VolumeRow:
    return VolumeRow(
        obs_id=row["obs_id"],
        obs_subject_id=row["obs_subject_id"],
        shape=tuple(int(row[f"size_{axis}"]) for axis in "xyzt"[: int(row["ndim"])]),
        dtype=np.dtype(row["dtype"]),
        affine=affine_of({str(name): value for name, value in row.items()}),
        slope=float(row["slope"]),
        intercept=float(row["intercept"]),
        content=_text(row, "voxel_digest") or _text(row, "volume"),
        labels_of=_text(row, "labels_of"),
        lineage=tuple((name, _text(row, name)) for name in LINEAGE_COLUMNS),
        points=points_of(_text(row, "fourth_axis_values")),
        volume=_text(row, "volume"),
    )


def points_of(text: str) -> tuple[str | float, ...]:
    """The entries of a JSON list of names or numbers; none of anything else."""
    try:
        found = json.loads(text) if text else []
    except ValueError:
        return ()
    return tuple(found) if isinstance(found, list) else ()


def _text(row: Mapping[Hashable, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def pair_labels(
    images: list[VolumeRow], labels: list[VolumeRow]
) -> tuple[list[tuple[VolumeRow, VolumeRow]], list[LeftOut]]:
    """Pair every image with its label volume.

    Returns
    -------
    The pairs, in the order of `images`, and the images that are left out.
    """
    named: dict[str, list[VolumeRow]] = {}
    unnamed: dict[str, list[VolumeRow]] = {}
    for label in labels:
        if label.labels_of:
            named.setdefault(label.labels_of, []).append(label)
        else:
            unnamed.setdefault(label.obs_subject_id, []).append(label)
    pairs, left_out = [], []
    for image in images:
        if image.obs_id in named:
            found = named[image.obs_id]
        else:
            candidates = unnamed.get(image.obs_subject_id, [])
            # a single candidate is kept whatever its grid, so that the reason is "grids differ", not "none"
            found = [label for label in candidates if same_grid(image, label)] or candidates[:1]
        problem = _problem(image, found)
        if problem is None:
            pairs.append((image, found[0]))
        else:
            left_out.append(LeftOut(image.obs_id, image.obs_subject_id, *problem, image.volume))
    return pairs, left_out


def pairs_to_cut(
    images: list[VolumeRow], labels: list[VolumeRow] | None, point: str | float | None = None
) -> tuple[list[tuple[VolumeRow, VolumeRow | None]], list[LeftOut]]:
    """The images that training can use, with their labels, and those that it can't.

    Parameters
    ----------
    labels
        None where none are asked for.
    point
        Only images whose fourth axis has a point of this name or value.
    """
    usable = [image for image in images if point is None or image.index_of(point) is not None]
    pairs: list[tuple[VolumeRow, VolumeRow | None]] = [(image, None) for image in usable]
    left_out: list[LeftOut] = []
    if labels is not None:
        found, left_out = pair_labels(usable, labels)
        pairs = [*found]
    return pairs, [
        *(
            LeftOut(
                image.obs_id,
                image.obs_subject_id,
                LeftOutReason.NO_SUCH_POINT,
                f"its fourth axis has {', '.join(map(str, image.points)) or 'no known points'}, not {point}",
                image.volume,
            )
            for image in images
            if point is not None and image.index_of(point) is None
        ),
        *left_out,
    ]


def same_grid(image: VolumeRow, label: VolumeRow) -> bool:
    """Whether two volumes lie on one another."""
    try:
        check_same_grid(image.shape, image.affine, label.shape, label.affine, "")
    except AlignmentError:
        return False
    return True


def _problem(image: VolumeRow, found: list[VolumeRow]) -> tuple[LeftOutReason, str] | None:
    if not found:
        return LeftOutReason.NO_LABELS, "no label volume names it, and its subject has no other one"
    if len(found) > 1:
        return LeftOutReason.SEVERAL_LABEL_VOLUMES, f"{len(found)} label volumes belong to it; keep one"
    (label,) = found
    if len(label.shape) != 3:
        return LeftOutReason.NOT_3D, f"labels of shape {label.shape}"
    if (label.slope, label.intercept) != (1.0, 0.0):
        return LeftOutReason.LABELS_RESCALED, f"labels with slope {label.slope}, intercept {label.intercept}"
    try:
        check_same_grid(image.shape, image.affine, label.shape, label.affine, "image and labels")
    except AlignmentError as error:
        return LeftOutReason.GRIDS_DIFFER, str(error)
    return None
