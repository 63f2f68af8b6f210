"""Points in time as headers give them, made comparable: with dates, without, and over midnight.

A scan is shorter than half a day. So where times lie further apart, they passed midnight: the dates are gone
(de-identification takes them and leaves the times), or are that of the study for all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

DAY_S = 86400.0
LONGEST_SCAN_S = DAY_S / 2
_OFFSET = re.compile(r"[+-]\d{4}$")
_EPOCH = datetime(1970, 1, 1)
UNEVEN = 0.1
"""Share of the mean step by which a step may differ from it and the steps still be even."""
_AS_REPEATED = 0.01
"""Share of the repetition time within which the step is that, which has more digits."""


def seconds_of(text: str) -> tuple[float | None, float | None]:
    """(seconds since 1970, seconds of the day) of a DICOM DT, or of a DA and a TM joined, or of a TM alone.

    The first is None where there is no date, both where the text is none of these. A UTC offset (DT,
    `&ZZXX`) is left out: within one scan it is one.
    """
    whole, _, rest = _OFFSET.sub("", text.strip().replace(":", "")).partition(".")
    dated = len(whole) in (12, 14)
    digits = whole if dated else "19700101" + whole
    try:
        moment = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
        fraction = float(f"0.{rest}") if rest else 0.0
    except ValueError:
        return None, None
    if len(whole) not in (4, 6, 12, 14):
        return None, None
    of_day = (moment - moment.replace(hour=0, minute=0, second=0)).total_seconds() + fraction
    since = (moment - _EPOCH).total_seconds() + fraction
    return (since if dated else None), of_day


def on_one_line(texts: Sequence[str]) -> list[float] | None:
    """Seconds on one line of time, for texts of one scan in any order; None where they are not comparable.

    Dates that differ count as they are, however far apart; without dates, or with one for all (that of the
    study), the times of day do, and those before the largest gap follow midnight.
    """
    known = [seconds_of(text) for text in texts]
    dated = [since for since, _ in known if since is not None]
    if len(dated) == len(texts) and dated:
        days = {text.strip()[:8] for text in texts}
        # one date for all may be the study's, and midnight not show in it; several are the scan's own
        if len(days) > 1 or max(dated) - min(dated) <= LONGEST_SCAN_S:
            return dated
    times = [of_day for _, of_day in known if of_day is not None]
    if len(times) < len(texts) or not times:
        return None
    if max(times) - min(times) <= LONGEST_SCAN_S:
        return times
    distinct = sorted(set(times))
    gaps = [later - earlier for earlier, later in pairwise(distinct)]
    widest = max(range(len(gaps)), key=gaps.__getitem__)
    if gaps[widest] < LONGEST_SCAN_S:
        return None
    return [time + DAY_S if time <= distinct[widest] else time for time in times]


def even_step_s(moments: Sequence[float], repetition_time_ms: float | None) -> float | None:
    """Mean seconds between moments that lie at even steps.

    RepetitionTime is that of one excitation: of dynamic 3D sequences it is a few milliseconds where volumes
    are seconds apart, of sparse sampling it is shorter too, and CT and PET have none.

    None where they are not in order of time or uneven, or where the repetition time says the same.
    """
    steps = [later - earlier for earlier, later in pairwise(moments)]
    if not steps:
        return None
    mean = sum(steps) / len(steps)
    if mean <= 0 or any(abs(step - mean) > UNEVEN * mean for step in steps):
        return None
    if repetition_time_ms and abs(mean * 1000 - repetition_time_ms) <= _AS_REPEATED * repetition_time_ms:
        return None
    return round(mean, 6)
