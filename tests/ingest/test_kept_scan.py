"""An arrival that is scanned again: only what has changed is opened, and the scan is that of everything."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydicom import dcmread

from radiobject_assets.imaging.release.deidentification import Release
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.ingest.kept_scan import scan_again, to_keep

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "imaging"))
from dicom_files import write_stack

PLAIN = Release(frozenset({"PatientAge"}))
opened: list[str] = []
watched = ""


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if watched and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.fsdecode(arguments[0])
        if path.startswith(watched) and Path(path).is_file():
            opened.append(Path(path).name)


sys.addaudithook(_note)  # no hook can be taken away again: it is idle while nothing is watched


@pytest.fixture(scope="module")
def arrival(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrival")
    voxels = np.random.default_rng(5).integers(0, 4000, (6, 16, 16), dtype=np.uint16)
    for number in range(2):
        write_stack(folder / f"series{number}", voxels + number, series_uid=f"1.2.3.{number}")
    (folder / "note.txt").write_text("no image", encoding="utf-8")
    time.sleep(2.1)  # a file that was only just changed gets no stamp
    return folder


def again(
    place: Path, kept: pa.Table | None, version: str = "1", release: Release = PLAIN
) -> tuple[ScanResult, pa.Table, list[str]]:
    """The scan, its table, and the names of the DICOM files that were opened for it."""
    global watched
    opened.clear()
    watched = str(place)
    try:
        found, stamps = scan_again(place, release, kept, version)
    finally:
        watched = ""
    return found, to_keep(found, stamps, version), sorted({name for name in opened if name != "note.txt"})


def of_everything(place: Path) -> ScanResult:
    return PLAIN.scan(scan([place]))


def test_nothing_is_opened_where_nothing_has_changed(arrival: Path) -> None:
    first, kept, names = again(arrival, None)
    assert len(names) == 6  # of two series with the same names
    second, _, names = again(arrival, kept)
    assert names == []
    assert second == first == of_everything(arrival)


def test_a_changed_file_is_read_though_its_size_and_modification_time_are_kept(arrival: Path) -> None:
    _, kept, _ = again(arrival, None)
    changed = sorted((arrival / "series1").iterdir())[2]
    before = changed.stat()
    header = dcmread(changed)
    header.InstanceNumber = 9
    header.save_as(changed)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed.stat().st_size == before.st_size
    found, _, names = again(arrival, kept)
    assert names == [changed.name]
    assert found == of_everything(arrival)


def test_files_that_come_go_and_are_copied_give_the_scan_of_everything(arrival: Path, tmp_path: Path) -> None:
    place = tmp_path / "arrival"
    shutil.copytree(arrival, place)
    time.sleep(2.1)
    _, kept, _ = again(place, None)
    first, *_, last = sorted((place / "series0").iterdir())
    shutil.copyfile(first, first.with_name("copy.dcm"))
    last.unlink()
    found, _, names = again(place, kept)
    assert names == sorted(["copy.dcm", first.name])  # copies are compared by their pixels
    assert found == of_everything(place)


def test_another_version_or_pseudonyms_read_everything(arrival: Path) -> None:
    _, kept, _ = again(arrival, None)
    assert len(again(arrival, kept, version="2")[2]) == 6
    secret = Release(key=b"a secret of thirty-two characters")
    _, kept, _ = again(arrival, None, release=secret)
    assert len(again(arrival, kept, release=secret)[2]) == 6


def test_a_file_that_was_only_just_written_is_read_once_more(arrival: Path, tmp_path: Path) -> None:
    place = tmp_path / "arrival"
    shutil.copytree(arrival, place)
    _, kept, _ = again(place, None)
    assert len(again(place, kept)[2]) == 6
