"""A scan goes by content, counts every file once, never raises for a bad one, and can be kept as a table."""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from dicom_files import ramp, write_stack

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def _accounted(result: ScanResult) -> list[Path]:
    return (
        [i.path for i in result.instances]
        + [path for n in result.niftis for path in n.files]
        + [u.path for u in result.unreadable]
    )


def _reason_on_reading(series: Series) -> str | None:
    """Reads all voxels; the reason code if that was refused."""
    try:
        for slab in open_series(series).slabs(8):
            assert slab.voxels.size
    except ImageReadError as error:
        return error.code
    return None


def test_every_file_of_the_reference_data_is_in_exactly_one_series_or_unreadable(shared_data: Path) -> None:
    for folder in (
        *sorted((shared_data / "series").iterdir()),
        shared_data / "nifti",
        shared_data / "series",
    ):
        result = scan([folder])
        assert sorted(_accounted(result)) == sorted(_files(folder))
        listed = [path for series in build_series(result) for path in series.files]
        assert sorted(listed + [u.path for u in result.unreadable]) == sorted(_files(folder))


def test_nothing_in_the_reference_data_crashes_the_way_to_voxels(shared_data: Path) -> None:
    for folder in sorted((shared_data / "series").iterdir()):
        for path in (folder, *(sorted(folder.iterdir()) if "malformed" in folder.name else ())):
            for series in build_series(scan([path])):
                if series.verdict == "ingestable":
                    assert _reason_on_reading(series) in {None, *Reason}
                else:
                    assert series.reason is not None
                    assert series.detail


def test_a_scan_survives_its_table(shared_data: Path, tmp_path: Path) -> None:
    result = scan([shared_data / "series", shared_data / "nifti"])
    pq.write_table(result.to_table(), tmp_path / "scan.parquet")
    again = ScanResult.from_table(pq.read_table(tmp_path / "scan.parquet"))
    assert again == result


def test_names_and_suffixes_do_not_matter(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp())
    for n, path in enumerate(paths):
        path.rename(tmp_path / ("a.nii", "b.txt", "c", "d.zip")[n])
    assert len(scan([tmp_path]).instances) == 4


def test_a_file_without_preamble_is_dicom_all_the_same(tmp_path: Path) -> None:
    path = write_stack(tmp_path, ramp())[0]
    path.write_bytes(path.read_bytes()[132:])
    assert len(scan([tmp_path]).instances) == 4


def test_what_is_no_image_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "note.txt").write_text("two subjects moved\n")
    (tmp_path / "noise").write_bytes(random.Random(1).randbytes(5000))
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(99))
    with zipfile.ZipFile(tmp_path / "a.zip", "w"):
        pass
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO())
    reasons = {entry.path.name: entry.reason for entry in scan([tmp_path]).unreadable}
    assert reasons == {
        "empty": Reason.EMPTY_FILE,
        "note.txt": Reason.NOT_AN_IMAGE,
        "noise": Reason.NOT_AN_IMAGE,
        "a.7z": Reason.ARCHIVE,
        "a.zip": Reason.NOT_AN_IMAGE,
        "x": Reason.EMPTY_FILE,
    }


def test_a_file_reached_twice_is_read_once(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp())
    assert scan([tmp_path, paths[0], tmp_path]).n_files == 4


def test_a_source_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to scan"):
        scan([tmp_path / "absent"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_accounted_for(tmp_path: Path) -> None:
    path = write_stack(tmp_path, ramp())[0]
    path.chmod(0)
    assert [entry.reason for entry in scan([tmp_path]).unreadable] == [Reason.NOT_READABLE]


def test_progress_is_reported_to_the_end(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp())
    seen: list[tuple[int, int]] = []
    scan([tmp_path], lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)


def test_mutated_headers_and_pixels_never_crash_and_always_get_a_verdict(
    shared_data: Path, tmp_path: Path
) -> None:
    seeds = [
        path
        for folder in (
            "ct_philips_notilt", "mr_hitachi_anat", "mr_comp_rle", "mr_hyperfine_enh", "seg_ct_highdicom",
            "rt_rtstruct_refs", "mr_siemens_mosaic_fmri4d", "nonimage_mix",
        )
        for path in sorted((shared_data / "series" / folder).iterdir())[:4]
    ] + sorted((shared_data / "nifti").glob("*.nii.gz"))[:3]  # fmt: skip
    rng = random.Random(11)
    for trial in range(400):
        source = rng.choice(seeds)
        data = bytearray(source.read_bytes())
        reach = min(len(data), rng.choice((300, 2000, 8000, len(data))))
        for _ in range(rng.choice((1, 2, 8, 40))):
            data[rng.randrange(reach)] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        folder = tmp_path / str(trial)
        folder.mkdir()
        (folder / "mutant").write_bytes(data)
        shutil.copy(source, folder / "seed")
        result = scan([folder])
        assert result.n_files == 2
        for series in build_series(result):
            if series.verdict == "ingestable":
                assert series.decoded_bytes < 1 << 30
                assert _reason_on_reading(series) in {None, *Reason}
        shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed_is_reported_and_not_passed_over(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp())
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    assert [(entry.path, entry.reason) for entry in scan([tmp_path]).unreadable] == [
        (closed, Reason.NOT_READABLE)
    ]
