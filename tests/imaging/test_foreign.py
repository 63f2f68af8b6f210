"""Files of other programs are known by their first bytes and named, with what to do."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import ramp, write_stack

from radiobject_assets.imaging.files.unreadable import Unreadable
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason
from radiobject_assets.imaging.scanning.scan import scan

NIBABEL = Path(nib.__file__).parent / "tests" / "data"


def _only(path: Path) -> Unreadable:
    (item,) = scan([path]).unreadable
    return item


def _asks(item: Unreadable) -> bool:
    return EXPLANATIONS[item.reason].left_out


def test_every_volume_of_another_program_is_named_and_asks_somebody_to_act(shared_data: Path) -> None:
    folder = next((shared_data / "cases").glob("l17_*")) / "input"
    told = {item.path.name: item for item in scan([folder]).unreadable}
    said = {
        "analyze.hdr": "ANALYZE", "case.npz": "NumPy", "ct.npy": "NumPy", "minc2_1_scale.mnc": "MINC 2",
        "phantom_EPI_asc_CLEAR_2_1.PAR": "PAR/REC", "phantom_EPI_asc_CLEAR_2_1.REC": "PAR/REC",
        "scaled+tlrc.HEAD": "AFNI", "scaled+tlrc.BRIK": "AFNI", "small.mnc": "MINC 2", "tinypet.v": "ECAT",
    }  # fmt: skip
    assert told.keys() == said.keys()
    for name, words in said.items():
        assert words in told[name].detail
        assert "convert" in told[name].detail or "save" in told[name].detail
        assert _asks(told[name])


@pytest.mark.skipif(not NIBABEL.is_dir(), reason="nibabel was installed without its test data")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny.mnc", "MINC 1"),
        ("minc2_4d.mnc", "MINC 2"),
        ("T1.PAR", "PAR/REC"),
        ("example4d+orig.HEAD", "AFNI"),
        ("example4d+orig.BRIK.gz", ""),
        ("tinypet.v", "ECAT"),
        ("standard.trk", "streamlines"),
        ("standard.tck", "streamlines"),
    ],
)
def test_files_of_nibabels_own_tests_are_known_under_any_name(tmp_path: Path, name: str, words: str) -> None:
    path = tmp_path / "file"
    shutil.copyfile(NIBABEL / name, path)
    item = _only(path)
    assert words in item.detail
    assert _asks(item) == (words not in ("", "streamlines"))


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _tiff(pages: int) -> bytes:
    data, at = b"II*\0" + struct.pack("<I", 8), 8
    for page in range(pages):
        following = at + 2 + 12 + 4 if page + 1 < pages else 0
        data += struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 10) + struct.pack("<I", following)
        at = following
    return data


def _mat(dims: tuple[int, ...]) -> bytes:
    flags = struct.pack("<IIII", 6, 8, 6, 0)
    sizes = struct.pack(f"<II{len(dims)}i", 5, 4 * len(dims), *dims)
    sizes += b"\0" * (-len(sizes) % 8)
    body = flags + sizes
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + struct.pack("<II", 14, len(body)) + body


STL = b"\0" * 80 + struct.pack("<I", 2) + b"\0" * 100
VTK = "# vtk DataFile Version 3.0\nx\nASCII\nDATASET {}\n"


@pytest.mark.parametrize(
    ("content", "words", "asks"),
    [
        (_npy(np.zeros((4, 5, 6))), "NumPy array of 4x5x6", True),
        (_npy(np.zeros((4, 5))), "NumPy array of 4x5", False),
        (_npz(a=np.zeros(3), b=np.zeros((2, 3, 4, 5))), "2x3x4x5", True),
        (_npz(a=np.zeros(3)), "without a volume", False),
        (_tiff(1), "TIFF picture", False),
        (_tiff(3), "several pages", True),
        (_mat((3, 4, 5)), "three or more axes", True),
        (_mat((4, 4)), "without a volume", False),
        (STL, "surface (STL)", False),
        (b"solid x\nfacet normal 0 0 1\n", "surface (STL)", False),
        (b"ply\nformat ascii 1.0\n", "surface (PLY)", False),
        (b"\xff\xff\xfecreated by x\n\n" + b"\0" * 50, "FreeSurfer surface", False),
        (VTK.format("POLYDATA").encode(), "surface or mesh", False),
        (VTK.format("STRUCTURED_POINTS").encode(), "VTK image", True),
        (b'<?xml version="1.0"?>\n<VTKFile type="ImageData">', "VTK image", True),
        (b'<?xml version="1.0"?>\n<VTKFile type="PolyData">', "surface or mesh", False),
        (b'<?xml version="1.0"?>\n<!DOCTYPE GIFTI SYSTEM "x">\n<GIFTI Version="1.0">', "GIFTI", False),
        (b"mrtrix image\ndim: 3,4,5\n", "MRtrix", True),
        (b"##TITLE=Parameter List\n", "Bruker", True),
        (b"!INTERFILE  :=\n", "Interfile", True),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "PNG", False),
        (b"%PDF-1.7\n", "PDF", False),
        (b"\xff\xd8\xff\xe0" + b"\0" * 30, "JPEG", False),
        (b'{"zarr_format": 2, "shape": [4, 5, 6]}', "Zarr array", True),
        (b'{"zarr_format": 2}', "Zarr", False),
        (b"\x9e\xa8b2frame\0" + b"\0" * 50, "Blosc2", True),
        (b"--x\r\nContent-Type: application/dicom\r\n\r\n", "DICOMweb", True),
        (b"just a note\n", "neither DICOM nor", False),
        (b"solve this\n", "neither DICOM nor", False),
        (b"BMW is a car, not a picture\n", "neither DICOM nor", False),
        (b"NDims are what it says\n", "neither DICOM nor", False),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_first_bytes_tell(tmp_path: Path, content: bytes, words: str, asks: bool, packed: bool) -> None:
    path = tmp_path / "file.dat"
    if packed and content[:2] == b"PK":
        pytest.skip("an archive in gzip data is no archive that is looked into")
    path.write_bytes(gzip.compress(content) if packed else content)
    item = _only(path)
    if not (packed and "neither" in words):
        assert words in item.detail
    assert _asks(item) == asks
    assert item.reason is (Reason.FOREIGN_FORMAT if asks else Reason.NOT_AN_IMAGE)


def test_the_data_file_of_an_analyze_header_has_its_reason(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(np.zeros((3, 4, 5), "i2"), np.eye(4)), tmp_path / "a.img")
    found = scan([tmp_path]).unreadable
    assert [item.path.name for item in found] == ["a.hdr", "a.img"]
    assert all("ANALYZE" in item.detail and _asks(item) for item in found)


@pytest.mark.parametrize("name", ["a+orig.BRIK", "a.rec", "a.img", "a.zraw", "a.raw"])
def test_voxels_whose_header_is_not_there_ask_for_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(range(256)) * 10)
    item = _only(tmp_path)
    assert "header" in item.detail
    assert _asks(item)


@pytest.mark.parametrize("mark", [(0, b"\x28\xb5\x2f\xfd"), (0, b"\x1f\x9d\x90"), (32769, b"CD001")])
def test_packed_files_that_are_not_read_in_place_ask_to_be_unpacked(
    tmp_path: Path, mark: tuple[int, bytes]
) -> None:
    content = bytearray(40_000)
    content[mark[0] : mark[0] + len(mark[1])] = mark[1]
    (tmp_path / "file").write_bytes(bytes(content))
    item = _only(tmp_path)
    assert item.reason is Reason.ARCHIVE
    assert _asks(item)


def test_a_parcel_of_dicom_is_still_looked_into(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", ramp())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in (tmp_path / "in").iterdir():
            archive.write(path, path.name)
    assert len(scan([tmp_path / "a.zip"]).instances) == 4


def test_what_simpleitk_writes_in_formats_that_are_not_read_is_named(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6), "i2"))
    for name, words in (("a.gipl", "GIPL"), ("a.vtk", "VTK image"), ("a.tif", "TIFF"), ("a.mnc", "MINC")):
        sitk.WriteImage(image, str(tmp_path / name))
        item = _only(tmp_path / name)
        assert words in item.detail
        assert _asks(item)
