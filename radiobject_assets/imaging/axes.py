"""The fourth axis of a volume, as obs names it: which axes there are, their units, and their columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Literal

from radiobject_assets.imaging.source import AttributeValue

AxisName = Literal[
    "time", "echo", "b_value", "phase", "energy", "inversion_time", "channel", "component", "unknown"
]
AXIS = "fourth_axis"
AXIS_VALUES = "fourth_axis_values"
AXIS_UNIT = "fourth_axis_unit"
AXIS_EVIDENCE = "fourth_axis_evidence"
DURATIONS = "frame_duration_s"
COLUMNS: Final = (AXIS, AXIS_VALUES, AXIS_UNIT, AXIS_EVIDENCE, DURATIONS)
COMPONENTS: Final = {
    "rgb": ("red", "green", "blue"),
    "rgba": ("red", "green", "blue", "alpha"),
    "complex": ("real", "imaginary"),
}
"""Values of an axis of components, by what the components are."""
_UNITS: Final = {
    "time": "s", "echo": "ms", "b_value": "s/mm2", "phase": "ms", "energy": "kV", "inversion_time": "ms",
}  # fmt: skip


def axis_attributes(name: str, values: Sequence[object] = (), unit: str = "") -> dict[str, AttributeValue]:
    """The columns of obs for a fourth axis; where no unit is given, its values have that of the name."""
    found: dict[str, AttributeValue] = {AXIS: name}
    if values:
        found[AXIS_VALUES] = json.dumps(list(values), ensure_ascii=False)
        if unit or name in _UNITS:
            found[AXIS_UNIT] = unit or _UNITS[name]
    return found
