"""What is believed of vendors' headers: held against real files where there are any, marked where not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dcm2niix_reference import compare, convert, gradients
from dicom_files import ramp, slice_dataset
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import MRImageStorage
from real_cases import copy_case

from radiobject_assets.imaging.dicom.vendor import Vendor
from radiobject_assets.imaging.dicom.vendor_rules import RULE, RULES
from radiobject_assets.imaging.dicom.vendors import VENDORS, vendor_of
from radiobject_assets.imaging.dicom.vendors.siemens_csa import read_csa
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

GE = "GE MEDICAL SYSTEMS"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TILTED = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)


def _one(folder: Path) -> Series:
    (series,) = build_series(scan([folder]))
    return series


def _vectors(series: Series) -> NDArray[np.float64]:
    return np.array(json.loads(str(series.attributes["b_vectors_ras"])))


def _from_image_axes(bvec: Path, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions (RAS+) of a .bvec beside an image of that affine."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    vectors = np.loadtxt(bvec).T
    return (vectors * [-1, 1, 1] if np.linalg.det(axes) > 0 else vectors) @ axes.T


# Real files


def test_directions_of_an_oblique_canon_scan_are_those_of_dcm2niix(shared_data: Path, tmp_path: Path) -> None:
    folder = copy_case(shared_data, "r12_canon_classic_dti", tmp_path / "canon")
    series = _one(folder)
    case = shared_data / "cases" / "r12_canon_classic_dti"
    expected = _from_image_axes(
        case / "expected.bvec", nibabel.load(case / "expected_dcm2niix.nii.gz").affine
    )
    assert np.abs(_vectors(series) - expected).max() < 1e-4
    assert compare(open_series(series), case / "expected_dcm2niix.nii.gz") == []
    (image,) = convert(folder)  # the installed dcm2niix says the same
    b_values, vectors = gradients(image)
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == b_values == [0, *[1500] * 12]
    assert np.abs(_vectors(series) - vectors).max() < 1e-4
    assert series.attributes["b_vectors_rule"] == "orientation-canon"
    assert "b_vectors_unproved" not in series.attributes


def test_the_canon_scan_is_tilted_enough_to_tell_the_frames_apart(shared_data: Path) -> None:
    """Had its directions been along the image's axes, they would be elsewhere."""
    path = min((shared_data / "cases" / "r12_canon_classic_dti" / "input").glob("*_059"), default=None)
    if path is None:
        pytest.skip("the reference data has no case r12_canon_classic_dti")
    ds = dcmread(path, stop_before_pixels=True)
    row, column = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    direction = np.array(ds.DiffusionGradientOrientation)
    as_image_axes = np.stack([row, column, np.cross(row, column)], axis=1) @ direction
    assert np.degrees(np.arccos(abs(as_image_axes @ direction))) > 15


@pytest.mark.parametrize(
    ("folder", "rule"),
    [("mr_philips_dti4d", "orientation-philips"), ("mr_philips_enh_dti4d", "orientation-enhanced")],
)
def test_directions_of_philips_scans_are_those_of_dcm2niix(shared_data: Path, folder: str, rule: str) -> None:
    series = _one(shared_data / "series" / folder)
    reference = shared_data / "ref" / folder / folder
    expected = _from_image_axes(
        reference.with_suffix(".bvec"), nibabel.load(reference.with_suffix(".nii.gz")).affine
    )
    assert np.allclose(_vectors(series), expected, atol=2e-3)
    assert series.attributes["b_vectors_rule"] == rule
    assert "b_vectors_unproved" not in series.attributes


def test_directions_of_a_ge_scan_that_does_not_tell_its_phase_direction_are_marked(shared_data: Path) -> None:
    """The header leaves open which axis of the image is frequency's: dcm2niix takes rows, and so do we."""
    folder = "mr_ge_dti4d"
    series = _one(shared_data / "series" / folder)
    reference = shared_data / "ref" / folder / folder
    expected = _from_image_axes(
        reference.with_suffix(".bvec"), nibabel.load(reference.with_suffix(".nii.gz")).affine
    )
    assert np.allclose(_vectors(series), expected, atol=2e-3)
    assert series.attributes["b_vectors_rule"] == "ge-gradient-no-phase"
    assert "rows or columns" in str(series.attributes["b_vectors_unproved"])


