"""Kinds of evidence for the order of several planes at one position, and when each proves one.

A kind that a whole volume shares (a temporal position) proves an order if all positions have the same
values. A kind that is measured slice by slice (a time of acquisition) does if volume follows volume, or
position follows position, or the steps are the same everywhere. Numbers do if they count through volumes or
positions without a break in the order of slices: what somebody shuffled does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from radiobject_assets.imaging.dicom.acquisition_times import on_one_line
from radiobject_assets.imaging.series.evidence.plane import Plane

Columns = list[list[Plane]]
Key = float | tuple[int, ...]
Keys = list[list[Key]]
"""A key for each plane of each column."""

_SAME = 1e-3
"""Values of one point may differ by this (ms or s, in the unit of the kind)."""
_SAME_STEP = 0.5
"""Share of the smallest step by which a point's offsets may differ between positions."""
_EVEN_TRIGGERS = 0.35


@dataclass(frozen=True)
class Evidence:
    """One kind of evidence.

    elements
        DICOM keywords, for people.
    values
        Keys of all planes; None where some plane has none.
    proves
        Whether keys that rise in each column are an order of volumes.
    is_time
        Whether it says when: two kinds that do must not contradict each other.
    measured
        A clock's time, which numbers must not contradict (a temporal position is above them).
    cycles
        Time within a cycle, unless it reaches beyond the longest one.
    counts
        Numbers: the weakest kind.
    names_time
        Whether an axis that it orders is time, though no value in seconds is known.
    rests_on
        For the reference.
    """

    elements: str
    values: Callable[[Sequence[Sequence[Plane]]], Keys | None]
    proves: Callable[[Keys], bool]
    rests_on: str
    is_time: bool = False
    measured: bool = False
    cycles: bool = False
    counts: bool = False
    names_time: bool = False


def order_by(evidence: Evidence, columns: Sequence[Sequence[Plane]]) -> Columns | None:
    """The columns in the order of the evidence; None where it is absent or proves none."""
    keys = evidence.values(columns)
    if keys is None:
        return None
    orders = [sorted(range(len(column)), key=column.__getitem__) for column in keys]
    risen = [[column[i] for i in order] for column, order in zip(keys, orders, strict=True)]
    if not all(_rises(column) for column in risen) or not evidence.proves(risen):
        return None
    return [[column[i] for i in order] for column, order in zip(columns, orders, strict=True)]


def falls_within(evidence: Evidence, ordered: Columns) -> bool:
    """Whether the evidence is there and falls from one point to a later one at some position."""
    keys = evidence.values(ordered)
    if keys is None:
        return False
    return any(
        isinstance(a, float) and isinstance(b, float) and a - b > _SAME
        for column in keys
        for a, b in pairwise(column)
    )


def _rises(column: Sequence[Key]) -> bool:
    for earlier, later in pairwise(column):
        if isinstance(earlier, float) and isinstance(later, float):
            if later - earlier <= _SAME:
                return False
        elif earlier == later:
            return False
    return True


def _number_of(
    value: Callable[[Plane], float | int | None],
) -> Callable[[Sequence[Sequence[Plane]]], Keys | None]:
    def values(columns: Sequence[Sequence[Plane]]) -> Keys | None:
        keys: Keys = []
        for column in columns:
            row: list[Key] = []
            for plane in column:
                found = value(plane)
                if found is None:
                    return None
                row.append(float(found))
            keys.append(row)
        return keys

    return values


def _moments_of(text: Callable[[Plane], str]) -> Callable[[Sequence[Sequence[Plane]]], Keys | None]:
    def values(columns: Sequence[Sequence[Plane]]) -> Keys | None:
        texts = [text(plane) for column in columns for plane in column]
        moments = on_one_line(texts) if all(texts) else None
        if moments is None:
            return None
        n = len(columns[0])
        return [list(moments[k * n : (k + 1) * n]) for k in range(len(columns))]

    return values


