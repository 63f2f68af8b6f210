"""Image series: duplicates removed, divided into components, each stacked into a volume and judged."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path

from radiobject_assets.imaging.dicom.duplicates import without_duplicates
from radiobject_assets.imaging.dicom.instance import Instance, Six
from radiobject_assets.imaging.dicom.mosaic import plane_size
from radiobject_assets.imaging.dicom.values import value_range
from radiobject_assets.imaging.geometry import slice_normal
from radiobject_assets.imaging.pixels.acceptance import (
    COMPRESSED,
    SECONDARY_CAPTURE,
    Problem,
    is_colour,
    problem_of,
)
from radiobject_assets.imaging.policy import REFUSE, SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.evidence.agreement import text_of_all
from radiobject_assets.imaging.series.evidence.dividing import Component, divide, what_differs
from radiobject_assets.imaging.series.evidence.plane import Plane, planes_of
from radiobject_assets.imaging.series.evidence.rules import TRACE
from radiobject_assets.imaging.series.evidence.siblings import one_stack, united
from radiobject_assets.imaging.series.evidence.stacking import Stacked, stack
from radiobject_assets.imaging.series.record import Series, quarantined, series_key
from radiobject_assets.imaging.series.volume_attributes import attributes_of_volume

# Three planes with more slices than this are reformats, or three scans, that came as one series.
_MOST_LOCALIZER_SLICES = 15
_NAMED = 5
_LOCALIZER_TYPE = re.compile(r"\\(LOCALIZER|SCOUT|TOPOGRAM|SURVIEW|REF_SURVIEW)(\\|$)")


@dataclass(frozen=True)
class _Judged:
    """A component, what became of it, and what else is wrong with it."""

    component: Component
    files: tuple[Path, ...]
    result: Stacked | Problem
    also: tuple[Problem, ...] = ()


def image_series(
    uid: str,
    instances: list[Instance],
    policy: SeriesPolicy = REFUSE,
    without_pixels: Sequence[Instance] = (),
) -> list[Series]:
    """The series (one per component) of the image instances that share a SeriesInstanceUID.

    Parameters
    ----------
    without_pixels
        Instances of the same kind that came without pixel data: parts of the images that lack something.
    """
    identities = {(i.patient_id, i.study_uid) for i in instances}
    if len(identities) > 1:
        what = "patients" if len({patient for patient, _ in identities}) > 1 else "studies"
        problem = Problem(Reason.MIXED_IDENTITY, f"one series UID is used for {len(identities)} {what}")
        return [quarantined(uid, "", "image", [*instances, *without_pixels], problem)]
    kept, conflicts, copies = without_duplicates(instances)
    described = [i for i in kept if i.frames and _is_measured(i)]
    components = divide([plane for instance in described for plane in planes_of(instance)])
    three_planes = _orthogonal_orientations([c.planes[0].frame.orientation for c in components]) >= 3 and all(
        len({plane.frame.position for plane in c.planes}) <= _MOST_LOCALIZER_SLICES for c in components
    )
    judged: list[_Judged] = []
    listed: set[Path] = set()
    for component in components:
        paths = dict.fromkeys(plane.instance.path for plane in component.planes)
        files = {path for kept_path in paths for path in (kept_path, *copies.get(kept_path, ()))} - listed
        listed |= files
        result, also = _verdict(component, conflicts, policy, three_planes=three_planes)
        judged.append(_Judged(component, tuple(sorted(files)), result, also))
    frameless = [i for i in instances if i.path not in listed]
    lost = [i for i in (*frameless, *without_pixels) if _completes(i, judged)]
    result_series = _with_their_rest(uid, judged, lost)
    rest = [i for i in frameless if i not in lost]
    if rest:
        problem = problem_of(rest[0]) or Problem(Reason.SIZE_MISMATCH, "the instance describes no frame")
        if len(rest) > 1:
            problem = replace(problem, detail=f"{len(rest)} instances: {problem.detail}")
        name = "no_frames" if result_series else ""
        result_series.append(quarantined(uid, name, "image", rest, problem))
    left = [i for i in without_pixels if i not in lost]
    if left:
        problem = Problem(Reason.SIZE_MISMATCH, f"{len(left)} images came without pixel data")
        result_series.append(quarantined(uid, "no_pixels" if result_series else "", "image", left, problem))
    return result_series


def _is_measured(instance: Instance) -> bool:
    """Whether Rows, Columns and PhotometricInterpretation are there: without, nobody knows what it shows."""
    return instance.rows > 0 and instance.columns > 0 and bool(instance.photometric)


def _completes(instance: Instance, judged: Sequence[_Judged]) -> bool:
    """Whether an instance without frames, pixels or size may be one of a volume's slices: of its kind, and of
    its size as far as that is told."""
    return any(
        instance.sop_class_uid == first.sop_class_uid
        and first.sop_class_uid not in SECONDARY_CAPTURE
        and instance.columns in (first.columns, 0)
        and instance.rows in (first.rows, 0)
        for first in (each.component.planes[0].instance for each in judged)
    )


def _with_their_rest(uid: str, judged: Sequence[_Judged], lost: Sequence[Instance]) -> list[Series]:
    """Every component as a series; parts of one stack together, held back under one reason."""
    groups = _with_traces(one_stack([each.component for each in judged]), judged)
    of_component = {id(component): group for group in groups for component in group}
    result: list[Series] = []
    done: set[int] = set()
    for each in judged:
        group = of_component.get(id(each.component))
        if group is None:
            result.extend(_as_series(uid, each))
        elif id(group) not in done:
            done.add(id(group))
            parts = [other for other in judged if of_component.get(id(other.component)) is group]
            alone = len(parts) == len(judged)
            result.append(_held_back(uid, "" if alone else each.component.name or "parts", parts))
    if lost and result:
        return [_lacking(uid, result, lost)]
    return result


def _with_traces(groups: list[list[Component]], judged: Sequence[_Judged]) -> list[list[Component]]:
    """The groups; trace images and the volumes with directions as one where either is no volume.

    A direction that was lost makes an image one of a trace.
    """
    if not judged or not judged[0].component.planes[0].vendor.traces_apart:
        return groups
    for one, other in combinations(judged, 2):
        if what_differs(one.component, other.component) == [TRACE.elements] and (
            isinstance(one.result, Problem) or isinstance(other.result, Problem)
        ):
            groups = united(groups, one.component, other.component)
    return groups


def _held_back(uid: str, name: str, parts: Sequence[_Judged]) -> Series:
    """Parts of one stack that can't be one volume, as one series."""
    planes = tuple(chain.from_iterable(part.component.planes for part in parts))
    files = tuple(sorted(chain.from_iterable(part.files for part in parts)))
    counts = " + ".join(str(len(part.component.planes)) for part in parts)
    differs = dict.fromkeys(
        element for part in parts[1:] for element in what_differs(parts[0].component, part.component)
    )
    if all(part.component.planes[0].placed for part in parts):
        what = f"{counts} images lie on one line with one spacing, and differ in {'; '.join(differs)}"
    else:
        what = f"{counts} images are of one kind, and some of them have no place in space"
    problem = Problem(Reason.PARTS_DIFFER, what)
    also = [part.result for part in parts if isinstance(part.result, Problem)]
    also += chain.from_iterable(part.also for part in parts)
    return _refused(_base(uid, name, planes, files), planes, problem, _distinct(also))


