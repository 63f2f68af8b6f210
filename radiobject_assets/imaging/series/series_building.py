"""Series: instances that form one volume, with a verdict.

`build_series` is a pure function of a scan: group by SeriesInstanceUID, join what goes by several of them
(`mfsplit`, `split_uids`), then images (`image_series`) and labels (`label_series`) each in their way; every
NIfTI is a series of its own.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from radiobject_assets.imaging.axes import COLUMNS
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.dicom.mfsplit import join_scans
from radiobject_assets.imaging.dicom.split_uids import in_a_row, join_numbered, told_members
from radiobject_assets.imaging.nifti.axis import fourth_axis
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.pixels.acceptance import Problem, kind_of, problem_of
from radiobject_assets.imaging.policy import REFUSE, SeriesPolicy
from radiobject_assets.imaging.reasons import IMPOSSIBLE, Reason
from radiobject_assets.imaging.scanning.scan import ScanResult
from radiobject_assets.imaging.series.image_series import image_series
from radiobject_assets.imaging.series.label_images import LabelledImage, images_here, refused_images
from radiobject_assets.imaging.series.label_series import label_series
from radiobject_assets.imaging.series.record import Kind, Series, Verdict, fallback_uid, quarantined
from radiobject_assets.imaging.source import AttributeValue

_GEOMETRIC = frozenset(
    {
        Reason.MISSING_SLICE,
        Reason.VARIABLE_SPACING,
        Reason.DUPLICATE_POSITIONS,
        Reason.INCOMPLETE_TIME_SERIES,
        Reason.BAD_GEOMETRY,
    }
)

log = logging.getLogger(__name__)

__all__ = ["Kind", "Series", "Verdict", "build_series"]


def build_series(
    scan: ScanResult, known_images: Sequence[LabelledImage] = (), policy: SeriesPolicy = REFUSE
) -> tuple[Series, ...]:
    """Group the instances of a scan into series, order their slices, and judge each.

    Parameters
    ----------
    known_images
        Images that are already in a store: labels may refer to them.
    policy
        What to do with colour, complex and irregularly spaced images; by default they are quarantined.

    Returns
    -------
    tuple[Series, ...]
        Sorted by key; every instance and every NIfTI file of the scan is in the files of exactly one.
    """
    groups: dict[str, list[Instance]] = defaultdict(list)
    for instance in scan.instances:
        groups[instance.series_uid or fallback_uid(instance)].append(instance)
    images_of = {uid: [i for i in group if kind_of(i) == "image"] for uid, group in groups.items()}
    apart = join_scans({uid: images for uid, images in images_of.items() if images})
    empty = {uid: _without_pixels(group, images_of[uid]) for uid, group in groups.items()}
    found = [
        part
        for uid, images in join_numbered(apart).items()
        for part in _image_series(uid, images, policy, empty, apart)
    ]
    labels: list[tuple[str, list[Instance]]] = []
    for uid, group in groups.items():
        others = [i for i in group if kind_of(i) == "other" and i not in empty[uid]]
        found.extend(_other_series(uid, others, alone=len(others) == len(group)))
        if len(images_of[uid]) + len(empty[uid]) + len(others) < len(group):
            labels.append((uid, [i for i in group if kind_of(i) == "labels"]))
    found = _without_nameless(found)
    referable, refused = images_here(found, known_images), refused_images(found)
    for uid, group in labels:
        found.extend(label_series(uid, group, referable, refused, policy))
    for nifti in scan.niftis:
        found.extend(_volume_series(nifti, policy))
    return tuple(sorted(_with_unique_keys(found), key=lambda s: s.key))


def _images(
    uid: str, images: list[Instance], policy: SeriesPolicy, empty: Sequence[Instance]
) -> list[Series]:
    """`image_series`; a series whose headers nobody thought of is refused, and does not stop the others."""
    try:
        return image_series(uid, images, policy, empty)
    except IMPOSSIBLE as error:
        log.warning("a series of %d images can't be judged: %s", len(images), type(error).__name__)
        told = f"{len(images)} images hold values that cannot be used ({type(error).__name__})"
        return [quarantined(uid, "", "image", [*images, *empty], Problem(Reason.DAMAGED_HEADER, told))]


def _image_series(
    uid: str,
    images: list[Instance],
    policy: SeriesPolicy,
    empty: Mapping[str, Sequence[Instance]],
    apart: Mapping[str, list[Instance]],
) -> list[Series]:
    """The series of images that go by one or several UIDs.

    Parameters
    ----------
    empty
        What came without pixels, by UID.
    apart
        The images as they were before those that were numbered as one came together.
    """
    uids = dict.fromkeys(i.series_uid or fallback_uid(i) for i in images)
    parts = _images(uid, images, policy, [i for own in uids for i in empty.get(own, ())])
    own = {each: apart[each] for each in uids if each in apart}
    if len(own) > 1 and not _GEOMETRIC.isdisjoint(part.reason for part in parts):
        alone = [s for each, part in own.items() for s in _image_series(each, part, policy, empty, {})]
        if all(map(in_a_row, own.values())) and all(map(_is_volume, alone)):
            return alone
    told = told_members(images)
    return [replace(part, attributes={**part.attributes, **told}) for part in parts] if told else parts


def _without_nameless(found: Sequence[Series]) -> list[Series]:
    """The series, without those that images which lost their SeriesInstanceUID may complete.

    Such an image is a series of its own, as far as anybody can know: a volume of its own, or a slice that
    another series lacks. It may be one of any of its patient, study, kind, size and (if told) SeriesNumber;
    if it is a volume itself, it may be a point of one with the same SeriesNumber.
    """
    nameless = [s for s in found if s.kind == "image" and not s.series_uid]
    if not nameless:
        return list(found)
    images = [series for series in found if series.kind == "image"]
    return [_held(series, nameless if series.series_uid else images) for series in found]


def _held(series: Series, others: Sequence[Series]) -> Series:
    if series.kind != "image" or series.verdict != "ingestable" or not series.instances:
        return series
    own = series.instances[0]
    strays = [
        i
        for each in others
        if each is not series
        for i in each.instances
        if _kin(i) == _kin(own) and _same_number(i, own, told=each.verdict == "ingestable")
    ]
    if not strays:
        return series
    problem = Problem(
        Reason.PARTS_DIFFER,
        f"it and {len(strays)} images of its study, kind and size may be one series: some have no"
        " SeriesInstanceUID",
    )
    held = quarantined(series.series_uid, series.component, "image", series.instances, problem)
    return replace(held, files=series.files)


def _same_number(one: Instance, other: Instance, *, told: bool) -> bool:
    """Whether both have one SeriesNumber, or (unless it must be `told`) one of them none."""
    numbers = {i.attributes.get("series_number") for i in (one, other)}
    return len(numbers) == 1 and None not in numbers if told else len(numbers - {None}) < 2


def _kin(i: Instance) -> tuple[object, ...]:
    return i.patient_id, i.study_uid, i.sop_class_uid, i.rows, i.columns


def _is_volume(series: Series) -> bool:
    return series.shape is not None and series.shape[2] > 1


def _without_pixels(group: Sequence[Instance], images: Sequence[Instance]) -> list[Instance]:
    """Instances of the kind of a series' images that came without pixel data."""
    classes = {i.sop_class_uid for i in images}
    return [i for i in group if not i.pixel_keyword and i.sop_class_uid in classes]


