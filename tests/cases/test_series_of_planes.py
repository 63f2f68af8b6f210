"""Which planes are one volume, and in which order: a case is exact, or refused as a whole with a reason."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from case_run import Stored, action, b_vectors, differences, one_reason_for_all, take_in
from dcm2niix_reference import convert

Find = Callable[[str], Path]
# Columns that differ from volume to volume, whatever it shows.
OWN = {
    "obs_id", "volume", "series_uid", "series_number", "source_digest", "voxel_digest", "written_at",
    "stored_bytes", "component",
}  # fmt: skip


def fourth_axis(volume: Stored) -> tuple[str, list[float]]:
    """Name of the fourth axis and the value of each point: of obs, repeated in the sidecar."""
    for said in (volume.obs, volume.sidecar):
        assert "fourth_axis" in said, f"nothing says what the fourth axis of {volume.image.shape} is"
    values = json.loads(volume.obs["fourth_axis_values"])
    assert len(values) == len(volume.points)
    return str(volume.obs["fourth_axis"]), values


def test_a_scan_over_midnight_without_dates_is_in_the_order_in_which_it_was_acquired(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("s03_midnight_without_dates")
    run = take_in([case / "input"], tmp_path)
    (volume,) = run.stored
    assert not differences(volume.image, nib.load(case / "expected.nii.gz"))
    assert fourth_axis(volume) == ("time", [0, 2, 4, 6, 8, 10, 12, 14])
    assert float(volume.image.header.get_zooms()[3]) == 2
    assert run.exit_code == 0


def test_slices_that_all_have_one_position_are_no_time_series_of_one_slice(
    case_folder: Find, tmp_path: Path
) -> None:
    run = take_in([case_folder("s04_same_position_for_all_slices") / "input"], tmp_path)
    one_reason_for_all(run, 12)
    assert "position" in run.refused[0]["detail"].lower()
    assert not action(run.refused[0]).startswith("Nothing")


def test_two_tube_voltages_of_one_series_are_two_volumes_or_an_axis_that_says_energy(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("s05_dual_energy_one_series")
    run = take_in([case / "input"], tmp_path)
    reference = nib.load(case / "expected.nii.gz")
    if len(run.stored) == 1:  # allowed: one 4D volume that says what its fourth axis is
        (volume,) = run.stored
        assert not differences(volume.image, reference)
        assert fourth_axis(volume) == ("energy", [80, 140])
        assert volume.obs.get("tube_voltage_kv") != 80, "80 kV is said of all planes"
    else:
        assert sorted(volume.obs["tube_voltage_kv"] for volume in run.stored) == [80, 140]
        for volume in run.stored:
            point = nib.Nifti1Image(
                np.asarray(reference.dataobj)[..., int(volume.obs["tube_voltage_kv"] == 140)],
                reference.affine,
            )
            assert not differences(volume.image, point)
    assert run.exit_code == 0


def test_pixel_spacing_that_differs_in_the_last_digit_divides_no_volume(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("s06_pixel_spacing_last_digit")
    run = take_in([case / "input"], tmp_path)
    (volume,) = run.stored
    assert not differences(volume.image, nib.load(case / "expected.nii.gz"))
    assert run.exit_code == 0


def test_slices_that_differ_in_the_noise_of_their_orientation_are_one_volume_or_all_refused(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("s22_orientation_noise")
    run = take_in([case / "input"], tmp_path)
    if run.stored:
        (volume,) = run.stored
        assert not differences(volume.image, nib.load(case / "expected.nii.gz"))
        assert run.exit_code == 0
    else:
        one_reason_for_all(run, 8)


def test_bits_that_are_set_slice_by_slice_shorten_no_volume(case_folder: Find, tmp_path: Path) -> None:
    case = case_folder("s24_bit_depth_per_slice")
    run = take_in([case / "input"], tmp_path)
    if run.stored:
        (volume,) = run.stored
        assert not differences(volume.image, nib.load(case / "expected.nii.gz"))
        assert run.exit_code == 0
    else:
        one_reason_for_all(run, 12)


def test_a_high_bit_that_lies_does_not_keep_whole_values_out(case_folder: Find, tmp_path: Path) -> None:
    case = case_folder("s20_wrong_high_bit")
    run = take_in([case / "input"], tmp_path)
    (volume,) = run.stored  # as pydicom, dcm2niix and GDCM read it
    assert not differences(volume.image, nib.load(case / "expected.nii.gz"))


def test_a_dental_cone_beam_ct_is_a_volume_by_the_positions_of_its_frames(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("s08_craniofacial_cbct")
    run = take_in([case / "input"], tmp_path)
    (volume,) = run.stored
    assert not differences(volume.image, nib.load(case / "expected.nii.gz"))
    assert run.exit_code == 0


def test_two_blocks_that_overlap_are_refused_because_two_positions_exist_twice(
    case_folder: Find, tmp_path: Path
) -> None:
    run = take_in([case_folder("d07_ct_two_blocks_overlap") / "input"], tmp_path)
    one_reason_for_all(run, 14)
    (refused,) = run.refused
    assert re.search(r"\b(2|two)\b", refused["detail"])
    assert re.search(r"position|place", refused["detail"])
    assert not re.search(r"[Ss]end the missing", action(refused) + refused["detail"]), "nothing is missing"


def test_the_volumes_of_one_scan_with_a_series_each_are_one_or_say_which_time_point_they_are(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("r02_xa30i_mfsplit_fmri")
    run = take_in([case / "input"], tmp_path)
    shutil.copytree(case / "input", tmp_path / "dicom")
    (reference,) = [nib.load(path) for path in convert(tmp_path / "dicom")]
    assert run.exit_code == 0
    if len(run.stored) == 1:
        (volume,) = run.stored
        assert not differences(volume.image, reference)
        name, values = fourth_axis(volume)
        assert name == "time"
        assert values == pytest.approx([0, 1, 2, 3], abs=0.01)
        return
    # allowed: four volumes, in which obs has one value for the scan and a point of it for each
    assert len(run.stored) == 4
    by_number = sorted(run.stored, key=lambda volume: volume.obs["series_number"])
    for volume, point in zip(by_number, np.moveaxis(np.asarray(reference.dataobj), 3, 0), strict=True):
        assert not differences(volume.image, nib.Nifti1Image(point, reference.affine))
    points = [
        column
        for column in set.intersection(*(set(volume.obs) for volume in by_number)) - OWN
        if len({volume.obs[column] for volume in by_number}) == 4
        and sorted(by_number, key=lambda volume: volume.obs[column]) == by_number
    ]
    assert points, "no column of obs tells which time point of the run a volume is"


def test_reversed_volumes_of_a_pepolar_series_are_turned_and_apart_or_all_refused(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("r03_ge_pepolar")
    run = take_in([case / "input"], tmp_path)
    if not run.stored:
        one_reason_for_all(run, 24)
        return
    shutil.copytree(case / "input", tmp_path / "dicom")
    left = [
        (kind, nib.Nifti1Image(point, image.affine))
        for kind, image in enumerate(map(nib.load, convert(tmp_path / "dicom")))
        for point in np.moveaxis(np.asarray(image.dataobj), 3, 0)
    ]
    kinds = []
    for volume in run.stored:
        found = []
        for point in volume.points:
            ours = nib.Nifti1Image(point, volume.image.affine)
            equal = next((n for n, (_, other) in enumerate(left) if not differences(ours, other)), None)
            assert equal is not None, "a stored volume is none of those that dcm2niix makes"
            found.append(left.pop(equal)[0])
        assert len(set(found)) == 1, "forward and reversed volumes are points of one axis"
        kinds.append(found[0])
    assert not left, f"{len(left)} of 4 volumes are lost"
    tell = [
        column
        for column in set.intersection(*(set(volume.obs) for volume in run.stored)) - OWN
        if len({(kind, volume.obs[column]) for kind, volume in zip(kinds, run.stored, strict=True)}) == 2
        and len({volume.obs[column] for volume in run.stored}) == 2
    ]
    assert tell, "no column of obs tells forward from reversed"


def test_directions_of_a_canon_series_are_in_patient_coordinates(case_folder: Find, tmp_path: Path) -> None:
    case = case_folder("r12_canon_classic_dti")
    run = take_in([case / "input"], tmp_path)
    (volume,) = run.stored
    reference = nib.load(case / "expected_dcm2niix.nii.gz")
    assert not differences(volume.image, reference)
    values = json.loads(volume.obs["b_values_s_per_mm2"])
    assert values == np.loadtxt(case / "expected.bval").tolist()
    right = b_vectors(case / "expected.bvec", reference.affine)
    ours = np.array(json.loads(volume.obs["b_vectors_ras"]))
    # a direction and its opposite are one gradient
    angles = np.degrees(np.arccos(np.clip(np.abs((ours * right).sum(axis=1)[1:]), 0, 1)))
    assert angles.max() < 0.5, f"up to {angles.max():.1f} degrees off"
    exported = Path(tmp_path / "out-0" / volume.collection / f"{volume.obs['obs_id']}.bvec")
    again = b_vectors(exported, volume.image.affine)
    assert np.degrees(np.arccos(np.clip(np.abs((again * right).sum(axis=1)[1:]), 0, 1))).max() < 0.5
    name, axis = fourth_axis(volume)
    assert (name, axis) == ("b_value", values)


def test_gzipped_dicom_files_are_read_as_any(case_folder: Find, tmp_path: Path) -> None:
    import gzip

    case = case_folder("r01_dicom_gz")
    run = take_in([case / "input"], tmp_path)
    (volume,) = run.stored
    plain = tmp_path / "plain"
    plain.mkdir()
    for path in (case / "input").iterdir():
        (plain / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    (reference,) = convert(plain)
    assert not differences(volume.image, nib.load(reference))
    assert volume.obs["n_instances"] == 6
    assert run.exit_code == 0
