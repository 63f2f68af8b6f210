"""Lookup tables, palettes, packed bits and swapped bytes: voxels as pydicom and GDCM read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
from dcm2niix_reference import physical, read_all
from dicom_files import ramp, write_stack
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.policy import SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

KEEP = SeriesPolicy(components="keep")
CURVE = (np.arange(512) ** 2 // 5).astype("<u2")
SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


def _one(folder: Path, policy: SeriesPolicy = KEEP) -> Series:
    found = ScanResult.from_table(scan([folder]).to_table())
    (series,) = build_series(found, policy=policy)
    return series


def _as_pydicom(paths: list[Path], of: Any) -> NDArray[Any]:
    """What pydicom makes of every file, stacked to (X, Y, Z[, C])."""
    slices = [of(dataset.pixel_array, dataset) for dataset in map(dcmread, paths)]
    return np.swapaxes(np.stack(slices, axis=2), 0, 1)


def _table(entries: NDArray[Any], first: int, signed: bool) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "SS" if signed else "US", [len(entries) % 65536, first, 16])
    item.add_new(0x00283004, "LO", "HU")
    item.add_new(0x00283006, "US", [int(v) for v in entries])
    return item


def _with_table(entries: NDArray[Any], first: int = 0) -> Any:
    def change(ds: FileDataset, k: int) -> None:
        del ds.RescaleSlope, ds.RescaleIntercept
        ds.ModalityLUTSequence = [_table(entries, first, ds.PixelRepresentation == 1)]

    return change


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("dtype", "first"), [("u2", 0), ("u2", 7), ("i2", -3), ("u1", 2)])
def test_a_modality_lut_is_applied_as_pydicom_applies_it(
    tmp_path: Path, dtype: str, first: int, syntax: UID
) -> None:
    volume = ramp(dtype=dtype) - (np.dtype(dtype).kind == "i") * 20
    paths = write_stack(tmp_path, volume.astype(dtype), change=_with_table(CURVE, first), syntax=syntax)
    series = _one(tmp_path)
    source = open_series(series)
    theirs = _as_pydicom(paths, apply_modality_lut)
    assert source.dtype == theirs.dtype == np.uint16
    assert (source.slope, source.intercept) == (1.0, 0.0)
    assert np.array_equal(read_all(source)[..., 0], theirs)
    assert series.attributes["rescale_type"] == "HU"


def test_a_table_that_is_a_straight_line_becomes_slope_and_intercept(tmp_path: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.BitsStored, ds.HighBit = 12, 11
        _with_table(np.arange(4096) * 3 + 10)(ds, k)

    paths = write_stack(tmp_path, ramp(dtype="u2"), change=change)
    source = open_series(_one(tmp_path))
    assert (source.dtype, source.slope, source.intercept) == (np.uint16, 3.0, 10.0)
    assert np.array_equal(physical(source)[..., 0], _as_pydicom(paths, apply_modality_lut))


def test_a_table_looks_at_the_stored_bits_only(tmp_path: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.BitsStored, ds.HighBit = 12, 11
        ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") | 0x7000).astype("<u2").tobytes()
        _with_table(CURVE, 3)(ds, k)

    write_stack(tmp_path, ramp(dtype="u2"), change=change)
    expected = CURVE[np.clip(ramp(dtype="i4") - 3, 0, None)].transpose(2, 1, 0)
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], expected)


def test_slices_with_and_without_a_table_are_physical_values(tmp_path: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        if k == 2:
            _with_table(CURVE)(ds, k)

    paths = write_stack(tmp_path, ramp(dtype="u2"), change=change)
    source = open_series(_one(tmp_path))
    assert source.dtype == np.float32
    assert np.array_equal(read_all(source)[..., 0], _as_pydicom(paths, apply_modality_lut))


def test_a_damaged_table_is_a_reason(tmp_path: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        _with_table(CURVE)(ds, k)
        ds.ModalityLUTSequence[0].LUTData = [1, 2, 3]

    write_stack(tmp_path, ramp(), change=change)
    assert _one(tmp_path).reason is Reason.NON_LINEAR_RESCALE


def _with_palette(colours: NDArray[Any], first: int, bits: int) -> Any:
    def change(ds: FileDataset, k: int) -> None:
        del ds.RescaleSlope, ds.RescaleIntercept
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for name, entries in zip(("Red", "Green", "Blue"), colours.T, strict=True):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [len(entries), first, bits])
            setattr(ds, f"{name}PaletteColorLookupTableData", entries.astype(f"<u{bits // 8}").tobytes())

    return change


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize(("bits", "first"), [(8, 0), (16, 4)])
def test_palettes_of_colours_are_kept_as_red_green_and_blue(
    tmp_path: Path, bits: int, first: int, syntax: UID
) -> None:
    colours = np.random.default_rng(2).integers(0, 1 << bits, (100, 3))
    paths = write_stack(tmp_path, ramp(dtype="u1"), change=_with_palette(colours, first, bits))
    if syntax == RLELossless:
        for path in paths:
            ds = dcmread(path)
            ds.compress(RLELossless)
            ds.save_as(path)
    series = _one(tmp_path)
    assert series.attributes["components"] == "rgb"
    theirs = _as_pydicom(paths, apply_color_lut)
    ours = read_all(open_series(series))
    assert ours.dtype == theirs.dtype
    assert np.array_equal(ours, theirs)
    assert _one(tmp_path, SeriesPolicy()).reason is Reason.COLOUR


@pytest.mark.parametrize("bits", [8, 16])
def test_segmented_palettes_are_expanded_as_pydicom_expands_them(tmp_path: Path, bits: int) -> None:
    run, line = (0, 4, 3, 7, 200, 90), (1, 40, 250)
    again = (2, 2, *[0] * (32 // bits))
    words = [*run, *line, *again, 0, 1, 17, 1, 52, 0]
    count = 4 + 40 + 44 + 1 + 52

    def change(ds: FileDataset, k: int) -> None:
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for number, name in enumerate(("Red", "Green", "Blue")):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [count, 0, bits])
            own = np.array([*words[:2], *(value + number for value in words[2:6]), *words[6:]])
            data = own.astype(f"<u{bits // 8}").tobytes()
            setattr(ds, f"Segmented{name}PaletteColorLookupTableData", data + b"\0" * (len(data) % 2))

    paths = write_stack(tmp_path, ramp(dtype="u1"), change=change)
    assert np.array_equal(read_all(open_series(_one(tmp_path))), _as_pydicom(paths, apply_color_lut))


@pytest.mark.parametrize("words", [[0, 9, 1], [1, 4, 9], [2, 1, 0, 0], [0, 1, 5, 2, 9, 0, 0], [7, 7]])
def test_damaged_segmented_palettes_are_a_reason(tmp_path: Path, words: list[int]) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for name in ("Red", "Green", "Blue"):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [120, 0, 16])
            data = np.array(words, "<u2").tobytes()
            setattr(ds, f"Segmented{name}PaletteColorLookupTableData", data)

    write_stack(tmp_path, ramp(dtype="u1"), change=change)
    assert _one(tmp_path).reason is Reason.COLOUR


def test_a_palette_of_greys_gives_one_value_a_voxel_whatever_the_policy(tmp_path: Path) -> None:
    greys = np.repeat(np.linspace(0, 255, 120).astype("u1")[::-1, None], 3, axis=1)
    paths = write_stack(tmp_path, ramp(dtype="u1"), change=_with_palette(greys, 0, 8))
    source = open_series(_one(tmp_path, SeriesPolicy()))
    assert np.array_equal(read_all(source)[..., 0], _as_pydicom(paths, apply_color_lut)[..., 0])


def test_palettes_with_and_without_colours_in_one_series_are_refused(tmp_path: Path) -> None:
    greys = np.repeat(np.arange(256)[:, None], 3, axis=1)

    def change(ds: FileDataset, k: int) -> None:
        _with_palette(np.roll(greys, 1, axis=0) if k != 1 else np.roll(greys.T, 7).T * [1, 0, 0], 0, 8)(ds, k)

    write_stack(tmp_path, ramp(dtype="u1"), change=change)
    series = _one(tmp_path)
    assert (series.reason, series.detail) == (Reason.COLOUR, "some slices have colours, others have none")


def test_a_palette_that_is_not_there_is_a_reason(tmp_path: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.PhotometricInterpretation = "PALETTE COLOR"

    write_stack(tmp_path, ramp(dtype="u1"), change=change)
    assert _one(tmp_path).reason is Reason.COLOUR


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("photometric", "planar", "dtype"),
    [("RGB", 0, "u1"), ("RGB", 1, "u1"), ("RGB", 0, "u2"), ("YBR_FULL", 0, "u1"), ("YBR_FULL", 1, "u1"),
     ("YBR_FULL_422", 0, "u1")],
)  # fmt: skip
def test_uncompressed_colours_are_what_pydicom_makes_of_them(
    tmp_path: Path, photometric: str, planar: int, dtype: str, syntax: UID
) -> None:
    samples = 2 if photometric == "YBR_FULL_422" else 3
    stored = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (4, samples * 5 * 6)).astype(dtype)

    def change(ds: FileDataset, k: int) -> None:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, photometric, planar
        ds.BitsAllocated = ds.BitsStored = 8 * stored.dtype.itemsize
        ds.HighBit = ds.BitsStored - 1
        order = "<" if syntax.is_little_endian else ">"
        ds.PixelData = stored[k].astype(stored.dtype.newbyteorder(order)).tobytes()
        ds["PixelData"].VR = "OW"

    paths = write_stack(tmp_path, ramp(dtype="u1"), change=change, syntax=syntax)

    theirs = np.swapaxes(np.stack([pixel_array(path) for path in paths], axis=2), 0, 1)  # always RGB
    assert np.array_equal(read_all(open_series(_one(tmp_path))), theirs)


@pytest.mark.parametrize("vr", ["OB", "OW"])
@pytest.mark.parametrize("shape", [(4, 5, 7), (4, 6, 6)])
def test_8_bits_in_big_endian_order_are_swapped_where_they_are_words(
    tmp_path: Path, vr: str, shape: tuple[int, int, int]
) -> None:
    volume = ramp(*shape, dtype="u1")

    def change(ds: FileDataset, k: int) -> None:
        data = volume[k].tobytes() + b"\0" * (volume[k].size % 2)
        ds.PixelData = np.frombuffer(data, "u2").byteswap().tobytes() if vr == "OW" else data
        ds["PixelData"].VR = vr

    paths = write_stack(tmp_path, volume, change=change, syntax=ExplicitVRBigEndian)
    ours = read_all(open_series(_one(tmp_path)))[..., 0]
    assert np.array_equal(ours, volume.transpose(2, 1, 0))
    assert np.array_equal(ours, _as_pydicom(paths, lambda pixels, ds: pixels))


def _by_gdcm(path: Path) -> NDArray[np.uint16]:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image = reader.GetImage()
    pixels = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), "<u2")
    return pixels.reshape(image.GetDimension(1), image.GetDimension(0))


@pytest.mark.parametrize("columns", [6, 7])
def test_packed_12_bit_pixels_are_what_gdcm_unpacks(tmp_path: Path, columns: int) -> None:
    volume = np.random.default_rng(5).integers(0, 4096, (4, 6, columns)).astype("u2")

    def change(ds: FileDataset, k: int) -> None:
        ds.BitsAllocated = ds.BitsStored = 12
        ds.HighBit = 11
        whole = sum(int(value) << 12 * n for n, value in enumerate(volume[k].ravel()))
        size = (volume[k].size * 12 + 7) // 8
        ds.PixelData = whole.to_bytes(size + size % 2, "little")

    paths = write_stack(tmp_path, volume, change=change)
    ours = read_all(open_series(_one(tmp_path)))[..., 0]
    assert np.array_equal(ours, volume.transpose(2, 1, 0))
    if volume[0].size * 12 // 8 % 6 == 0:  # GDCM trips over the padding byte of others
        assert np.array_equal(ours, np.stack([_by_gdcm(path).T for path in paths], axis=2))


def test_single_bits_are_read_as_pydicom_reads_them(tmp_path: Path) -> None:
    volume = np.random.default_rng(6).integers(0, 2, (4, 5, 6)).astype("u1")

    def change(ds: FileDataset, k: int) -> None:
        ds.BitsAllocated = ds.BitsStored = 1
        ds.HighBit = 0
        ds.PixelData = np.packbits(volume[k].ravel(), bitorder="little").tobytes()

    paths = write_stack(tmp_path, volume, change=change)
    ours = read_all(open_series(_one(tmp_path)))[..., 0]
    assert np.array_equal(ours, _as_pydicom(paths, lambda pixels, ds: pixels))
    assert np.array_equal(ours, volume.transpose(2, 1, 0))


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize(("stored", "high"), [(12, 11), (10, 9), (12, 15), (10, 13)])
def test_only_the_stored_bits_count_wherever_they_lie(
    tmp_path: Path, stored: int, high: int, signed: int
) -> None:
    words = np.random.default_rng(7).integers(0, 1 << 16, (4, 5, 6)).astype("u2")

    def change(ds: FileDataset, k: int) -> None:
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = stored, high, signed

    write_stack(tmp_path, words, change=change)
    values = (words.astype(np.int64) >> (high + 1 - stored)) & ((1 << stored) - 1)
    if signed:
        values -= (values >> (stored - 1)) << stored
    ours = read_all(open_series(_one(tmp_path)))[..., 0]
    assert np.array_equal(ours, values.transpose(2, 1, 0))
    if high == stored - 1:  # pydicom and GDCM both take other bits where HighBit says so
        theirs = _as_pydicom(sorted(tmp_path.iterdir()), lambda pixels, ds: pixels)
        assert np.array_equal(ours, theirs)
