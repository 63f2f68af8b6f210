"""MGH, NRRD and MetaImage volumes are read as nibabel and SimpleITK read them: place, values, axes."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from dcm2niix_reference import read_all
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.policy import SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

KEEP = SeriesPolicy(components="keep")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NRRD_TYPES = {
    "i1": "signed char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint",
    "i8": "longlong", "u8": "ulonglong", "f4": "float", "f8": "double",
}  # fmt: skip


def _all(path: Path, policy: SeriesPolicy = SeriesPolicy()) -> tuple[Series, ...]:  # noqa: B008 - frozen
    found = scan([path])
    assert ScanResult.from_table(found.to_table()) == found
    return build_series(found, policy=policy)


def _one(path: Path, policy: SeriesPolicy = SeriesPolicy()) -> Series:  # noqa: B008 - frozen
    (series,) = _all(path, policy)
    return series


def _read(path: Path, policy: SeriesPolicy = SeriesPolicy()) -> tuple[NDArray[Any], NDArray[Any]]:  # noqa: B008
    series = _one(path, policy)
    assert series.verdict == "ingestable", series.detail
    source = open_series(series)
    voxels = read_all(source)
    assert source.shape == series.shape
    return voxels.reshape(source.shape), source.affine


def _itk_affine(image: sitk.Image) -> NDArray[np.float64]:
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3]
    affine[:3, :3] = directions * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return LPS @ affine


def _itk_voxels(image: sitk.Image) -> NDArray[Any]:
    voxels = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:  # (z, y, x, component)
        return voxels.transpose(2, 1, 0, 3)
    return voxels.transpose(*range(voxels.ndim)[::-1])


def _image(voxels: NDArray[Any], seed: int = 0, *, vector: bool = False) -> sitk.Image:
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(voxels, isVector=vector)
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if image.GetDimension() == 3:
        image.SetDirection(turned.ravel())
        image.SetSpacing((rng.uniform(0.1, 5, 3)).tolist())
        image.SetOrigin(rng.uniform(-300, 300, 3).tolist())
    return image


def _agrees_with_itk(path: Path) -> None:
    image = sitk.ReadImage(str(path))
    voxels, affine = _read(path)
    expected = _itk_voxels(image)
    assert voxels.dtype == expected.dtype
    assert np.array_equal(voxels, expected.reshape(voxels.shape))
    assert np.allclose(affine, _itk_affine(image), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_what_simpleitk_writes_is_read_as_simpleitk_reads_it(
    tmp_path: Path, dtype: str, suffix: str, compressed: bool
) -> None:
    rng = np.random.default_rng(3)
    voxels = (rng.normal(size=(4, 5, 6)) * 100).astype(dtype)
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(_image(voxels, 5), str(path), compressed)
    _agrees_with_itk(path)
    assert _one(tmp_path).n_instances == len(list(tmp_path.iterdir())), "the data file counts with its header"


@given(seed=st.integers(0, 10_000), suffix=st.sampled_from([".mha", ".nrrd"]))
def test_the_place_is_simpleitks_for_any_direction(
    tmp_path_factory: pytest.TempPathFactory, seed: int, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("place") / f"image{suffix}"
    sitk.WriteImage(_image(np.arange(60, dtype="i2").reshape(3, 4, 5), seed), str(path))
    _agrees_with_itk(path)


@given(seed=st.integers(0, 10_000))
def test_the_place_of_mgh_is_nibabels_for_any_direction(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turned * rng.uniform(0.2, 4, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    path = tmp_path_factory.mktemp("mgh") / "image.mgz"
    nib.save(nib.MGHImage(np.arange(60, dtype="i2").reshape(3, 4, 5), affine), path)
    expected: Any = nib.load(path)
    voxels, ours = _read(path)
    assert np.array_equal(voxels, np.asarray(expected.dataobj))
    assert np.allclose(ours, expected.affine, atol=1e-12)
    assert np.allclose(ours, affine, atol=1e-3)


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2)])
def test_mgh_volumes_of_every_type(tmp_path: Path, shape: tuple[int, ...], dtype: str, suffix: str) -> None:
    path = tmp_path / f"aparc{suffix}"
    expected = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    nib.save(nib.MGHImage(expected, np.diag([-1.0, 2, 3, 1])), path)
    voxels, affine = _read(path)
    assert voxels.dtype == np.dtype(dtype)
    assert np.array_equal(voxels, expected)
    assert np.allclose(affine, np.diag([-1.0, 2, 3, 1]))
    assert _one(path).attributes.get("fourth_axis") == ("unknown" if len(shape) == 4 else None)


def test_real_files_of_other_programs_are_read_as_their_own_tools_read_them(shared_data: Path) -> None:
    folder = next((shared_data / "cases").glob("l17_*")) / "input"
    for name in ("ct.mha", "ct.nrrd", "ct2.mhd", "label.nrrd"):
        _agrees_with_itk(folder / name)
    expected: Any = nib.load(folder / "test.mgz")
    voxels, affine = _read(folder / "test.mgz")
    assert np.array_equal(voxels, np.asarray(expected.dataobj))
    assert np.allclose(affine, expected.affine)


def test_values_of_the_points_of_a_surface_are_no_volume(tmp_path: Path) -> None:
    path = tmp_path / "lh.thickness.mgh"
    nib.save(nib.MGHImage(np.ones((500, 1, 1), "f4"), np.eye(4)), path)
    (item,) = scan([path]).unreadable
    assert item.reason is Reason.NOT_AN_IMAGE
    assert "surface" in item.detail


def test_an_mgh_volume_whose_place_is_not_known_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.mgh"
    nib.save(nib.MGHImage(np.ones((5, 6, 7), "f4"), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[28:30] = b"\0\0"
    path.write_bytes(bytes(content))
    assert _one(path).reason is Reason.NO_GEOMETRY


# NRRD, as other programs than ITK write it


def _nrrd(path: Path, voxels: NDArray[Any], **fields: str | None) -> Path:
    """Write an NRRD file whose data are `voxels` (axes as in the header); fields with None are left out."""
    header = {
        "type": NRRD_TYPES[voxels.dtype.str[1:]],
        "dimension": str(voxels.ndim),
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, voxels.shape)),
        "space directions": "(2,0,0) (0,3,0) (0,0,4)",
        "kinds": "domain domain domain",
        "endian": "big" if voxels.dtype.str[0] == ">" else "little",
        "encoding": "raw",
        "space origin": "(10,20,30)",
    } | {name.replace("_", " "): value for name, value in fields.items()}
    lines = [f"{name}: {value}" for name, value in header.items() if value is not None]
    data = voxels.tobytes(order="F")
    data = gzip.compress(data) if header["encoding"] == "gzip" else data
    path.write_bytes("\n".join(["NRRD0005", *lines, "", ""]).encode() + data)
    return path


RAMP = np.arange(60, dtype="<i2").reshape(3, 4, 5)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
    ],
)
def test_each_space_of_nrrd_is_turned_to_ras(tmp_path: Path, space: str, signs: tuple[int, ...]) -> None:
    voxels, affine = _read(_nrrd(tmp_path / "a.nrrd", RAMP, space=space))
    assert np.array_equal(voxels, RAMP)
    expected = np.diag([2.0, 3, 4, 1])
    expected[:3, 3] = 10, 20, 30
    assert np.allclose(affine, np.diag([*signs, 1]) @ expected)


def test_shears_units_and_byte_order_of_nrrd(tmp_path: Path) -> None:
    path = _nrrd(
        tmp_path / "a.nrrd",
        RAMP.astype(">i2"),
        space="right-anterior-superior",
        space_directions="(0.2,0,0) (0.1,0.3,0) (0,0.05,0.4)",
        space_units='"cm" "cm" "cm"',
        space_origin="(1,2,3)",
    )
    voxels, affine = _read(path)
    assert np.array_equal(voxels, RAMP)
    assert np.allclose(affine[:3], [[2, 1, 0, 10], [0, 3, 0.5, 20], [0, 0, 4, 30]])


@pytest.mark.parametrize("first", [True, False])
def test_a_list_axis_of_nrrd_is_the_fourth_wherever_it_stands(tmp_path: Path, first: bool) -> None:
    volume = np.random.default_rng(4).integers(0, 1000, (3, 4, 5, 6)).astype("<u2")
    stored = np.moveaxis(volume, 3, 0) if first else volume
    vectors, kinds = "(2,0,0) (0,3,0) (0,0,4)", "space space space"
    path = _nrrd(
        tmp_path / "a.nrrd",
        stored,
        space_directions=f"none {vectors}" if first else f"{vectors} none",
        kinds=f"list {kinds}" if first else f"{kinds} list",
        encoding="gzip",
    )
    voxels, _ = _read(path)
    assert np.array_equal(voxels, volume)
    assert _one(path).attributes["fourth_axis"] == "unknown"


def test_a_time_axis_of_nrrd_has_its_times(tmp_path: Path) -> None:
    path = _nrrd(
        tmp_path / "a.nrrd",
        np.zeros((3, 4, 5, 3), "u1"),
        space_directions="(2,0,0) (0,3,0) (0,0,4) none",
        kinds="domain domain domain time",
        spacings="nan nan nan 500",
        units='"" "" "" "ms"',
    )
    told = _one(path).attributes
    assert told["fourth_axis"] == "time"
    assert json.loads(str(told["fourth_axis_values"])) == [0, 0.5, 1.0]
    assert told["time_step_s"] == 0.5


def test_vector_fields_keep_their_components_and_colours_are_refused_unless_wanted(tmp_path: Path) -> None:
    field = np.random.default_rng(4).normal(size=(3, 4, 5, 6)).astype("f4")
    options = {"space_directions": "none (2,0,0) (0,3,0) (0,0,4)"}
    vectors = _nrrd(tmp_path / "v.nrrd", field, kinds="vector domain domain domain", **options)
    voxels, _ = _read(vectors)
    assert np.array_equal(voxels, np.moveaxis(field, 0, 3))
    assert _one(vectors).attributes["fourth_axis"] == "component"
    colours = _nrrd(
        tmp_path / "c.nrrd", (field * 9).astype("u1"), kinds="RGB-color domain domain domain", **options
    )
    assert _one(colours).reason is Reason.COLOUR
    voxels, _ = _read(colours, KEEP)
    assert np.array_equal(voxels, np.moveaxis((field * 9).astype("u1"), 0, 3))
    assert _one(colours, KEEP).attributes["components"] == "rgb"


def test_channels_of_a_metaimage_are_components_as_simpleitk_has_them(tmp_path: Path) -> None:
    voxels = np.random.default_rng(4).integers(0, 200, (4, 5, 6, 3)).astype("u1")
    path = tmp_path / "a.mha"
    sitk.WriteImage(_image(voxels, vector=True), str(path), True)
    _agrees_with_itk(path)
    assert _one(path).attributes["fourth_axis"] == "component"


def test_four_dimensions_of_a_metaimage(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.arange(360, dtype="i2").reshape(3, 4, 5, 6), isVector=False)
    image.SetSpacing((1, 2, 3, 4))
    path = tmp_path / "a.mha"
    sitk.WriteImage(image, str(path))
    _agrees_with_itk(path)
    assert _one(path).attributes["fourth_axis"] == "unknown"


def test_diffusion_of_an_nrrd_has_b_values_and_directions(tmp_path: Path) -> None:
    path = _nrrd(
        tmp_path / "dwi.nrrd",
        np.zeros((3, 4, 5, 3), "u2"),
        space_directions="(2,0,0) (0,3,0) (0,0,4) none",
        kinds="space space space list",
        measurement_frame="(0,1,0) (1,0,0) (0,0,1)",
    )
    pairs = (
        "modality:=DWMRI\nDWMRI_b-value:=1000\nDWMRI_gradient_0000:=0 0 0\n"
        "DWMRI_gradient_0001:=1 0 0\nDWMRI_gradient_0002:=0 0 0.5\n\n"
    )
    path.write_bytes(path.read_bytes().replace(b"\n\n", b"\n" + pairs.encode(), 1))
    told = _one(path).attributes
    assert told["fourth_axis"] == "b_value"
    assert json.loads(str(told["fourth_axis_values"])) == [0, 1000, 250]
    # measured along the frame's first axis, which is posterior (LPS)
    assert json.loads(str(told["b_vectors_ras"])) == [[0, 0, 0], [0, -1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"space": None}, Reason.NO_GEOMETRY),
        ({"space": "3D-right-handed"}, Reason.NO_GEOMETRY),
        ({"space": "scanner-xyz"}, Reason.NO_GEOMETRY),
        ({"space_directions": None, "spacings": "1 1 1"}, Reason.NO_GEOMETRY),
        ({"space_origin": None}, Reason.NO_GEOMETRY),
        ({"space_units": '"furlong" "mm" "mm"'}, Reason.NO_GEOMETRY),
        ({"space_directions": "(1,0,0) (2,0,0) (0,0,4)"}, Reason.BAD_GEOMETRY),
        ({"space_directions": "(1,0,0) (0,1,0) none"}, Reason.VOLUME_AXES),
        ({"encoding": "text"}, Reason.FOREIGN_FORMAT),
        ({"encoding": "hex"}, Reason.FOREIGN_FORMAT),
        ({"type": "block"}, Reason.VOLUME_HEADER),
        ({"sizes": "3 4 500"}, Reason.TRUNCATED),
        ({"sizes": "3 4 2"}, Reason.VOLUME_HEADER),
        ({"sizes": "3 4"}, Reason.VOLUME_HEADER),
        ({"sizes": "3 4 -5"}, Reason.VOLUME_HEADER),
        ({"sizes": "100000 100000 100000"}, Reason.TOO_LARGE),
        ({"endian": None}, Reason.VOLUME_HEADER),
        ({"data_file": "LIST"}, Reason.FOREIGN_FORMAT),
        ({"data_file": "elsewhere.raw"}, Reason.VOLUME_DATA_MISSING),
        ({"data_file": "../elsewhere.raw"}, Reason.VOLUME_DATA_MISSING),
        ({"data_file": "/etc/hostname"}, Reason.VOLUME_DATA_MISSING),
    ],
)
def test_an_nrrd_header_that_is_wrong_gets_its_reason(
    tmp_path: Path, fields: dict[str, str | None], reason: Reason
) -> None:
    path = _nrrd(tmp_path / "a.nrrd", RAMP, **fields)
    found = scan([path])
    reasons = [item.reason for item in found.unreadable] + [s.reason for s in build_series(found)]
    assert reasons == [reason]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ElementSpacing", "X", Reason.NO_GEOMETRY),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 0 1", Reason.BAD_GEOMETRY),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 1", Reason.VOLUME_HEADER),
        ("NDims = 3", "NDims = 9", Reason.VOLUME_HEADER),
        ("DimSize = 5 4 3", "DimSize = 5 4 300", Reason.TRUNCATED),
        ("DimSize = 5 4 3", "DimSize = 5 4 1", Reason.VOLUME_HEADER),
        ("DimSize = 5 4 3", "DimSize = 5 4 0", Reason.VOLUME_HEADER),
        ("MET_SHORT", "MET_OTHER", Reason.VOLUME_HEADER),
        ("MET_SHORT", "MET_DOUBLE", Reason.TRUNCATED),
        ("BinaryData = True", "BinaryData = False", Reason.FOREIGN_FORMAT),
        ("LOCAL", "slice%03d.raw 1 3 1", Reason.FOREIGN_FORMAT),
        ("LOCAL", "other.raw", Reason.VOLUME_DATA_MISSING),
    ],
)
def test_a_metaimage_header_that_is_wrong_gets_its_reason(
    tmp_path: Path, old: str, new: str, reason: Reason
) -> None:
    path = tmp_path / "a.mha"
    image = sitk.GetImageFromArray(np.arange(60, dtype="i2").reshape(3, 4, 5))
    sitk.WriteImage(image, str(path))
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode(), 1))
    found = scan([path])
    reasons = [item.reason for item in found.unreadable] + [s.reason for s in build_series(found)]
    assert reasons == [reason]


def test_a_metaimage_without_directions_lies_as_simpleitk_says_unless_its_letters_say_otherwise(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(60, dtype="i2").reshape(3, 4, 5)), str(path))
    content = path.read_bytes().replace(b"TransformMatrix", b"Other")
    path.write_bytes(content)
    _agrees_with_itk(path)
    path.write_bytes(content.replace(b"AnatomicalOrientation = RAI", b"AnatomicalOrientation = RAS"))
    assert _one(path).reason is Reason.NO_GEOMETRY


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".mgz"])
def test_compressed_voxels_that_are_too_few_too_many_or_damaged_are_refused(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    voxels = np.random.default_rng(0).integers(0, 9, (20, 30, 40)).astype("u1")
    if suffix == ".mgz":
        nib.save(nib.MGHImage(voxels.T, np.eye(4)), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), True)
    content = path.read_bytes()
    for changed in (content[:-200], content[:-900] + b"\xff" * 300 + content[-600:]):
        path.write_bytes(changed)
        with pytest.raises(ImageReadError) as caught:
            _read(path)
        assert caught.value.code in (Reason.TRUNCATED, Reason.DECODER_FAILED)
    if suffix != ".mgz":
        path.write_bytes(content.replace(b"40 30 20", b"40 30 10"))
        with pytest.raises(ImageReadError) as caught:
            _read(path)
        assert caught.value.code == Reason.SIZE_MISMATCH


# Segmentations of 3D Slicer

SEGMENT_FIELDS = (
    "Segment0_ID:=Segment_1\nSegment0_Name:=liver\nSegment0_LabelValue:=3\nSegment0_Layer:=0\n"
    "Segment0_Tags:=Segmentation.Status:inprogress|TerminologyEntry:General~SCT^123037004^"
    "Anatomical Structure~SCT^10200004^Liver~^^~x~^^~^^|\n"
    "Segment1_ID:=Segment_2\nSegment1_Name:=größere Läsion\nSegment1_LabelValue:=1\nSegment1_Layer:={layer}\n"
    "Segmentation_ReferenceImageExtentOffset:=0 0 0\n"
)


def _seg_nrrd(path: Path, voxels: NDArray[Any], layer: int = 0, more: str = "") -> Path:
    options: dict[str, str] = {}
    if voxels.ndim == 4:
        options = {
            "space_directions": "none (2,0,0) (0,3,0) (0,0,4)", "kinds": "list domain domain domain"
        }  # fmt: skip
    _nrrd(path, voxels, **options)
    pairs = SEGMENT_FIELDS.replace("{layer}", str(layer)) + more
    path.write_bytes(path.read_bytes().replace(b"\n\n", b"\n" + pairs.encode() + b"\n", 1))
    return path


def test_a_slicer_segmentation_is_labels_with_names_values_and_codes(tmp_path: Path) -> None:
    voxels = (RAMP % 4).astype("u1")
    series = _one(_seg_nrrd(tmp_path / "a.seg.nrrd", voxels))
    assert (series.kind, series.modality) == ("labels", "SEG")
    assert json.loads(str(series.attributes["segments"])) == [
        {
            "value": 3, "label": "liver", "type": "SCT:10200004 Liver",
            "category": "SCT:123037004 Anatomical Structure", "algorithm": "",
        },
        {"value": 1, "label": "größere Läsion", "type": "", "category": "", "algorithm": ""},
    ]  # fmt: skip
    assert np.array_equal(read_all(open_series(series))[..., 0], voxels)


def test_overlapping_segments_become_a_volume_for_each_layer(tmp_path: Path) -> None:
    voxels = np.random.default_rng(2).integers(0, 4, (2, 3, 4, 5)).astype("u1")
    path = _seg_nrrd(tmp_path / "a.seg.nrrd", voxels, layer=1)
    first, second = _all(path)
    assert [s.component for s in (first, second)] == ["layer1", "layer2"]
    assert [s.n_instances for s in (first, second)] == [1, 0], "the file counts once"
    for series, layer, names in ((first, 0, ["liver"]), (second, 1, ["größere Läsion"])):
        assert [s["label"] for s in json.loads(str(series.attributes["segments"]))] == names
        assert np.array_equal(read_all(open_series(series))[..., 0], voxels[layer])


def test_a_segment_in_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = _seg_nrrd(tmp_path / "a.seg.nrrd", np.zeros((2, 3, 4, 5), "u1"), layer=7)
    assert _one(path).reason is Reason.VOLUME_HEADER
    path = _seg_nrrd(tmp_path / "b.seg.nrrd", np.zeros((3, 4, 5), "u1"), layer=1)
    assert (_one(path).reason, _one(path).detail) == (
        Reason.VOLUME_HEADER, "a segment is in layer 2 of 1"
    )  # fmt: skip


def test_two_segments_of_one_value_in_a_layer_are_refused(tmp_path: Path) -> None:
    more = "Segment2_ID:=c\nSegment2_Name:=spleen\nSegment2_LabelValue:=3\nSegment2_Layer:=0\n"
    series = _one(_seg_nrrd(tmp_path / "a.seg.nrrd", (RAMP % 4).astype("u1"), more=more))
    assert series.reason is Reason.VOLUME_HEADER
    assert series.detail == "2 segments have the value 3 in layer 1"


def test_texts_of_an_nrrd_header_that_may_name_the_patient_stay_behind(tmp_path: Path) -> None:
    more = "PatientName:=Zzplanted^Jane\nSegment2_ID:=s\nSegment2_Name:=lesion of Zzplanted\n"
    path = _seg_nrrd(tmp_path / "a.seg.nrrd", (RAMP % 2).astype("u1"), more=more)
    path.write_bytes(path.read_bytes().replace(b"\n\n", b"\ncontent: Zzplanted\n\n", 1))
    series = _one(path)
    assert "Zzplanted" not in str(series)
    assert len(json.loads(str(series.attributes["segments"]))) == 3


# What lies beside a header, in archives, and damaged


def test_a_header_and_its_data_file_in_an_archive(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    sitk.WriteImage(_image(RAMP, 3), str(tmp_path / "in" / "a.mhd"))
    archive = shutil.make_archive(str(tmp_path / "parcel"), "zip", tmp_path / "in")
    voxels, affine = _read(Path(archive))
    expected, place = _read(tmp_path / "in")
    assert np.array_equal(voxels, expected)
    assert np.allclose(affine, place)


def test_a_gzipped_nrrd_file_is_named(tmp_path: Path) -> None:
    path = _nrrd(tmp_path / "a.nrrd", RAMP)
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "a.nrrd.gz").write_bytes(gzip.compress(path.read_bytes()))
    (item,) = scan([packed]).unreadable
    assert item.reason is Reason.FOREIGN_FORMAT
    assert "unpack" in item.detail


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".mgz", ".mgh", ".mhd", ".nhdr"])
def test_mutated_and_truncated_volumes_never_crash_and_always_get_a_verdict(
    tmp_path: Path, suffix: str
) -> None:
    rng = np.random.default_rng(11)
    voxels = rng.integers(0, 100, (6, 7, 8)).astype("i2")
    whole = tmp_path / f"whole{suffix}"
    if suffix.startswith(".mg"):
        nib.save(nib.MGHImage(voxels, np.eye(4)), whole)
    else:
        sitk.WriteImage(_image(voxels, 2), str(whole), suffix == ".mha")
    content = whole.read_bytes()
    for number in range(150):
        data = bytearray(content)
        if number % 3 == 0:
            data = data[: rng.integers(1, len(data))]
        else:
            for at in rng.integers(0, min(len(data), 700), rng.integers(1, 6)):
                data[at] = rng.integers(0, 256) if number % 3 == 1 else rng.choice(list(b"0123456789-(), \n"))
        whole.write_bytes(bytes(data))
        found = scan([whole])
        assert found.n_files >= 1
        for series in build_series(found):
            if series.verdict == "ingestable":
                try:
                    for _ in open_series(series).slabs(2):
                        pass
                except ImageReadError as error:
                    assert error.code in Reason  # noqa: PT017 - a verdict as good as none
            else:
                assert series.detail