def _siemens(tmp_path: Path) -> Path:
    data = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"
    paths = [data / f"siemens_dwi_{b}.dcm.gz" for b in (0, 1000)]
    if not all(path.is_file() for path in paths):
        pytest.skip("nibabel came without its test data")
    folder = tmp_path / "siemens"
    folder.mkdir()
    for path in paths:
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return folder


def test_mosaics_and_directions_of_a_siemens_scan_are_those_of_dcm2niix(tmp_path: Path) -> None:
    folder = _siemens(tmp_path)
    series = _one(folder)
    (image,) = convert(folder)
    b_values, vectors = gradients(image)
    assert compare(open_series(series), image) == []
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == b_values == [0, 1000]
    assert np.allclose(_vectors(series), vectors, atol=1e-4)
    assert series.attributes["b_vectors_rule"] == "siemens-gradient"


def test_the_csa_header_of_a_siemens_scan_has_the_direction_of_its_b_matrix(tmp_path: Path) -> None:
    folder = _siemens(tmp_path)
    ds = dcmread(folder / "siemens_dwi_1000.dcm")
    csa = read_csa(ds[0x00291010].value)
    xx, xy, xz, yy, yz, zz = map(float, csa["B_matrix"])
    _, axes = np.linalg.eigh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    direction = np.array([float(v) for v in csa["DiffusionGradientDirection"]])
    assert abs(axes[:, -1] @ direction) > 0.9999
    assert np.allclose(direction, ds[0x0019100E].value)
    for path in folder.iterdir():  # the elements away, as some de-identification leaves them
        ds = dcmread(path)
        for tag in (0x0019100C, 0x0019100E):
            if tag in ds:
                del ds[tag]
        ds.save_as(path)
    series = _one(folder)
    assert np.allclose(_vectors(series)[1], direction * [-1, -1, 1], atol=1e-6)
    assert series.attributes["b_vectors_rule"] == "siemens-csa-gradient"


# What others published


def test_the_published_direction_of_an_axial_ge_scan_with_phase_along_rows_is_found(tmp_path: Path) -> None:
    """Freq. AP, slices tilted by 10 degrees: geometry and first direction as MRtrix3 has them (pull request
    2523 there, where a tensor fitted to the images shows that they are right)."""
    right = np.array([0.9985, -0.003466, -0.05456])
    anterior = np.array([0.01313, 0.984, 0.1778])
    to_lps = np.array([-1, -1, 1])
    orientation = [*(-right * to_lps), *(-anterior * to_lps)]
    direction = np.array([0.013132887086600147, 0.98397476893721092, 0.17782345562870197])

    def ge(ds: FileDataset) -> None:
        ds.Manufacturer, ds.InPlanePhaseEncodingDirection = "GE MEDICAL SYSTEMS", "ROW"
        _ge_own(ds, (1.0, 0.0, 0.0))

    series = _write(tmp_path / "ge", ge, orientation)
    (found,) = _vectors(series)
    assert abs(found @ direction) > 0.9999
    assert series.attributes["b_vectors_rule"] == "ge-gradient"


def test_the_published_header_of_a_tilted_philips_scan_gives_the_slice_normal(tmp_path: Path) -> None:
    """(2005,10B0) and on, and the affine that dcm2niix made of the scan: its direction was the third axis."""
    own = np.array([-0.015326181, 0.21264501, 0.9770093])
    rows = np.array([-2.499619, -0.028559, 0.032981])
    columns = np.array([-0.020889, 2.442657, 0.531969])
    lps = np.array([-1, -1, 1])
    orientation = [*(rows / np.linalg.norm(rows) * lps), *(-columns / np.linalg.norm(columns) * lps)]

    def philips(ds: FileDataset) -> None:
        ds.Manufacturer = "Philips Medical Systems"
        _private(ds, 0x2001, "Philips Imaging DD 001", {0x03: ("FL", 1000.0)})
        _private(
            ds, 0x2005, "Philips MR Imaging DD 001", {0xB0 + n: ("FL", float(v)) for n, v in enumerate(own)}
        )

    series = _write(tmp_path / "philips", philips, orientation)
    normal = np.cross(orientation[:3], orientation[3:]) * lps
    (found,) = _vectors(series)
    assert abs(found @ normal) > 0.9999
    assert series.attributes["b_vectors_rule"] == "philips-gradient"


