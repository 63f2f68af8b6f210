"""Image series: duplicates removed, divided into components, each stacked into a volume and judged."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from radiobject_assets.imaging import real_world
from radiobject_assets.imaging.acceptance import (
    COMPRESSED,
    SECONDARY_CAPTURE,
    Problem,
    is_colour,
    problem_of,
)
from radiobject_assets.imaging.duplicates import without_duplicates
from radiobject_assets.imaging.geometry import TILT_DEG, slice_normal, tilt_deg
from radiobject_assets.imaging.grouping import Component, planes_of, split
from radiobject_assets.imaging.instance import Instance, Six
from radiobject_assets.imaging.interval import interval_s
from radiobject_assets.imaging.mosaic import plane_size
from radiobject_assets.imaging.policy import REFUSE, SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series_record import Series, quarantined, series_key
from radiobject_assets.imaging.source import AttributeValue
from radiobject_assets.imaging.stacking import Plane, Stacked, stack
from radiobject_assets.imaging.values import value_range
from radiobject_assets.imaging.vendor_rules import rules_of_directions

# Three planes with more slices than this are reformats, or three scans, that came as one series.
_MOST_LOCALIZER_SLICES = 15
_LOCALIZER_TYPE = re.compile(r"\\(LOCALIZER|SCOUT|TOPOGRAM|SURVIEW|REF_SURVIEW)(\\|$)")


def image_series(uid: str, instances: list[Instance], policy: SeriesPolicy = REFUSE) -> list[Series]:
    """The series (one per component) of the image instances that share a SeriesInstanceUID."""
    identities = {(i.patient_id, i.study_uid) for i in instances}
    if len(identities) > 1:
        what = "patients" if len({patient for patient, _ in identities}) > 1 else "studies"
        problem = Problem(Reason.MIXED_IDENTITY, f"one series UID is used for {len(identities)} {what}")
        return [quarantined(uid, "", "image", instances, problem)]
    kept, conflicts, copies = without_duplicates(instances)
    described = [i for i in kept if i.frames]
    components = split([plane for instance in described for plane in planes_of(instance)])
    three_planes = _orthogonal_orientations([c.planes[0].frame.orientation for c in components]) >= 3 and all(
        len({plane.frame.position for plane in c.planes}) <= _MOST_LOCALIZER_SLICES for c in components
    )
    result: list[Series] = []
    listed: set[Path] = set()
    for component in components:
        paths = dict.fromkeys(plane.instance.path for plane in component.planes)
        files = {path for kept_path in paths for path in (kept_path, *copies.get(kept_path, ()))} - listed
        listed |= files
        result.extend(
            _judge(uid, component, tuple(sorted(files)), conflicts, policy, three_planes=three_planes)
        )
    frameless = [i for i in instances if i.path not in listed]
    if frameless:
        problem = problem_of(frameless[0]) or Problem(Reason.SIZE_MISMATCH, "the instance describes no frame")
        result.append(quarantined(uid, "no_frames" if result else "", "image", frameless, problem))
    return result


def _orthogonal_orientations(orientations: Sequence[Six | None]) -> int:
    """How many of the three main planes occur."""
    axes = set()
    for orientation in orientations:
        try:
            normal = slice_normal(orientation or ())
        except ValueError:
            continue
        axes.add(int(abs(normal).argmax()))
    return len(axes)


def _judge(
    uid: str,
    component: Component,
    files: tuple[Path, ...],
    conflicts: set[Path],
    policy: SeriesPolicy,
    *,
    three_planes: bool,
) -> list[Series]:
    """The series of a component: one, but for colours in time, where no axis is left for it."""
    first = component.planes[0].instance
    base = Series(
        series_uid=uid if first.series_uid else "",
        component=component.name,
        key=series_key(uid, component.name),
        kind="image",
        patient_id=first.patient_id,
        study_uid=first.study_uid,
        modality=first.modality,
        description=first.description,
        files=files,
        verdict="quarantined",
        reason=None,
        detail="",
        native_codec=any(p.instance.transfer_syntax in COMPRESSED for p in component.planes),
    )
    problem = _problem(component, conflicts, policy, three_planes=three_planes)
    stacked = problem or stack(component.planes, policy)
    if isinstance(stacked, Problem):
        instances, _ = _indexed(component.planes)
        return [replace(base, reason=stacked.reason, detail=stacked.detail, instances=instances)]
    if not is_colour(first) or stacked.n_times == 1:
        return [_described(base, stacked)]
    return _time_by_time(uid, base, stacked)


def _time_by_time(uid: str, base: Series, stacked: Stacked) -> list[Series]:
    """A series for each time point; a file that holds several of them counts with the first."""
    left = base.files
    parts = []
    for time in range(stacked.n_times):
        planes = stacked.planes[time * stacked.n_slices : (time + 1) * stacked.n_slices]
        own = {plane.instance.path for plane in planes}
        last = time + 1 == stacked.n_times  # with it go the copies that were left out
        files = tuple(path for path in left if last or path in own)
        left = tuple(path for path in left if path not in files)
        name = f"{base.component}{'_' if base.component else ''}t{time + 1}"
        part = replace(base, component=name, key=series_key(uid, name), files=files)
        parts.append(_described(part, replace(stacked, planes=planes, n_times=1)))
    return parts


def _described(base: Series, stacked: Stacked) -> Series:
    first = stacked.planes[0].instance
    instances, planes = _indexed(stacked.planes)
    values = value_range([p.instance for p in stacked.planes], [p.frame for p in stacked.planes])
    shape: tuple[int, ...] = (*plane_size(first), stacked.n_slices)
    if is_colour(first):
        shape = (*shape, 3)
    elif stacked.n_times > 1:
        shape = (*shape, stacked.n_times)
    return replace(
        base,
        verdict="ingestable",
        shape=shape,
        dtype=values.dtype,
        affine=stacked.affine,
        slope=values.slope,
        intercept=values.intercept,
        decoded_bytes=math.prod(shape) * values.dtype.itemsize,
        instances=instances,
        planes=planes,
        attributes=_attributes(stacked),
    )


def _indexed(planes: Sequence[Plane]) -> tuple[tuple[Instance, ...], tuple[tuple[int, int], ...]]:
    """Distinct instances in the order of their first plane, and each plane as (instance, frame) numbers."""
    numbers: dict[Path, int] = {}
    instances: list[Instance] = []
    for plane in planes:
        if plane.instance.path not in numbers:
            numbers[plane.instance.path] = len(instances)
            instances.append(plane.instance)
    return tuple(instances), tuple((numbers[p.instance.path], p.index) for p in planes)


def _problem(
    component: Component, conflicts: set[Path], policy: SeriesPolicy, *, three_planes: bool
) -> Problem | None:
    instances, _ = _indexed(component.planes)
    first = instances[0]
    found = [
        (instance, problem) for instance in instances if (problem := problem_of(instance, policy)) is not None
    ]
    if found:
        problem = found[0][1]
        share = "" if len(instances) == 1 else f"{len(found)} of {len(instances)} instances: "
        return Problem(problem.reason, share + problem.detail)
    if len({is_colour(instance) for instance in instances}) > 1:
        return Problem(Reason.COLOUR, "some slices have colours, others have none")
    differing = sum(instance.path in conflicts for instance in instances)
    if differing:
        return Problem(Reason.CONFLICTING_DUPLICATES, f"{differing} instances have copies with other content")
    if _LOCALIZER_TYPE.search(first.image_type.upper()):
        return Problem(Reason.LOCALIZER, "ImageType says localizer")
    if three_planes:
        return Problem(Reason.LOCALIZER, "few slices in three orthogonal orientations")
    return None


def _attributes(stacked: Stacked) -> dict[str, AttributeValue]:
    first = stacked.planes[0]
    attributes = dict(first.instance.attributes)
    for name in real_world.COLUMNS:
        if not real_world.agree(p.instance.attributes for p in stacked.planes):
            attributes.pop(name, None)
    if first.frame.echo_time_ms is not None:
        attributes["echo_time_ms"] = first.frame.echo_time_ms
    if first.frame.component:
        attributes["complex_component"] = first.frame.component
    angle = tilt_deg(stacked.affine)
    if angle > TILT_DEG:
        attributes["gantry_tilt_deg"] = round(angle, 4)
    if first.instance.sop_class_uid in SECONDARY_CAPTURE:
        attributes["secondary_capture"] = 1
    if stacked.slice_positions_mm is not None:
        attributes["slice_positions_mm"] = json.dumps([round(p, 6) for p in stacked.slice_positions_mm])
    if is_colour(first.instance):
        attributes["components"] = "rgb"
    attributes.update(_diffusion(stacked))
    attributes.update(_slice_timing(stacked))
    attributes.update(_interval(stacked, attributes))
    return attributes


def _interval(stacked: Stacked, attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Time between volumes of classic images; GE gives a series one time, or each slice its own."""
    times = stacked.planes[:: stacked.n_slices]
    if len(times) < 2 or str(attributes.get("manufacturer", "")).upper().startswith("GE"):
        return {}
    repetition = attributes.get("repetition_time_ms")
    found = interval_s(
        [p.frame.acquired_at for p in times], repetition if isinstance(repetition, float | int) else None
    )
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
    if str(first.attributes.get("manufacturer", "")).upper().startswith("GE") and any(directions):
        b_values = [b if direction else 0.0 for b, direction in zip(b_values, directions, strict=True)]
    vectors = [direction or (0.0, 0.0, 0.0) for direction in directions]
    return {
        "b_values_s_per_mm2": json.dumps([b if b is not None else 0.0 for b in b_values]),
        "b_vectors_ras": json.dumps([[-x + 0.0, -y + 0.0, z] for x, y, z in vectors]),
        **rules_of_directions(p.frame.direction_rule for p in times),
    }
