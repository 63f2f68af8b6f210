"""Every ingestable series of the reference data equals dcm2niix's output, through world coordinates."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dcm2niix_reference import compare, physical

from radiobject_assets.imaging.nifti.sidecars import read_sidecars, to_sidecar
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

# dcm2niix shears or resamples these: their geometry is checked by test_geometry_by_positions alone.
TILTED = {"ct_philips_tilt", "ct_siemens_gantrytilt"}
# The folder's series (and component) -> reference file, where it is not <folder>.nii.gz. dcm2niix applies
# Philips' private scaling; its -p n outputs have the standard one, as we do.
REFERENCE = {
    ("mr_philips_enh_fmri4d", ""): "p_n/mr_philips_enh_fmri4d_pn.nii.gz",
    ("mr_philips_anat", ""): "p_n/mr_philips_anat_pn.nii.gz",
    ("mr_philips_dti4d", ""): "p_n/mr_philips_dti4d_pn.nii.gz",
    ("mr_philips_fmri4d", ""): "p_n/mr_philips_fmri4d_pn.nii.gz",
    ("mr_philips_dualecho", "e1"): "mr_philips_dualecho_e1.nii.gz",
    ("mr_philips_dualecho", "e1_phase"): "mr_philips_dualecho_e1_ph.nii.gz",
    ("mr_philips_dualecho", "e2"): "mr_philips_dualecho_e2.nii.gz",
    ("mr_philips_dualecho", "e2_phase"): "mr_philips_dualecho_e2_ph.nii.gz",
    ("mr_siemens_phase", ""): "mr_siemens_phase_e2_ph.nii.gz",
}
# dcm2niix applied Philips' private scaling and there is no -p n output: stored values are compared.
PRIVATELY_SCALED = {"mr_philips_dualecho", "mr_philips_fmri4d_7t", "mr_philips_enh_dti4d"}
# What must be ingestable, however the rest is judged.
EXPECTED = {
    "ct_ibsi_sphere", "ct_philips_notilt", "ct_philips_tilt", "ct_siemens_gantrytilt", "mr_comp_j2k",
    "mr_comp_jpegll", "mr_comp_jpegls", "mr_comp_rle", "mr_ge_anat_implicit", "mr_ge_dti4d", "mr_ge_fmri4d",
    "mr_hitachi_anat", "mr_hyperfine_enh", "mr_philips_anat", "mr_philips_dti4d", "mr_philips_dualecho",
    "mr_philips_enh_dti4d", "mr_philips_enh_fmri4d", "mr_philips_fmri4d", "mr_philips_fmri4d_7t",
    "mr_siemens_mosaic_fmri4d", "mr_siemens_phase", "mr_siemens_xa30_enh_t1", "mr_t1_7t_implicit",
    "mr_two_slices", "rt_rtstruct_refs",
}  # fmt: skip


def _folders(shared_data: Path) -> list[str]:
    with open(shared_data / "manifest.csv", newline="", encoding="utf-8") as file:
        return [row["path"].removeprefix("series/") for row in csv.DictReader(file)]


def _images(shared_data: Path, folder: str) -> list[Series]:
    found = build_series(scan([shared_data / "series" / folder]))
    # of a dose dcm2niix makes no volume (test_doses holds it against other tools)
    return [s for s in found if s.kind == "image" and s.verdict == "ingestable" and s.modality != "RTDOSE"]


def test_every_ingestable_series_equals_its_dcm2niix_reference(shared_data: Path) -> None:
    compared, different = set(), []
    for folder in _folders(shared_data):
        for series in _images(shared_data, folder):
            name = REFERENCE.get((folder, series.component), f"{folder}.nii.gz")
            reference = shared_data / "ref" / folder / name
            assert reference.is_file(), (
                f"{folder} {series.component!r} is ingestable and dcm2niix made nothing of it"
            )
            found = compare(
                open_series(series),
                reference,
                affine_known_wrong=folder in TILTED,
                stored=folder in PRIVATELY_SCALED,
            )
            for difference in found:
                different.append(f"{folder} {series.component}: {difference.kind}: {difference.detail}")
            compared.add(folder)
    assert not different, "\n".join(different)
    assert compared >= EXPECTED, f"not ingestable: {sorted(EXPECTED - compared)}"


def test_b_values_equal_those_of_dcm2niix(shared_data: Path) -> None:
    for folder in ("mr_ge_dti4d", "mr_philips_dti4d", "mr_philips_enh_dti4d"):
        (series,) = _images(shared_data, folder)
        values = json.loads(str(series.attributes["b_values_s_per_mm2"]))
        expected = (shared_data / "ref" / folder / f"{folder}.bval").read_text().split()
        assert values == [float(value) for value in expected], folder


def test_gradients_equal_those_of_dcm2niix(shared_data: Path) -> None:
    # A .bvec is in image axes, its first one mirrored where the reference's affine is right-handed (FSL).
    import nibabel as nib

    for folder in ("mr_ge_dti4d", "mr_philips_dti4d", "mr_philips_enh_dti4d"):
        (series,) = _images(shared_data, folder)
        ours = np.array(json.loads(str(series.attributes["b_vectors_ras"])))
        affine = nib.load(shared_data / "ref" / folder / f"{folder}.nii.gz").affine[:3, :3]
        axes = affine / np.linalg.norm(affine, axis=0)
        fsl = np.loadtxt(shared_data / "ref" / folder / f"{folder}.bvec").T
        if np.linalg.det(axes) > 0:
            fsl = fsl * [-1, 1, 1]
        assert np.allclose(ours, fsl @ axes.T, atol=2e-3), f"{folder}: {ours} against {fsl @ axes.T}"


def test_slice_times_and_phase_encoding_equal_those_of_dcm2niix(shared_data: Path) -> None:
    # In its sidecar both are along its own voxel axes: turned to the patient's by its affine.
    import nibabel as nib

    folder = "mr_siemens_mosaic_fmri4d"
    (series,) = _images(shared_data, folder)
    reference = shared_data / "ref" / folder / folder
    affine = nib.load(reference.with_suffix(".nii.gz")).affine
    theirs = read_sidecars([reference.with_suffix(".json")], affine)

    def vector(attributes: Mapping[str, object], name: str) -> np.ndarray:
        return np.array(json.loads(str(attributes[name])))

    assert np.allclose(
        vector(series.attributes, "phase_encoding_ras"), vector(theirs, "phase_encoding_ras"), atol=1e-3
    )
    for name in ("effective_echo_spacing_s", "total_readout_time_s"):
        assert series.attributes[name] == pytest.approx(theirs[name], rel=1e-4)
    same_way = vector(series.attributes, "slice_encoding_ras") @ vector(theirs, "slice_encoding_ras")
    assert abs(same_way) > 0.999
    times = vector(series.attributes, "slice_timing_s")
    assert np.allclose(times, vector(theirs, "slice_timing_s")[:: 1 if same_way > 0 else -1], atol=2e-3)


@pytest.mark.parametrize("folder", ["mr_siemens_xa30_enh_t1", "mr_philips_enh_fmri4d", "mr_hyperfine_enh"])
def test_sidecars_of_enhanced_objects_say_what_dcm2niix_says(shared_data: Path, folder: str) -> None:
    (series,) = _images(shared_data, folder)
    theirs = json.loads((shared_data / "ref" / folder / f"{folder}.json").read_text())
    ours = to_sidecar(series.attributes)
    for key in ("EchoTime", "RepetitionTime", "FlipAngle", "InversionTime", "SliceThickness"):
        if key in theirs:
            assert ours[key] == pytest.approx(theirs[key], abs=1e-4), key


@pytest.mark.parametrize("folder", sorted(EXPECTED))
def test_geometry_by_positions(shared_data: Path, folder: str) -> None:
    """Second opinion: pixels of classic files, mapped by their own position, are there in the volume."""
    for series in _images(shared_data, folder):
        source = open_series(series)
        volume = physical(source)
        to_voxel = np.linalg.inv(source.affine)
        rng = np.random.default_rng(3)
        for path in series.files[:: max(1, len(series.files) // 8)]:
            dataset = pydicom.dcmread(path)
            if "SharedFunctionalGroupsSequence" in dataset or "MOSAIC" in dataset.ImageType:
                continue  # positions are per frame or tile: covered by the reference
            stored = dataset.pixel_array.astype(np.float64)
            slope, intercept = (
                float(dataset.get("RescaleSlope", 1)),
                float(dataset.get("RescaleIntercept", 0)),
            )
            if "RescaleSlope" not in dataset and "RealWorldValueMappingSequence" in dataset:  # Philips
                (mapping,) = dataset.RealWorldValueMappingSequence
                slope, intercept = mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept
            for _ in range(20):
                row, column = int(rng.integers(dataset.Rows)), int(rng.integers(dataset.Columns))
                iop = np.array(dataset.ImageOrientationPatient, float)
                down, across = (float(v) for v in dataset.PixelSpacing)
                lps = (
                    np.array(dataset.ImagePositionPatient, float)
                    + iop[:3] * across * column
                    + iop[3:] * down * row
                )
                index = (to_voxel @ [-lps[0], -lps[1], lps[2], 1])[:3]
                x, y, z = np.round(index).astype(int)
                assert np.abs(index - [x, y, z]).max() < 0.05
                assert stored[row, column] * slope + intercept in volume[x, y, z]
