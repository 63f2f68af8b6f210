"""A DICOM file that was gzipped by itself is read like any DICOM, within the limits of archives."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dcm2niix_reference import read_all
from dicom_files import ramp, write_stack

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.files.archives import ArchiveLimits
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.ingest.work.volume_task import digest_of_files


def _gzipped(folder: Path, *, name: str = "{}.dcm.gz", parts: int = 1) -> list[Path]:
    """Write a stack of four slices, each file gzipped in place, in `parts` members."""
    paths = []
    for path in write_stack(folder, ramp()):
        content = path.read_bytes()
        path.unlink()
        step = len(content) // parts + 1
        packed = path.with_name(name.format(path.name))
        packed.write_bytes(
            b"".join(gzip.compress(content[at : at + step]) for at in range(0, len(content), step))
        )
        paths.append(packed)
    return paths


def _one(path: Path) -> Series:
    found = scan([path])
    assert ScanResult.from_table(found.to_table()) == found
    assert not found.unreadable
    (series,) = build_series(found)
    return series


@pytest.mark.parametrize("name", ["{}.dcm.gz", "{}", "{}.nii.gz"])
@pytest.mark.parametrize("parts", [1, 3])
def test_it_is_read_whatever_it_is_called(tmp_path: Path, name: str, parts: int) -> None:
    paths = _gzipped(tmp_path / "a", name=name, parts=parts)
    series = _one(tmp_path / "a")
    assert series.verdict == "ingestable", series.detail
    assert sorted(series.files) == sorted(paths), "the files are named as they were handed in"
    source = open_series(series)
    assert np.array_equal(read_all(source)[..., 0], ramp().transpose(2, 1, 0))
    assert source.source_digest() == digest_of_files(series)


def test_real_files_are_read_as_they_were_published(shared_data: Path) -> None:
    folder = next((shared_data / "cases").glob("r01_*")) / "input"
    series = _one(folder)
    assert series.verdict == "ingestable", series.detail
    assert (series.shape, series.n_instances) == ((64, 64, 6), 6)
    assert read_all(open_series(series)).any()


def test_it_is_read_in_a_zip_archive_too(tmp_path: Path) -> None:
    paths = _gzipped(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    series = _one(tmp_path / "a.zip")
    assert np.array_equal(read_all(open_series(series))[..., 0], ramp().transpose(2, 1, 0))
    assert digest_of_files(series) is not None


def test_a_copy_beside_it_counts_as_a_copy(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp())
    for path in list((tmp_path / "a").iterdir()):
        (tmp_path / "a" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    series = _one(tmp_path / "a")
    assert (series.verdict, series.n_instances, series.shape) == ("ingestable", 8, (6, 5, 4))


def test_a_file_that_does_not_inflate_gets_a_reason_that_asks_to_act(tmp_path: Path) -> None:
    paths = _gzipped(tmp_path)
    paths[0].write_bytes(paths[0].read_bytes()[:-40])
    paths[1].write_bytes(b"\x1f\x8b" + b"\0" * 40)
    found = scan([tmp_path])
    assert {item.path: item.reason for item in found.unreadable} == dict.fromkeys(
        paths[:2], Reason.ARCHIVE_DAMAGED
    )
    assert EXPLANATIONS[Reason.ARCHIVE_DAMAGED].left_out
    assert len(found.instances) == 2


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path) -> None:
    content = write_stack(tmp_path, ramp())[0].read_bytes()
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(content + b"\0" * (32 << 20)))
    found = scan([tmp_path / "bomb.gz"], limits=ArchiveLimits(ratio=20, free_bytes=1 << 20))
    (item,) = found.unreadable
    assert item.reason is Reason.ARCHIVE_LIMITS


def test_a_file_that_is_replaced_before_it_is_decoded_is_noticed(tmp_path: Path) -> None:
    paths = _gzipped(tmp_path)
    series = _one(tmp_path)
    paths[2].write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ImageReadError) as caught:
        read_all(open_series(series))
    assert caught.value.code == Reason.FILE_CHANGED
