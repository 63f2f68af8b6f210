"""Volumes of one scan that arrive as one series each: Siemens' interoperability export of XA software.

Its ImageType has `MFSPLIT`: every volume of an enhanced series became a classic series with a
SeriesInstanceUID of its own. SeriesNumber is that of the scan followed by the volume's number in three digits
(7001, 7002...), AcquisitionNumber is the volume's number, and Related Series Sequence names the enhanced
series, with the purpose "Alternate SOP Class instance" (121326, DCM).

Such series are joined where their headers say all of it: the same patient, study and scan, the same enhanced
series (or none named, since de-identification takes that away), volumes 1, 2, 3... without a gap, the same
planes in each, and acquisition times, with dates, that rise from volume to volume at every plane. Where
anything of that is absent they stay apart, and each says which volume of which scan it is, and why it is
alone.

Rests on real files (`siemens-split` in vendors/siemens.py).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.acquisition_times import on_one_line
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.geometry import SAME_DIRECTION, SAME_POSITION_MM, slice_normal
from radiobject_assets.imaging.source import AttributeValue

_ALTERNATE_INSTANCE = ("121326", "DCM")
_SPLIT = "MFSPLIT"
_PER_SCAN = 1000
"""SeriesNumber of a volume is its scan's, times this, and its own number."""

COLUMNS: Final = ("joined_series", "scan_number", "scan_point", "scan_points", "scan_apart")


def is_split(image_type: str) -> bool:
    """Whether an ImageType is that of a volume that was taken out of an enhanced series."""
    return _SPLIT in image_type.upper().split("\\")


def source_series_of(elements: Elements) -> str:
    """SeriesInstanceUID of the enhanced series that an instance is an alternate of; "" if none is named."""
    named = {
        item.text(t.SERIES_UID)
        for item in elements.items(t.RELATED_SERIES)
        if (purpose := item.first(t.PURPOSE_OF_REFERENCE)) is not None
        and (purpose.text(t.CODE_VALUE), purpose.text(t.CODE_SCHEME)) == _ALTERNATE_INSTANCE
    }
    return named.pop() if len(named) == 1 else ""


def scan_attributes(elements: Elements) -> dict[str, AttributeValue]:
    """How many volumes the scan of a split series has (NumberOfTemporalPositions), where it says so."""
    if not is_split(elements.text(t.IMAGE_TYPE)):
        return {}
    points = elements.integer(t.N_TEMPORAL_POSITIONS)
    return {"scan_points": points} if points is not None and points > 0 else {}


@dataclass(frozen=True)
class _Volume:
    """One series of a split scan."""

    uid: str
    scan: int
    point: int
    instances: tuple[Instance, ...]


def join_scans(groups: Mapping[str, Sequence[Instance]]) -> dict[str, list[Instance]]:
    """The series of image instances by UID, those of one split scan together under the first one's UID.

    Parameters
    ----------
    groups
        Image instances by their SeriesInstanceUID.

    Returns
    -------
    dict[str, list[Instance]]
        The same instances. Those of a joined scan come volume by volume; they keep their own UIDs, and their
        `temporal_index` is the volume's number. Those of a split scan say in their attributes what of it they
        are (`COLUMNS`).
    """
    scans: dict[Hashable, list[_Volume]] = defaultdict(list)
    result: dict[str, list[Instance]] = {}
    for uid, instances in groups.items():
        volume = _volume(uid, instances)
        if volume is None:
            result[uid] = list(instances)
        else:
            first = volume.instances[0]
            scans[first.patient_id, first.study_uid, volume.scan].append(volume)
    for volumes in scans.values():
        volumes.sort(key=lambda volume: (volume.point, volume.uid))
        apart = _why_apart(volumes)
        for volume in volumes:
            if apart:
                said: dict[str, AttributeValue] = {"scan_point": volume.point, "scan_apart": apart}
            elif len(volumes) == 1:
                said = {"scan_point": volume.point}
            else:
                numbers = [v.scan * _PER_SCAN + v.point for v in volumes]
                said = {"joined_series": json.dumps(numbers), "series_number": numbers[0]}
            uid = volume.uid if apart else volumes[0].uid
            result.setdefault(uid, []).extend(_told(volume, said, ordered=not apart))
    return result


