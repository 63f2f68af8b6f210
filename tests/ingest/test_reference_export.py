"""The main job on real input: the reference folder through the command line, and out again as NIfTI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.store import RadiObject

# Folder of a classic series to its reference; the `-p n` one where dcm2niix scales privately (Philips).
CLASSIC = {
    "ct_ibsi_sphere": "ct_ibsi_sphere.nii.gz",
    "ct_philips_notilt": "ct_philips_notilt.nii.gz",
    "mr_ge_anat_implicit": "mr_ge_anat_implicit.nii.gz",
    "mr_ge_dti4d": "mr_ge_dti4d.nii.gz",
    "mr_ge_fmri4d": "mr_ge_fmri4d.nii.gz",
    "mr_hitachi_anat": "mr_hitachi_anat.nii.gz",
    "mr_philips_anat": "p_n/mr_philips_anat_pn.nii.gz",
    "mr_philips_dti4d": "p_n/mr_philips_dti4d_pn.nii.gz",
    "mr_philips_fmri4d": "p_n/mr_philips_fmri4d_pn.nii.gz",
    "mr_siemens_phase": "mr_siemens_phase_e2_ph.nii.gz",
    "mr_t1_7t_implicit": "mr_t1_7t_implicit.nii.gz",
    "mr_two_slices": "mr_two_slices.nii.gz",
    "rt_rtstruct_refs": "rt_rtstruct_refs.nii.gz",
}


@pytest.fixture(scope="module")
def exported(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The JSON of `ingest` over the whole folder, and the folder of its export."""
    folder = tmp_path_factory.mktemp("conformance")
    store, out = folder / "store", folder / "out"
    command = [sys.executable, "-m", "radiobject_assets.cli"]
    done = subprocess.run(
        [*command, "ingest", str(shared_data / "series"), "--store", str(store), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr  # there are damaged files, and it says so
    assert "Traceback" not in done.stderr
    subprocess.run([*command, "export", str(store), str(out)], capture_output=True, check=True)
    return json.loads(done.stdout), out


def test_every_file_is_in_one_series_or_unreadable(
    shared_data: Path, exported: tuple[dict[str, Any], Path]
) -> None:
    report, _ = exported
    files = sum(path.is_file() for path in (shared_data / "series").rglob("*"))
    counted = sum(series["n_instances"] for series in report["series"]) + len(report["unreadable"])
    assert counted == files == report["counts"]["files"]


def test_every_verdict_is_ingestable_and_stored_or_has_a_documented_reason(
    exported: tuple[dict[str, Any], Path],
) -> None:
    report, out = exported
    for series in report["series"]:
        if series["verdict"] == "ingestable":
            assert series["reason"] is None
            assert (out / series["collection"] / f"{series['obs_id']}.nii.gz").is_file()
        else:
            assert series["verdict"] == "quarantined"
            assert series["reason"] in set(Reason)
            assert series["detail"]
    for item in report["unreadable"]:
        assert item["reason"] in set(Reason)


@pytest.mark.parametrize("folder", sorted(CLASSIC))
def test_a_classic_series_comes_out_as_dcm2niix_has_it(
    shared_data: Path, exported: tuple[dict[str, Any], Path], folder: str
) -> None:
    report, out = exported
    (series,) = [
        s
        for s in report["series"]
        if Path(s["source"]).name == folder
        and s["verdict"] == "ingestable"
        and s["collection"] in ("ct", "mr")
    ]
    ours = nib.load(out / series["collection"] / f"{series['obs_id']}.nii.gz")
    reference = nib.load(shared_data / "ref" / folder / CLASSIC[folder])
    # where each of our voxels lies in the reference's grid: axes may be flipped or exchanged, never shifted
    to_reference = np.linalg.inv(reference.affine) @ ours.affine
    assert np.abs(to_reference[:3] - np.round(to_reference[:3])).max() < 1e-2
    index = np.round(to_reference).astype(int)
    place = np.tensordot(index[:3, :3], np.indices(ours.shape[:3]), axes=1) + index[:3, 3].reshape(3, 1, 1, 1)
    assert sorted(ours.shape) == sorted(reference.shape)
    expected = np.asarray(reference.dataobj)[tuple(place)]
    assert np.array_equal(np.asarray(ours.dataobj), expected)


def test_nifti_files_come_out_as_they_went_in(shared_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "radiobject_assets.cli"]
    store, out = tmp_path / "store", tmp_path / "out"
    done = subprocess.run(
        [*command, "ingest", str(shared_data / "nifti"), "--store", str(store), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    subprocess.run([*command, "export", str(store), str(out)], capture_output=True, check=True)
    report = json.loads(done.stdout)
    compared = 0
    for series in report["series"]:
        if series["verdict"] != "ingestable":
            continue
        source = nib.load(series["source"])
        copy = nib.load(out / series["collection"] / f"{series['obs_id']}.nii.gz")
        assert np.allclose(source.affine, copy.affine, atol=1e-4)
        assert np.array_equal(
            np.asarray(source.dataobj.get_unscaled()), np.asarray(copy.dataobj.get_unscaled())
        )
        assert np.allclose(np.asarray(source.dataobj), np.asarray(copy.dataobj))
        compared += 1
    assert compared >= 16


@pytest.mark.parametrize(
    "folder", ["ct_philips_tilt", "mr_ge_dti4d", "mr_philips_anat", "mr_philips_dualecho", "mr_siemens_phase"]
)
def test_a_pixel_is_in_the_store_where_its_file_says_it_is(
    shared_data: Path, exported: tuple[dict[str, Any], Path], folder: str
) -> None:
    """Position, orientation and spacing of the file itself; nothing of what decided the stack."""
    radi = RadiObject(str(exported[1].parent / "store"))
    files = sorted((shared_data / "series" / folder).iterdir())
    rng = np.random.default_rng(11)
    for path in (files[0], files[len(files) // 3], files[-1]):
        dataset = pydicom.dcmread(path)
        volumes = [
            (volume.affine, volume.to_numpy())
            for collection in map(radi.collection, radi.collection_names)
            for row in collection.to_obs().to_dict("records")
            if row["series_uid"] == dataset.SeriesInstanceUID
            for volume in [collection[row["obs_id"]]]
        ]
        physical = dataset.pixel_array * float(dataset.get("RescaleSlope", 1)) + float(
            dataset.get("RescaleIntercept", 0)
        )
        across, down = np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3))
        for row, column in rng.integers((0, 0), physical.shape, (12, 2)):
            x, y, z = (
                np.array(dataset.ImagePositionPatient, float)
                + across * float(dataset.PixelSpacing[1]) * column
                + down * float(dataset.PixelSpacing[0]) * row
            )
            there = set()
            for affine, voxels in volumes:
                index = (np.linalg.inv(affine) @ [-x, -y, z, 1])[:3]
                nearest = np.round(index).astype(int)
                if np.abs(index - nearest).max() < 0.05 and (nearest < voxels.shape[:3]).all():
                    there |= set(np.atleast_1d(voxels[tuple(nearest)]).tolist())
            assert any(value == pytest.approx(physical[row, column], rel=1e-6) for value in there)