def _other_series(uid: str, instances: Sequence[Instance], *, alone: bool) -> list[Series]:
    by_class: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_class[instance.sop_class_uid].append(instance)
    result = []
    for number, group in enumerate(by_class.values()):
        problem = problem_of(group[0])
        if problem is not None:
            component = "" if alone and number == 0 else f"other{number + 1}"
            result.append(quarantined(uid, component, "other", group, problem))
    return result


def _volume_series(nifti: NiftiFile, policy: SeriesPolicy) -> list[Series]:
    """The series of a volume in a file of its own: one, but for a segmentation whose segments overlap.

    Each of its layers becomes a volume; the file counts with the first.
    """
    layers = sorted({segment[0] for segment in nifti.segments})
    if not nifti.segmentation or nifti.problem:
        return [_nifti_series(nifti, policy)]
    count = nifti.shape[3] if len(nifti.shape) > 3 else 1
    if (told := _segments_problem(nifti, count)) is not None:
        return [_nifti_series(replace(nifti, problem=f"{Reason.VOLUME_HEADER} {told}"), policy)]
    if len(nifti.shape) < 4:
        return [_nifti_series(nifti, policy)]
    found = []
    for number, layer in enumerate(layers or range(count)):
        rest = {name: value for name, value in nifti.attributes.items() if name not in COLUMNS}
        base = _nifti_series(replace(nifti, channel=layer, attributes=rest), policy)
        name = f"layer{layer + 1}"
        key = f"{base.key}/{name}"
        found.append(replace(base, component=name, key=key, files=base.files if number == 0 else ()))
    return found


