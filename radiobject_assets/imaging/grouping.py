"""Which planes of one SeriesInstanceUID belong together: one group per volume, as dcm2niix splits a series.

Planes are split where pixels cannot be in one array (matrix size, type, colour), where geometry differs
(orientation, pixel spacing, stack) and where contrast does (echo, phase or magnitude, polarity of GE's phase
encoding). Philips' trace images are no part of the directions that they were made of. SeriesNumber,
ImageType, echo number and flip angle split only planes that lie at the same positions (copies of a series
that kept its UID, water and fat of a Dixon series, the angles of a T1 map), because a slice of a volume may
well carry a label that its neighbours lack.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from radiobject_assets.imaging.geometry import SAME_DIRECTION
from radiobject_assets.imaging.instance import Instance, Six
from radiobject_assets.imaging.stacking import Plane

_ECHO_TOLERANCE_MS = 0.011
_SPACING_TOLERANCE_MM = 1e-4
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")
_AXIS_NAMES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Component:
    """Planes that form one volume, and what tells them from the others of their series ("" if alone)."""

    name: str
    planes: tuple[Plane, ...]


def planes_of(instance: Instance) -> list[Plane]:
    """All planes of an instance; frames that the header does not describe are planes without geometry."""
    return [Plane(instance, frame, index) for index, frame in enumerate(instance.frames)]


def split(planes: Sequence[Plane]) -> list[Component]:
    """Divide the planes of one series into components, in the order of their first plane."""
    echoes = _clusters([p.frame.echo_time_ms for p in planes], _ECHO_TOLERANCE_MS)
    orientations = _Orientations()
    groups: dict[tuple[Hashable, ...], list[Plane]] = defaultdict(list)
    for plane in planes:
        i, f = plane.instance, plane.frame
        spacing = (
            None
            if f.pixel_spacing is None
            else tuple(round(s / _SPACING_TOLERANCE_MM) for s in f.pixel_spacing)
        )
        key: tuple[Hashable, ...] = (
            (i.columns, i.rows),
            (i.samples, i.photometric, i.bits_allocated, i.signed, i.pixel_keyword),
            orientations.number(f.orientation),
            spacing,
            echoes.get(f.echo_time_ms, 0),
            f.component,
            f.stack,
            i.tiles,
            bool(f.rows_reversed),
        )
        groups[key].append(plane)
    parts = list(groups.items())
    parts = [((*key, name), part) for key, group in parts for name, part in _without_traces(group)]
    for label in _LABELS:
        parts = [((*key, value), part) for key, group in parts for value, part in _by_label(group, label)]
    varying = [n for n in range(len(parts[0][0])) if len({key[n] for key, _ in parts}) > 1] if parts else []
    named: list[Component] = []
    taken: set[str] = set()
    for key, part in parts:
        name = "_".join(filter(None, (_PARTS[n](key[n], part[0]) for n in varying)))
        unique, number = name, 2
        while unique in taken or (not unique and len(parts) > 1 and not _is_plain(key, varying)):
            unique = f"{name}{'_' if name else 'part'}{number}"
            number += 1
        taken.add(unique)
        named.append(Component(unique, tuple(part)))
    return named


def _is_plain(key: tuple[Hashable, ...], varying: list[int]) -> bool:
    # Magnitude needs no name beside phase, real and imaginary; directions need none beside their trace.
    return all(_PARTS[n] in (_complex, _trace, _polarity) and not key[n] for n in varying)


def _matrix(value: Hashable, plane: Plane) -> str:
    return f"{plane.instance.columns}x{plane.instance.rows}"


def _pixels(value: Hashable, plane: Plane) -> str:
    i = plane.instance
    return "colour" if i.samples > 1 else f"{'i' if i.signed else 'u'}{i.bits_allocated}"


def _plane_name(value: Hashable, plane: Plane) -> str:
    return _direction_name(plane.frame.orientation)


def _spacing_name(value: Hashable, plane: Plane) -> str:
    spacing = plane.frame.pixel_spacing
    return "" if spacing is None else f"px{spacing[1]:.4g}x{spacing[0]:.4g}"


def _echo(value: Hashable, plane: Plane) -> str:
    return f"e{value + 1}" if isinstance(value, int) else ""


def _complex(value: Hashable, plane: Plane) -> str:
    return str(value)


def _stack(value: Hashable, plane: Plane) -> str:
    return f"stack{value}" if value else ""


def _mosaic(value: Hashable, plane: Plane) -> str:
    return "mosaic" if value else ""


def _polarity(value: Hashable, plane: Plane) -> str:
    return "reversed" if value else ""


def _trace(value: Hashable, plane: Plane) -> str:
    return str(value)


def _image_type(value: Hashable, plane: Plane) -> str:
    parts = str(value).upper().split("\\")[2:]
    # code strings alone (VR CS): a name becomes part of the series' key
    return "-".join(part.lower().replace(" ", "") for part in parts if _CODE_STRING.fullmatch(part))


def _series_number(value: Hashable, plane: Plane) -> str:
    return f"s{value}" if isinstance(value, int) else ""


def _echo_number(value: Hashable, plane: Plane) -> str:
    return f"e{value}" if value else ""


def _flip_angle(value: Hashable, plane: Plane) -> str:
    return f"fa{value:g}" if isinstance(value, int | float) else ""


_PARTS = (
    _matrix, _pixels, _plane_name, _spacing_name, _echo, _complex, _stack, _mosaic, _polarity, _trace,
    _series_number, _image_type, _echo_number, _flip_angle,
)  # fmt: skip
"""How each part of a component's key is said in its name."""


