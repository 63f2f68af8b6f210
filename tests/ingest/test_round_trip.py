"""What was NIfTI comes out as it went in; what was DICOM comes out with the sidecars that BIDS wants."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.export.nifti_files import export_store
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.store import RadiObject, Volume
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

OBLIQUE = np.array([[0, -0.6, 2.4, 10], [-2, 0, 0, -20], [0, 0.8, 1.8, 30.25], [0, 0, 0, 1]])
FIELDS = (
    "dim",
    "datatype",
    "bitpix",
    "pixdim",
    "scl_slope",
    "scl_inter",
    "xyzt_units",
    "qform_code",
    "sform_code",
)


def _through(source: Path, folder: Path, **imaging: str) -> list[Path]:
    dataset = DatasetSettings.model_validate({"imaging": imaging})
    store = str(folder / "store")
    report = ingest_sources([source], store, dataset, budget=MemoryBudget(256), compute=Compute(workers=1))
    assert not report.quarantined_by_reason
    return export_store(store, folder / "out")


def _image(affine: Any, sform: int, qform: int, times: int = 3) -> Any:
    data = np.arange(3 * 4 * 5 * times).reshape(3, 4, 5, times)[..., : times if times > 1 else 1]
    image = nib.Nifti1Image(np.squeeze(data).astype(np.int16), affine)
    image.header.set_xyzt_units("mm", "msec")
    if times > 1:
        image.header.set_zooms((*image.header.get_zooms()[:3], 2150.0))
    image.header.set_slope_inter(0.5, -3)
    image.header["descrip"] = b"made by hand"
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    return image


@pytest.mark.parametrize(("sform", "qform"), [(4, 2), (1, 0), (0, 1), (2, 2)])
@pytest.mark.parametrize("times", [1, 3])
def test_a_nifti_file_gets_its_header_again(tmp_path: Path, sform: int, qform: int, times: int) -> None:
    image = _image(OBLIQUE, sform, qform, times)
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / "in" / "sub-1_x.nii.gz")
    before: Any = nib.load(tmp_path / "in" / "sub-1_x.nii.gz")
    (path,) = _through(tmp_path / "in", tmp_path)
    after: Any = nib.load(path)
    for name in FIELDS:
        first, second = before.header[name], after.header[name]
        if name == "pixdim":
            assert np.allclose(np.abs(first[1:5]), np.abs(second[1:5])), name
        elif name in ("qform_code", "sform_code") and int(first) == 0:
            assert int(second) == 0, name
        else:
            assert np.array_equal(first, second, equal_nan=True), name
    assert np.allclose(after.affine, before.affine, atol=1e-5)
    assert np.array_equal(after.dataobj.get_unscaled(), before.dataobj.get_unscaled())
    assert np.array_equal(after.get_fdata(), before.get_fdata())
    assert bytes(after.header["descrip"].item()) == b""


def test_an_image_without_transforms_stays_where_readers_put_it(tmp_path: Path) -> None:
    raw = bytearray(_image(np.diag([2.0, 2, 3, 1]), 1, 1, times=1).to_bytes())
    raw[252:256] = b"\0" * 4
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "sub-1_x.nii").write_bytes(bytes(raw))
    before: Any = nib.load(tmp_path / "in" / "sub-1_x.nii")
    (path,) = _through(tmp_path / "in", tmp_path)
    after: Any = nib.load(path)
    assert (int(after.header["qform_code"]), int(after.header["sform_code"])) == (0, 0)
    assert np.array_equal(after.affine, before.affine)


def test_a_description_is_kept_only_where_the_data_set_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    nib.save(_image(OBLIQUE, 1, 1), tmp_path / "in" / "sub-1_x.nii.gz")
    (path,) = _through(tmp_path / "in", tmp_path, nifti_description="keep")
    assert bytes(nib.load(path).header["descrip"].item()) == b"made by hand"


def _extended(path: Path) -> Any:
    image = _image(OBLIQUE, 1, 1)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"written by hand"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(44, bytes(range(200))))
    image.header.set_intent("estimate", name="")
    nib.save(image, path)
    return image


def _extensions(path: Path) -> list[tuple[int, bytes]]:
    header: Any = nib.load(path).header
    return [(extension.get_code(), bytes(extension.get_content())) for extension in header.extensions]


def test_extensions_are_kept_only_where_the_data_set_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image = _extended(tmp_path / "in" / "sub-1_x.nii.gz")
    (tmp_path / "dropped").mkdir()
    (path,) = _through(tmp_path / "in", tmp_path / "dropped")
    assert _extensions(path) == []
    (path,) = _through(tmp_path / "in", tmp_path, nifti_extensions="keep")
    assert _extensions(path) == _extensions(tmp_path / "in" / "sub-1_x.nii.gz")
    assert len(_extensions(path)) == 2
    after: Any = nib.load(path)
    assert np.array_equal(after.dataobj.get_unscaled(), image.get_fdata())
    assert int(after.header["intent_code"]) == 1001
    sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
    assert "nifti_extensions" not in json.loads(sidecar.read_text())


def test_who_hands_over_a_file_gets_its_description_and_extensions_again(tmp_path: Path) -> None:
    _extended(tmp_path / "x.nii.gz")
    volume = Volume.from_nifti(str(tmp_path / "volume"), tmp_path / "x.nii.gz", reorient=False)
    path = volume.to_nifti(tmp_path / "y.nii")
    assert _extensions(path) == _extensions(tmp_path / "x.nii.gz")
    assert bytes(nib.load(path).header["descrip"].item()) == b"made by hand"
    assert np.array_equal(nib.load(path).get_fdata(), nib.load(tmp_path / "x.nii.gz").get_fdata())


@pytest.mark.parametrize(
    "dtype",
    [np.complex64, np.complex128, [("R", "u1"), ("G", "u1"), ("B", "u1")],
     [("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]],
)  # fmt: skip
def test_colours_and_complex_numbers_are_one_voxel_again(tmp_path: Path, dtype: Any) -> None:
    kind = np.dtype(dtype)
    random = np.random.default_rng(1)
    if kind.fields:
        data = random.integers(0, 256, (3, 4, 5, len(kind)), dtype=np.uint8).view(kind)[..., 0]
    else:
        data = (random.normal(size=(3, 4, 5)) + 1j * random.normal(size=(3, 4, 5))).astype(kind)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(data, OBLIQUE), tmp_path / "in" / "sub-1_x.nii.gz")
    (path,) = _through(tmp_path / "in", tmp_path, components="keep")
    after: Any = nib.load(path)
    assert after.shape == data.shape
    assert np.array_equal(np.asarray(after.dataobj), data)


def test_colours_of_dicom_are_the_colours_that_dcm2niix_writes(tmp_path: Path, shared_data: Path) -> None:
    (path,) = _through(shared_data / "series" / "sc_rgb_j2k", tmp_path, components="keep")
    ours: Any = nib.load(path)
    theirs: Any = nib.load(shared_data / "ref" / "sc_rgb_j2k" / "sc_rgb_j2k.nii.gz")
    assert ours.header.get_data_dtype() == theirs.header.get_data_dtype()
    assert np.array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj)[:, ::-1])  # it flips rows


def test_a_vector_field_has_its_fifth_axis_again(tmp_path: Path) -> None:
    image: Any = nib.Nifti1Image(np.random.default_rng(2).normal(size=(3, 4, 5, 1, 3)).astype("f4"), OBLIQUE)
    image.header.set_intent("vector")
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / "in" / "sub-1_x.nii.gz")
    (path,) = _through(tmp_path / "in", tmp_path)
    after: Any = nib.load(path)
    assert after.shape == (3, 4, 5, 1, 3)
    assert int(after.header["intent_code"]) == 1007
    assert np.array_equal(np.asarray(after.dataobj), np.asarray(image.dataobj))


TURNED = np.array([[0, 0, -3, 9], [2, 0, 0, 8], [0, 1.25, 0, 7.0], [0, 0, 0, 1]])
MNI = np.array([[-2, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72.0], [0, 0, 0, 1]])


def test_a_qform_that_says_otherwise_than_the_sform_is_written_again(tmp_path: Path) -> None:
    image = _image(MNI, 4, 1, times=1)
    image.set_qform(TURNED, 1)
    nib.save(image, tmp_path / "x.nii")
    before: Any = nib.load(tmp_path / "x.nii")
    volume = Volume.from_nifti(str(tmp_path / "volume"), tmp_path / "x.nii", reorient=False)
    after: Any = nib.load(volume.to_nifti(tmp_path / "y.nii"))
    assert np.allclose(after.get_sform(), MNI)
    assert np.allclose(after.get_qform(), TURNED, atol=1e-5)
    assert (int(after.header["sform_code"]), int(after.header["qform_code"])) == (4, 1)
    assert np.allclose(after.header["pixdim"], before.header["pixdim"])
    turned = Volume.from_nifti(str(tmp_path / "turned"), tmp_path / "x.nii", reorient=True)
    after = nib.load(turned.to_nifti(tmp_path / "z.nii"))
    first = np.argwhere(after.get_fdata() == before.get_fdata()[0, 0, 0])[0]
    assert np.allclose(nib.affines.apply_affine(after.get_qform(), first), TURNED[:3, 3], atol=1e-4)
    assert np.allclose(nib.affines.apply_affine(after.get_sform(), first), MNI[:3, 3], atol=1e-4)


def test_a_header_of_the_second_version_keeps_all_digits(tmp_path: Path) -> None:
    affine = OBLIQUE + np.array([[0, 0, 0, 1e-9]] * 3 + [[0] * 4])
    image: Any = nib.Nifti2Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)
    image.header.set_slope_inter(1 / 3, 1e-12)
    nib.save(image, tmp_path / "x.nii")
    volume = Volume.from_nifti(str(tmp_path / "volume"), tmp_path / "x.nii", reorient=False)
    after: Any = nib.load(volume.to_nifti(tmp_path / "y.nii"))
    assert isinstance(after, nib.Nifti2Image)
    assert np.array_equal(after.affine, affine)
    assert (after.dataobj.slope, after.dataobj.inter) == (1 / 3, 1e-12)


@pytest.mark.parametrize("units", [0, 2, 34, 42, 50], ids=["none", "mm alone", "Hz", "ppm", "rad/s"])
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (3, 4, 5), (3, 4, 5, 1, 3)])
def test_steps_of_other_axes_and_in_other_units_are_kept(
    tmp_path: Path, units: int, shape: tuple[int, ...]
) -> None:
    image: Any = nib.Nifti1Image(np.zeros(shape, np.float32), OBLIQUE)
    image.header["xyzt_units"] = units
    image.header["pixdim"][4:8] = (2.5, 7, 0, 3)
    nib.save(image, tmp_path / "x.nii")
    volume = Volume.from_nifti(str(tmp_path / "volume"), tmp_path / "x.nii", reorient=False)
    after: Any = nib.load(volume.to_nifti(tmp_path / "y.nii"))
    assert after.header["pixdim"][4:8].tolist() == [2.5, 7, 0, 3]
    assert int(after.header["xyzt_units"]) == units


def test_a_description_of_the_whole_field_is_kept_to_its_last_letter(tmp_path: Path) -> None:
    image = _image(OBLIQUE, 1, 1)
    image.header["descrip"] = b"  " + b"x" * 78
    nib.save(image, tmp_path / "x.nii")
    volume = Volume.from_nifti(str(tmp_path / "volume"), tmp_path / "x.nii", reorient=False)
    path = volume.to_nifti(tmp_path / "y.nii")
    assert bytes(nib.load(path).header["descrip"].item()) == b"  " + b"x" * 78


def test_a_copy_of_a_store_exports_the_same_header(tmp_path: Path) -> None:
    image = _image(MNI, 4, 1, times=3)
    image.set_qform(TURNED, 1)
    image.header["pixdim"][5:8] = 0
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"written by hand"))
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / "in" / "sub-1_x.nii.gz")
    (path,) = _through(tmp_path / "in", tmp_path, nifti_extensions="keep")
    RadiObject(str(tmp_path / "store")).materialize(str(tmp_path / "copy"))
    (again,) = export_store(str(tmp_path / "copy"), tmp_path / "out2")
    assert gzip.decompress(again.read_bytes()) == gzip.decompress(path.read_bytes())
    assert np.allclose(nib.load(again).header.get_qform(), TURNED, atol=1e-5)


def test_a_volume_alone_gets_its_header_again(tmp_path: Path) -> None:
    nib.save(_image(OBLIQUE, 4, 0), tmp_path / "x.nii.gz")
    volume = Volume.from_nifti(str(tmp_path / "volume"), tmp_path / "x.nii.gz", reorient=False)
    assert volume.orientation_info.source == "nifti_sform"
    header = nib.load(volume.to_nifti(tmp_path / "y.nii.gz")).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 0)
    assert header.get_xyzt_units() == ("mm", "msec")
    assert header.get_zooms()[3] == pytest.approx(2150)


SIDECAR_NUMBERS = ("EchoTime", "RepetitionTime", "FlipAngle", "MagneticFieldStrength", "InversionTime")


@pytest.mark.parametrize(
    "folder", ["mr_ge_dti4d", "mr_philips_dti4d", "mr_siemens_mosaic_fmri4d", "mr_ge_anat_implicit"]
)
def test_sidecars_of_dicom_say_what_those_of_dcm2niix_say(
    shared_data: Path, tmp_path: Path, folder: str
) -> None:
    paths = _through(shared_data / "series" / folder, tmp_path)
    ours = json.loads(paths[0].with_name(paths[0].name.replace(".nii.gz", ".json")).read_text())
    theirs = json.loads((shared_data / "ref" / folder / f"{folder}.json").read_text())
    compared = [name for name in SIDECAR_NUMBERS if name in theirs]
    assert compared
    for name in compared:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
    assert ours["Manufacturer"].lower().startswith(theirs["Manufacturer"].lower())
    assert ours["Modality"] == theirs["Modality"]


def test_gradients_are_written_for_the_image_that_they_lie_beside(shared_data: Path, tmp_path: Path) -> None:
    (path,) = _through(shared_data / "series" / "mr_philips_dti4d", tmp_path)
    stem = path.name.removesuffix(".nii.gz")
    affine = nib.load(path).affine[:3, :3]
    axes = affine / np.linalg.norm(affine, axis=0)
    vectors = np.loadtxt(path.with_name(f"{stem}.bvec")).T
    theirs_image = shared_data / "ref" / "mr_philips_dti4d" / "mr_philips_dti4d"
    reference = nib.load(f"{theirs_image}.nii.gz").affine[:3, :3]
    reference_axes = reference / np.linalg.norm(reference, axis=0)
    theirs = np.loadtxt(f"{theirs_image}.bvec").T

    def world(values: Any, directions: Any) -> Any:
        return (values * [-1 if np.linalg.det(directions) > 0 else 1, 1, 1]) @ directions.T

    assert np.allclose(world(vectors, axes), world(theirs, reference_axes), atol=2e-3)
    expected = np.loadtxt(f"{theirs_image}.bval")
    assert np.array_equal(np.loadtxt(path.with_name(f"{stem}.bval")), expected)
