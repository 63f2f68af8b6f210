"""What vendors keep in private elements: diffusion weighting, complex components, the Siemens CSA header.

Series are made here with each vendor's elements, as the code believes that vendors write them. That dcm2niix
reads them in the same way guards the arithmetic and proves nothing of scanners: what shows that they do write
so is in vendor_rules.py, and test_vendor_rules.py holds the code against real files.
"""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dcm2niix_reference import compare, convert, gradients, read_all
from dicom_files import ramp, slice_dataset
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.uid import MRImageStorage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nibabel calls its reader experimental
    from nibabel.nicom import csareader
    from nibabel.nicom.dicomwrappers import wrapper_from_file

from radiobject_assets.imaging.dicom.vendors.siemens_csa import read_csa
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

ORIENTATION = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)
B_VALUES = (0.0, 700.0, 1000.0)
DIRECTIONS = np.array([[0.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.36, 0.48, 0.8]])  # LPS patient coordinates


def _rotation(ds: FileDataset) -> NDArray[np.float64]:
    """Columns: the image's row, column and normal in patient coordinates."""
    row, column = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    return np.stack([row, column, np.cross(row, column)], axis=1)


def _private(ds: FileDataset, group: int, creator: str, elements: dict[int, tuple[str, Any]]) -> None:
    block = ds.private_block(group, creator, create=True)
    for offset, (vr, value) in elements.items():
        block.add_new(offset, vr, value)