def _direction_name(orientation: Six | None) -> str:
    if orientation is None:
        return "unplaced"
    row, column = orientation[:3], orientation[3:]
    normal = [
        abs(row[1] * column[2] - row[2] * column[1]),
        abs(row[2] * column[0] - row[0] * column[2]),
        abs(row[0] * column[1] - row[1] * column[0]),
    ]
    return _AXIS_NAMES[normal.index(max(normal))]


def _without_traces(planes: list[Plane]) -> list[tuple[str, list[Plane]]]:
    """Philips' trace images apart: weighted, without a direction, in a series that has directions."""
    maker = str(planes[0].instance.attributes.get("manufacturer", "")).upper()
    if "PHILIPS" not in maker or not any(p.frame.gradient for p in planes):
        return [("", planes)]
    traces = [p for p in planes if p.frame.b_value and not p.frame.gradient]
    rest = [p for p in planes if not p.frame.b_value or p.frame.gradient]
    return [(name, part) for name, part in (("", rest), ("trace", traces)) if part]


_LABELS: tuple[Callable[[Plane], Hashable], ...] = (
    lambda p: p.instance.attributes.get("series_number"),
    lambda p: p.frame.image_type or p.instance.image_type,
    lambda p: p.instance.attributes.get("echo_number"),
    lambda p: p.instance.attributes.get("flip_angle_deg"),
)


def _by_label(planes: list[Plane], label: Callable[[Plane], Hashable]) -> list[tuple[Hashable, list[Plane]]]:
    """Planes by a label, if those of each value are at the places of the others; else all together."""
    by_value: dict[Hashable, list[Plane]] = defaultdict(list)
    for plane in planes:
        by_value[label(plane)].append(plane)
    if len(by_value) == 1:
        return [("", planes)]
    places = [{plane.frame.position for plane in part} for part in by_value.values()]
    shared = set.intersection(*places)
    if shared and all(len(shared) * 2 >= len(place) for place in places):
        return list(by_value.items())
    return [("", planes)]


class _Orientations:
    """Numbers orientations; those that differ by rounding only have one number."""

    def __init__(self) -> None:
        self._exact: dict[Six | None, int] = {None: -1}
        self._known: list[Six] = []

    def number(self, orientation: Six | None) -> int:
        found = self._exact.get(orientation)
        if found is not None or orientation is None:
            return -1 if found is None else found
        for number, known in enumerate(self._known):
            if max(abs(a - b) for a, b in zip(known, orientation, strict=True)) <= SAME_DIRECTION:
                self._exact[orientation] = number
                return number
        self._known.append(orientation)
        self._exact[orientation] = len(self._known) - 1
        return len(self._known) - 1


def _clusters(values: Sequence[float | None], tolerance: float) -> dict[float | None, int]:
    """Number the distinct values in rising order; neighbours within `tolerance` share a number."""
    numbers: dict[float | None, int] = {}
    number, last = -1, float("-inf")
    for value in sorted({v for v in values if v is not None}):
        if value - last > tolerance:
            number += 1
        numbers[value] = number
        last = value
    return numbers