def _varying_dimensions(columns: Sequence[Sequence[Plane]]) -> Keys | None:
    """DimensionIndexValues, last dimension first, without those that tell positions apart."""
    rows = [[plane.frame.dimension_index for plane in column] for column in columns]
    lengths = {len(index) for row in rows for index in row}
    if len(lengths) != 1 or lengths == {0}:
        return None
    (length,) = lengths
    varying = [d for d in range(length) if any(len({index[d] for index in row}) > 1 for row in rows)]
    return [[tuple(index[d] for d in reversed(varying)) for index in row] for row in rows]


def _volume_numbers(columns: Sequence[Sequence[Plane]]) -> Keys | None:
    keys: Keys = [[plane.frame.volume_numbers for plane in column] for column in columns]
    return keys if all(key for column in keys for key in column) else None


def alike(keys: Keys) -> bool:
    """Whether every position has the values of the first."""
    first = keys[0]
    return all(
        abs(a - b) <= _SAME if isinstance(a, float) and isinstance(b, float) else a == b
        for column in keys[1:]
        for a, b in zip(first, column, strict=True)
    )


def steady(keys: Keys) -> bool:
    """Whether volume follows volume, or position follows position, or all positions have the same steps."""
    values = [[key for key in column if isinstance(key, float)] for column in keys]
    n = len(values[0])
    if all(max(c[t] for c in values) < min(c[t + 1] for c in values) for t in range(n - 1)):
        return True
    offsets = [[value - column[0] for value in column] for column in values]
    smallest = min(b - a for column in values for a, b in pairwise(column))
    if all(
        max(o[t] for o in offsets) - min(o[t] for o in offsets) <= _SAME_STEP * smallest for t in range(1, n)
    ):
        return True
    return _apart(values)


def _apart(values: list[list[float]]) -> bool:
    spans = sorted((column[0], column[-1]) for column in values)
    return all(before[1] < after[0] for before, after in pairwise(spans))


def _rows(keys: Keys) -> list[list[float]]:
    values = [[key for key in column if isinstance(key, float)] for column in keys]
    return [[column[t] for column in values] for t in range(len(values[0]))]


def _by_volume(keys: Keys) -> bool:
    """Whether numbers count volume by volume, each through its slices in the same order."""
    rows = _rows(keys)
    follow = all(max(a) < min(b) for a, b in pairwise(rows))
    return follow and _in_slice_order(rows[0]) and len({_ranks(row) for row in rows}) == 1


def _by_position(keys: Keys) -> bool:
    """Whether numbers count position by position, along the stack, each through its points."""
    values = [[key for key in column if isinstance(key, float)] for column in keys]
    return _apart(values) and _in_slice_order([column[0] for column in values])


def _ranks(row: Sequence[float]) -> tuple[int, ...]:
    return tuple(sorted(range(len(row)), key=row.__getitem__))