def _lacking(uid: str, found: Sequence[Series], lost: Sequence[Instance]) -> Series:
    every = chain(chain.from_iterable(series.instances for series in found), lost)
    instances = list({instance.path: instance for instance in every}.values())
    problem = Problem(
        Reason.PARTS_DIFFER,
        f"{len(lost)} of {len(instances)} images of the series came without pixels, size or place",
    )
    also = _distinct([Problem(s.reason, s.detail) for s in found if s.reason is not None])
    held = quarantined(uid, "", "image", instances, problem)
    files = tuple(sorted({*chain.from_iterable(s.files for s in found), *(i.path for i in lost)}))
    return replace(held, files=files, also=also)


def _distinct(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """One problem for each reason, in order."""
    return tuple({problem.reason: problem for problem in reversed(problems)}.values())[::-1]


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


def _as_series(uid: str, judged: _Judged) -> list[Series]:
    """The series of a component: one, but for colours in time, where no axis is left for it."""
    component = judged.component
    base = _base(uid, component.name, component.planes, judged.files)
    if isinstance(judged.result, Problem):
        return [_refused(base, component.planes, judged.result, judged.also)]
    if not is_colour(component.planes[0].instance) or judged.result.n_times == 1:
        return [_described(base, judged.result)]
    return _time_by_time(uid, base, judged.result)


def _base(uid: str, name: str, planes: Sequence[Plane], files: tuple[Path, ...]) -> Series:
    first = planes[0].instance
    return Series(
        series_uid=uid if first.series_uid else "",
        component=name,
        key=series_key(uid, name),
        kind="image",
        patient_id=first.patient_id,
        study_uid=first.study_uid,
        modality=first.modality,
        description=text_of_all([plane.instance.description for plane in planes]),
        files=files,
        verdict="quarantined",
        reason=None,
        detail="",
        native_codec=any(p.instance.transfer_syntax in COMPRESSED for p in planes),
    )


def _refused(base: Series, planes: Sequence[Plane], problem: Problem, also: tuple[Problem, ...]) -> Series:
    instances, _ = _indexed(planes)
    others = tuple(other for other in also if other.reason is not problem.reason)
    return replace(base, reason=problem.reason, detail=problem.detail, instances=instances, also=others)


def _verdict(
    component: Component, conflicts: set[Path], policy: SeriesPolicy, *, three_planes: bool
) -> tuple[Stacked | Problem, tuple[Problem, ...]]:
    """The volume, or why there is none and what else is wrong: one reason never hides another."""
    problem = _problem(component, conflicts, policy, three_planes=three_planes)
    if problem is not None and problem.reason is Reason.LOCALIZER:
        return problem, ()
    stacked = stack(component.planes, policy)
    if problem is None:
        return stacked, ()
    return problem, (stacked,) if isinstance(stacked, Problem) else ()


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
        attributes=attributes_of_volume(stacked),
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
    found = [
        (instance, problem) for instance in instances if (problem := problem_of(instance, policy)) is not None
    ]
    if found:
        problem = found[0][1]
        share = "" if len(instances) == 1 else f"{len(found)} of {len(instances)} instances: "
        return Problem(problem.reason, share + problem.detail)
    if len({is_colour(instance) for instance in instances}) > 1:
        return Problem(Reason.COLOUR, "some slices have colours, others have none")
    if (problem := _unscaled(component.planes) or _cut_short(instances)) is not None:
        return problem
    differing = sum(instance.path in conflicts for instance in instances)
    if differing:
        return Problem(Reason.CONFLICTING_DUPLICATES, f"{differing} instances have copies with other content")
    if all(_LOCALIZER_TYPE.search(i.image_type.upper()) for i in instances):
        return Problem(Reason.LOCALIZER, "ImageType says localizer")
    if three_planes:
        return Problem(Reason.LOCALIZER, "few slices in three orthogonal orientations")
    return None


def _cut_short(instances: Sequence[Instance]) -> Problem | None:
    """Files of a concatenation that are not here: frames of one object, PS3.3 C.7.6.16.2.2.4."""
    parts: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    for instance in instances:
        if instance.concatenation is not None:
            uid, number, total = instance.concatenation
            parts.setdefault(uid, set()).add(number)
            totals[uid] = max(totals.get(uid, 0), total, number)
    for uid, numbers in parts.items():
        missing = sorted(set(range(1, totals[uid] + 1)) - numbers)
        if missing:
            told = ", ".join(map(str, missing[:_NAMED]))
            return Problem(
                Reason.MISSING_SLICE,
                f"{len(missing)} of {totals[uid]} files of one concatenated object are missing: file {told}",
            )
    return None


def _unscaled(planes: Sequence[Plane]) -> Problem | None:
    """Slices without a rescale among slices that have one: their values would be another quantity."""
    without = sum(not plane.frame.rescaled for plane in planes)
    scaled = any(
        plane.frame.rescaled and (plane.frame.slope, plane.frame.intercept) != (1, 0) for plane in planes
    )
    if not without or not scaled:
        return None
    return Problem(
        Reason.PARTS_DIFFER,
        f"RescaleSlope and RescaleIntercept are absent in {without} of {len(planes)} images",
    )
