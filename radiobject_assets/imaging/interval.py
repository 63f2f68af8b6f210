"""Seconds from one time point of a series to the next, as its images tell.

RepetitionTime is that of one excitation: of dynamic 3D sequences it is a few milliseconds where volumes are
seconds apart, of sparse sampling it is shorter too, and CT and PET have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

_UNEVEN = 0.1
"""Share of the mean step by which a step may differ from it."""
_AS_REPEATED = 0.01
"""Share of the repetition time within which the step is that, which has more digits."""


def interval_s(acquired_at: Sequence[str], repetition_time_ms: float | None) -> float | None:
    """Mean seconds between time points that were acquired at even steps (`Frame.acquired_at`).

    None where some do not say when, where they are not in order of time or uneven, or where the repetition
    time says the same.
    """
    moments = [moment(text) for text in acquired_at]
    known = [moment for moment in moments if moment is not None]
    if len(known) < max(2, len(moments)):
        return None
    steps = [(later - earlier).total_seconds() for earlier, later in pairwise(known)]
    mean = sum(steps) / len(steps)
    if mean <= 0 or any(abs(step - mean) > _UNEVEN * mean for step in steps):
        return None
    if repetition_time_ms and abs(mean * 1000 - repetition_time_ms) <= _AS_REPEATED * repetition_time_ms:
        return None
    return round(mean, 6)


def moment(text: str) -> datetime | None:
    """A DICOM date and time, or a time alone (on some day); None where it is neither."""
    whole, _, rest = text.partition(".")
    whole = {6: "20000101", 14: ""}.get(len(whole), "x") + whole
    fraction = rest.partition("+")[0].partition("-")[0][:6]
    try:
        return datetime.strptime(f"{whole}.{fraction or '0'}", "%Y%m%d%H%M%S.%f")
    except ValueError:
        return None
