"""From the planes of one component to a volume: which positions there are, in which order, at which times.

Slices are ordered by their position along the normal, never by InstanceNumber; several planes at one
position are time points (or b-values), ordered by what the headers say about time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from radiobject_assets.imaging.acceptance import Problem
from radiobject_assets.imaging.geometry import (
    LARGEST_TOLERANCE,
    SAME_POSITION_MM,
    Float,
    dicom_affine,
    order_positions,
    slice_normal,
    usual_gap,
)
from radiobject_assets.imaging.instance import Frame, Instance
from radiobject_assets.imaging.policy import REFUSE, SeriesPolicy
from radiobject_assets.imaging.reasons import Reason


@dataclass(frozen=True, slots=True)
class Plane:
    """One frame of one instance."""

    instance: Instance
    frame: Frame
    index: int
    """Frame number in the instance, from 0."""


@dataclass(frozen=True, eq=False)
class Stacked:
    """Planes in volume order (time outermost), the affine (RAS+), and the numbers of slices and times."""

    planes: tuple[Plane, ...]
    affine: Float
    n_slices: int
    n_times: int
    slice_positions_mm: tuple[float, ...] | None = None
    """Along the normal from the first slice, where the spacing is irregular and was accepted."""


def stack(planes: Sequence[Plane], policy: SeriesPolicy = REFUSE) -> Stacked | Problem:
    """Order the planes of one component (one orientation, pixel spacing, echo...) into a volume.

    Returns
    -------
    Stacked | Problem
        The volume, or why there is none: geometry that is absent or impossible, a single image, missing
        slices, variable spacing, an incomplete time series.
    """
    first = planes[0].frame
    if any(
        p.frame.position is None or p.frame.orientation is None or p.frame.pixel_spacing is None
        for p in planes
    ):
        return Problem(Reason.NO_GEOMETRY, _what_is_absent(planes))
    try:
        normal = slice_normal(first.orientation or ())
    except ValueError as error:
        return Problem(Reason.BAD_GEOMETRY, str(error))
    positions = np.array([p.frame.position for p in planes], dtype=np.float64)
    if np.abs(positions).max() > 1e6:
        return Problem(Reason.BAD_GEOMETRY, "a slice is more than a kilometre away")
    slots, problem = _positions(positions, normal)
    if problem is not None:
        return problem
    counts = [len(slot) for slot in slots]
    if len(slots) == 1:
        return _one_position([planes[i] for i in slots[0]], normal, policy)
    stacked = order_positions(np.array([positions[slot[0]] for slot in slots]), normal)
    if not stacked.regular:
        problem = _irregular(stacked.gaps, stacked.missing)
        if policy.irregular_spacing != "keep" or problem.reason is Reason.BAD_GEOMETRY:
            return problem
    if len(set(counts)) > 1:
        usual = max(set(counts), key=counts.count)
        odd = sum(count != usual for count in counts)
        return Problem(
            Reason.INCOMPLETE_TIME_SERIES,
            f"{odd} of {len(counts)} positions do not have {usual} slices as the others do",
        )
    columns = [_in_time([planes[i] for i in slots[k]]) for k in stacked.order]
    _align_times(columns)
    ordered = tuple(column[time] for time in range(counts[0]) for column in columns)
    affine = dicom_affine(
        ordered[0].frame.position or (),
        first.orientation or (),
        first.pixel_spacing or (),
        stacked.step.tolist(),
    )
    places_mm = None if stacked.regular else (0.0, *np.cumsum(stacked.gaps).tolist())
    return Stacked(ordered, affine, len(slots), counts[0], places_mm)


def _one_position(planes: list[Plane], normal: Float, policy: SeriesPolicy) -> Stacked | Problem:
    """One slice, or a time series of one; its extent along the normal is what the header says of slices."""
    first = planes[0].frame
    thick = bool(first.thickness_mm and first.thickness_mm > 0)
    if len(planes) == 1 and (policy.single_slices != "keep" or not thick):
        how = "" if thick else ", and its thickness is not given"
        return Problem(Reason.SINGLE_SLICE, f"there is only one slice{how}")
    if not first.thickness_mm or not thick:
        return Problem(
            Reason.SINGLE_POSITION,
            f"all {len(planes)} slices lie at the same position, and their thickness is not given",
        )
    columns = [_in_time(planes)]
    _align_times(columns)
    affine = dicom_affine(
        first.position or (),
        first.orientation or (),
        first.pixel_spacing or (),
        (normal * first.thickness_mm).tolist(),
    )
    return Stacked(tuple(columns[0]), affine, 1, len(planes))


def _what_is_absent(planes: Sequence[Plane]) -> str:
    absent = [
        name
        for name, values in (
            ("ImagePositionPatient", [p.frame.position for p in planes]),
            ("ImageOrientationPatient", [p.frame.orientation for p in planes]),
            ("PixelSpacing", [p.frame.pixel_spacing for p in planes]),
        )
        if any(value is None for value in values)
    ]
    return f"{', '.join(absent)} absent or invalid"


def _positions(positions: Float, normal: Float) -> tuple[list[list[int]], Problem | None]:
    """Indices of the planes at each distinct position, ordered along the normal."""
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    slots: list[list[int]] = []
    for i in order.tolist():
        if slots and along[i] - along[slots[-1][0]] <= SAME_POSITION_MM:
            if np.linalg.norm(positions[i] - positions[slots[-1][0]]) > 10 * SAME_POSITION_MM:
                return [], Problem(Reason.BAD_GEOMETRY, "slices in one plane are shifted against each other")
            slots[-1].append(i)
        else:
            slots.append([i])
    return slots, None


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


TimeKey = Callable[[Plane], Hashable | None]


def _by_dimension(plane: Plane) -> Hashable | None:
    # As dcm2niix orders enhanced objects: the last dimension varies slowest.
    return plane.frame.dimension_index[::-1] or None


def _by_acquisition(plane: Plane) -> Hashable | None:
    return plane.frame.acquired_at or None


def _by_number(plane: Plane) -> Hashable | None:
    return plane.instance.instance_number


_TIME_KEYS: tuple[TimeKey, ...] = (
    lambda p: p.frame.temporal_index,
    _by_dimension,
    lambda p: p.frame.volume_numbers or None,
    _by_acquisition,
    lambda p: p.frame.trigger_time_ms,
)


def _in_time(column: list[Plane]) -> list[Plane]:
    return sorted(column, key=lambda p: (p.instance.instance_number or 0, p.index))


def _align_times(columns: list[list[Plane]]) -> None:
    """Order every column's planes by the first kind of time that tells them apart in the same way everywhere.

    Volume-wise times (the same values at every position) are the strongest evidence; where there are none,
    InstanceNumber within each position, which scanners count upwards in time, has been applied already. It
    may not mix diffusion weightings: where it would, planes are matched by their weighting.
    """
    if len(columns[0]) < 2:
        return
    for key in _TIME_KEYS:
        sets = [_distinct(column, key) for column in columns]
        usable = all(values is not None for values in sets)
        if usable and (all(values == sets[0] for values in sets) or key is _by_dimension):
            for column in columns:
                column.sort(key=key)  # type: ignore[arg-type]  # the values were found to be present and alike
            return
    numbered = all(_distinct(column, _by_number) is not None for column in columns)
    if not numbered and all(_distinct(column, _by_acquisition) is not None for column in columns):
        for column in columns:
            column.sort(key=lambda p: p.frame.acquired_at)
    _match_weightings(columns)


def _match_weightings(columns: list[list[Plane]]) -> None:
    weightings = [[(p.frame.b_value, p.frame.gradient) for p in column] for column in columns]
    first = weightings[0]
    if all(weighting == first for weighting in weightings):
        return
    if any(Counter(weighting) != Counter(first) for weighting in weightings):
        return
    for column in columns:
        column.sort(key=lambda p: first.index((p.frame.b_value, p.frame.gradient)))


def _distinct(column: list[Plane], key: TimeKey) -> set[Hashable] | None:
    values = {key(plane) for plane in column}
    return None if None in values or len(values) != len(column) else values
