"""Several planes at each position: in which order, what tells them apart, and what proves it.

Each kind of evidence (`order_evidence.EVIDENCE`) is asked in turn; the first that proves an order gives it.
What another kind says of time must not contradict it. Where nothing proves an order there is none: a guess
would mix time points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from radiobject_assets.imaging.axes import (
    AxisName,
)
from radiobject_assets.imaging.dicom.acquisition_times import on_one_line
from radiobject_assets.imaging.pixels.acceptance import Problem
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.evidence.order_evidence import (
    EVIDENCE,
    Columns,
    Evidence,
    falls_within,
    order_by,
)
from radiobject_assets.imaging.series.evidence.plane import Plane
from radiobject_assets.imaging.source import AttributeValue

_LONGEST_CYCLE_MS = 3000.0
"""Trigger times that reach further count from a scan's start, not from a heart beat."""
_SAME_B = 0.02
_SAME_DIRECTION_COSINE = 0.999
_AGREEING_S = 0.02


@dataclass(frozen=True)
class FourthAxis:
    """What the fourth axis of a volume is.

    values, unit
        One value for each point, in `unit`; empty where no header tells them.
    evidence
        Elements that prove the order.
    durations_s
        How long each point was acquired (PET frames); empty where no header tells.
    """

    name: AxisName
    values: tuple[float, ...] = ()
    unit: str = ""
    evidence: str = ""
    durations_s: tuple[float, ...] = ()


def in_order(
    columns: Sequence[Sequence[Plane]], *, one_position: bool
) -> tuple[Columns, FourthAxis] | Problem:
    """Order the planes at each position, and name the axis.

    Parameters
    ----------
    columns
        The planes at each position, as many at each; positions in the order of the stack.
    one_position
        All planes are at one position: there, numbers alone prove no time series, since exporters that lose
        positions number their slices all the same.
    """
    found = _proved(columns, one_position=one_position)
    weighted = any(map(_weightings_vary, columns))
    if found is None:
        matched = _matched_by_weighting(_by_weight(columns)) if weighted else None
        if matched is None:
            return _unproved(columns, one_position=one_position)
        return matched, _b_axis(matched, "diffusion weighting")
    evidence, ordered = found
    if weighted and not _weightings_uniform(ordered):
        matched = _matched_by_weighting(columns)
        if matched is None:
            return Problem(
                Reason.UNPROVED_ORDER,
                f"the order that {evidence.elements} gives mixes diffusion weightings within one volume of"
                f" {len(columns)} slices",
            )
        return matched, _b_axis(matched, "diffusion weighting")
    contradiction = _contradiction(evidence, ordered)
    if contradiction is not None:
        return contradiction
    return ordered, _b_axis(ordered, evidence.elements) if weighted else _axis(evidence, ordered)


def _proved(columns: Sequence[Sequence[Plane]], *, one_position: bool) -> tuple[Evidence, Columns] | None:
    for evidence in EVIDENCE:
        if one_position and evidence.counts:
            continue
        ordered = order_by(evidence, columns)
        if ordered is not None:
            return evidence, ordered
    return None


def _unproved(columns: Sequence[Sequence[Plane]], *, one_position: bool) -> Problem:
    n = len(columns[0])
    there = [
        e.elements for e in EVIDENCE if not (one_position and e.counts) and e.values(columns) is not None
    ]
    read = (
        "nothing tells their order (times, temporal positions and numbers are absent, or can't be compared)"
    )
    if there:
        read = f"no order that holds is given by {'; '.join(there)}"
    where = "the one position" if one_position else f"each of {len(columns)} positions"
    return Problem(Reason.UNPROVED_ORDER, f"{n} images at {where}: {read}")


