"""Integrity rules: what must be true of every volume in a store.

Each rule is a function from rows (and where needed the volumes) to findings. Whoever shows a finding decides
how the volume may be called there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Kind, Severity, shown_token
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.diagnostics.row_digests import ROW_DIGEST, changed_parts
from radiobject_assets.errors import StorageError
from radiobject_assets.orientation import affine_from_values, spacing_mm
from radiobject_assets.store import AFFINE_COLUMNS, RadiObject, TileDBContext, Volume, VolumeCollection

# Spacing follows from the affine by square roots: equal within float64 rounding, with room for decimal text.
_SPACING_TOLERANCE = 1e-4
# Largest distance of two grids' voxel centres, in voxels, that still counts as the same place.
_GRID_TOLERANCE_VOXELS = 1e-2
# From a mouse's micro-CT to the thickest scout.
_PLAUSIBLE_SPACING_MM = (0.01, 100.0)

OF_ANOTHER_SUBJECT = "it is another subject's"
"""Evidence that a row says another subject than its array."""
IN_STORE = ("written", "updated", "unchanged")


@dataclass(frozen=True)
class IntegrityReport:
    """What the rules found among the volumes of one arrival, or of all."""

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
    arrivals: Collection[str] | None = None,
    outcomes: Mapping[str, pd.DataFrame] | None = None,
    ctx: TileDBContext | None = None,
) -> IntegrityReport:
    """Apply every rule to the volumes of collections, or to those that came with some arrivals.

    Voxels are read once, volume by volume, so memory holds one volume's tiles.

    Parameters
    ----------
    outcomes
        What was kept of each arrival (`row_digests`): rows are compared with what was written.

    Raises
    ------
    StorageError
        There is no store at that URI.
    """
    rows = read_inventory(store_uri, collections=collections, arrivals=arrivals, ctx=ctx)
    store = RadiObject(store_uri, ctx=ctx)
    findings: list[Finding] = []
    findings += geometry_is_sound(rows)
    findings += labels_on_their_images(store_uri, rows, ctx)
    subjects = set(store.obs_subject_ids)
    for arrival, kept in (outcomes or {}).items():
        # another arrival may have brought the same series later: its row is there, and is that one's
        ids = {str(one) for one in kept["obs_id"].dropna()}
        theirs = read_inventory(store_uri, collections=collections, obs_ids=ids, ctx=ctx)
        findings += rows_as_written(theirs, kept, arrival, subjects)
    for name, group in rows.groupby("collection", sort=True):
        findings += arrays_match_rows(store.collection(str(name)), group, ctx)
    return IntegrityReport(len(rows), int(rows["voxel_bytes"].sum()), tuple(findings))


def withdraw_unsound(
    store_uri: str,
    collections: Collection[str] | None,
    *,
    arrival: str,
    can_be_made: Collection[str],
    outcomes: pd.DataFrame | None = None,
    ctx: TileDBContext | None = None,
) -> int:
    """Delete the rows of an arrival's volumes that break a rule, so that ingest writes them anew.

    Ingest leaves a volume alone whose source files have not changed; a damaged one must go first. Returns how
    many rows were deleted. Snapshots that have the volumes keep them.

    Parameters
    ----------
    can_be_made
        obs_ids whose source is there: no other row is deleted, since nothing would come in its place.
    """
    kept = {} if outcomes is None else {arrival: outcomes}
    report = check_collections(store_uri, collections, arrivals=[arrival], outcomes=kept, ctx=ctx)
    broken = {finding.obs_id for finding in report.findings if finding.kind.severity is Severity.ERROR}
    unsound = broken.intersection(can_be_made)
    store = RadiObject(store_uri, ctx=ctx)
    withdrawn = 0
    for name in store.collection_names:
        found = sorted(unsound.intersection(store.collection(name).obs_ids))
        if found and (collections is None or name in collections):
            store.collection(name).delete(found)
            withdrawn += len(found)
    return withdrawn


def geometry_is_sound(rows: pd.DataFrame) -> list[Finding]:
    """Affines are finite and invertible, and the spacing is positive, plausible and that of the affine."""
    findings = []
    for row in _values(rows):
        affine = _affine(row)
        spacing = np.array([row.spacing_x_mm, row.spacing_y_mm, row.spacing_z_mm], dtype=np.float64)
        problem, kind = "", kinds.GEOMETRY
        if not np.isfinite(affine).all():
            problem = "the affine has values that are not finite"
        elif not (np.isfinite(spacing).all() and (spacing > 0).all()):
            problem = "the spacing is not positive along every axis"
        elif abs(np.linalg.det(affine[:3, :3])) < 1e-9 * float(np.prod(spacing)):
            problem = "the affine maps the volume into a plane (its determinant is 0)"
        elif not np.allclose(spacing_mm(affine), spacing, rtol=_SPACING_TOLERANCE):
            problem = "the spacing is not that of the affine"
        elif (spacing < _PLAUSIBLE_SPACING_MM[0]).any() or (spacing > _PLAUSIBLE_SPACING_MM[1]).any():
            problem, kind = " x ".join(f"{s:.3g}" for s in spacing) + " mm", kinds.ODD_SPACING
        if problem:
            findings.append(about_volume(kind, row, problem))
    return findings


def labels_on_their_images(
    store_uri: str, rows: pd.DataFrame, ctx: TileDBContext | None = None
) -> list[Finding]:
    """`labels_on_image_grid` for the labels among these rows; their images are looked up."""
    named = rows["labels_of"].notna() & (rows["labels_of"] != "")
    if not named.any():
        return []
    owners = rows.loc[named]
    images = read_inventory(
        store_uri,
        collections=set(owners["labels_of_collection"]),
        obs_ids=set(owners["labels_of"]),
        ctx=ctx,
    )
    return labels_on_image_grid(rows, images)


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
            away = f"labels lie up to {shift:.3g} voxels away from the image's grid"
            problem = away if math.isfinite(shift) else "the image has no place that labels can lie at"
        if problem:
            findings.append(about_volume(kinds.LABELS_OFF, row, problem))
    return findings


def arrays_match_rows(
    collection: VolumeCollection, rows: pd.DataFrame, ctx: TileDBContext | None = None
) -> list[Finding]:
    """Every row names an array that is there, as the row describes it, with the voxels of its digest.

    The array says of itself where it lies and how it is scaled, as it was written: a row that says something
    else was changed since.
    """
    by_token = {str(row.volume): row for row in _values(rows)}
    chosen = collection.with_values("obs_id", [str(row.obs_id) for row in by_token.values()])
    findings, damaged = [], set()
    for problem in chosen.verify():
        row = by_token.get(problem.token)
        if row is not None:
            damaged.add(problem.token)
            findings.append(about_volume(kinds.OF_ARRAYS[problem.code], row))
    for volume in chosen:
        row = by_token.get(volume.uri.rstrip("/").rpartition("/")[2])
        if row is not None and str(row.volume) not in damaged:
            findings += _row_says_what_the_array_says(volume, row, ctx)
    return findings


def _row_says_what_the_array_says(volume: Volume, row: Any, ctx: TileDBContext | None) -> Iterator[Finding]:
    try:
        own = Volume(volume.uri, ctx=ctx)
    except StorageError:
        yield about_volume(kinds.ARRAY_UNREADABLE, row)
        return
    differ = []
    shift = _largest_shift_voxels(_affine(row), np.asarray(own.affine), _shape(row))
    if not shift <= _GRID_TOLERANCE_VOXELS:
        moved = np.linalg.norm(_affine(row)[:3, 3] - np.asarray(own.affine)[:3, 3])
        differ.append(f"its affine is not that of its array (origin {moved:.3g} mm away)")
    if (own.slope, own.intercept) != (float(row.slope), float(row.intercept)):
        differ.append(
            f"slope {row.slope:g}, intercept {row.intercept:g} in place of {own.slope:g}, {own.intercept:g}"
        )
    if own.obs_subject_id not in (None, row.obs_subject_id):
        differ.append(OF_ANOTHER_SUBJECT)
    if own.kind != (row.kind or "image"):
        differ.append(f"it is of kind {row.kind} in place of {own.kind}")
    if differ:
        yield about_volume(kinds.ROW_CHANGED, row, "; ".join(differ))


def rows_as_written(
    rows: pd.DataFrame, outcomes: pd.DataFrame, arrival: str, subjects: Collection[str]
) -> list[Finding]:
    """The rows of an arrival are those that its ingest wrote, and all of them are there.

    Parameters
    ----------
    rows
        Inventory, of one or several collections.
    outcomes
        What was kept of the arrival: `obs_id`, `subject_id`, `collection`, `status`, `series_token`,
        `row_digest`.
    subjects
        Subjects that the store has: who was deleted (`store.delete_subjects`) is not missed.
    """
    there = {(row.collection, row.obs_id): row for row in _values(rows)}
    findings = []
    for kept in outcomes.loc[outcomes["status"].isin(IN_STORE)].to_dict("records"):
        name, digest = str(kept["collection"]), kept.get(ROW_DIGEST)
        row = there.get((name, kept["obs_id"]))
        if row is None and kept["subject_id"] not in subjects:
            continue
        if row is None:
            findings.append(
                Finding(
                    kinds.VOLUME_GONE,
                    f"series {kept['series_token']}",
                    collection=name,
                    arrival=arrival,
                    obs_id=str(kept["obs_id"]),
                )
            )
        elif isinstance(digest, str) and digest and row.arrival == arrival:
            changed = changed_parts(row._asdict(), digest)
            if changed:
                findings.append(
                    about_volume(kinds.ROW_CHANGED, row, f"its {' and '.join(changed)} changed since")
                )
    return findings


def about_volume(kind: Kind, row: Any, evidence: str = "") -> Finding:
    """A finding about the volume of an inventory row."""
    return Finding(
        kind,
        f"volume {shown_token(str(row.volume))}",
        evidence,
        collection=str(getattr(row, "collection", "") or ""),
        arrival=row.arrival if isinstance(row.arrival, str) else "",
        obs_id=str(row.obs_id),
    )


def once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings without those that two rules made of the same thing: the first counts."""
    found: Mapping[str, Finding] = {finding.id: finding for finding in reversed(list(findings))}
    return tuple(reversed(list(found.values())))


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
    try:
        mapped = np.linalg.solve(other, one @ corners.T)[:3] - corners.T[:3]
    except np.linalg.LinAlgError:
        return math.inf  # the image's affine, of which it is told, has no place for them
    return float(np.abs(mapped).max())
