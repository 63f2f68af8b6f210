"""From the planes of one component to a volume: which positions there are, in which order, at which points.

Slices are ordered by their position along the normal, never by InstanceNumber; several planes at one
position are points of a fourth axis (`fourth_axis`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from radiobject_assets.imaging.geometry import (
    LARGEST_TOLERANCE,
    SAME_POSITION_MM,
    Float,
    dicom_affine,
    order_positions,
    slice_normal,
    usual_gap,
)
from radiobject_assets.imaging.pixels.acceptance import Problem
from radiobject_assets.imaging.policy import REFUSE, SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.evidence.fourth_axis import FourthAxis, in_order
from radiobject_assets.imaging.series.evidence.places import same_place_mm, slots_along
from radiobject_assets.imaging.series.evidence.plane import Plane

T = TypeVar("T")
_SHIFTED_MM = 10 * SAME_POSITION_MM


@dataclass(frozen=True, eq=False)
class Stacked:
    """Planes in volume order (fourth axis outermost), affine (RAS+), numbers of slices and points."""

    planes: tuple[Plane, ...]
    affine: Float
    n_slices: int
    n_times: int
    slice_positions_mm: tuple[float, ...] | None = None
    """Along the normal from the first slice, where the spacing is irregular and was accepted."""
    axis: FourthAxis | None = None
    """What the fourth axis is; None for 3D volumes."""


def stack(planes: Sequence[Plane], policy: SeriesPolicy = REFUSE) -> Stacked | Problem:
    """Order the planes of one component (one orientation, pixel spacing, echo...) into a volume.

    Returns
    -------
    Stacked | Problem
        The volume, or why there is none: geometry that is absent or impossible, a single image, missing
        slices, variable spacing, positions that exist several times, an order that nothing proves.
    """
    if not all(plane.placed for plane in planes):
        return Problem(Reason.NO_GEOMETRY, _what_is_absent(planes))
    orientation, pixel_spacing = _usual(planes)
    try:
        normal = slice_normal(orientation)
    except ValueError as error:
        return Problem(Reason.BAD_GEOMETRY, str(error))
    positions = np.array([p.frame.position for p in planes], dtype=np.float64)
    if np.abs(positions).max() > 1e6:
        return Problem(Reason.BAD_GEOMETRY, "a slice is more than a kilometre away")
    slots, problem = _positions(positions, normal, same_place_mm(planes, positions @ normal))
    problem = problem or _misplaced(planes, slots)
    if problem is not None:
        return problem
    if len(slots) == 1:
        return _one_position([planes[i] for i in slots[0]], normal, policy)
    stacked = order_positions(np.array([positions[slot[0]] for slot in slots]), normal)
    if not stacked.regular:
        problem = _irregular(stacked.gaps, stacked.missing)
        if policy.irregular_spacing != "keep" or problem.reason is Reason.BAD_GEOMETRY:
            return problem
    counts = [len(slot) for slot in slots]
    if len(set(counts)) > 1:
        return _uneven(counts)
    columns = [[planes[i] for i in slots[k]] for k in stacked.order]
    axis: FourthAxis | None = None
    if counts[0] > 1:
        found = in_order(columns, one_position=False)
        if isinstance(found, Problem):
            return found
        columns, axis = found
    ordered = tuple(column[time] for time in range(counts[0]) for column in columns)
    affine = dicom_affine(ordered[0].frame.position or (), orientation, pixel_spacing, stacked.step.tolist())
    places_mm = None if stacked.regular else (0.0, *np.cumsum(stacked.gaps).tolist())
    return Stacked(ordered, affine, len(slots), counts[0], places_mm, axis)


def _usual(planes: Sequence[Plane]) -> tuple[tuple[float, ...], tuple[float, float]]:
    """Orientation and pixel spacing of most planes: within a component they differ by noise alone."""
    return (
        _most_frequent([plane.frame.orientation or () for plane in planes]),
        _most_frequent([plane.frame.pixel_spacing or (1.0, 1.0) for plane in planes]),
    )


def _most_frequent(values: Sequence[T]) -> T:
    return Counter(values).most_common(1)[0][0]


def _one_position(planes: list[Plane], normal: Float, policy: SeriesPolicy) -> Stacked | Problem:
    """One slice, or a time series of one; its extent along the normal is what the header says of slices."""
    first = planes[0].frame
    thick = bool(first.thickness_mm and first.thickness_mm > 0)
    if len(planes) == 1 and (policy.single_slices != "keep" or not thick):
        how = "" if thick else ", and its thickness is not given"
        return Problem(Reason.SINGLE_SLICE, f"there is only one slice{how}")
    columns, axis = [planes], None
    if len(planes) > 1:
        found = in_order(columns, one_position=True)
        if isinstance(found, Problem):
            return found
        columns, axis = found
    if not first.thickness_mm or not thick:
        return Problem(
            Reason.SINGLE_POSITION,
            f"all {len(planes)} images lie at the same position, one after the other in time, and their"
            " thickness is not given",
        )
    orientation, pixel_spacing = _usual(planes)
    affine = dicom_affine(
        first.position or (), orientation, pixel_spacing, (normal * first.thickness_mm).tolist()
    )
    return Stacked(tuple(columns[0]), affine, 1, len(planes), None, axis)


def _what_is_absent(planes: Sequence[Plane]) -> str:
    lacking = {
        "ImagePositionPatient": sum(p.frame.position is None for p in planes),
        "ImageOrientationPatient": sum(p.frame.orientation is None for p in planes),
        "PixelSpacing": sum(p.frame.pixel_spacing is None for p in planes),
    }
    names = [name for name, count in lacking.items() if count]
    return f"{', '.join(names)} absent or invalid in {max(lacking.values())} of {len(planes)} images"


def _positions(
    positions: Float, normal: Float, tolerance_mm: float
) -> tuple[list[list[int]], Problem | None]:
    """Indices of the planes at each distinct position, ordered along the normal."""
    slots = slots_along(positions @ normal, tolerance_mm)
    for slot in slots:
        if len(slot) == 1:
            continue
        off = np.linalg.norm(positions[slot] - positions[slot[0]], axis=1)
        if off.max() > max(_SHIFTED_MM, 2 * tolerance_mm):
            return [], Problem(
                Reason.BAD_GEOMETRY,
                f"slices in one plane are shifted against each other by up to {off.max():.3f} mm",
            )
    return slots, None


def _misplaced(planes: Sequence[Plane], slots: Sequence[Sequence[int]]) -> Problem | None:
    """Slices of one position whose SliceLocation says that they are not."""
    for slot in slots:
        told = [planes[i].frame.slice_location for i in slot]
        known = [value for value in told if value is not None]
        if len(known) > 1 and max(known) - min(known) > _SHIFTED_MM:
            where = "all" if len(slots) == 1 else f"at {len(slots)} positions,"
            return Problem(
                Reason.BAD_GEOMETRY,
                f"{where} {len(slot)} slices have one ImagePositionPatient, while SliceLocation runs from"
                f" {min(known):g} to {max(known):g} mm: the positions are wrong",
            )
    return None


def _uneven(counts: Sequence[int]) -> Problem:
    usual = Counter(counts).most_common(1)[0][0]
    more = [count for count in counts if count > usual]
    if usual == 1:
        return Problem(
            Reason.DUPLICATE_POSITIONS,
            f"{len(more)} of {len(counts)} positions exist {max(more)} times with different images"
            f" ({sum(counts)} images)",
        )
    fewer = sum(count < usual for count in counts)
    each = f"{usual} images at most of {len(counts)} positions"
    parts = [f"{fewer} have fewer"] if fewer else []
    parts += [f"{len(more)} have more"] if more else []
    return Problem(Reason.INCOMPLETE_TIME_SERIES, f"{each}, {' and '.join(parts)} ({sum(counts)} images)")


def _irregular(gaps: Float, missing: int) -> Problem:
    usual = usual_gap(gaps)
    if missing:
        worst = int(np.argmax(gaps))
        return Problem(
            Reason.MISSING_SLICE,
            f"{missing} of {len(gaps) + 1 + missing} slices missing: {gaps[worst]:.3f} mm after slice "
            f"{worst + 1} where {usual:.3f} mm are usual",
        )
    if float(gaps.max() - gaps.min()) <= LARGEST_TOLERANCE * usual:
        return Problem(Reason.BAD_GEOMETRY, "slice positions do not lie on one line")
    return Problem(
        Reason.VARIABLE_SPACING,
        f"slices are {gaps.min():.3f} to {gaps.max():.3f} mm apart (usually {usual:.3f} mm)",
    )
