"""Verdicts: what is ingestable, what is quarantined and why, for series as scanners deliver them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dcm2niix_reference import physical, read_all
from dicom_files import Change, ramp, slice_dataset, write_stack
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, generate_uid

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series


def _one(folder: Path) -> Series:
    (series,) = build_series(scan([folder]))
    return series


def _set(**values: object) -> Change:
    def change(ds: FileDataset, k: int) -> None:
        for name, value in values.items():
            setattr(ds, name, value)

    return change


def test_every_reason_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Reason)
    assert all(entry.meaning.endswith(".") and entry.action.endswith(".") for entry in EXPLANATIONS.values())


def test_row_and_column_spacing_are_not_swapped(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(), pixel_spacing=(0.5, 2.0))
    affine = _one(tmp_path).affine
    assert affine is not None
    assert np.allclose(np.abs(np.diag(affine)[:3]), (2.0, 0.5, 2.0))


def test_a_copy_of_an_instance_is_removed_and_counted(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp())
    shutil.copy(paths[1], tmp_path / "again")
    series = _one(tmp_path)
    assert series.verdict == "ingestable"
    assert series.shape == (6, 5, 4)
    assert series.n_instances == 5


def test_a_copy_with_a_new_uid_is_removed(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp())
    slice_again = slice_dataset(ramp()[1], position=(0, 0, 2), number=2)
    slice_again.save_as(tmp_path / "again", enforce_file_format=True)
    assert len(paths) == 4
    series = _one(tmp_path)
    assert (series.verdict, series.n_instances, series.shape) == ("ingestable", 5, (6, 5, 4))


def test_copies_of_a_series_under_other_numbers_are_volumes_of_their_own(tmp_path: Path) -> None:
    # as after a conversion of a series to another encoding that kept its UID
    for number in (1, 2):
        write_stack(tmp_path, ramp(), prefix=f"{number}-", change=_set(SeriesNumber=number))
    found = build_series(scan([tmp_path]))
    assert [(series.component, series.shape) for series in found] == [("s1", (6, 5, 4)), ("s2", (6, 5, 4))]


def test_copies_that_differ_are_quarantined(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(), change=lambda ds, k: setattr(ds, "SOPInstanceUID", f"1.2.3.{k + 1}"))
    other = slice_dataset(ramp()[1] + 7, position=(0, 0, 2), number=2)
    other.SOPInstanceUID = "1.2.3.2"
    other.save_as(tmp_path / "again", enforce_file_format=True)
    assert _one(tmp_path).reason is Reason.CONFLICTING_DUPLICATES


def test_a_missing_slice_is_quarantined_with_its_place(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp(6))
    paths[3].unlink()
    series = _one(tmp_path)
    assert series.reason is Reason.MISSING_SLICE
    assert "1 of 6" in series.detail


def test_variable_spacing_is_quarantined(tmp_path: Path) -> None:
    places = [0, 2, 4.3, 7.1]
    write_stack(tmp_path, ramp(), change=lambda ds, k: setattr(ds, "ImagePositionPatient", [0, 0, places[k]]))
    assert _one(tmp_path).reason is Reason.VARIABLE_SPACING


def test_two_series_in_one_folder_stay_apart(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(), prefix="A")
    write_stack(tmp_path, ramp(5) + 1, prefix="B", series_uid="1.2.9")
    first, second = build_series(scan([tmp_path]))
    assert {first.shape, second.shape} == {(6, 5, 4), (6, 5, 5)}


def test_two_orientations_in_one_series_are_split(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(), prefix="A")
    write_stack(tmp_path, ramp(), prefix="B", orientation=(0, 1, 0, 0, 0, -1), step=(3, 0, 0))
    components = {series.component: series for series in build_series(scan([tmp_path]))}
    assert set(components) == {"axial", "sagittal"}
    assert all(series.verdict == "ingestable" for series in components.values())


def test_a_three_plane_localizer_is_recognised(tmp_path: Path) -> None:
    orientations = ((1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1))
    steps = ((0, 0, 5), (5, 0, 0), (0, 5, 0))
    for n, (orientation, step) in enumerate(zip(orientations, steps, strict=True)):
        write_stack(tmp_path, ramp(3), prefix=f"{n}-", orientation=orientation, step=step)
    found = build_series(scan([tmp_path]))
    assert [series.reason for series in found] == [Reason.LOCALIZER] * 3
    assert sum(series.n_instances for series in found) == 9


def test_three_stacks_of_many_slices_are_volumes_and_no_localizer(tmp_path: Path) -> None:
    orientations = ((1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1))
    for n, orientation in enumerate(orientations):
        step = np.cross(orientation[:3], orientation[3:]) * 2
        write_stack(tmp_path, ramp(18), prefix=f"{n}-", orientation=orientation, step=step)
    found = build_series(scan([tmp_path]))
    assert {series.component: series.shape for series in found} == dict.fromkeys(
        ("axial", "sagittal", "coronal"), (6, 5, 18)
    )


def test_one_series_uid_for_two_patients_is_quarantined(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(), prefix="A")
    write_stack(tmp_path, ramp(), prefix="B", change=_set(PatientID="P2"))
    assert _one(tmp_path).reason is Reason.MIXED_IDENTITY


def test_slopes_that_differ_per_slice_give_exact_physical_values(tmp_path: Path) -> None:
    slopes = ["0.125", "0.3", "1.7", "2.25"]
    write_stack(tmp_path, ramp(dtype="u2"), change=lambda ds, k: setattr(ds, "RescaleSlope", slopes[k]))
    series = _one(tmp_path)
    assert series.dtype == np.float32
    values = physical(open_series(series))[..., 0]
    expected = ramp().transpose(2, 1, 0) * np.array([float(slope) for slope in slopes])
    assert np.array_equal(values, expected.astype(np.float32))


def test_one_slope_keeps_the_stored_integers(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(dtype="u2"), change=_set(RescaleSlope="2", RescaleIntercept="-1024"))
    series = _one(tmp_path)
    assert (series.dtype, series.slope, series.intercept) == (np.dtype("u2"), 2.0, -1024.0)
    assert np.array_equal(read_all(open_series(series))[..., 0], ramp().transpose(2, 1, 0))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_every_integer_type_and_byte_order_is_read(tmp_path: Path, dtype: str, syntax: object) -> None:
    volume = ramp(dtype="i4") * (-1 if dtype[0] == "i" else 1)
    volume = volume.astype(dtype)
    write_stack(tmp_path, volume, syntax=syntax)
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], volume.transpose(2, 1, 0))


def test_bits_above_bits_stored_are_cleared(tmp_path: Path) -> None:
    volume = ramp(dtype="u2")
    overlay = (volume | 0xA000).astype("u2")
    write_stack(tmp_path, overlay, change=_set(BitsStored=12, HighBit=11))
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], volume.transpose(2, 1, 0))


def test_the_sign_of_twelve_bit_values_is_extended(tmp_path: Path) -> None:
    volume = (ramp(dtype="i2") - 60).astype("i2")
    twelve = (volume.view("u2") & 0x0FFF).view("i2")
    write_stack(tmp_path, twelve, change=_set(BitsStored=12, HighBit=11))
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], volume.transpose(2, 1, 0))


def test_values_that_start_above_bit_zero_are_shifted_down(tmp_path: Path) -> None:
    volume = ramp(dtype="u2")
    write_stack(tmp_path, (volume << 4).astype("u2"), change=_set(BitsStored=12, HighBit=15))
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], volume.transpose(2, 1, 0))


def test_time_points_are_ordered_by_time_not_by_instance_number(tmp_path: Path) -> None:
    for t, number in ((0, 50), (1, 10), (2, 30)):

        def change(ds: FileDataset, k: int, t: int = t, number: int = number) -> None:
            ds.InstanceNumber = number + k
            ds.TemporalPositionIdentifier = t + 1

        write_stack(tmp_path, ramp() + 1000 * t, prefix=f"{number}-", change=change)
    source = open_series(_one(tmp_path))
    assert source.shape == (6, 5, 4, 3)
    assert [int(values.min()) for values in np.moveaxis(read_all(source), 3, 0)] == [0, 1000, 2000]


def test_a_time_point_that_lacks_a_slice_is_quarantined(tmp_path: Path) -> None:
    for t in range(3):
        paths = write_stack(
            tmp_path,
            ramp() + t,
            prefix=f"{t}-",
            change=_set(TemporalPositionIdentifier=t + 1, AcquisitionNumber=t),
        )
    paths[1].unlink()
    assert _one(tmp_path).reason is Reason.INCOMPLETE_TIME_SERIES


def test_water_and_fat_at_the_same_places_are_two_volumes(tmp_path: Path) -> None:
    for kind in ("WATER", "FAT"):
        write_stack(
            tmp_path, ramp(), prefix=kind, change=_set(ImageType=["DERIVED", "PRIMARY", "DIXON", kind])
        )
    components = [series.component for series in build_series(scan([tmp_path]))]
    assert components == ["dixon-fat", "dixon-water"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set(Rows=5000), Reason.TRUNCATED),
        (_set(Rows=0), Reason.SIZE_MISMATCH),
        (_set(BitsAllocated=12), Reason.UNSUPPORTED_PIXELS),
        (_set(PhotometricInterpretation="RGB", SamplesPerPixel=3), Reason.COLOUR),
        (_set(PhotometricInterpretation="PALETTE COLOR"), Reason.COLOUR),
        (_set(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), Reason.BAD_GEOMETRY),
        (_set(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), Reason.BAD_GEOMETRY),
        (_set(PixelSpacing=[0, 1]), Reason.NO_GEOMETRY),
        (_set(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), Reason.LOCALIZER),
        (_set(ImagePositionPatient=[1, 2, 3]), Reason.CONFLICTING_DUPLICATES),
        (_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1"), Reason.UNSUPPORTED_OBJECT),
    ],
)
def test_what_cannot_be_right_is_quarantined_with_its_reason(
    tmp_path: Path, change: Callable[[FileDataset, int], None], reason: Reason
) -> None:
    def numbered(ds: FileDataset, k: int) -> None:
        change(ds, k)
        if reason is Reason.CONFLICTING_DUPLICATES:
            ds.InstanceNumber = 1

    write_stack(tmp_path, ramp(), change=numbered)
    series = _one(tmp_path)
    assert series.reason is reason, series.detail
    assert series.n_instances == 4
    with pytest.raises(ImageReadError) as caught:
        open_series(series)
    assert caught.value.code == reason


def test_one_slice_is_not_a_volume(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(1))
    assert _one(tmp_path).reason is Reason.SINGLE_SLICE


def test_slices_at_one_position_are_a_time_series_if_times_and_thickness_are_known(tmp_path: Path) -> None:
    write_stack(tmp_path / "unknown", ramp(), step=(0, 0, 0))
    assert _one(tmp_path / "unknown").reason is Reason.UNPROVED_ORDER
    write_stack(tmp_path / "numbered", ramp(), step=(0, 0, 0), change=_set(SliceThickness="5"))
    assert _one(tmp_path / "numbered").reason is Reason.UNPROVED_ORDER

    def timed(ds: FileDataset, k: int) -> None:
        ds.SliceThickness, ds.AcquisitionTime = "5", f"1000{10 + k}"

    def thin(ds: FileDataset, k: int) -> None:
        ds.AcquisitionTime = f"1000{10 + k}"

    write_stack(tmp_path / "thin", ramp(), step=(0, 0, 0), change=thin)
    assert _one(tmp_path / "thin").reason is Reason.SINGLE_POSITION
    write_stack(tmp_path / "known", ramp(), step=(0, 0, 0), change=timed)
    series = _one(tmp_path / "known")
    assert series.shape == (6, 5, 1, 4)
    assert series.affine is not None
    assert np.allclose(series.affine[:3, 2], (0, 0, 5))
    assert np.array_equal(read_all(open_series(series))[:, :, 0], ramp().transpose(2, 1, 0))


def test_instances_without_a_series_uid_are_accounted_for(tmp_path: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        del ds.SeriesInstanceUID

    write_stack(tmp_path, ramp(), change=change)
    found = build_series(scan([tmp_path]))
    assert sum(series.n_instances for series in found) == 4
    assert len({series.key for series in found}) == len(found)


def test_a_file_that_changes_after_the_scan_is_a_reason_not_a_crash(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp())
    series = _one(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes() + b"more")
    with pytest.raises(ImageReadError) as caught:
        list(open_series(series).slabs(2))
    assert caught.value.code == Reason.FILE_CHANGED
    paths[2].unlink()
    with pytest.raises(ImageReadError) as caught:
        list(open_series(series).slabs(2))
    assert caught.value.code == Reason.FILE_CHANGED


def test_the_digest_is_that_of_the_files_and_not_of_their_names(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp(), change=lambda ds, k: setattr(ds, "SOPInstanceUID", f"1.2.3.{k}"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for n, path in enumerate(sorted((tmp_path / "b").iterdir())):
        path.rename(path.with_name(f"renamed{9 - n}"))
    digests = []
    for name in ("a", "b"):
        source = open_series(_one(tmp_path / name))
        read_all(source)
        digests.append(source.source_digest())
    assert digests[0] == digests[1]


def test_burned_in_annotations_and_secondary_captures_are_marked(tmp_path: Path) -> None:
    capture = "1.2.840.10008.5.1.4.1.1.7"
    write_stack(tmp_path, ramp(), change=_set(SOPClassUID=capture, BurnedInAnnotation="YES"))
    attributes = _one(tmp_path).attributes
    assert attributes["secondary_capture"] == 1
    assert attributes["burned_in_annotation"] == "YES"


def test_names_birth_dates_and_comments_never_leave_a_header(tmp_path: Path) -> None:
    secret = "ZZSECRET"
    write_stack(
        tmp_path,
        ramp(),
        change=_set(
            **dict.fromkeys(
                [
                    "PatientName", "ImageComments", "PatientAddress", "InstitutionName", "ProtocolName",
                    "ReferringPhysicianName", "StudyDescription", "OperatorsName", "AccessionNumber",
                ],
                secret,
            ),
            PatientBirthDate="19010203",
        ),
    )  # fmt: skip
    (instance, *_) = scan([tmp_path]).instances
    assert secret not in repr(instance)
    assert "19010203" not in repr(instance)


def test_a_new_uid_is_not_needed_for_series_of_many_studies(tmp_path: Path) -> None:
    for n in range(3):
        write_stack(tmp_path, ramp(), prefix=f"{n}-", series_uid=generate_uid())
    assert len(build_series(scan([tmp_path]))) == 3


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller-1"), ("ISO_IR 192", "患者-1"), ("ISO_IR 13", "ﾔﾏﾀﾞ"), ("GB18030", "王-1")],
)
def test_patient_ids_in_any_script_are_kept(tmp_path: Path, charset: str, name: str) -> None:
    write_stack(tmp_path, ramp(), change=_set(SpecificCharacterSet=charset, PatientID=name))
    assert _one(tmp_path).patient_id == name
