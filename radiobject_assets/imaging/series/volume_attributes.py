"""What obs says of a DICOM volume: what all its planes say, its fourth axis, diffusion and timing."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from radiobject_assets.imaging.axes import AXIS_EVIDENCE, COMPONENTS, DURATIONS, axis_attributes
from radiobject_assets.imaging.dicom import real_world
from radiobject_assets.imaging.dicom.acquisition_times import even_step_s, on_one_line
from radiobject_assets.imaging.dicom.vendor_rules import rules_of_directions
from radiobject_assets.imaging.dicom.vendors import vendor_of
from radiobject_assets.imaging.geometry import TILT_DEG, tilt_deg
from radiobject_assets.imaging.pixels.acceptance import SECONDARY_CAPTURE, is_colour
from radiobject_assets.imaging.series.evidence.agreement import agreed
from radiobject_assets.imaging.series.evidence.stacking import Stacked
from radiobject_assets.imaging.source import AttributeValue


def attributes_of_volume(stacked: Stacked) -> dict[str, AttributeValue]:
    """The columns of obs for a volume: what all its planes say, and what follows from all of them."""
    first = stacked.planes[0]
    attributes = agreed(stacked.planes, stacked.n_times)
    if not all(name in attributes for name in real_world.COLUMNS):  # slope and intercept, or neither
        for name in real_world.COLUMNS:
            attributes.pop(name, None)
    echoes = [p.frame.echo_time_ms for p in stacked.planes]
    if None not in echoes:  # within their tolerance
        attributes["echo_time_ms"] = first.frame.echo_time_ms
    if first.frame.component:
        attributes["complex_component"] = first.frame.component
    angle = tilt_deg(stacked.affine)
    if angle > TILT_DEG:
        attributes["gantry_tilt_deg"] = round(angle, 4)
    if all(p.instance.sop_class_uid in SECONDARY_CAPTURE for p in stacked.planes):
        attributes["secondary_capture"] = 1
    if stacked.slice_positions_mm is not None:
        attributes["slice_positions_mm"] = json.dumps([round(p, 6) for p in stacked.slice_positions_mm])
    if is_colour(first.instance):
        attributes["components"] = "rgb"
    attributes.update(_fourth_axis(stacked))
    attributes.update(_diffusion(stacked))
    attributes.update(_slice_timing(stacked))
    attributes.update(_interval(stacked, attributes))
    return attributes


def _fourth_axis(stacked: Stacked) -> dict[str, AttributeValue]:
    """What the fourth axis is, the value of each point, and the elements that prove their order."""
    axis = stacked.axis
    if axis is None:
        colours = is_colour(stacked.planes[0].instance)
        return axis_attributes("component", COMPONENTS["rgb"]) if colours else {}
    found = axis_attributes(axis.name, axis.values, axis.unit)
    found[AXIS_EVIDENCE] = axis.evidence
    if axis.durations_s:
        found[DURATIONS] = json.dumps(list(axis.durations_s))
    return found


def _interval(stacked: Stacked, attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Time between volumes of classic images; GE gives a series one time, or each slice its own."""
    times = stacked.planes[:: stacked.n_slices]
    if len(times) < 2 or not vendor_of(str(attributes.get("manufacturer", ""))).times_of_volumes:
        return {}
    moments = on_one_line([p.frame.acquired_at for p in times])
    repetition = attributes.get("repetition_time_ms")
    found = None
    if moments is not None:
        found = even_step_s(moments, repetition if isinstance(repetition, float | int) else None)
    classic = len({p.instance.path for p in times}) == len(times)
    return {"volume_interval_s": found} if found is not None and classic else {}


def _slice_timing(stacked: Stacked) -> dict[str, AttributeValue]:
    """When each slice was acquired (s after the first), and the direction (RAS+) in which they are listed."""
    times = [p.frame.slice_time_ms for p in stacked.planes[: stacked.n_slices]]
    known = [value for value in times if value is not None]
    if len(known) < len(times) or len(set(known)) < 2:
        return {}
    step = stacked.affine[:3, 2] / np.linalg.norm(stacked.affine[:3, 2])
    return {
        "slice_timing_s": json.dumps([round((value - min(known)) / 1000, 6) for value in known]),
        "slice_encoding_ras": json.dumps([round(float(v), 9) for v in step]),
    }


def _diffusion(stacked: Stacked) -> dict[str, AttributeValue]:
    """b-values (s/mm2) and gradient directions (unit vectors, RAS+) of the time points, as JSON lists.

    Absent where no header tells a weighting: all b-values 0 count where ImageType names diffusion. Where
    some directions are known, GE's volumes without one are unweighted, whatever b-value the series names
    for all; where none is known they may be trace images, and keep it.
    """
    times = stacked.planes[:: stacked.n_slices]
    first = times[0].instance
    b_values = [p.frame.b_value for p in times]
    named = "DIFFUSION" in first.image_type.upper() and None not in b_values
    if not (any(b_values) or named):
        return {}
    directions = [p.frame.gradient for p in times]
    vendor = vendor_of(str(first.attributes.get("manufacturer", "")))
    if vendor.unweighted_without_direction and any(directions):
        b_values = [b if direction else 0.0 for b, direction in zip(b_values, directions, strict=True)]
    vectors = [direction or (0.0, 0.0, 0.0) for direction in directions]
    return {
        "b_values_s_per_mm2": json.dumps([b if b is not None else 0.0 for b in b_values]),
        "b_vectors_ras": json.dumps([[-x + 0.0, -y + 0.0, z] for x, y, z in vectors]),
        **rules_of_directions(p.frame.direction_rule for p in times),
    }
