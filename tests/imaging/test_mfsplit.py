"""Volumes of one Siemens scan that arrive as one series each (real files of XA30, interoperability mode)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from dcm2niix_reference import convert, physical, read_all, unlike
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from real_cases import change, copy_case

from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.release.deidentification import Release
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

CASE = "r02_xa30i_mfsplit_fmri"
NUMBERS = [7001, 7002, 7003, 7004]


@pytest.fixture
def folder(shared_data: Path, tmp_path: Path) -> Path:
    return copy_case(shared_data, CASE, tmp_path / "split")


def _found(folder: Path) -> list[Series]:
    return list(build_series(scan([folder])))


def _edit(folder: Path, number: int, edit: Callable[[FileDataset], None]) -> Path:
    """Edit the images of one volume alone."""

    def chosen(ds: FileDataset) -> None:
        if ds.SeriesNumber == number:
            edit(ds)

    return change(folder, chosen)


def test_the_volumes_of_a_scan_are_the_one_volume_that_dcm2niix_makes_of_them(folder: Path) -> None:
    (series,) = _found(folder)
    assert series.shape == (64, 64, 4, 4)
    assert unlike([series], convert(folder)) == []


def test_the_joined_volume_goes_by_its_first_series_and_says_which_were_joined(folder: Path) -> None:
    (series,) = _found(folder)
    first = dcmread(folder / "7001011", stop_before_pixels=True)
    assert series.series_uid == series.key == first.SeriesInstanceUID
    assert json.loads(str(series.attributes["joined_series"])) == NUMBERS
    assert series.attributes["series_number"] == 7001
    assert series.attributes["scan_number"] == 7
    assert series.attributes["scan_points"] == 20  # NumberOfTemporalPositions: four of them are here
    assert "scan_apart" not in series.attributes
    assert sorted(series.files) == sorted(folder.iterdir())


def test_names_of_files_and_of_series_have_no_say_in_the_order(folder: Path) -> None:
    (series,) = _found(folder)
    before = read_all(open_series(series))
    uids = {number: generate_uid() for number in NUMBERS}

    def rename(ds: FileDataset) -> None:
        ds.SeriesInstanceUID = uids[int(ds.SeriesNumber)]

    change(folder, rename)
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        path.rename(folder / f"I{number:03d}")
    (again,) = _found(folder)
    assert again.series_uid == uids[7001]
    assert np.array_equal(read_all(open_series(again)), before)


def _assert_apart(found: list[Series], numbers: list[int], why: str) -> None:
    assert len(found) == len(numbers)
    assert [s.attributes["series_number"] for s in sorted(found, key=_point)] == numbers
    for series in found:
        assert series.shape == (64, 64, 4), series.detail
        assert series.attributes["scan_number"] == 7
        assert series.attributes["scan_point"] == int(str(series.attributes["series_number"])) % 1000
        assert why in str(series.attributes["scan_apart"])
        assert "joined_series" not in series.attributes


def _point(series: Series) -> int:
    return int(str(series.attributes["scan_point"]))


@pytest.mark.parametrize(("absent", "why"), [(7002, "volume 2 of the scan is missing"), (7001, "volume 1")])
def test_volumes_stay_apart_where_one_is_missing(folder: Path, absent: int, why: str) -> None:
    for path in folder.glob(f"{absent}*"):
        path.unlink()
    _assert_apart(_found(folder), [n for n in NUMBERS if n != absent], why)


def test_a_volume_alone_says_which_it_is(folder: Path) -> None:
    for number in (7001, 7002, 7004):
        for path in folder.glob(f"{number}*"):
            path.unlink()
    _assert_apart(_found(folder), [7003], "no other volume of the scan is here")


def test_a_scan_of_one_volume_is_whole(folder: Path) -> None:
    for path in [path for number in NUMBERS[1:] for path in folder.glob(f"{number}*")]:
        path.unlink()

    def alone(ds: FileDataset) -> None:
        ds.NumberOfTemporalPositions = 1

    (series,) = _found(change(folder, alone))
    assert series.shape == (64, 64, 4)
    assert (series.attributes["scan_number"], series.attributes["scan_point"]) == (7, 1)
    assert "scan_apart" not in series.attributes
    assert "joined_series" not in series.attributes


def _moved(ds: FileDataset) -> None:
    x, y, z = map(float, ds.ImagePositionPatient)
    ds.ImagePositionPatient = [x + 1, y, z]


def _turned(ds: FileDataset) -> None:
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def _other_echo(ds: FileDataset) -> None:
    ds.EchoTime = "45"


def _of_another_series(ds: FileDataset) -> None:
    ds.RelatedSeriesSequence[0].SeriesInstanceUID = generate_uid()


def _of_no_series(ds: FileDataset) -> None:
    del ds.RelatedSeriesSequence


def _timeless(ds: FileDataset) -> None:
    del ds.AcquisitionDateTime, ds.AcquisitionTime


def _dateless(ds: FileDataset) -> None:
    del ds.AcquisitionDateTime, ds.AcquisitionDate


def _too_early(ds: FileDataset) -> None:
    ds.AcquisitionDateTime = "20230113120000.0"


def _counted_otherwise(ds: FileDataset) -> None:
    ds.AcquisitionNumber = 9


def _of_the_same_number(ds: FileDataset) -> None:
    ds.SeriesNumber, ds.AcquisitionNumber = 7002, 2


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (_moved, "same place"), (_turned, "same place"), (_other_echo, "size, kind or number"),
        (_of_another_series, "different enhanced series"), (_of_no_series, "different enhanced series"),
        (_timeless, "acquisition times"), (_dateless, "acquisition times"), (_too_early, "acquisition times"),
        (_counted_otherwise, "AcquisitionNumber"),
    ],
)  # fmt: skip
def test_volumes_stay_apart_where_one_does_not_fit(
    folder: Path, edit: Callable[[FileDataset], None], why: str
) -> None:
    _assert_apart(_found(_edit(folder, 7003, edit)), NUMBERS, why)


def test_two_series_of_one_number_are_not_put_in_an_order(folder: Path) -> None:
    found = _found(_edit(folder, 7003, _of_the_same_number))
    assert len(found) == 4
    assert all("the same volume" in str(series.attributes["scan_apart"]) for series in found)


def test_a_slice_less_in_one_volume_keeps_them_apart(folder: Path) -> None:
    (folder / "7004014").unlink()
    found = _found(folder)
    assert [series.shape for series in sorted(found, key=_point)] == [(64, 64, 4)] * 3 + [(64, 64, 3)]
    assert all("number of their images" in str(series.attributes["scan_apart"]) for series in found)


def test_volumes_are_joined_where_deidentification_took_the_related_series_of_all(folder: Path) -> None:
    (series,) = _found(change(folder, _of_no_series))
    assert series.shape == (64, 64, 4, 4)


def test_scans_side_by_side_and_other_series_are_not_mixed(folder: Path) -> None:
    (alone,) = _found(folder)
    expected = read_all(open_series(alone))
    uids = {number: generate_uid() for number in NUMBERS}
    source = generate_uid()
    for path in sorted(folder.iterdir()):
        ds = dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.SeriesInstanceUID = uids[int(ds.SeriesNumber)]
        ds.SeriesNumber += 1000
        ds.RelatedSeriesSequence[0].SeriesInstanceUID = source
        ds.PixelData = bytes(len(ds.PixelData))
        ds.save_as(folder / f"second-{path.name}")
        if ds.SeriesNumber == 8001:  # a plain series of the study with a number of that form
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            ds.SeriesInstanceUID, ds.ImageType = "1.2.3.4", ["ORIGINAL", "PRIMARY", "M", "ND"]
            ds.save_as(folder / f"plain-{path.name}")
    found = {str(s.attributes.get("joined_series")): s for s in _found(folder)}
    assert set(found) == {str(NUMBERS), "[8001, 8002, 8003, 8004]", "None"}
    assert np.array_equal(read_all(open_series(found[str(NUMBERS)])), expected)
    assert found["None"].shape == (64, 64, 4)
    assert "scan_number" not in found["None"].attributes


def test_copies_of_files_do_not_keep_the_volumes_apart(folder: Path) -> None:
    (before,) = _found(folder)
    for path in sorted(folder.glob("7002*")):
        shutil.copyfile(path, folder / f"copy-{path.name}")
    (series,) = _found(folder)
    assert series.shape == (64, 64, 4, 4)
    assert series.n_instances == 20
    assert np.array_equal(read_all(open_series(series)), read_all(open_series(before)))


def test_volumes_are_joined_under_pseudonyms_and_uids_are_replaced(folder: Path) -> None:
    found = Release(key=b"a key of enough letters").scan(scan([folder]))
    (series,) = build_series(found)
    assert series.shape == (64, 64, 4, 4)
    assert series.series_uid.startswith("2.25.")
    assert all(i.source_series.startswith("2.25.") for i in series.instances)


def test_labels_that_name_a_later_volume_lie_on_the_joined_one(folder: Path) -> None:
    images = [dcmread(path) for path in sorted(folder.glob("7003*"))]
    mask = np.zeros((4, 64, 64), bool)
    mask[1:3, 20:30, 30:40] = True
    segment = hd.seg.SegmentDescription(
        1,
        "lesion",
        codes.SCT.MorphologicallyAbnormalStructure,
        codes.SCT.Lesion,
        hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    hd.seg.Segmentation(
        source_images=images,
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=generate_uid(),
        series_number=90,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    ).save_as(folder / "seg")
    image, labels = sorted(_found(folder), key=lambda series: series.kind)
    assert image.shape == (64, 64, 4, 4)
    assert labels.verdict == "ingestable", labels.detail
    assert np.array_equal(physical(open_series(labels))[..., 0] > 0, mask.transpose(2, 1, 0))