def _segments_problem(nifti: NiftiFile, n_layers: int) -> str | None:
    """Why the layers and values of segments do not tell which voxels are whose."""
    places = [(layer, value) for layer, value, *_ in nifti.segments]
    last = max((layer for layer, _ in places), default=0)
    # the only segment of the only layer may have been another's before those were deleted
    if last >= n_layers and (n_layers > 1 or len(places) > 1):
        return f"a segment is in layer {last + 1} of {n_layers}"
    twice = [place for place in dict.fromkeys(places) if places.count(place) > 1]
    if twice:
        layer, value = twice[0]
        return f"{places.count(twice[0])} segments have the value {value} in layer {layer + 1}"
    return None


def _segments_json(nifti: NiftiFile) -> str | None:
    told = [s for s in nifti.segments if nifti.channel in (None, s[0])]
    if not told:
        return None
    return json.dumps(
        [
            {"value": value, "label": label, "type": kind, "category": category, "algorithm": ""}
            for _, value, label, kind, category in told
        ],
        ensure_ascii=False,
    )


def _nifti_series(nifti: NiftiFile, policy: SeriesPolicy) -> Series:
    own = nifti.format == "nifti"
    nifti = _b_values_of_points(nifti)
    attributes: dict[str, AttributeValue] = {
        "time_step_s": nifti.time_step_s,
        "segments": _segments_json(nifti),
    }
    if own:
        attributes |= _told_by_nifti(nifti)
    if own and policy.nifti_description == "keep":
        attributes["nifti_description"] = nifti.description or None
    nifti = replace(nifti, keep_extensions=policy.nifti_extensions == "keep")
    base = Series(
        series_uid="",
        component="",
        key=nifti.key or nifti.name,
        kind="labels" if nifti.segmentation else "image",
        patient_id=None,
        study_uid="",
        modality=str(nifti.attributes.get("modality", "SEG" if nifti.segmentation else "")),
        description=nifti.description.strip(),
        files=nifti.files,
        verdict="quarantined",
        reason=None,
        detail="",
        nifti=nifti,
        attributes={name: value for name, value in attributes.items() if value is not None}
        | fourth_axis(nifti)
        | nifti.attributes,
    )
    kept = policy.components == "keep" and (nifti.component_dtype is not None or bool(nifti.colours))
    if nifti.problem and not (kept and nifti.problem.startswith((Reason.NIFTI_DATATYPE, Reason.COLOUR))):
        code, _, detail = nifti.problem.partition(" ")
        return replace(base, reason=Reason(code), detail=detail)
    dtype, shape = nifti.dtype, nifti.shape
    if nifti.channel is not None:
        shape = shape[:3]
    if kept and nifti.component_dtype is not None:
        dtype, shape = nifti.component_dtype, (*nifti.shape, nifti.n_components)
    if kept:
        told = nifti.colours or nifti.components
        base = replace(base, attributes={**base.attributes, "components": told})
    return replace(
        base,
        verdict="ingestable",
        shape=shape,
        dtype=dtype,
        affine=nifti.matrix,
        slope=nifti.slope,
        intercept=nifti.intercept,
        decoded_bytes=math.prod(shape) * dtype.itemsize,
    )


def _b_values_of_points(nifti: NiftiFile) -> NiftiFile:
    """The image without b-values and directions that are not as many as its points: nobody knows whose."""
    n_points = nifti.shape[3] if len(nifti.shape) == 4 else 1
    names = ("b_values_s_per_mm2", "b_vectors_ras")
    wrong = [n for n in names if n in nifti.attributes and _length(nifti.attributes[n]) != n_points]
    if not wrong:
        return nifti
    kept = {name: value for name, value in nifti.attributes.items() if name not in names}
    return replace(nifti, attributes=kept)


def _length(text: AttributeValue) -> int:
    found = json.loads(str(text))
    return len(found) if isinstance(found, list) else 0


def _told_by_nifti(nifti: NiftiFile) -> dict[str, AttributeValue]:
    return {
        "nifti_version": nifti.version,
        "sform_code": nifti.sform_code,
        "qform_code": nifti.qform_code,
        "xyzt_units": nifti.xyzt_units,
        "nifti_intent_code": nifti.intent_code or None,
        "nifti_intent_parameters": json.dumps(nifti.intent_parameters) if nifti.intent_parameters else None,
        "nifti_fifth_axis": 1 if nifti.fifth_axis else None,
        "nifti_other_place": json.dumps(nifti.other_place) if nifti.other_place else None,
        "nifti_steps": json.dumps(nifti.steps) if nifti.steps else None,
    }


def _with_unique_keys(found: Sequence[Series]) -> list[Series]:
    """Same keys happen only where two roots hold NIfTI files of one name: the later ones get a number."""
    seen: Counter[str] = Counter()
    result = []
    for series in found:
        seen[series.key] += 1
        count = seen[series.key]
        result.append(series if count == 1 else replace(series, key=f"{series.key}#{count}"))
    return result