# How each reading is told

Edit = Callable[[FileDataset], None]


def _private(ds: FileDataset, group: int, creator: str, elements: dict[int, tuple[str, Any]]) -> None:
    block = ds.private_block(group, creator, create=True)
    for offset, (vr, value) in elements.items():
        block.add_new(offset, vr, value)


def _write(folder: Path, edit: Edit, orientation: Sequence[float] = AXIAL) -> Series:
    """One weighted volume of four slices; headers as the code believes that they are written."""
    folder.mkdir()
    normal = np.cross(orientation[:3], orientation[3:])
    for k in range(4):
        ds = slice_dataset(
            ramp(4, 8, 8)[k],
            position=2 * k * normal,
            orientation=orientation,
            number=k + 1,
            sop_class=MRImageStorage,
        )
        ds.Modality, ds.ImageType = "MR", ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
        ds.DiffusionBValue = 1000.0
        edit(ds)
        ds.save_as(folder / str(k), enforce_file_format=True)
    return _one(folder)


def _ge_own(ds: FileDataset, direction: Sequence[float]) -> None:
    _private(ds, 0x0019, "GEMS_ACQU_01", {0xBB + n: ("DS", f"{v:.6f}") for n, v in enumerate(direction)})
    _private(ds, 0x0043, "GEMS_PARM_01", {0x39: ("IS", [1000, 8, 0, 0])})


def _uih_own(ds: FileDataset, direction: Sequence[float]) -> None:
    _private(ds, 0x0065, "Image Private Header", {0x09: ("FD", 1000.0), 0x37: ("FD", list(direction))})


def _of(maker: str, *, standard: bool = False, phase: str = "COL", own: Edit | None = None) -> Edit:
    def edit(ds: FileDataset) -> None:
        ds.Manufacturer, ds.InPlanePhaseEncodingDirection = maker, phase
        if standard:
            ds.DiffusionGradientOrientation = [0.6, 0.8, 0.0]
        if own is not None:
            own(ds)

    return edit


def _commented(ds: FileDataset) -> None:
    ds.ImageComments = "b=1000(0.8,0.6,0.0)"


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (_of("CANON_MEC", standard=True), "orientation-canon"),
        (_of("CANON_MEC", standard=True, own=_commented), "orientation-canon"),
        (_of("CANON_MEC", own=_commented), "canon-comment-gradient"),
        (_of("TOSHIBA_MEC", standard=True), "orientation-toshiba"),
        (_of("Hitachi Medical Corporation", standard=True), "orientation"),
        (_of(GE, standard=True), "orientation"),
        (_of(GE, own=lambda ds: _ge_own(ds, (0.6, 0.8, 0))), "ge-gradient"),
        (_of(GE, phase="", own=lambda ds: _ge_own(ds, (0.6, 0.8, 0))), "ge-gradient-no-phase"),
        (_of("UIH", standard=True), "orientation"),
        (_of("UIH", own=lambda ds: _uih_own(ds, (0.6, 0.8, 0))), "uih-gradient"),
        (_of("Shanghai United Imaging", own=lambda ds: _uih_own(ds, (0.6, 0.8, 0))), "uih-gradient"),
    ],
)  # fmt: skip
def test_obs_names_the_rule_and_marks_what_rests_on_nothing(tmp_path: Path, edit: Edit, rule: str) -> None:
    series = _write(tmp_path / "dwi", edit)
    assert series.attributes["b_vectors_rule"] == rule
    assert ("b_vectors_unproved" in series.attributes) == (RULE[rule].rests_on == "nothing")


