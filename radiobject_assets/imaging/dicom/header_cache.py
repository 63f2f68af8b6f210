"""Headers of one series differ in few elements: what all the others say is worked out once.

A header that equals one of the last in everything but `OWN` gives the same instance but for what these
elements say. So nothing is taken for granted: what is shared was compared byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Header, Value
from radiobject_assets.imaging.dicom.frames import acquired_at, finite, position
from radiobject_assets.imaging.dicom.instance import Frame, Instance
from radiobject_assets.imaging.source import AttributeValue

# Scanners modulate the dose from slice to slice.
_OWN_NUMBERS: Final = tuple((name, t.ATTRIBUTES[name][0]) for name in ("tube_current_ma", "exposure_mas"))
OWN: Final = (
    t.SOP_INSTANCE_UID,
    t.ACQUISITION_TIME,
    t.CONTENT_TIME,
    t.TRIGGER_TIME,
    t.INSTANCE_NUMBER,
    t.IMAGE_POSITION,
    t.SLICE_LOCATION,
    *(tag for _, tag in _OWN_NUMBERS),
)
"""Elements that a classic image may have of its own; `Alike.instance` reads each of them."""
# Other than the one frame of a classic image is made of more than its own elements; SUV factors of times.
_NOT_SHARED = frozenset({t.SHARED_GROUPS, t.FRAME_GROUPS, t.RADIOPHARMACEUTICALS})
_REMEMBERED = 4
_FRAME_FIELDS = tuple(field.name for field in fields(Frame))
_INSTANCE_FIELDS = tuple(field.name for field in fields(Instance))


@dataclass(frozen=True, slots=True)
class _Known:
    rest: dict[int, Value]
    read_as: tuple[str, str, str]
    """Transfer syntax, byte order, name of the pixel data."""
    instance: dict[str, Any]
    frame: dict[str, Any]


class Alike:
    """The last few headers that were of different kinds, with the instances that they gave."""

    def __init__(self) -> None:
        self._known: list[_Known] = []

    def instance(
        self,
        path: Path,
        size: int,
        header: Header,
        syntax: str,
        digest: str,
        convert: Callable[[Path, int, Header, str, str], Instance],
    ) -> Instance:
        """What `convert` gives for the same arguments, from a header that was alike where there was one."""
        rest = header.elements.values.copy()
        for tag in OWN:
            rest.pop(tag, None)
        read_as = syntax, header.elements.order, header.pixel_keyword
        for known in self._known:
            if known.rest == rest and known.read_as == read_as:
                return _of_its_own(known, path, size, header, digest)
        instance = convert(path, size, header, syntax, digest)
        if len(instance.frames) == 1 and instance.tiles == 0 and _NOT_SHARED.isdisjoint(rest):
            (frame,) = instance.frames
            one = {name: getattr(instance, name) for name in _INSTANCE_FIELDS}
            plane = {name: getattr(frame, name) for name in _FRAME_FIELDS}
            self._known.insert(0, _Known(rest, read_as, one, plane))
            del self._known[_REMEMBERED:]
        return instance


def _of_its_own(known: _Known, path: Path, size: int, header: Header, digest: str) -> Instance:
    e = header.elements
    attributes: dict[str, AttributeValue] = known.instance["attributes"]
    for name, tag in _OWN_NUMBERS:
        number = e.number(tag)
        value = None if number is None or not math.isfinite(number) else number
        if attributes.get(name) != value:
            attributes = {key: told for key, told in attributes.items() if key != name}
            if value is not None:
                attributes[name] = value
    frame = known.frame | {
        "position": position(e),
        "acquired_at": acquired_at(e),
        "trigger_time_ms": finite(e.number(t.TRIGGER_TIME)),
        "slice_location": finite(e.number(t.SLICE_LOCATION)),
        "content_at": e.text(t.CONTENT_TIME),
    }
    return Instance(
        **known.instance
        | {
            "path": path,
            "size_bytes": size,
            "sop_instance_uid": e.text(t.SOP_INSTANCE_UID),
            "instance_number": e.integer(t.INSTANCE_NUMBER),
            "pixel_offset": header.pixel_offset,
            "pixel_length": header.pixel_length,
            "header_digest": digest,
            "frames": (Frame(**frame),),
            "attributes": attributes,
        }
    )
