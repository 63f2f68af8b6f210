"""Images that were numbered as one series and go by several SeriesInstanceUIDs (real files, UIDs changed)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dcm2niix_reference import read_all
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from real_cases import change, copy_case

from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.release.deidentification import Release
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.scanning.scan_table import scan_from_table, scan_to_table
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

STEM = "1.2.392.200036.9116.4.2.9106.366.10001.0.0.1"


def _found(folder: Path) -> list[Series]:
    return list(build_series(scan([folder])))


def _series(shared_data: Path, name: str, folder: Path) -> Path:
    shutil.copytree(shared_data / "series" / name, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)
    return folder


def _whole(folder: Path) -> tuple[Series, NDArray[Any]]:
    (series,) = _found(folder)
    return series, read_all(open_series(series))


def _assert_same(joined: Series, whole: Series, voxels: NDArray[Any]) -> None:
    assert joined.affine is not None
    assert whole.affine is not None
    assert np.allclose(joined.affine, whole.affine)
    assert np.array_equal(read_all(open_series(joined)), voxels)
    other = set(joined.attributes.items()) ^ set(whole.attributes.items())
    # numbered alike in each part, the order may rest on other elements than that of the whole
    assert {name for name, _ in other} - {"fourth_axis_evidence"} == {"joined_uids", "joined_series_uids"}


def _canon_uid(ds: FileDataset) -> str:
    return f"{STEM}.{ds.InStackPositionNumber}"


@pytest.mark.parametrize("numbers", ["through", "alike"])
def test_slices_of_canon_that_have_a_uid_each_are_one_series(
    shared_data: Path, tmp_path: Path, numbers: str
) -> None:
    folder = copy_case(shared_data, "r12_canon_classic_dti", tmp_path / "canon")

    def number(ds: FileDataset) -> None:
        if numbers == "alike":  # volume by volume within each slice
            ds.InstanceNumber = 1 + (int(ds.InstanceNumber) - int(ds.InStackPositionNumber)) // 40

    whole, voxels = _whole(folder)

    def split(ds: FileDataset) -> None:
        number(ds)
        ds.SeriesInstanceUID = _canon_uid(ds)

    (joined,) = _found(change(folder, split))
    assert joined.shape == (80, 80, 3, 13)
    assert joined.attributes["joined_uids"] == 3
    assert joined.series_uid == joined.key == f"{STEM}.19"
    assert sorted(joined.files) == sorted(folder.iterdir())
    _assert_same(joined, whole, voxels)


def _unrelated(ds: FileDataset) -> None:
    ds.SeriesInstanceUID = f"1.2.3.{ds.InStackPositionNumber}.7"


def _against_the_slices(ds: FileDataset) -> None:
    ds.SeriesInstanceUID = f"{STEM}.{ {19: 5, 20: 9, 21: 7}[int(ds.InStackPositionNumber)] }"


def _another_study(ds: FileDataset) -> None:
    ds.SeriesInstanceUID = _canon_uid(ds)
    ds.StudyInstanceUID = f"1.2.3.{ds.InStackPositionNumber}"


def _another_number(ds: FileDataset) -> None:
    ds.SeriesInstanceUID, ds.SeriesNumber = _canon_uid(ds), ds.InStackPositionNumber


@pytest.mark.parametrize("edit", [_unrelated, _against_the_slices, _another_study, _another_number])
def test_slices_are_not_joined_where_their_uids_do_not_count_them(
    shared_data: Path, tmp_path: Path, edit: Callable[[FileDataset], None]
) -> None:
    folder = copy_case(shared_data, "r12_canon_classic_dti", tmp_path / "canon")
    found = _found(change(folder, edit))
    assert len(found) == 3
    assert all("joined_uids" not in series.attributes for series in found)


def _by_parity(ds: FileDataset) -> int:
    return int(ds.InstanceNumber) % 2


def _by_place(ds: FileDataset) -> int:
    return int(float(ds.ImagePositionPatient[2]) * 1000)


@pytest.mark.parametrize("part_of", [_by_parity, _by_place])
@pytest.mark.parametrize("name", ["ct_philips_notilt", "mr_hitachi_anat"])
def test_a_series_that_was_numbered_through_is_whole_whatever_uids_its_parts_have(
    shared_data: Path, tmp_path: Path, name: str, part_of: Callable[[FileDataset], int]
) -> None:
    folder = _series(shared_data, name, tmp_path / "in")
    whole, voxels = _whole(folder)
    uids: dict[int, str] = {}

    def split(ds: FileDataset) -> None:
        ds.SeriesInstanceUID = uids.setdefault(part_of(ds), generate_uid())

    (joined,) = _found(change(folder, split))
    assert joined.attributes["joined_uids"] == len(uids) > 1
    _assert_same(joined, whole, voxels)


def test_two_series_of_one_number_that_are_numbered_each_on_their_own_stay_two(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = _series(shared_data, "ct_philips_notilt", tmp_path / "in")
    for path in sorted(folder.iterdir()):
        shutil.copyfile(path, folder / f"copy-{path.name}")
    other = generate_uid()

    def second(ds: FileDataset) -> None:
        if Path(str(ds.filename)).name.startswith("copy-"):
            ds.SeriesInstanceUID = other
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()

    found = _found(change(folder, second))
    assert [series.shape for series in found] == [found[0].shape] * 2
    assert all("joined_uids" not in series.attributes for series in found)


@pytest.mark.parametrize("numbers", ["through", "alike"])
def test_slices_with_a_uid_each_are_the_same_series_under_pseudonyms(
    shared_data: Path, tmp_path: Path, numbers: str
) -> None:
    folder = copy_case(shared_data, "r12_canon_classic_dti", tmp_path / "canon")

    def split(ds: FileDataset) -> None:
        if numbers == "alike":
            ds.InstanceNumber = 1 + (int(ds.InstanceNumber) - int(ds.InStackPositionNumber)) // 40
        ds.SeriesInstanceUID = _canon_uid(ds)

    found = scan([change(folder, split)])
    for number in range(5):  # the order of hashed UIDs is another for each secret
        release = Release(key=f"a secret of enough letters {number}".encode())
        released = release.scan(found)
        assert not any(STEM in instance.series_uid for instance in released.instances)
        (joined,) = build_series(scan_from_table(scan_to_table(released)))
        (plain,) = build_series(found)
        assert joined.series_uid == release.uid(f"{STEM}.19")
        assert joined.shape == plain.shape == (80, 80, 3, 13)
        assert joined.files == plain.files
        assert np.array_equal(read_all(open_series(joined)), read_all(open_series(plain)))


def test_slices_whose_uids_do_not_count_them_stay_apart_under_pseudonyms(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = copy_case(shared_data, "r12_canon_classic_dti", tmp_path / "canon")
    for edit in (_unrelated, _against_the_slices):
        found = Release(key=b"a secret of enough letters").scan(scan([change(folder, edit)]))
        assert len(build_series(found)) == 3


def _two_series(folder: Path, second: Callable[[int], float], parity: bool = False) -> list[Series]:
    """A CT whose ten slices are two series that were numbered through; where the second five lie (mm)."""
    uids = [generate_uid(), generate_uid()]
    first, *others = sorted(folder.iterdir())
    for path in others:
        path.unlink()
    ds = dcmread(first)
    first.unlink()
    x, y, _ = ds.ImagePositionPatient
    for n in range(10):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.ImagePositionPatient = [x, y, float(n) if n < 5 else second(n - 5)]
        ds.SliceThickness, ds.InstanceNumber = 1, n + 1
        ds.SeriesInstanceUID = uids[n % 2 if parity else n // 5]
        ds.save_as(folder / f"{n}.dcm")
    return _found(folder)


@pytest.fixture
def ct(shared_data: Path, tmp_path: Path) -> Path:
    return _series(shared_data, "ct_philips_notilt", tmp_path / "ct")


@pytest.mark.parametrize(
    "second",
    [lambda n: 20.0 + n, lambda n: 2.0 + n, lambda n: 5.0 + 2 * n],
    ids=["gap", "overlap", "spacing"],
)
def test_sound_series_that_are_no_volume_together_stay_series(
    ct: Path, second: Callable[[int], float]
) -> None:
    found = _two_series(ct, second)
    assert [(series.verdict, series.shape and series.shape[2]) for series in found] == [("ingestable", 5)] * 2
    assert not any("joined" in name for series in found for name in series.attributes)
    assert len({path for series in found for path in series.files}) == 10


def test_parts_that_stack_are_one_volume(ct: Path) -> None:
    (joined,) = _two_series(ct, lambda n: 5.0 + n)
    assert joined.shape is not None
    assert joined.shape[2] == 10


def test_slices_that_alternate_between_two_uids_are_not_two_volumes_of_every_other_slice(ct: Path) -> None:
    (refused,) = _two_series(ct, lambda n: 15.0 + n, parity=True)
    assert refused.reason == "missing_slice"
    assert len(refused.files) == 10


def test_a_part_that_is_no_volume_alone_does_not_leave_the_others(ct: Path) -> None:
    (refused,) = _two_series(ct, lambda n: 20.0 + n + (n == 4))
    assert refused.verdict == "quarantined"
    assert len(refused.files) == 10