def _contradiction(evidence: Evidence, ordered: Columns) -> Problem | None:
    """Whether another kind of time runs against the order."""
    if not (evidence.is_time or evidence.counts):
        return None
    for other in EVIDENCE:
        if other is evidence or not other.is_time or (other.cycles and not _spans_scan(other, ordered)):
            continue
        if other.counts:
            # who wrote a temporal position said the order; some vendors' instance numbers follow none
            numbers_follow = ordered[0][0].vendor.numbers_follow_volumes
            if not (evidence.measured or evidence.counts) or not numbers_follow:
                continue
            theirs = order_by(other, ordered)
            against = theirs is not None and any(
                [id(p) for p in mine] != [id(p) for p in its]
                for mine, its in zip(ordered, theirs, strict=True)
            )
        else:
            against = falls_within(other, ordered)
        if against:
            return Problem(
                Reason.UNPROVED_ORDER,
                f"{len(ordered[0])} images at each of {len(ordered)} positions: {evidence.elements} and"
                f" {other.elements} give different orders",
            )
    return None


def _spans_scan(evidence: Evidence, ordered: Columns) -> bool:
    """Whether trigger times reach beyond a heart beat: those within one jitter from beat to beat."""
    keys = [key for column in evidence.values(ordered) or [] for key in column if isinstance(key, float)]
    return bool(keys) and max(keys) - min(keys) > _LONGEST_CYCLE_MS


def _axis(evidence: Evidence, ordered: Columns) -> FourthAxis:
    inversions = _equal_values(ordered, lambda p: p.says("inversion_time_ms"))
    if inversions is not None and len(set(inversions)) == len(inversions):
        return FourthAxis("inversion_time", inversions, "ms", evidence.elements)
    durations = _equal_values(ordered, lambda p: p.frame.duration_ms) or ()
    lasting = tuple(value / 1000 for value in durations)
    starts = _starts_s(ordered)
    for percent in (lambda p: p.frame.cardiac_percent, lambda p: p.frame.respiratory_percent):
        parts = _equal_values(ordered, percent)
        if parts is not None and len(set(parts)) == len(parts):
            return FourthAxis("phase", parts, "%", evidence.elements)
    triggers = _trigger_ms(ordered)
    if (
        triggers is not None
        and not _agree(triggers, starts)
        and triggers[-1] - triggers[0] <= _LONGEST_CYCLE_MS
    ):
        return FourthAxis("phase", triggers, "ms", evidence.elements)
    if starts is None:
        starts = _other_starts_s(ordered, triggers)
    if starts is not None:
        return FourthAxis("time", starts, "s", evidence.elements, _within_steps(starts, lasting))
    return FourthAxis("time" if evidence.names_time else "unknown", (), "", evidence.elements)


def _within_steps(starts_s: Sequence[float], durations_s: tuple[float, ...]) -> tuple[float, ...]:
    """The durations, if no point lasts into the next: some write that of the whole scan with each frame."""
    if len(durations_s) != len(starts_s):
        return ()
    steps = [later - earlier for earlier, later in pairwise(starts_s)]
    fit = all(lasts <= step + _AGREEING_S for lasts, step in zip(durations_s, steps, strict=False))
    return durations_s if fit else ()


def _agree(triggers_ms: Sequence[float], starts_s: Sequence[float] | None) -> bool:
    if starts_s is None:
        return False
    return all(
        abs((trigger - triggers_ms[0]) / 1000 - start) <= max(_AGREEING_S, 0.1 * start)
        for trigger, start in zip(triggers_ms, starts_s, strict=True)
    )


def _starts_s(ordered: Columns) -> tuple[float, ...] | None:
    """When the first slice of each point was acquired, seconds after the first point's."""
    moments = on_one_line([plane.frame.acquired_at for column in ordered for plane in column])
    if moments is None:
        return None
    n = len(ordered[0])
    starts = [min(moments[t::n]) for t in range(n)]
    if any(later <= earlier for earlier, later in pairwise(starts)):
        return None
    return tuple(round(start - starts[0], 6) for start in starts)