def _volume(uid: str, instances: Sequence[Instance]) -> _Volume | None:
    """The series as a volume of a split scan; None where it is none, or does not say of which."""
    if not all(is_split(i.image_type) and len(i.frames) == 1 for i in instances):
        return None
    numbers = {i.attributes.get("series_number") for i in instances}
    number = numbers.pop() if len(numbers) == 1 else None
    if not isinstance(number, int) or number <= _PER_SCAN or number % _PER_SCAN == 0:
        return None
    return _Volume(uid, number // _PER_SCAN, number % _PER_SCAN, tuple(instances))


def _told(volume: _Volume, said: Mapping[str, AttributeValue], *, ordered: bool) -> list[Instance]:
    said = {"scan_number": volume.scan, **said}
    told = []
    for instance in volume.instances:
        (frame,) = instance.frames
        frames = (replace(frame, temporal_index=volume.point),) if ordered else instance.frames
        told.append(replace(instance, attributes={**instance.attributes, **said}, frames=frames))
    return told


def _why_apart(volumes: Sequence[_Volume]) -> str:
    """What the headers leave open about these volumes being one scan in this order; "" where nothing is."""
    points = [volume.point for volume in volumes]
    if len(points) == 1:
        alone = {i.attributes.get("scan_points") for i in volumes[0].instances} == {1}
        return "" if alone else "no other volume of the scan is here"
    if len(set(points)) < len(points):
        return "two series claim to be the same volume of the scan"
    missing = sorted(set(range(1, points[-1] + 1)) - set(points))
    if missing:
        return f"volume {missing[0]} of the scan is missing ({len(missing)} of {points[-1]} are)"
    sources = {instance.source_series for volume in volumes for instance in volume.instances}
    if len(sources) > 1:
        return "the volumes come from different enhanced series, or some do not say from which"
    if any(i.acquisition_number != volume.point for volume in volumes for i in volume.instances):
        return "AcquisitionNumber does not count the volumes as SeriesNumber does"
    planes = [_planes(volume) for volume in volumes]
    if None in planes:
        return "a volume has planes without a place"
    if len({tuple(_kind(i) for i in plane) for plane in planes if plane is not None}) > 1:
        return "the volumes differ in size, kind or number of their images"
    if not all(_same_places(planes[0], plane) for plane in planes[1:]):
        return "the volumes do not lie at the same place"
    if not _in_time(planes):
        return "acquisition times do not show the order of the volumes"
    return ""


_Planes = tuple[Instance, ...] | None


def _planes(volume: _Volume) -> _Planes:
    """The instances along the normal, copies left out; None where one has no place."""
    known = {instance.sop_instance_uid or instance.path: instance for instance in volume.instances}
    frames = [instance.frames[0] for instance in known.values()]
    if any(f.position is None or f.orientation is None or f.pixel_spacing is None for f in frames):
        return None
    try:
        normal = slice_normal(frames[0].orientation or ())
    except ValueError:
        return None
    along = [float(np.array(frame.position) @ normal) for frame in frames]
    return tuple(instance for _, instance in sorted(zip(along, known.values(), strict=True), key=_first))


def _first(pair: tuple[float, Instance]) -> float:
    return pair[0]


def _kind(i: Instance) -> Hashable:
    """What all volumes of a scan share, plane by plane; weighting by diffusion may change."""
    (frame,) = i.frames
    return (
        i.image_type, i.modality, i.description, i.rows, i.columns, i.samples, i.photometric,
        i.bits_allocated, i.signed, i.attributes.get("flip_angle_deg"), i.attributes.get("inversion_time_ms"),
        frame.echo_time_ms, frame.component,
    )  # fmt: skip


def _same_places(planes: _Planes, others: _Planes) -> bool:
    return all(
        np.allclose(a.frames[0].position or (), b.frames[0].position or (), rtol=0, atol=SAME_POSITION_MM)
        and np.allclose(a.frames[0].orientation or (), b.frames[0].orientation or (), 0, SAME_DIRECTION)
        and np.allclose(a.frames[0].pixel_spacing or (), b.frames[0].pixel_spacing or (), rtol=1e-6)
        for a, b in zip(planes or (), others or (), strict=True)
    )


def _in_time(planes: Sequence[_Planes]) -> bool:
    for column in zip(*(plane or () for plane in planes), strict=True):
        texts = [instance.frames[0].acquired_at for instance in column]
        moments = on_one_line(texts) if all(map(_has_date, texts)) else None
        if moments is None or any(later <= now for now, later in pairwise(moments)):
            return False
    return True


def _has_date(acquired_at: str) -> bool:
    return len(acquired_at.partition(".")[0]) == 14
