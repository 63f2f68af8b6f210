"""Whether an instance is whole and is the one that was asked for, before it counts as received."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from radiobject_assets.archives.deliveries import uid_token
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.pixels.acceptance import IMAGE_CLASSES
from radiobject_assets.imaging.scanning.scan import scan_file

if TYPE_CHECKING:
    from pydicom import Dataset

_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class InstanceTokens:
    """What an instance goes by: tokens of its UIDs."""

    study: str
    series: str
    instance: str


def tokens_of(file: Path) -> InstanceTokens | None:
    """Tokens of a file, as imaging reads it; None where it can't be read, or lacks a UID."""
    record = scan_file(file, file.parent)
    if not isinstance(record, Instance):
        return None
    uids = (record.study_uid, record.series_uid, record.sop_instance_uid)
    return InstanceTokens(*map(uid_token, uids)) if all(uids) else None


def study_uid(file: Path) -> str:
    """StudyInstanceUID of a file; "" where it can't be read."""
    record = scan_file(file, file.parent)
    return record.study_uid if isinstance(record, Instance) else ""


def is_cut(dataset: Dataset) -> bool:
    """Whether an instance that was read from an answer ends before it should.

    A reader takes what there is of the last element, and what comes after is simply not there.
    """
    for tag in list(dataset.keys()):  # to go over the data set itself would interpret its elements
        element = dataset.get_item(tag)
        length = getattr(element, "length", None)  # of an element that nobody has interpreted yet
        if length is not None and length != _UNDEFINED and len(element.value or b"") < length:
            return True
    is_image = str(dataset.get("SOPClassUID", "")) in IMAGE_CLASSES
    pixels = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    return is_image and "Rows" in dataset and not any(name in dataset for name in pixels)
