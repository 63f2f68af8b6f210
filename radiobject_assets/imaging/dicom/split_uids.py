"""Images that were numbered as one series and go by several SeriesInstanceUIDs.

Some software gives every slice, or every volume, of one series a UID of its own (Canon's classic export of
V6.0 counts slices in the UID's last number). Taken one by one, each would be a part of a volume, or a volume
of one slice. They are one series where patient, study, SeriesNumber, kind and description are the same, and

- InstanceNumbers run through all of them, without a gap and none twice, or
- the vendor gives slices a UID each (Canon), each has the same number of images at one position, numbered
  alike or through, and the UIDs differ in their last number alone, which counts along the slices.

Whether what comes together is a volume is judged afterwards, as of any series; where it is none by its
geometry, and each part was numbered in a row and is a volume alone, the parts are series of their own after
all: stations, or stacks that overlap. Rests on a description of such
images (`canon-uid-of-each-slice` in vendors/canon.py) and on what InstanceNumber means (PS3.3 C.7.6.1).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.dicom.vendors import vendor_of
from radiobject_assets.imaging.geometry import SAME_POSITION_MM, slice_normal
from radiobject_assets.imaging.source import AttributeValue

MEMBERS: Final = "joined_series_uids"
COLUMNS: Final = ("joined_uids", MEMBERS)


def join_numbered(groups: Mapping[str, Sequence[Instance]]) -> dict[str, list[Instance]]:
    """Image instances by UID, those of one numbered series together under the UID of its first instance.

    Instances keep their own UIDs; `joined_uids` in their attributes is how many were joined.
    """
    alike: dict[Hashable, list[str]] = defaultdict(list)
    result: dict[str, list[Instance]] = {}
    for uid, instances in groups.items():
        key = _key(instances)
        if key is None:
            result[uid] = list(instances)
        else:
            alike[key].append(uid)
    for uids in alike.values():
        parts = {uid: groups[uid] for uid in uids}
        if len(uids) > 1 and (_numbered_through(parts) or _by_slice(parts)):
            joined = sorted((i for part in parts.values() for i in part), key=_order)
            told = {"joined_uids": len(uids)}
            result[joined[0].series_uid] = [replace(i, attributes={**i.attributes, **told}) for i in joined]
        else:
            result.update({uid: list(part) for uid, part in parts.items()})
    return result


def told_members(instances: Sequence[Instance]) -> dict[str, AttributeValue]:
    """The SeriesInstanceUIDs of images that were joined, numbered through or volumes of one scan.

    A volume says them in `MEMBERS`: its parts come again one by one, and labels name any of them.
    """
    uids = sorted({i.series_uid for i in instances if i.series_uid})
    return {MEMBERS: json.dumps(uids)} if len(uids) > 1 else {}


def members_of(values: Mapping[str, Any]) -> frozenset[str]:
    """SeriesInstanceUIDs of a volume by its row: that of its series, and all that were joined to it."""
    told = values.get(MEMBERS)
    return frozenset(filter(None, (values.get("series_uid"), *(json.loads(str(told)) if told else ()))))


def _key(instances: Sequence[Instance]) -> Hashable | None:
    """What the parts of one series share; None where the instances do not agree, or are not numbered."""
    keys = {
        (
            i.patient_id, i.study_uid, i.attributes.get("series_number"), i.modality, i.description,
            i.sop_class_uid, i.rows, i.columns, i.attributes.get("convolution_kernel"),
        )
        for i in instances
    }  # fmt: skip
    first = instances[0]
    if len(keys) > 1 or first.attributes.get("series_number") is None or not first.series_uid:
        return None
    if any(i.instance_number is None or len(i.frames) != 1 for i in instances):
        return None
    return keys.pop()


def _number(instance: Instance) -> int:
    return instance.instance_number or 0


def _distinct(parts: Mapping[str, Sequence[Instance]]) -> list[Instance]:
    """Without copies of one instance."""
    known = {i.sop_instance_uid or i.path: i for part in parts.values() for i in part}
    return list(known.values())


def _numbered_through(parts: Mapping[str, Sequence[Instance]]) -> bool:
    numbers = sorted(_number(i) for i in _distinct(parts))
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def counted_uid(uid: str) -> tuple[str, int] | None:
    """A UID's last number, and all before it; None where it ends in none."""
    stem, _, last = uid.rpartition(".")
    return (stem, int(last)) if stem and last.isascii() and last.isdigit() else None


def _place(instance: Instance) -> tuple[str, int] | None:
    return instance.uid_place or counted_uid(instance.series_uid)


def _order(instance: Instance) -> tuple[int, tuple[str, int], str]:
    """By number; where slices are numbered alike, as their UIDs count, whatever their files' names."""
    return _number(instance), _place(instance) or ("", 0), instance.series_uid


def in_a_row(part: Sequence[Instance]) -> bool:
    """Whether a part's own numbers have no gap: those of slices that alternate between parts do."""
    return _numbered_through({"": part})


def _by_slice(parts: Mapping[str, Sequence[Instance]]) -> bool:
    """Whether UIDs count slices: one position each, along one line in the order of the UIDs."""
    makers = {vendor_of(str(i.attributes.get("manufacturer", ""))) for part in parts.values() for i in part}
    counted = {uid: _place(part[0]) for uid, part in parts.items()}
    places_of = {uid: place for uid, place in counted.items() if place is not None}
    numbers = [sorted(_number(i) for i in _distinct({uid: part})) for uid, part in parts.items()]
    through = len({n for own in numbers for n in own}) == sum(map(len, numbers))
    if len(set(map(len, numbers))) > 1 or not (through or all(own == numbers[0] for own in numbers)):
        return False
    if not all(maker.uid_of_each_slice for maker in makers) or len(places_of) < len(parts):
        return False
    if len({stem for stem, _ in places_of.values()}) > 1:
        return False
    orientations = {i.frames[0].orientation for part in parts.values() for i in part}
    if len(orientations) > 1:
        return False
    places = []
    for uid in sorted(parts, key=lambda uid: places_of[uid][1]):
        positions = [i.frames[0].position for i in parts[uid]]
        if None in positions or np.ptp(np.array(positions), axis=0).max() > SAME_POSITION_MM:
            return False
        places.append(positions[0])
    try:
        along = np.array(places) @ slice_normal(orientations.pop() or ())
    except ValueError:
        return False
    steps = np.diff(along)
    return bool((steps > SAME_POSITION_MM).all() or (steps < -SAME_POSITION_MM).all())