def _siemens(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
    ds.Manufacturer = "SIEMENS"
    elements: dict[int, tuple[str, Any]] = {0x0C: ("IS", int(b_value))}
    if b_value:
        elements[0x0E] = ("FD", direction.tolist())
    _private(ds, 0x0019, "SIEMENS MR HEADER", elements)


def _uih(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
    ds.Manufacturer = "UIH"
    elements: dict[int, tuple[str, Any]] = {0x09: ("FD", b_value)}
    if b_value:
        elements[0x37] = ("FD", (_rotation(ds).T @ direction).tolist())
    _private(ds, 0x0065, "Image Private Header", elements)


def _philips(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
    ds.Manufacturer = "Philips Medical Systems"
    _private(ds, 0x2001, "Philips Imaging DD 001", {0x03: ("FL", b_value)})
    directions = {0xB0 + n: ("FL", float(value)) for n, value in enumerate(direction)}
    _private(ds, 0x2005, "Philips MR Imaging DD 001", directions)


def _ge(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
    # GE writes directions along frequency, phase and slice.
    across, down, through = _rotation(ds).T @ direction
    ds.Manufacturer, ds.InPlanePhaseEncodingDirection = "GE MEDICAL SYSTEMS", "COL"
    parts = {0xBB + n: ("DS", f"{v:.9f}") for n, v in enumerate((-across, -down, through))}
    _private(ds, 0x0019, "GEMS_ACQU_01", parts)
    _private(ds, 0x0043, "GEMS_PARM_01", {0x39: ("IS", [1_000_000_000 + int(b_value), 8, 0, 0])})


def _ge_raw(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
    ds.Manufacturer = "GE MEDICAL SYSTEMS"
    _private(ds, 0x0019, "GEMS_ACQU_01", {0xBB + n: ("DS", f"{v:.9f}") for n, v in enumerate(direction)})
    _private(ds, 0x0043, "GEMS_PARM_01", {0x39: ("IS", [int(b_value), 8, 0, 0])})


def _canon(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
    across, down, through = _rotation(ds).T @ direction
    ds.Manufacturer, ds.InPlanePhaseEncodingDirection = "CANON_MEC", "COL"
    ds.DiffusionBValue = b_value
    if b_value:
        ds.ImageComments = f"b={b_value:g}({-down:.6f},{-across:.6f},{through:.6f})"


def _standard(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
    ds.Manufacturer, ds.DiffusionBValue = "TOSHIBA_MEC", b_value
    if b_value:
        ds.DiffusionGradientOrientation = direction.tolist()


VENDORS = {
    "siemens": _siemens,
    "uih": _uih,
    "philips": _philips,
    "ge": _ge,
    "canon": _canon,
    "standard": _standard,
}


Vendor = Callable[[FileDataset, float, NDArray[np.float64]], None]


def _write_dwi(folder: Path, vendor: Vendor, orientation: Sequence[float] = ORIENTATION) -> None:
    _write_volumes(folder, vendor, list(zip(B_VALUES, DIRECTIONS, strict=True)), orientation)


def _write_volumes(
    folder: Path,
    vendor: Vendor,
    volumes: Sequence[tuple[float, NDArray[np.float64]]],
    orientation: Sequence[float] = ORIENTATION,
) -> None:
    folder.mkdir()
    normal = np.cross(orientation[:3], orientation[3:])
    for time, (b_value, direction) in enumerate(volumes):
        for k in range(4):
            ds = slice_dataset(
                ramp(4, 8, 8)[k] + 300 * time,
                position=2 * k * normal,
                orientation=orientation,
                number=1 + time * 4 + k,
                sop_class=MRImageStorage,
            )
            ds.Modality, ds.ImageType = "MR", ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
            ds.AcquisitionNumber, ds.AcquisitionTime = time + 1, f"1200{time:02d}"
            ds.EchoTime, ds.RepetitionTime, ds.SeriesNumber = "80", "5000", 4
            ds.SpacingBetweenSlices = ds.SliceThickness = "2"
            ds.PatientPosition = "HFS"
            vendor(ds, b_value, direction)
            ds.save_as(folder / f"{ds.InstanceNumber:03d}.dcm", enforce_file_format=True)


def _one(folder: Path) -> Series:
    (series,) = build_series(scan([folder]))
    return series


@pytest.mark.parametrize("vendor", VENDORS)
def test_diffusion_weighting_of_each_vendor_is_in_patient_coordinates(tmp_path: Path, vendor: str) -> None:
    _write_dwi(tmp_path / "dwi", VENDORS[vendor])
    series = _one(tmp_path / "dwi")
    assert series.shape == (8, 8, 4, 3), series.detail
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == list(B_VALUES)
    ours = np.array(json.loads(str(series.attributes["b_vectors_ras"])))
    assert np.allclose(ours, DIRECTIONS * [-1, -1, 1], atol=1e-6)


def _reference(folder: Path) -> tuple[list[float], NDArray[np.float64], Path]:
    """dcm2niix's b-values, its directions in RAS+ coordinates, and its image."""
    image = next(path for path in convert(folder) if not path.stem.endswith("ADC"))
    return (*gradients(image), image)


@pytest.mark.parametrize("vendor", VENDORS)
def test_diffusion_weighting_is_what_dcm2niix_finds(tmp_path: Path, vendor: str) -> None:
    _write_dwi(tmp_path / "dwi", VENDORS[vendor])
    b_values, vectors, image = _reference(tmp_path / "dwi")
    series = _one(tmp_path / "dwi")
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == b_values
    assert np.allclose(json.loads(str(series.attributes["b_vectors_ras"])), vectors, atol=2e-3)
    assert compare(open_series(series), image) == []


@pytest.mark.parametrize("maker", ["GE", "CANON comment", "TOSHIBA comment"])
@pytest.mark.parametrize("phase", ["COL", "ROW", ""])
@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 1, 0), (0.8, 0, 0.6, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)]
)
def test_directions_along_scan_axes_are_those_of_dcm2niix_in_every_plane(
    tmp_path: Path, phase: str, orientation: tuple[float, ...], maker: str
) -> None:
    def vendor(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
        if maker == "GE":
            _ge_raw(ds, b_value, direction)
        else:
            ds.Manufacturer, ds.DiffusionBValue = maker.split()[0], b_value
            ds.ImageComments = (
                "b={:g}({:.4f},{:.4f},{:.4f})".format(b_value, *direction) if b_value else "b=0"
            )
        if phase:
            ds.InPlanePhaseEncodingDirection = phase

    _write_dwi(tmp_path / "dwi", vendor, orientation)
    _, vectors, _ = _reference(tmp_path / "dwi")
    ours = json.loads(str(_one(tmp_path / "dwi").attributes["b_vectors_ras"]))
    # of Toshiba's series dcm2niix may give the unweighted volume an image of its own
    assert np.allclose(ours[-len(vectors) :], vectors, atol=2e-3)
    assert len(vectors) >= 2


@pytest.mark.parametrize("vendor", VENDORS)
def test_private_elements_of_unknown_vr_are_read_too(tmp_path: Path, vendor: str) -> None:
    """As a gateway writes them that got them without a VR."""

    def unknown(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
        VENDORS[vendor](ds, b_value, direction)
        for element in [e for e in ds if e.tag.is_private and not e.tag.is_private_creator]:
            buffer = DicomBytesIO()
            buffer.is_little_endian = buffer.is_implicit_VR = True
            write_data_element(buffer, element, ["ascii"])
            ds[element.tag] = DataElement(element.tag, "UN", buffer.getvalue()[8:])

    _write_dwi(tmp_path / "dwi", unknown)
    series = _one(tmp_path / "dwi")
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == list(B_VALUES)
    ours = np.array(json.loads(str(series.attributes["b_vectors_ras"])))
    assert np.allclose(ours, DIRECTIONS * [-1, -1, 1], atol=1e-6)


def test_private_elements_that_an_archive_wrote_twice_do_not_cost_the_file(tmp_path: Path) -> None:
    """One block moved upon another: the same tags twice, and not in rising order."""
    _write_dwi(tmp_path / "dwi", _siemens)
    for path in (tmp_path / "dwi").iterdir():
        ds = dcmread(path)
        _private(ds, 0x0021, "SIEMENS MR SDS 01", {0x04: ("DS", "1"), 0x45: ("CS", "YES")})
        ds.save_as(path)
        data = path.read_bytes()
        last = struct.pack("<HH2sH", 0x0021, 0x1045, b"CS", 4) + b"YES "
        again = struct.pack("<HH2sH", 0x0021, 0x0010, b"LO", 18) + b"SIEMENS MR SDI 02 "
        again += struct.pack("<HH2sH", 0x0021, 0x1004, b"DS", 2) + b"0 "
        at = data.index(last) + len(last)
        path.write_bytes(data[:at] + again + data[at:])
    _, vectors, image = _reference(tmp_path / "dwi")
    series = _one(tmp_path / "dwi")
    assert compare(open_series(series), image) == []
    assert np.allclose(json.loads(str(series.attributes["b_vectors_ras"])), vectors, atol=2e-3)


def test_shells_of_ge_have_the_weighting_of_their_vectors(tmp_path: Path) -> None:
    # All volumes name the outer shell's b-value, the inner shells' vectors are shorter.
    def vendor(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
        _ge_raw(ds, b_value, direction)
        ds.InPlanePhaseEncodingDirection = "COL"

    lengths = (0.0, 1.0, (2 / 3) ** 0.5, (1 / 6) ** 0.5)
    _write_volumes(tmp_path / "dwi", vendor, [(3000, np.array([0.6, 0, 0.8]) * n) for n in lengths])
    b_values, vectors, image = _reference(tmp_path / "dwi")
    series = _one(tmp_path / "dwi")
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == b_values == [0, 3000, 2000, 500]
    assert np.allclose(json.loads(str(series.attributes["b_vectors_ras"])), vectors, atol=2e-3)
    assert compare(open_series(series), image) == []


def test_trace_images_of_ge_keep_their_weighting(tmp_path: Path) -> None:
    # dcm2niix takes all volumes without direction as unweighted, even where there is no direction at all.
    _write_volumes(tmp_path / "dwi", _ge_raw, [(0, np.zeros(3)), (1400, np.zeros(3))])
    assert json.loads(str(_one(tmp_path / "dwi").attributes["b_values_s_per_mm2"])) == [0, 1400]


def test_the_trace_image_of_philips_is_not_one_of_the_directions(tmp_path: Path) -> None:
    volumes = [(0.0, np.zeros(3)), *zip(B_VALUES[1:], DIRECTIONS[1:], strict=True), (1000.0, np.zeros(3))]
    _write_volumes(tmp_path / "dwi", _philips, volumes)
    found = {series.component: series for series in build_series(scan([tmp_path / "dwi"]))}
    _, _, image = _reference(tmp_path / "dwi")
    assert compare(open_series(found[""]), image) == []
    assert found["trace"].shape == (8, 8, 4)
    assert json.loads(str(found["trace"].attributes["b_values_s_per_mm2"])) == [1000]


@pytest.mark.parametrize(("b_value", "expected"), [(900.0, [900.0]), (0.0, [0.0])])
def test_one_diffusion_volume_has_its_weighting_too(
    tmp_path: Path, b_value: float, expected: list[float]
) -> None:
    _write_volumes(tmp_path / "dwi", _siemens, [(b_value, DIRECTIONS[1])])
    assert json.loads(str(_one(tmp_path / "dwi").attributes["b_values_s_per_mm2"])) == expected


@pytest.mark.parametrize(("code", "name"), [(1, "phase"), (2, "real"), (3, "imaginary")])
def test_complex_components_of_ge_are_volumes_of_their_own(tmp_path: Path, code: int, name: str) -> None:
    for part, value in enumerate((0, code)):
        for k in range(4):
            ds = slice_dataset(
                ramp()[k] + 500 * part,
                position=(0, 0, 2 * k),
                number=1 + part * 4 + k,
                sop_class=MRImageStorage,
            )
            ds.Modality, ds.Manufacturer = "MR", "GE MEDICAL SYSTEMS"
            _private(ds, 0x0043, "GEMS_PARM_01", {0x2F: ("SS", value)})
            ds.save_as(tmp_path / f"{ds.InstanceNumber}", enforce_file_format=True)
    found = {series.component: series for series in build_series(scan([tmp_path]))}
    assert set(found) == {"", name}
    assert found[name].attributes["complex_component"] == name
    assert read_all(open_series(found[name])).min() == 500


def _csa(tags: dict[str, list[str]], *, second: bool, added: int | None = None) -> bytes:
    """`added` to the lengths of CSA1: by default the number of items of the first tag."""
    out = b"SV10\4\3\2\1" if second else b""
    out += struct.pack("<2I", len(tags), 77)
    first_items: int | None = None
    for name, values in tags.items():
        items = max(6, len(values)) if values or added is None else 0
        if first_items is None:
            first_items = items if added is None else added
        padding = 77 if name else 0
        vr = {"AcquisitionMatrixText": b"SH", "NumberOfImagesInMosaic": b"US"}.get(name, b"FD")
        out += struct.pack("<64si4siii", name.encode(), len(values), vr, 3, items, padding)
        for text in [*values, *[""] * (items - len(values))]:
            data = text.encode() + b"\0" if text else b""
            length = len(data) if second else len(data) + first_items
            out += struct.pack("<4i", length, len(data) if second else length, 77, length)
            out += data + b"\0" * (-len(data) % 4)
    return out + b"\0" * 4


CSA_TAGS = {
    "NumberOfImagesInMosaic": ["4"],
    "SliceNormalVector": ["0.0", "0.0", "-1.0"],
    "B_value": ["1000"],
    "DiffusionGradientDirection": ["0.6", "0.8", "0.0"],
}


@pytest.mark.parametrize(("second", "added"), [(False, None), (False, 0), (False, 9), (True, None)])
def test_both_forms_of_the_siemens_header_are_read(second: bool, added: int | None) -> None:
    ours = read_csa(_csa(CSA_TAGS, second=second, added=added))
    assert {name: list(ours[name]) for name in CSA_TAGS} == CSA_TAGS


def test_real_siemens_headers_are_read_as_nibabel_reads_them() -> None:
    folder = Path(csareader.__file__).parent / "tests" / "data"
    if not (folder / "csa2_b1000.bin").is_file():
        pytest.skip("nibabel came without its test data")
    for name in ("csa2_b0.bin", "csa2_b1000.bin"):
        data = (folder / name).read_bytes()
        ours, theirs = read_csa(data), csareader.read(data)["tags"]
        for tag in CSA_TAGS:
            expected = [float(value) for value in theirs[tag]["items"]]
            assert [float(value) for value in ours[tag]] == pytest.approx(expected), tag


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("orientation", [(0.96, 0.28, 0, -0.224, 0.768, -0.6), (0, 1, 0, 0, 0, -1)])
def test_a_mosaic_with_the_older_csa_header_lies_where_nibabel_puts_it(
    tmp_path: Path, orientation: tuple[float, ...], sign: int
) -> None:
    """dcm2niix does not read this form: it leaves such mosaics whole, or takes no notice of the sign."""
    normal = np.cross(orientation[:3], orientation[3:]) * sign
    tags: dict[str, list[str]] = {
        "EchoLinePosition": [],
        "NumberOfImagesInMosaic": ["5"],
        "AcquisitionMatrixText": ["6*8"],
        "SliceNormalVector": [f"{v:.8f}" for v in normal],
    }
    pixels = np.random.default_rng(3).integers(1, 900, (18, 24)).astype("u2")
    ds = slice_dataset(pixels, position=(-30, -20, 11), orientation=orientation, pixel_spacing=(1.5, 1.25))
    ds.Modality, ds.Manufacturer, ds.SpacingBetweenSlices = "MR", "SIEMENS", "3"
    ds.SOPClassUID, ds.ImageType = MRImageStorage, ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    _private(ds, 0x0029, "SIEMENS CSA HEADER", {0x10: ("OB", _csa(tags, second=False, added=6))})
    ds.save_as(tmp_path / "1", enforce_file_format=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = wrapper_from_file(tmp_path / "1")
        values, affine = theirs.get_data(), theirs.affine
    source = open_series(_one(tmp_path))
    voxels = read_all(source)[..., 0]
    there = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ source.affine) @ affine
    for index in np.ndindex(values.shape):
        place = (there @ [*index, 1])[:3]
        assert np.allclose(place, np.round(place), atol=1e-4)
        assert voxels[tuple(np.round(place).astype(int))] == values[index]


def test_slices_whose_weighting_is_in_the_csa_header_alone_have_it(tmp_path: Path) -> None:
    def vendor(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
        ds.Manufacturer, ds.ScanningSequence = "SIEMENS", ["EP", "SE"]
        tags = {"EchoLinePosition": ["3"], "B_value": [str(int(b_value))]}
        if b_value:
            tags["DiffusionGradientDirection"] = [f"{v:.8f}" for v in direction]
        _private(ds, 0x0029, "SIEMENS CSA HEADER", {0x10: ("OB", _csa(tags, second=True))})

    _write_dwi(tmp_path / "dwi", vendor)
    b_values, vectors, _ = _reference(tmp_path / "dwi")
    series = _one(tmp_path / "dwi")
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == b_values == list(B_VALUES)
    assert np.allclose(json.loads(str(series.attributes["b_vectors_ras"])), vectors, atol=2e-3)


@pytest.mark.parametrize("second", [False, True])
def test_a_mosaic_described_by_its_csa_header_alone(tmp_path: Path, second: bool) -> None:
    tiles = ramp(4, 6, 5)
    for time in range(2):
        mosaic = np.block([[tiles[0], tiles[1]], [tiles[2], tiles[3]]]) + 200 * time
        ds = slice_dataset(mosaic, position=(0, 0, 0), number=time + 1, sop_class=MRImageStorage)
        ds.Modality, ds.Manufacturer, ds.AcquisitionNumber = "MR", "SIEMENS", time + 1
        ds.ImageType = ["ORIGINAL", "PRIMARY", "DIFFUSION", "MOSAIC"]
        ds.SpacingBetweenSlices = "3"
        tags = dict(CSA_TAGS) | {"B_value": [str(1000 * time)]}
        _private(ds, 0x0029, "SIEMENS CSA HEADER", {0x10: ("OB", _csa(tags, second=second))})
        ds.save_as(tmp_path / f"{time}", enforce_file_format=True)
    series = _one(tmp_path)
    assert series.shape == (5, 6, 4, 2), series.detail
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == [0, 1000]
    assert series.affine is not None
    # Tiles run against the row-column normal here; wherever the stack starts, a voxel stays at its place.
    voxels = read_all(open_series(series))
    corner = np.linalg.inv(series.affine) @ [-2.5, -3.0, -3.0 * 1, 1]
    assert voxels[(*np.round(corner[:3]).astype(int), 0)] == tiles[1][0, 0]


def _tiled(path: Path, pixels: NDArray[Any], change: Callable[[FileDataset], None]) -> None:
    ds = slice_dataset(pixels, position=(0, 0, 0), number=1, sop_class=MRImageStorage)
    ds.Modality, ds.Manufacturer, ds.SpacingBetweenSlices = "MR", "SIEMENS", "3"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    change(ds)
    path.parent.mkdir(exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


def test_a_mosaic_whose_slice_times_alone_are_left_is_read(tmp_path: Path) -> None:
    tiles = ramp(3, 6, 5)
    mosaic = np.block([[tiles[0], tiles[1]], [tiles[2], np.zeros_like(tiles[0])]])
    times = [0.0, 20.0, 10.0]
    _tiled(
        tmp_path / "a" / "1",
        mosaic,
        lambda ds: _private(ds, 0x0019, "SIEMENS MR HEADER", {0x29: ("FD", times)}),
    )
    series = _one(tmp_path / "a")
    assert np.array_equal(read_all(open_series(series))[..., 0], tiles.transpose(2, 1, 0))
    assert json.loads(str(series.attributes["slice_timing_s"])) == [0.0, 0.02, 0.01]


def test_slices_of_a_mosaic_that_was_taken_apart_are_slices(tmp_path: Path) -> None:
    def matrix(size: int, k: int) -> Callable[[FileDataset], None]:
        def change(ds: FileDataset) -> None:
            ds.AcquisitionMatrix, ds.InstanceNumber = [size, 0, 0, size], k + 1
            ds.ImagePositionPatient = [0, 0, 3 * k]

        return change

    for k in range(3):
        _tiled(tmp_path / "slices" / str(k), ramp(3, 6, 6)[k], matrix(6, k))
        _tiled(tmp_path / "mosaics" / str(k), ramp(3, 6, 6)[k], matrix(3, k))
    assert _one(tmp_path / "slices").shape == (6, 6, 3)
    assert _one(tmp_path / "mosaics").reason is Reason.NO_GEOMETRY  # four tiles, and nothing says of what


def test_comments_that_are_no_diffusion_weighting_are_not_taken(tmp_path: Path) -> None:
    def vendor(ds: FileDataset, b_value: float, direction: NDArray[np.float64]) -> None:
        ds.Manufacturer, ds.ImageComments = "CANON_MEC", "b=1000 of ZZSECRET^Name"

    _write_dwi(tmp_path / "dwi", vendor)
    found = scan([tmp_path])
    assert "ZZSECRET" not in repr(found)
    assert all("b_values_s_per_mm2" not in series.attributes for series in build_series(found))
