"""Planes of a series by patterns: which of them lack an attribute that the others have."""

from __future__ import annotations

from collections.abc import Callable

from good_series import Good, Plane, Planes
from pydicom.dataset import Dataset

Pattern = Callable[[Plane], bool]
WHOLE = frozenset({"a point", "all but a point", "a volume"})
"""Patterns that leave volumes whole: two kinds, of which each may be a volume."""


def patterns(good: Good) -> dict[str, Pattern]:
    """Some planes of the series: at an end, at both, of one point of the fourth axis, across points."""
    places = sorted({plane.z for plane in good.planes})
    volumes = sorted({plane.of for plane in good.planes})
    first, end, half = places[0], places[-1], set(places[: len(places) // 2])
    last, of = good.n_points - 1, volumes[-1]
    found: dict[str, Pattern] = {}
    if len(places) > 1:
        found |= {
            "an end": lambda p: p.z == end,
            "both ends": lambda p: p.z in (first, end),
            "half": lambda p: p.z in half,
            "every second": lambda p: p.z in places[::2],
            "all but an end": lambda p: p.z != end,
        }
    if last:
        found |= {
            "a point": lambda p: p.t == last,
            "all but a point": lambda p: p.t != last,
        }
    if last and len(places) > 2:
        found |= {
            "an end of a point": lambda p: p.z == end and p.t == last,
            "an end of all but a point": lambda p: p.z == end and p.t != last,
            "a point but its end": lambda p: p.z != end and p.t == last,
            "half of a point": lambda p: p.z in half and p.t == last,
            "other ends of two points": lambda p: (p.z, p.t) in ((end, 0), (first, last)),
            "halves of two points": lambda p: (p.t == last) == (p.z in half) and p.t in (0, last),
        }
    if len(volumes) > 1:
        found |= {
            "a volume": lambda p: p.of == of,
            "an end of a volume": lambda p: p.z == end and p.of == of,
            "an end of all but a volume": lambda p: p.z == end and p.of != of,
            "a volume but its end": lambda p: p.z != end and p.of == of,
            "both ends of a volume": lambda p: p.z in (first, end) and p.of == of,
            "other ends of two volumes": lambda p: (p.z, p.of) in ((end, volumes[0]), (first, of)),
        }
    return found


def keywords(good: Good) -> list[str]:
    """Attributes of the headers that some planes may lack, by keyword."""
    headers = [plane.header() for plane in good.planes[:3]]
    return sorted({e.keyword for ds in headers for e in ds if e.keyword})


def lacking(good: Good, keyword: str, pattern: str) -> Planes | None:
    """The planes, some of them without an attribute; None where nothing is left to judge."""
    chosen = patterns(good)[pattern]
    if keyword == "PixelData" and all(map(chosen, good.planes)):
        return None

    def without(ds: Dataset) -> None:
        if keyword in ds:
            delattr(ds, keyword)

    kind = {"kind": f"without {keyword}"} if pattern in WHOLE else {}
    return [plane.edited(without, **kind) if chosen(plane) else plane for plane in good.planes]
