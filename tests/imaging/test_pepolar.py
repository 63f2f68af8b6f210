"""GE's epi_pepolar: rows of reversed volumes are turned, and these are volumes of their own (real files)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from dcm2niix_reference import convert, physical, read_all, unlike
from pydicom.dataset import FileDataset
from pydicom.uid import JPEG2000Lossless, RLELossless
from real_cases import change, copy_case

from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.pixels.decoders import Decoders
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.ingest.work.volume_task import digest_of_files

CASE = "r03_ge_pepolar"
MODE = 0x001910B3


@pytest.fixture
def folder(shared_data: Path, tmp_path: Path) -> Path:
    return copy_case(shared_data, CASE, tmp_path / "pepolar")


def _by_name(folder: Path) -> dict[str, Series]:
    return {series.component: series for series in build_series(scan([folder]))}


def test_both_polarities_are_the_volumes_that_dcm2niix_makes_of_them(folder: Path) -> None:
    found = _by_name(folder)
    assert set(found) == {"", "reversed"}
    assert unlike(list(found.values()), convert(folder)) == []


def test_obs_tells_the_polarities_apart_and_every_file_is_counted_once(folder: Path) -> None:
    found = _by_name(folder)
    assert found[""].attributes["phase_encoding_polarity"] == "forward"
    assert found["reversed"].attributes["phase_encoding_polarity"] == "reversed"
    assert sorted(f for s in found.values() for f in s.files) == sorted(folder.iterdir())


def test_turned_rows_show_the_head_where_the_forward_volumes_do(folder: Path) -> None:
    """By the pixels alone: the head of one subject does not turn over between two volumes."""
    found = _by_name(folder)
    forward, turned = (read_all(open_series(found[name])).astype(float) for name in ("", "reversed"))

    def alike(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    assert alike(forward, turned) > alike(forward, turned[:, ::-1]) + 0.3


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_rows_of_compressed_images_are_turned_too(folder: Path, syntax: str) -> None:
    plain = {name: read_all(open_series(series)) for name, series in _by_name(folder).items()}

    def compress(ds: FileDataset) -> None:
        ds.compress(syntax, generate_instance_uid=False)

    found = _by_name(change(folder, compress))
    with Decoders(workers=1) as decoders:
        for name, voxels in plain.items():
            assert np.array_equal(read_all(open_series(found[name], decoders)), voxels)
            assert np.array_equal(read_all(open_series(found[name])), voxels)


def test_rows_are_turned_where_slices_have_slopes_of_their_own(folder: Path) -> None:
    plain = {name: physical(open_series(series)) for name, series in _by_name(folder).items()}

    def rescale(ds: FileDataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = str(1 + int(ds.InstanceNumber) % 2), "0"

    found = _by_name(change(folder, rescale))
    for name, voxels in plain.items():
        slices = np.arange(27, 33) if name == "reversed" else np.arange(87, 93)  # InstanceNumber of the first
        slopes = 1 + slices % 2
        assert np.array_equal(physical(open_series(found[name])), voxels * slopes[:, None])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("0.000000", {"": ("forward", [1, 2, 3, 4])}),
        ("1.000000", {"": ("reversed", [1, 2, 3, 4])}),
        ("2.000000", {"": ("forward", [2, 4]), "reversed": ("reversed", [1, 3])}),
        ("3.000000", {"": ("forward", [1, 3]), "reversed": ("reversed", [2, 4])}),
    ],
)
def test_the_mode_says_which_volumes_are_reversed(
    folder: Path, mode: str, expected: dict[str, tuple[str, list[int]]]
) -> None:
    def set_mode(ds: FileDataset) -> None:
        ds[MODE].value = mode

    found = _by_name(change(folder, set_mode))
    told = {
        name: (
            series.attributes["phase_encoding_polarity"],
            [series.instances[i].frames[f].temporal_index for i, f in series.planes[::6]],
        )
        for name, series in found.items()
    }
    assert told == expected
    # the other modes are made from these files: dcm2niix reads the modes in the same way
    assert unlike(list(found.values()), convert(folder)) == []


def _without_mode(ds: FileDataset) -> None:
    del ds[MODE]


def _other_mode(ds: FileDataset) -> None:
    ds[MODE].value = "7"


def _without_position(ds: FileDataset) -> None:
    del ds.TemporalPositionIdentifier


@pytest.mark.parametrize("edit", [_without_mode, _other_mode, _without_position])
def test_volumes_that_do_not_say_whether_they_are_reversed_are_refused_as_a_whole(
    folder: Path, edit: object
) -> None:
    (series,) = build_series(scan([change(folder, edit)]))  # type: ignore[arg-type]
    assert series.reason is Reason.ROW_ORDER_UNKNOWN
    assert len(series.files) == 24
    assert "phase_encoding_polarity" not in series.attributes


def test_other_sequences_of_ge_are_read_as_they_are_stored(folder: Path) -> None:
    def rename(ds: FileDataset) -> None:
        ds[0x0019109C].value = "epi"  # its user data means something else

    (series,) = build_series(scan([change(folder, rename)]))
    assert series.shape == (128, 128, 6, 4)
    assert "phase_encoding_polarity" not in series.attributes


def test_a_kept_scan_reads_the_same_voxels(folder: Path) -> None:
    found = scan([folder])
    kept = ScanResult.from_table(found.to_table())
    for one, other in zip(build_series(found), build_series(kept), strict=True):
        assert np.array_equal(read_all(open_series(one)), read_all(open_series(other)))


def test_a_volume_whose_rows_are_turned_has_another_digest_than_its_files(folder: Path) -> None:
    """One that was stored before they were turned is written anew, and one that was stored after is not."""
    for name, series in _by_name(folder).items():
        source = open_series(series)
        read_all(source)
        files = blake3()
        for instance in series.instances:
            files.update(blake3(instance.path.read_bytes()).digest())
        assert source.source_digest() == digest_of_files(series)
        assert (source.source_digest() == files.hexdigest()) == (name == "")
