"""Integrity rules: what must be true of every volume in a store.

Each rule is a function from rows (and where needed the volumes) to findings. A finding names the rule, the
volume, what is wrong and what to do; whoever shows it decides how the volume may be called there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.orientation import affine_from_values, spacing_mm
from radiobject_assets.store import AFFINE_COLUMNS, RadiObject, TileDBContext, VolumeCollection

INGEST_AGAIN = "Materialize the arrival's partition of this collection again: it writes unsound volumes anew."

# Spacing follows from the affine by square roots: equal within float64 rounding, with room for decimal text.
_SPACING_TOLERANCE = 1e-4
# Largest distance of two grids' voxel centres, in voxels, that still counts as the same place.
_GRID_TOLERANCE_VOXELS = 1e-2

_PROBLEMS = {
    "missing": "the row names an array that is not there",
    "unreadable": "its array can't be read",
    "files": "a file of its array is gone or not what was written",
    "digest": "its voxels are not those that were written",
    "index": "its tile index is not that of its array",
    "id": "its array belongs to another volume",
    "shape": "its array has another shape than the row says",
    "dtype": "its array has another data type than the row says",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one volume. `obs_id` and `detail` may identify a person."""

    rule: str
    obs_id: str
    problem: str
    """What is wrong, without any identifier."""
    what_to_do: str
    detail: str = ""


@dataclass(frozen=True)
class IntegrityReport:
    """What the rules found among the volumes of one arrival."""

    n_volumes: int
    voxel_bytes: int
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def check_collections(
    store_uri: str,
    collections: Collection[str] | None,
    *,
    arrival: str | None = None,
    ctx: TileDBContext | None = None,
) -> IntegrityReport:
    """Apply every rule to the volumes of collections, or to those that came with one arrival.

    Voxels are read once, volume by volume, so memory holds one volume's tiles.

    Raises
    ------
    StorageError
        There is no store at that URI.
    """
    rows = read_inventory(store_uri, collections=collections, arrival=arrival, ctx=ctx)
    store = RadiObject(store_uri, ctx=ctx)
    findings: list[Finding] = []
    findings += geometry_is_sound(rows)
    images_of_labels = rows.loc[rows["labels_of"].notna() & (rows["labels_of"] != ""), "labels_of_collection"]
    if len(images_of_labels):
        images = read_inventory(store_uri, collections=set(images_of_labels), ctx=ctx)
        findings += labels_on_image_grid(rows, images)
    for name, group in rows.groupby("collection", sort=True):
        findings += arrays_match_rows(store.collection(str(name)), group)
    return IntegrityReport(len(rows), int(rows["voxel_bytes"].sum()), tuple(findings))


def withdraw_unsound(
    store_uri: str, collections: Collection[str] | None, *, arrival: str, ctx: TileDBContext | None = None
) -> int:
    """Delete the rows of an arrival's volumes that break a rule, so that ingest writes them anew.

    Ingest leaves a volume alone whose source files have not changed; a damaged one must go first. Returns how
    many rows were deleted. Snapshots that have the volumes keep them.
    """
    report = check_collections(store_uri, collections, arrival=arrival, ctx=ctx)
    unsound = {finding.obs_id for finding in report.findings}
    store = RadiObject(store_uri, ctx=ctx)
    for name in store.collection_names:
        found = sorted(unsound.intersection(store.collection(name).obs_ids))
        if found and (collections is None or name in collections):
            store.collection(name).delete(found)
    return len(unsound)


def geometry_is_sound(rows: pd.DataFrame) -> list[Finding]:
    """Affines are finite and invertible, and the spacing is positive and that of the affine."""
    findings = []
    for row in _values(rows):
        affine = _affine(row)
        spacing = np.array([row.spacing_x_mm, row.spacing_y_mm, row.spacing_z_mm], dtype=np.float64)
        problem = ""
        if not np.isfinite(affine).all():
            problem = "the affine has values that are not finite"
        elif not (np.isfinite(spacing).all() and (spacing > 0).all()):
            problem = "the spacing is not positive along every axis"
        elif abs(np.linalg.det(affine[:3, :3])) < 1e-9 * float(np.prod(spacing)):
            problem = "the affine maps the volume into a plane (its determinant is 0)"
        elif not np.allclose(spacing_mm(affine), spacing, rtol=_SPACING_TOLERANCE):
            problem = "the spacing is not that of the affine"
        if problem:
            findings.append(Finding("geometry", str(row.obs_id), problem, INGEST_AGAIN))
    return findings


def labels_on_image_grid(labels: pd.DataFrame, images: pd.DataFrame) -> list[Finding]:
    """Every label volume that names its image has the image's shape and place."""
    by_id = {row.obs_id: row for row in _values(images)}
    findings = []
    for row in _values(labels):
        if not isinstance(row.labels_of, str) or not row.labels_of:
            continue
        image: Any = by_id.get(row.labels_of)
        problem = ""
        if image is None:
            problem = "the image that these labels belong to is not in the store"
        elif image.obs_subject_id != row.obs_subject_id:
            problem = "the image that these labels name belongs to another subject"
        elif _shape(image) != _shape(row):
            problem = f"labels of shape {_shape(row)} for an image of shape {_shape(image)}"
        elif (
            shift := _largest_shift_voxels(_affine(row), _affine(image), _shape(row))
        ) > _GRID_TOLERANCE_VOXELS:
            problem = f"labels lie up to {shift:.3g} voxels away from the image's grid"
        if problem:
            findings.append(Finding("labels_on_grid", str(row.obs_id), problem, INGEST_AGAIN))
    return findings


def arrays_match_rows(collection: VolumeCollection, rows: pd.DataFrame) -> list[Finding]:
    """Every row names an array that is there, as the row describes it, with the voxels of its digest."""
    obs_ids = dict(zip(rows["volume"], rows["obs_id"], strict=True))
    return [
        Finding(
            "array_matches_row",
            str(obs_ids[problem.token]),
            _PROBLEMS.get(problem.code, problem.code),
            INGEST_AGAIN,
            detail=problem.detail,
        )
        for problem in collection.loc[list(obs_ids.values())].verify()
    ]


def _affine(row: object) -> NDArray[np.float64]:
    """The 4x4 affine (voxel index to RAS+ mm) of an obs row."""
    return affine_from_values([getattr(row, name) for name in AFFINE_COLUMNS])


def _shape(row: Any) -> tuple[int, int, int]:
    return (int(row.size_x), int(row.size_y), int(row.size_z))


def _values(rows: pd.DataFrame) -> Iterator[Any]:
    return iter(rows.itertuples(index=False))


def _largest_shift_voxels(
    one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, int, int]
) -> float:
    corners = np.array(
        [[x, y, z, 1] for x in (0, shape[0] - 1) for y in (0, shape[1] - 1) for z in (0, shape[2] - 1)]
    )
    mapped = np.linalg.solve(other, one @ corners.T)[:3] - corners.T[:3]
    return float(np.abs(mapped).max())