def _in_slice_order(row: Sequence[float]) -> bool:
    """Whether numbers run along the slices, against them, or through every second, third... of them."""
    n, order = len(row), _ranks(row)
    for stride in range(1, max(2, n // 2 + 1)):
        runs = [list(range(start, n, stride)) for start in range(stride)]
        for turn in (runs, [run[::-1] for run in runs]):
            for ahead in (turn, turn[::-1]):
                if order == tuple(place for run in ahead for place in run):
                    return True
    return False


def _cycles(keys: Keys) -> bool:
    """Whether trigger times are alike, or steady, or even in each position: hearts change their pace."""
    if alike(keys) or steady(keys):
        return True
    for column in keys:
        values = [key for key in column if isinstance(key, float)]
        steps = [b - a for a, b in pairwise(values)]
        mean = sum(steps) / len(steps)
        if any(abs(step - mean) > _EVEN_TRIGGERS * mean for step in steps):
            return False
    return True


def _instance_number(plane: Plane) -> float | None:
    number = plane.instance.instance_number
    return None if number is None else number * float(1 << 20) + plane.index


def _number_by_position(plane: Plane) -> float | None:
    return None if plane.vendor.numbers_follow_volumes else _instance_number(plane)


def _inversion_time(plane: Plane) -> float | None:
    value = plane.says("inversion_time_ms")
    return float(value) if isinstance(value, int | float) else None


EVIDENCE: tuple[Evidence, ...] = (
    Evidence(
        "TemporalPositionIdentifier or TemporalPositionIndex",
        _number_of(lambda p: p.frame.temporal_index),
        alike,
        "PS3.3 C.7.6.16.2.2.6, C.8.3.1; mr_philips_fmri4d_7t, mr_philips_enh_fmri4d of the reference images",
        is_time=True,
        names_time=True,
    ),
    Evidence(
        "TemporalPositionTimeOffset",
        _number_of(lambda p: p.frame.temporal_offset_s),
        alike,
        "PS3.3 C.7.6.16.2.20",
        is_time=True,
        names_time=True,
    ),
    Evidence(
        "DimensionIndexValues",
        _varying_dimensions,
        alike,
        "PS3.3 C.7.6.17; mr_philips_enh_dti4d of the reference images; the last dimension varies slowest, "
        "as dcm2niix has it",
    ),
    Evidence(
        "Philips' numbers of b-value, direction, dynamic, label and phase",
        _volume_numbers,
        alike,
        "dcm2niix on Philips' series; mr_philips_fmri4d_7t of the reference images",
    ),
    Evidence(
        "FrameReferenceTime",
        _number_of(lambda p: p.frame.reference_time_ms),
        alike,
        "PS3.3 C.8.9.4",
        is_time=True,
        names_time=True,
    ),
    Evidence(
        "AcquisitionDateTime, AcquisitionTime or FrameAcquisitionDateTime",
        _moments_of(lambda p: p.frame.acquired_at),
        steady,
        "PS3.3 C.7.6.1; mr_siemens_mosaic_fmri4d of the reference images",
        is_time=True,
        measured=True,
        names_time=True,
    ),
    Evidence(
        "TriggerTime or NominalCardiacTriggerDelayTime",
        _number_of(lambda p: p.frame.trigger_time_ms),
        _cycles,
        "PS3.3 C.8.3.1, C.8.13.5.4",
        is_time=True,
        cycles=True,
    ),
    Evidence(
        "NominalPercentageOfCardiacPhase",
        _number_of(lambda p: p.frame.cardiac_percent),
        alike,
        "PS3.3 C.7.6.16.2.7",
    ),
    Evidence(
        "NominalPercentageOfRespiratoryPhase",
        _number_of(lambda p: p.frame.respiratory_percent),
        alike,
        "PS3.3 C.7.6.16.2.17",
    ),
    Evidence("InversionTime", _number_of(_inversion_time), alike, "PS3.3 C.8.3.1; dcm2niix"),
    Evidence(
        "AcquisitionNumber",
        _number_of(lambda p: p.instance.acquisition_number),
        alike,
        "scanners count acquisitions in time",
        is_time=True,
        counts=True,
    ),
    Evidence(
        "ContentTime",
        _moments_of(lambda p: p.frame.content_at),
        steady,
        "when pixels were made: an order where nothing better is there, never a time",
        counts=True,
    ),
    Evidence(
        "InstanceNumber",
        _number_of(_instance_number),
        _by_volume,
        "scanners count images volume by volume; mr_ge_fmri4d, mr_ge_dti4d of the reference images",
        is_time=True,
        counts=True,
    ),
    Evidence(
        "InstanceNumber of Philips",
        _number_of(_number_by_position),
        _by_position,
        "where private elements were taken away: position by position in mr_philips_fmri4d, "
        "mr_philips_dti4d of the reference images",
        counts=True,
    ),
)
"""All kinds, the strongest first."""
