"""From header elements to `Frame`s: one for a classic instance, one for each frame of an enhanced one.

Enhanced multi-frame objects keep what all frames share in SharedFunctionalGroupsSequence and what differs
in PerFrameFunctionalGroupsSequence (PS3.3 C.7.6.16); a macro is in one or the other, never both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import cast

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.diffusion import b_value_of, direction_of
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.instance import Frame, Six, Triple
from radiobject_assets.imaging.dicom.real_world import in_place_of, rescale_of
from radiobject_assets.imaging.dicom.vendor import Vendor
from radiobject_assets.imaging.dicom.withholding import names_somebody, words_of_identity
from radiobject_assets.imaging.geometry import slice_normal
from radiobject_assets.imaging.source import AttributeValue

_PHASE = frozenset({"P", "PHASE", "PHASE MAP", "PHASE_MAP"})
_REAL = frozenset({"R", "REAL"})
_IMAGINARY = frozenset({"I", "IMAGINARY"})
_RESCALE = frozenset({t.SLOPE, t.INTERCEPT, t.MODALITY_LUT, t.REAL_WORLD_MAPPING})


@lru_cache(maxsize=4096)
def component_of(image_type: str) -> str:
    """Complex component that an ImageType (or FrameType, ComplexImageComponent) names; "" for magnitude."""
    values = [value.strip().upper() for value in image_type.split("\\")]
    found = set(values[2:] if len(values) > 1 else values)
    if found & _PHASE:
        return "phase"
    if found & _REAL:
        return "real"
    if found & _IMAGINARY:
        return "imaginary"
    return ""


def _finite(values: Sequence[float], count: int) -> tuple[float, ...] | None:
    if len(values) != count or not all(map(math.isfinite, values)):
        return None
    return tuple(values)


def finite(value: float | None) -> float | None:
    """The number, or None where it is none."""
    return value if value is not None and math.isfinite(value) else None


def _orientation(elements: Elements | None) -> Six | None:
    return cast("Six | None", _finite(elements.numbers(t.IMAGE_ORIENTATION), 6) if elements else None)


def position(elements: Elements | None) -> Triple | None:
    """ImagePositionPatient (LPS mm); None where it is absent or invalid."""
    return cast("Triple | None", _finite(elements.numbers(t.IMAGE_POSITION), 3) if elements else None)


def _spacing(elements: Elements | None) -> tuple[float, float] | None:
    values = _finite(elements.numbers(t.PIXEL_SPACING), 2) if elements else None
    if values is None or not all(_LEAST_MM <= value <= _MOST_MM for value in values):
        return None
    return values[0], values[1]


# Of any pixel or slice: beyond, an affine is not invertible in floating point, or it is no length.
_LEAST_MM, _MOST_MM = 1e-6, 1e6


def _thickness(elements: Elements | None) -> float | None:
    if elements is None:
        return None
    value = elements.number(t.SPACING_BETWEEN_SLICES) or elements.number(t.SLICE_THICKNESS)
    return value if value is not None and _LEAST_MM <= abs(value) <= _MOST_MM else None


def acquired_at(elements: Elements) -> str:
    """When a classic image was acquired: AcquisitionDateTime, or AcquisitionDate and AcquisitionTime."""
    moment = elements.text(t.ACQUISITION_DATE_TIME)
    if not moment and (time := elements.text(t.ACQUISITION_TIME)):
        moment = elements.text(t.ACQUISITION_DATE) + time
    return moment


def classic_frame(elements: Elements, vendor: Vendor) -> Frame:
    """The one frame of a classic (single-frame) instance."""
    slope, intercept = rescale_of(elements)
    if t.REAL_WORLD_MAPPING in elements.values:
        slope, intercept = in_place_of((slope, intercept), elements.items(t.REAL_WORLD_MAPPING), vendor)
    component = component_of(elements.text(t.IMAGE_TYPE))
    if not component and t.COMPLEX_COMPONENT in elements.values:
        component = component_of(elements.text(t.COMPLEX_COMPONENT))
    if not component:
        component = vendor.component(elements)
    direction = direction_of(elements, vendor)
    return Frame(
        position=position(elements),
        orientation=_orientation(elements),
        pixel_spacing=_spacing(elements),
        slope=slope,
        intercept=intercept,
        component=component,
        echo_time_ms=finite(elements.number(t.ECHO_TIME)),
        temporal_index=elements.integer(t.TEMPORAL_POSITION),
        volume_numbers=vendor.volume_numbers(elements),
        trigger_time_ms=finite(elements.number(t.TRIGGER_TIME)),
        acquired_at=acquired_at(elements),
        b_value=b_value_of(elements, vendor),
        gradient=direction.vector if direction else None,
        direction_rule=direction.rule if direction else "",
        thickness_mm=_thickness(elements),
        slice_location=finite(elements.number(t.SLICE_LOCATION)),
        content_at=elements.text(t.CONTENT_TIME),
        reference_time_ms=finite(elements.number(t.FRAME_REFERENCE_TIME)),
        duration_ms=finite(elements.number(t.FRAME_DURATION)),
        cardiac_percent=finite(elements.number(t.CARDIAC_PERCENT)),
        respiratory_percent=finite(elements.number(t.RESPIRATORY_PERCENT)),
        rescaled=not _RESCALE.isdisjoint(elements.values),
        rows_reversed=vendor.rows_reversed(elements),
    )


def is_tomographic(elements: Elements) -> bool:
    """True for reconstructed slices of nuclear medicine; TOMO without RECON are projections, no slices."""
    kinds = elements.text(t.IMAGE_TYPE).upper().split("\\")[2:3]
    return kinds in (["RECON TOMO"], ["RECON GATED TOMO"])


def tomographic_frames(elements: Elements, n_frames: int, vendor: Vendor) -> tuple[Frame, ...]:
    """The frames of a reconstructed nuclear medicine volume (PS3.3 C.8.4.15): slices of the first detector.

    SpacingBetweenSlices is signed there: negative where slices run against the normal.
    """
    detector = elements.first(t.NM_DETECTORS)
    first = position(detector) or position(elements)
    orientation = _orientation(detector) or _orientation(elements)
    gap_mm = elements.number(t.SPACING_BETWEEN_SLICES)
    if first is None or orientation is None or not gap_mm or not math.isfinite(gap_mm):
        return ()
    try:
        normal = slice_normal(orientation)
    except ValueError:
        return ()
    numbers = [int(number) - 1 for number in elements.numbers(t.NM_SLICE_VECTOR)]
    if len(numbers) != n_frames:
        numbers = list(range(n_frames))
    whole = replace(classic_frame(elements, vendor), orientation=orientation)
    frames = []
    for number in numbers:
        x, y, z = (float(v) for v in first + normal * (gap_mm * number))
        frames.append(replace(whole, position=(x, y, z)))
    return tuple(frames)


def multiframe_frames(elements: Elements, n_frames: int, vendor: Vendor) -> tuple[Frame, ...]:
    """The frames of an enhanced multi-frame instance, in the order of its pixel data."""
    shared = elements.first(t.SHARED_GROUPS) or Elements({}, t.WANTED)
    groups = elements.items(t.FRAME_GROUPS)
    empty = Elements({}, t.WANTED)
    _, own = _macro_values(elements)
    return tuple(
        replace(
            _frame(groups[index] if index < len(groups) else empty, shared, elements, vendor),
            own=own[index] if index < len(own) else (),
        )
        for index in range(n_frames)
    )


_IN_MACROS = {
    "repetition_time_ms": (t.MR_TIMING, t.REPETITION_TIME),
    "flip_angle_deg": (t.MR_TIMING, t.FLIP_ANGLE),
    "inversion_time_ms": (t.MR_MODIFIER, t.INVERSION_TIMES),
    "slice_thickness_mm": (t.PIXEL_MEASURES, t.SLICE_THICKNESS),
    "echo_train_length": (t.MR_TIMING, t.ATTRIBUTES["echo_train_length"][0]),
    "tube_voltage_kv": (t.CT_X_RAY, t.ATTRIBUTES["tube_voltage_kv"][0]),
    "tube_current_ma": (t.CT_EXPOSURE, t.TUBE_CURRENT_IN_MA),
    "exposure_mas": (t.CT_EXPOSURE, t.EXPOSURE_IN_MAS),
}


def multiframe_attributes(elements: Elements) -> dict[str, AttributeValue]:
    """Acquisition parameters that the macros of an enhanced object say of all its frames alike."""
    return _macro_values(elements)[0]


def _macro_values(
    elements: Elements,
) -> tuple[dict[str, AttributeValue], list[tuple[tuple[str, AttributeValue], ...]]]:
    """What macros say of all frames, and what else they say of each (in the order of their groups)."""
    words = words_of_identity(elements)
    shared = elements.first(t.SHARED_GROUPS)
    found = {} if shared is None else _values_in(shared, words)
    each = [_values_in(group, words) for group in elements.items(t.FRAME_GROUPS)]
    if not each:
        return found, []
    alike = {
        name: value for name, value in each[0].items() if all(own.get(name) == value for own in each[1:])
    }
    known = found.keys() | alike.keys()
    own = [tuple((name, value) for name, value in values.items() if name not in known) for values in each]
    return {**alike, **found}, own


def _values_in(group: Elements, words: frozenset[str]) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {}
    reconstruction = group.first(t.CT_RECONSTRUCTION)
    kernel = reconstruction.text(t.KERNEL) if reconstruction is not None else ""
    if kernel and not names_somebody(kernel, words):
        found["convolution_kernel"] = kernel
    velocity = group.first(t.VELOCITY_ENCODING)
    direction = velocity.numbers(t.VELOCITY_DIRECTION) if velocity is not None else ()
    if len(direction) == 3 and all(map(math.isfinite, direction)):
        found["velocity_encoding_lps"] = json.dumps([round(value, 6) + 0.0 for value in direction])
    for name, (sequence, tag) in _IN_MACROS.items():
        macro = group.first(sequence)
        value = macro.number(tag) if macro is not None else None
        if value is not None and math.isfinite(value):
            found[name] = int(value) if t.ATTRIBUTES[name][1] is int else value
    return found


def _frame(own: Elements, shared: Elements, top: Elements, vendor: Vendor) -> Frame:
    def macro(tag: int) -> Elements | None:
        return own.first(tag) or shared.first(tag)

    content = macro(t.FRAME_CONTENT) or Elements({}, t.WANTED)
    mapping = own.items(t.REAL_WORLD_MAPPING) or shared.items(t.REAL_WORLD_MAPPING)
    slope, intercept = in_place_of(rescale_of(macro(t.PIXEL_TRANSFORMATION) or top), mapping, vendor)
    echo = macro(t.MR_ECHO)
    cardiac, respiratory, temporal = macro(t.CARDIAC), macro(t.RESPIRATORY), macro(t.TEMPORAL_SEQUENCE)
    frame_type = macro(t.MR_FRAME_TYPE) or macro(t.CT_FRAME_TYPE)
    component = ""
    if frame_type is not None:
        component = component_of(frame_type.text(t.COMPLEX_COMPONENT)) or component_of(
            frame_type.text(t.FRAME_TYPE)
        )
    diffusion = macro(t.MR_DIFFUSION)
    direction = direction_of(diffusion, vendor) if diffusion else None
    identification = macro(t.SEGMENT_IDENTIFICATION)
    return Frame(
        position=position(macro(t.PLANE_POSITION)),
        orientation=_orientation(macro(t.PLANE_ORIENTATION)),
        pixel_spacing=_spacing(macro(t.PIXEL_MEASURES)),
        slope=slope,
        intercept=intercept,
        image_type=frame_type.text(t.FRAME_TYPE) if frame_type is not None else "",
        component=component,
        stack=content.text(t.STACK_ID),
        echo_time_ms=finite(echo.number(t.EFFECTIVE_ECHO_TIME)) if echo else None,
        temporal_index=content.integer(t.TEMPORAL_INDEX),
        trigger_time_ms=finite(cardiac.number(t.TRIGGER_DELAY)) if cardiac else None,
        cardiac_percent=finite(cardiac.number(t.CARDIAC_PERCENT)) if cardiac else None,
        respiratory_percent=finite(respiratory.number(t.RESPIRATORY_PERCENT)) if respiratory else None,
        temporal_offset_s=finite(temporal.number(t.TEMPORAL_OFFSET)) if temporal else None,
        duration_ms=finite(content.number(t.FRAME_ACQUISITION_DURATION)),
        rescaled=bool(mapping) or not _RESCALE.isdisjoint((macro(t.PIXEL_TRANSFORMATION) or top).values),
        acquired_at=content.text(t.FRAME_ACQUIRED_AT),
        b_value=b_value_of(diffusion, vendor) if diffusion else None,
        gradient=direction.vector if direction else None,
        direction_rule=direction.rule if direction else "",
        dimension_index=tuple(int(value) for value in content.numbers(t.DIMENSION_INDEX)),
        segment=identification.integer(t.REFERENCED_SEGMENT) if identification else None,
        thickness_mm=_thickness(macro(t.PIXEL_MEASURES)),
    )