@pytest.mark.parametrize("maker", ["CANON_MEC", "GE MEDICAL SYSTEMS", "TOSHIBA_MEC", "ACME"])
@pytest.mark.parametrize("phase", ["ROW", "COL"])
def test_the_standards_element_is_in_patient_coordinates_whoever_wrote_it(
    tmp_path: Path, maker: str, phase: str
) -> None:
    series = _write(tmp_path / "dwi", _of(maker, standard=True, phase=phase), TILTED)
    assert np.allclose(_vectors(series), [[-0.6, -0.8, 0]])


def test_ge_and_the_standard_agree_or_it_is_said_that_they_do_not(tmp_path: Path) -> None:
    """Both of one image: along frequency, phase and slice, and in patient coordinates."""
    row, column = np.array(TILTED).reshape(2, 3)
    across, down = (float(axis @ [0.6, 0.8, 0.0]) for axis in (row, column))
    agreeing = _of("GE MEDICAL SYSTEMS", standard=True, own=lambda ds: _ge_own(ds, (-across, -down, 0.0)))
    series = _write(tmp_path / "agreeing", agreeing, TILTED)
    assert series.attributes["b_vectors_rule"] == "orientation"
    assert "b_vectors_unproved" not in series.attributes
    other = _of("GE MEDICAL SYSTEMS", standard=True, own=lambda ds: _ge_own(ds, (0.6, 0.8, 0.0)))
    series = _write(tmp_path / "other", other, TILTED)
    assert series.attributes["b_vectors_rule"] == "orientation-contradicted"
    assert "which of the two is right" in str(series.attributes["b_vectors_unproved"])


def test_of_uih_the_vendors_own_element_goes_first_as_in_dcm2niix(tmp_path: Path) -> None:
    both = _of("UIH", standard=True, own=lambda ds: _uih_own(ds, (1.0, 0.0, 0.0)))
    series = _write(tmp_path / "uih", both, TILTED)
    assert np.allclose(_vectors(series), [np.array(TILTED[:3]) * [-1, -1, 1]])
    assert series.attributes["b_vectors_rule"] == "orientation-contradicted"


def test_volumes_without_a_direction_name_no_rule(tmp_path: Path) -> None:
    series = _write(tmp_path / "dwi", _of("SIEMENS"))
    assert series.attributes["b_values_s_per_mm2"] == "[1000.0]"
    assert "b_vectors_rule" not in series.attributes
    assert "b_vectors_unproved" not in series.attributes


def test_every_rule_says_what_it_rests_on() -> None:
    assert len(RULE) == len(RULES)
    for rule in RULES:
        assert rule.what.endswith("."), rule.name
        assert len(rule.source) > 10, rule.name
        assert not rule.source.endswith("."), rule.name


# The table of vendors


@pytest.mark.parametrize("maker", ["Siemens Healthineers", GE, "Philips", "UIH", "CANON_MEC", "Toshiba"])
def test_a_vendor_is_found_by_its_name_in_any_case(maker: str) -> None:
    found = vendor_of(maker)
    assert found is vendor_of(maker.upper()) is vendor_of(maker.lower())
    assert found in VENDORS


def test_whoever_has_no_name_in_the_table_is_read_by_the_standard_alone() -> None:
    assert vendor_of("") is vendor_of("Hyperfine") not in VENDORS
    assert type(vendor_of("Hyperfine")) is Vendor


def test_no_private_element_is_read_as_two_kinds() -> None:
    kinds: dict[int, set[str]] = {}
    for vendor in VENDORS:
        for tag, kind in vendor.private_elements.items():
            assert (tag >> 16) % 2 == 1, "elements of the standard are in tags.py"
            kinds.setdefault(tag, set()).add(kind)
    assert all(len(found) == 1 for found in kinds.values())


def test_no_rule_has_the_name_of_another() -> None:
    assert len(RULE) == len(RULES)
