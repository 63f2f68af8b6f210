"""What is shared between the headers of a series never changes what a header says."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest

from radiobject_assets.imaging.dicom.header_cache import HeaderCache
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.scanning.scan import find_files, scan, scan_file
from radiobject_assets.phantom.cohort import make_ct_series, make_subject

TEXTS = ("", "nan", "1e400", "abc", "7", "-3.5", "1\\2\\3", "1\\2", " 12 ", "1.2.840.9", "103015.25")
OWN = ("SOPInstanceUID", "AcquisitionTime", "ContentTime", "TriggerTime", "InstanceNumber",
       "ImagePositionPatient", "XRayTubeCurrent", "Exposure")  # fmt: skip
OTHERS = ("EchoTime", "RescaleSlope", "AcquisitionDate", "AcquisitionDateTime", "PatientID", "PatientName",
          "SeriesDescription", "ImageType", "ExposureTime", "TemporalPositionIdentifier")  # fmt: skip


def both_ways(folder: Path) -> tuple[list[str], list[str]]:
    """What a scan reads of its files with one cache, and of each file by itself."""
    cache = HeaderCache()
    shared = [told(scan_file(path, folder, cache=cache)) for path in find_files(folder)]
    return shared, [told(scan_file(path, folder)) for path in find_files(folder)]


def told(record: Any) -> str:
    """All that a record says; as text, since a time that is not a number does not equal itself."""
    if not isinstance(record, Instance):
        return repr(record)
    return repr(replace(record, attributes={})) + repr(sorted(record.attributes.items()))


def changed(path: Path, keyword: str, text: str | None) -> None:
    """The element with a value that pydicom would not write, or without the element."""
    dataset = pydicom.dcmread(path)
    if text is None:
        if keyword in dataset:
            delattr(dataset, keyword)
    else:
        tag = pydicom.datadict.tag_for_keyword(keyword)
        vr = pydicom.datadict.dictionary_VR(keyword)
        value = text.encode() + b" " * (len(text) % 2)
        dataset[tag] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(tag), vr, len(value), value, 0, False, True
        )
    dataset.save_as(path)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_slices_of_a_series_say_each_is_read_as_if_it_were_alone(
    tmp_path: Path, seed: int
) -> None:
    make_ct_series(tmp_path, shape=(16, 16, 24))
    choose = random.Random(seed)
    for path in find_files(tmp_path):
        for keyword in choose.sample(OWN, 3) + choose.sample(OTHERS, choose.choice((0, 0, 1))):
            changed(path, keyword, choose.choice((None, *TEXTS)))
    shared, separately = both_ways(tmp_path)
    assert shared == separately
    assert sum(record.startswith("Instance(") for record in shared) > 20


def test_a_whole_arrival_is_read_the_same_with_and_without_sharing(
    tmp_path: Path,
) -> None:
    make_subject(tmp_path, 1, shape=(48, 48, 24))
    shared, separately = both_ways(tmp_path)
    assert shared == separately


def test_real_headers_are_read_the_same_with_and_without_sharing(
    shared_data: Path,
) -> None:
    shared, separately = both_ways(shared_data)
    assert shared == separately
    assert len(shared) > 100


def test_the_same_bytes_in_another_character_set_are_another_text(tmp_path: Path) -> None:
    make_ct_series(tmp_path / "series", shape=(16, 16, 2))
    dataset = pydicom.dcmread(next(find_files(tmp_path / "series")))
    dataset.SpecificCharacterSet, dataset.SOPInstanceUID = "ISO_IR 100", "1.2.100"
    dataset.add_new(0x00081090, "LO", b"Scanner \xa1")  # ManufacturerModelName
    (tmp_path / "copies").mkdir()
    dataset.save_as(tmp_path / "copies" / "1.dcm")
    written = (tmp_path / "copies" / "1.dcm").read_bytes()
    other = written.replace(b"ISO_IR 100", b"ISO_IR 101").replace(b"1.2.100", b"1.2.101")
    (tmp_path / "copies" / "2.dcm").write_bytes(other)
    names = [i.attributes["model_name"] for i in scan([tmp_path / "copies"]).instances]
    assert names == [
        "Scanner \N{INVERTED EXCLAMATION MARK}",
        "Scanner \N{LATIN CAPITAL LETTER A WITH OGONEK}",
    ]