def _other_starts_s(ordered: Columns, triggers_ms: Sequence[float] | None) -> tuple[float, ...] | None:
    offsets = _equal_values(ordered, lambda p: p.frame.temporal_offset_s)
    references = _equal_values(ordered, lambda p: p.frame.reference_time_ms)
    seconds: list[float] | None = None
    if offsets is not None:
        seconds = list(offsets)
    elif references is not None:
        # decay is counted to about the middle of a frame: its start is half of its duration away
        durations = _equal_values(ordered, lambda p: p.frame.duration_ms)
        if durations is None:
            return None
        pairs = zip(references, durations, strict=True)
        seconds = [(value - lasting / 2) / 1000 for value, lasting in pairs]
    elif triggers_ms is not None:
        seconds = [value / 1000 for value in triggers_ms]
    if seconds is None or any(later <= earlier for earlier, later in pairwise(seconds)):
        return None
    return tuple(round(value - seconds[0], 6) for value in seconds)


def _trigger_ms(ordered: Columns) -> tuple[float, ...] | None:
    """Trigger time of each point: the earliest over the slices; None unless it rises from point to point."""
    rows = [[column[t].frame.trigger_time_ms for column in ordered] for t in range(len(ordered[0]))]
    earliest = []
    for row in rows:
        known = [value for value in row if value is not None]
        if len(known) < len(row):
            return None
        earliest.append(min(known))
    rising = all(later > earlier for earlier, later in pairwise(earliest))
    return tuple(earliest) if rising else None


def _equal_values(ordered: Columns, value: Callable[[Plane], AttributeValue]) -> tuple[float, ...] | None:
    """The value of each point, if all its slices have it alike (within a thousandth)."""
    found: list[float] = []
    for t in range(len(ordered[0])):
        values = [v for column in ordered if isinstance(v := value(column[t]), int | float)]
        if len(values) < len(ordered):
            return None
        if max(values) - min(values) > 1e-3 * max(1.0, abs(values[0])):
            return None
        found.append(float(values[0]))
    return tuple(found)


def _b_axis(ordered: Columns, evidence: str) -> FourthAxis:
    values = tuple(plane.frame.b_value or 0.0 for plane in ordered[0])
    return FourthAxis("b_value", values, "s/mm2", evidence)


def _same_weighting(one: Plane, other: Plane) -> bool:
    b, its = one.frame.b_value or 0.0, other.frame.b_value or 0.0  # what names none is unweighted
    if abs(b - its) > max(1.0, _SAME_B * b):
        return False
    mine, theirs = one.frame.gradient, other.frame.gradient
    if mine is None or theirs is None:
        return mine is theirs
    return abs(sum(m * t for m, t in zip(mine, theirs, strict=True))) >= _SAME_DIRECTION_COSINE


def _weightings_vary(column: Sequence[Plane]) -> bool:
    return any(not _same_weighting(column[0], plane) for plane in column[1:])


def _weightings_uniform(ordered: Columns) -> bool:
    first = ordered[0]
    return all(_same_weighting(first[t], column[t]) for column in ordered[1:] for t in range(len(first)))


def _by_weight(columns: Sequence[Sequence[Plane]]) -> Columns:
    """Columns in the order of their weightings, so that names of files decide nothing."""
    return [sorted(c, key=lambda p: (p.frame.b_value or 0.0, p.frame.gradient or ())) for c in columns]


def _matched_by_weighting(columns: Sequence[Sequence[Plane]]) -> Columns | None:
    """Every column in the order of the first one's weightings; None where they are not all different."""
    first = list(columns[0])
    if any(_same_weighting(a, b) for n, a in enumerate(first) for b in first[n + 1 :]):
        return None
    matched: Columns = [first]
    for column in columns[1:]:
        places = [[p for p in column if _same_weighting(wanted, p)] for wanted in first]
        if any(len(found) != 1 for found in places):
            return None
        matched.append([found[0] for found in places])
    return matched
