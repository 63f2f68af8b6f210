"""Headers of one scan differ in few elements: what all the others say is worked out once.

- heads of elements, which are the same bytes in file after file;
- acquisition parameters, of which most headers of a series have the same;
- a whole header: one that equals one of the last in everything but `OWN` gives the same instance, but for
  what these elements say.

Nothing is taken for granted: what is shared was compared byte for byte. All of it is bounded, and is freed
with the scan that made the cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements, Header, KnownElements, Value
from radiobject_assets.imaging.dicom.frames import acquired_at, finite, position
from radiobject_assets.imaging.dicom.instance import Frame, Instance
from radiobject_assets.imaging.dicom.instance_from_header import (
    Attributes,
    allowed_attributes,
    instance_from_header,
)

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
"""Elements that a classic image may have of its own; `HeaderCache.instance` reads each of them."""
ATTRIBUTE_TAGS: Final = (
    *(tag for tag, _ in t.ATTRIBUTES.values()),
    *(tag for _, tag, _ in t.OPTIONAL_ATTRIBUTES.values()),
    *t.IDENTITY,
    t.PATIENT_ID_ISSUER,
)
"""Elements that `allowed_attributes` reads."""
# Other than the one frame of a classic image is made of more than its own elements; SUV factors of times.
_NOT_SHARED = frozenset({t.SHARED_GROUPS, t.FRAME_GROUPS, t.RADIOPHARMACEUTICALS})
_MOST_INSTANCES = 4
_MOST_ATTRIBUTES = 4096
_FRAME_FIELDS = tuple(field.name for field in fields(Frame))
_INSTANCE_FIELDS = tuple(field.name for field in fields(Instance))


@dataclass(frozen=True, slots=True)
class _Known:
    rest: dict[int, Value]
    read_as: tuple[str, str, str]
    """Transfer syntax, byte order, name of the pixel data."""
    instance: dict[str, Any]
    frame: dict[str, Any]


class HeaderCache:
    """What the headers of a scan said so far; for one thread."""

    def __init__(self) -> None:
        self._elements: dict[tuple[int, bool, bool, int], tuple[Mapping[int, str], KnownElements]] = {}
        self._attributes: dict[tuple[object, ...], tuple[Attributes, Attributes]] = {}
        self._known: list[_Known] = []

    def known_elements(
        self, wanted: Mapping[int, str], *, explicit: bool, big: bool, only_group: int = 0
    ) -> KnownElements:
        """Those that reads with the same arguments (of the very same table of wanted tags) share."""
        key = id(wanted), explicit, big, only_group
        found = self._elements.get(key)
        if found is None:
            # the table too, so that its id stays its own
            found = self._elements[key] = wanted, KnownElements()
        return found[1]

    def instance(self, path: Path, size: int, header: Header, syntax: str, digest: str) -> Instance:
        """What `instance_from_header` gives, from a header that was alike where there was one."""
        rest = header.elements.values.copy()
        for tag in OWN:
            rest.pop(tag, None)
        read_as = syntax, header.elements.order, header.pixel_keyword
        for known in self._known:
            if known.rest == rest and known.read_as == read_as:
                return _of_its_own(known, path, size, header, digest)
        allowed = self._allowed(header.elements)
        instance = instance_from_header(path, size, header, syntax, digest, allowed)
        if len(instance.frames) == 1 and instance.tiles == 0 and _NOT_SHARED.isdisjoint(rest):
            (frame,) = instance.frames
            one = {name: getattr(instance, name) for name in _INSTANCE_FIELDS}
            plane = {name: getattr(frame, name) for name in _FRAME_FIELDS}
            self._known.insert(0, _Known(rest, read_as, one, plane))
            del self._known[_MOST_INSTANCES:]
        return instance

    def _allowed(self, elements: Elements) -> tuple[Attributes, Attributes]:
        # Instances of a series share most values: converting each combination once halves the time of a scan.
        get = elements.values.get
        key = elements.order, elements.encodings, *[get(tag) for tag in ATTRIBUTE_TAGS]
        found = self._attributes.get(key)
        if found is None:
            if len(self._attributes) > _MOST_ATTRIBUTES:
                self._attributes.clear()
            found = self._attributes[key] = allowed_attributes(elements)
        return found


def _of_its_own(known: _Known, path: Path, size: int, header: Header, digest: str) -> Instance:
    e = header.elements
    attributes: Attributes = known.instance["attributes"]
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
