"""How planes are compared: a label for each, one for those that agree; and how a label is said in a name.

Values are compared by tolerance, never by rounding them into buckets: two numbers that lie a hair apart may
lie on both sides of any bucket's border.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence

from radiobject_assets.imaging.series.evidence.plane import Plane

CORNER_VOXELS = 0.1
"""Two planes are parallel, or have one pixel spacing, if that moves no corner by more than this."""
ECHO_TOLERANCE_MS = 0.011
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")
_AXIS_NAMES = ("sagittal", "coronal", "axial")

KINDS = frozenset(
    """WATER FAT W F IN_PHASE OUT_PHASE OPP_PHASE IP OP FAT_FRACTION FF WATER_FRACTION R2STAR R2_STAR T2STAR
    T2_STAR ADC EADC FA TRACE TRACEW RATIO B0 FIELDMAP FIELD_MAP FIELD MAP MIP MINIP MPR SUBTRACTION
    T1_MAP T2_MAP CBF CBV MTT TTP TMAX PERFUSION SWI IODINE VNC""".split()  # noqa: SIM905 - better to read
)
"""Values of ImageType beyond the second that name another quantity: never a slice of one volume beside it."""

Labels = Callable[[Sequence[Plane]], list[Hashable]]
"""A label for each plane: those of one label agree."""


def each(value: Callable[[Plane], Hashable]) -> Labels:
    return lambda planes: [value(plane) for plane in planes]


def within(value: Callable[[Plane], float | None], tolerance: float, *, relative: bool = False) -> Labels:
    """Numbers the distinct values in rising order; neighbours within `tolerance` share a number."""

    def labels(planes: Sequence[Plane]) -> list[Hashable]:
        values = [value(plane) for plane in planes]
        numbers: dict[float | None, int | None] = {None: None}
        number, last = -1, float("-inf")
        for known in sorted({v for v in values if v is not None}):
            if known - last > (tolerance * abs(known) if relative else tolerance):
                number += 1
            numbers[known] = number
            last = known
        return [numbers[v] for v in values]

    return labels


def number_of(attribute: str) -> Callable[[Plane], float | None]:
    def value(plane: Plane) -> float | None:
        found = plane.says(attribute)
        return float(found) if isinstance(found, int | float) else None

    return value


def text_of(attribute: str) -> Callable[[Plane], Hashable]:
    return lambda plane: str(plane.says(attribute) or "")


def where_told(labels: Labels, nothing: Hashable = "") -> Labels:
    """What says nothing has the label of all others where they have one; where they have several, none."""

    def found(planes: Sequence[Plane]) -> list[Hashable]:
        every = labels(planes)
        told = set(every) - {nothing}
        return [next(iter(told))] * len(every) if len(told) == 1 else every

    return found


def component_or_none(plane: Plane) -> str | None:
    """The complex component; None where no ImageType says that it is magnitude."""
    return plane.frame.component if plane.frame.component or plane.image_type else None


def complex_labels(planes: Sequence[Plane]) -> list[Hashable]:
    """The complex component. Silence is magnitude where no other is told; else nobody knows what it is."""
    every = [component_or_none(plane) for plane in planes]
    return [""] * len(every) if set(every) <= {"", None} else list(every)


def orientation_labels(planes: Sequence[Plane]) -> list[Hashable]:
    """Planes that are parallel (`turned_voxels`) share a number; -1 where there is no orientation."""
    return _led(planes, lambda plane: plane.frame.orientation, turned_voxels)


def spacing_labels(planes: Sequence[Plane]) -> list[Hashable]:
    """Planes of one pixel spacing (`scaled_voxels`) share a number; -1 where there is none."""
    return _led(planes, lambda plane: plane.frame.pixel_spacing, scaled_voxels)


def _led(
    planes: Sequence[Plane], value: Callable[[Plane], Hashable], off_voxels: Callable[[Plane, Plane], float]
) -> list[Hashable]:
    """The number of the first plane that each is near enough to; equal values are compared once."""
    exact: dict[Hashable, int] = {}
    leaders: list[Plane] = []
    labels: list[Hashable] = []
    for plane in planes:
        key = value(plane), plane.size
        if key not in exact:
            near = (n for n, leader in enumerate(leaders) if off_voxels(plane, leader) <= CORNER_VOXELS)
            exact[key] = -1 if key[0] is None else next(near, len(leaders))
            if exact[key] == len(leaders):
                leaders.append(plane)
        labels.append(exact[key])
    return labels


def turned_voxels(plane: Plane, other: Plane) -> float:
    """By how many voxels (of the smaller side) the difference of two orientations moves the last corner."""
    mine, theirs = plane.frame.orientation or (0.0,) * 6, other.frame.orientation or (0.0,) * 6
    columns, rows = plane.size
    down_mm, along_mm = plane.frame.pixel_spacing or (1.0, 1.0)
    along = math.dist(mine[:3], theirs[:3])
    down = math.dist(mine[3:], theirs[3:])
    moved_mm = along * max(0, columns - 1) * along_mm + down * max(0, rows - 1) * down_mm
    return moved_mm / min(along_mm, down_mm)


def scaled_voxels(plane: Plane, other: Plane) -> float:
    """By how many voxels the difference of two pixel spacings moves the last corner."""
    (down, along), (other_down, other_along) = (
        plane.frame.pixel_spacing or (1.0, 1.0),
        other.frame.pixel_spacing or (1.0, 1.0),
    )
    columns, rows = plane.size
    return max(
        abs(along - other_along) / min(along, other_along) * max(1, columns - 1),
        abs(down - other_down) / min(down, other_down) * max(1, rows - 1),
    )


def unit_of(plane: Plane) -> str:
    """The unit of a plane's values, as PET's Units or RescaleType says it; "" where nothing does."""
    return str(plane.says("pixel_units") or plane.says("rescale_type") or "")


def kinds_of(image_type: str) -> tuple[str, ...]:
    """Values of an ImageType (or FrameType) that name a quantity (`KINDS`), in order of name."""
    values = {value.strip().upper() for value in image_type.split("\\")[2:]}
    return tuple(sorted(values & KINDS))


def direction_name(value: Hashable, plane: Plane) -> str:
    orientation = plane.frame.orientation
    if orientation is None:
        return "unplaced"
    row, column = orientation[:3], orientation[3:]
    normal = [
        abs(row[1] * column[2] - row[2] * column[1]),
        abs(row[2] * column[0] - row[0] * column[2]),
        abs(row[0] * column[1] - row[1] * column[0]),
    ]
    return _AXIS_NAMES[normal.index(max(normal))]


def spacing_name(value: Hashable, plane: Plane) -> str:
    spacing = plane.frame.pixel_spacing
    return "" if spacing is None else f"px{spacing[1]:.4g}x{spacing[0]:.4g}"


def pixels_name(value: Hashable, plane: Plane) -> str:
    i = plane.instance
    return "colour" if i.samples > 1 or i.table == "colour" else i.photometric.lower()


def image_type_name(value: Hashable, plane: Plane) -> str:
    parts = str(value).upper().split("\\")[2:]
    # code strings alone (VR CS): a name becomes part of the series' key
    return "-".join(part.lower().replace(" ", "") for part in parts if _CODE_STRING.fullmatch(part))


def plain_name(value: Hashable, plane: Plane) -> str:
    text = str(value).upper().replace("\\", "_")
    return text.lower().replace(" ", "") if _CODE_STRING.fullmatch(text) else ""


def measured(prefix: str, attribute: str, suffix: str = "") -> Callable[[Hashable, Plane], str]:
    def name(value: Hashable, plane: Plane) -> str:
        found = plane.says(attribute)
        return f"{prefix}{found:g}{suffix}" if isinstance(found, int | float) else ""

    return name


def numbered(prefix: str) -> Callable[[Hashable, Plane], str]:
    return lambda value, plane: f"{prefix}{value}" if isinstance(value, int) else ""
