"""Archives are read in place: the volumes of a folder, every member accounted for, within bounds."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dicom_files import ramp, write_stack

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.files.archives import ArchiveLimits, file_on_disk, members
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.opening.unpacking import unpacked_together
from radiobject_assets.imaging.policy import OWN_FILES
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

KINDS = ("zip", "tar", "gztar")
SUFFIX = {"zip": ".zip", "tar": ".tar", "gztar": ".tar.gz"}


def pack(folder: Path, kind: str, target: Path) -> Path:
    return Path(shutil.make_archive(str(target), kind, folder))


def voxels(series: Series) -> np.ndarray:
    return np.concatenate([np.array(slab.voxels) for slab in open_series(series).slabs(2)], axis=2)


def reasons(found: ScanResult) -> dict[str, Reason]:
    return {item.path.name: item.reason for item in found.unreadable}


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_in_an_archive_is_the_series_that_was_packed(tmp_path: Path, kind: str) -> None:
    write_stack(tmp_path / "in/a/b", ramp())
    (tmp_path / "in/note.txt").write_text("a note")
    drop = tmp_path / "drop"
    drop.mkdir()
    archive = pack(tmp_path / "in", kind, drop / "parcel")
    found = scan([drop])
    assert found.n_files == 5
    assert reasons(found) == {"note.txt": Reason.NOT_AN_IMAGE}
    (series,) = build_series(found)
    (plain,) = build_series(scan([tmp_path / "in"]))
    assert series.verdict == "ingestable"
    assert len(series.files) == 4
    assert str(series.files[0]).startswith(f"{archive}!/a/b/")
    assert {file_on_disk(path) for path in series.files} == {archive}
    np.testing.assert_array_equal(voxels(series), voxels(plain))


@pytest.mark.parametrize("kind", KINDS)
def test_nifti_pairs_and_compressed_images_are_read_from_archives(tmp_path: Path, kind: str) -> None:
    import nibabel as nib

    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "in/one.nii.gz")
    nib.save(nib.Nifti1Pair(data, np.eye(4)), tmp_path / "in/two.hdr")
    archive = pack(tmp_path / "in", kind, tmp_path / "parcel")
    found = scan([archive])
    assert found.n_files == 3
    series = build_series(found)
    assert [s.verdict for s in series] == ["ingestable", "ingestable"]
    for item in series:
        np.testing.assert_array_equal(voxels(item), data)


def test_the_digest_is_that_of_the_members(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", ramp())
    archive = pack(tmp_path / "in", "gztar", tmp_path / "parcel")
    digests = []
    for source in (archive, tmp_path / "in"):
        (series,) = build_series(scan([source]))
        image = open_series(series)
        list(image.slabs(3))
        digests.append(image.source_digest())
    assert digests[0] == digests[1]


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    write_stack(tmp_path / "in", ramp())
    (series,) = build_series(scan([pack(tmp_path / "in", "tar", tmp_path / "parcel")]))
    slabs = open_series(series).slabs(1)
    next(slabs)
    assert len(list(scratch.iterdir())) == 1
    slabs.close()  # type: ignore[attr-defined]  # a reader that stops half way
    assert list(scratch.iterdir()) == []


def test_copies_in_and_beside_an_archive_are_recognised(tmp_path: Path) -> None:
    write_stack(tmp_path / "in/x", ramp())
    pack(tmp_path / "in", "zip", tmp_path / "in/parcel")
    (series,) = build_series(scan([tmp_path / "in"]))
    assert (series.verdict, len(series.files), len(series.instances)) == ("ingestable", 8, 4)


def test_an_archive_in_an_archive_is_refused_with_its_reason(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner.zip", _zip_bytes({"x": b"y"}))
        archive.writestr("inner.tar.gz", _tar_bytes({"x": b"y"}))
    found = scan([tmp_path])
    assert reasons(found) == {"inner.zip": Reason.NESTED_ARCHIVE, "inner.tar.gz": Reason.NESTED_ARCHIVE}


def test_names_that_lead_out_are_refused_and_nothing_is_written_there(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    names = ("../../escaped", "/absolute", "C:\\windows", "a/../../b", "..\\up")
    for number, name in enumerate(names):
        (drop / f"{number}.zip").write_bytes(_zip_bytes({name: b"text"}))
        (drop / f"{number}.tar").write_bytes(_tar_bytes({name: b"text"}, mode="w"))
    found = scan([drop])
    assert found.n_files == 10
    assert {item.reason for item in found.unreadable} == {Reason.ARCHIVE_MEMBER}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drop"]


def test_links_and_encrypted_members_are_refused(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        device = tarfile.TarInfo("device")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    (tmp_path / "a.tar").write_bytes(data.getvalue())
    locked = bytearray(_zip_bytes({"locked": b"secret"}))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(locked)
    assert reasons(scan([tmp_path])) == dict.fromkeys(("link", "device", "locked"), Reason.ARCHIVE_MEMBER)


LIMITS = ArchiveLimits(members=20, member_bytes=4 << 20, total_bytes=8 << 20, ratio=50, free_bytes=1 << 20)


@pytest.mark.parametrize(
    "content",
    [
        {f"{n}": b"x" for n in range(21)},
        {"large": b"".join(bytes([n]) * 4096 for n in range(256)) * 5},
        {"bomb": bytes(2 << 20)},
    ],
    ids=["too many members", "too large a member", "too high a ratio"],
)
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_beyond_its_bounds_is_refused_as_a_whole(
    tmp_path: Path, kind: str, content: dict[str, bytes]
) -> None:
    data = _zip_bytes(content) if kind == "zip" else _tar_bytes(content)
    (tmp_path / "a").write_bytes(data)
    assert reasons(scan([tmp_path], limits=LIMITS)) == {"a": Reason.ARCHIVE_LIMITS}


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 4 << 30  # tarfile reads extended headers whole
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(1024))
    assert reasons(scan([tmp_path])) == {"a.tar": Reason.ARCHIVE_LIMITS}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_cut_short_is_refused_at_any_point(tmp_path: Path, kind: str) -> None:
    write_stack(tmp_path / "in", ramp(rows=64, columns=64))
    whole = pack(tmp_path / "in", kind, tmp_path / "whole").read_bytes()
    drop = tmp_path / "drop"
    drop.mkdir()
    for number in range(1, 12):
        (drop / f"{number}").write_bytes(whole[: len(whole) * number // 12])
    for series in build_series(scan([drop])):
        assert series.verdict == "quarantined" or len(series.instances) == 4
    assert all(item.detail for item in scan([drop]).unreadable)


def test_a_damaged_member_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", ramp())
    content = {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    data = bytearray(_zip_bytes(content | {"z": b"q" * 99}))
    data[data.index(b"q" * 50)] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    found = scan([tmp_path / "a.zip"])
    assert reasons(found) == {"z": Reason.ARCHIVE_MEMBER}
    assert build_series(found)[0].verdict == "ingestable"


def test_members_of_one_name_are_told_apart(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x", "2")
    assert [member.path.name for member in members(tmp_path / "a.zip", "zip")] == ["x", "x#2"]


def test_an_office_document_is_one_file(tmp_path: Path) -> None:
    content = {"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"}
    (tmp_path / "protocol.docx").write_bytes(_zip_bytes(content))
    assert reasons(scan([tmp_path])) == {"protocol.docx": Reason.NOT_AN_IMAGE}


def test_an_archive_that_changed_after_the_scan_is_said(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", ramp())
    archive = pack(tmp_path / "in", "zip", tmp_path / "parcel")
    (series,) = build_series(scan([archive]))
    archive.write_bytes(_zip_bytes({"x": b"y"}))
    with pytest.raises(ImageReadError) as raised:
        list(open_series(series).slabs(1))
    assert raised.value.code == Reason.FILE_CHANGED


def _zip_bytes(content: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in content.items():
            archive.writestr(zipfile.ZipInfo(name) if len(value) < 400 else name, value)
    return data.getvalue()


def _tar_bytes(content: dict[str, bytes], mode: str = "w:gz") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, value in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(value)
            archive.addfile(info, io.BytesIO(value))
    return data.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_archives_never_crash_and_always_get_a_verdict(tmp_path: Path, kind: str) -> None:
    write_stack(tmp_path / "in", ramp(n_slices=2))
    whole = pack(tmp_path / "in", kind, tmp_path / "whole").read_bytes()
    dice = random.Random(11)
    for number in range(150):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 4, 40))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path = tmp_path / f"{number}"
        path.write_bytes(data)
        found = scan([path], limits=LIMITS)
        assert found.n_files >= 1
        for series in build_series(found):
            if series.verdict == "ingestable":
                with contextlib.suppress(ImageReadError):
                    list(open_series(series).slabs(4))
        path.unlink()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".img"])
@pytest.mark.parametrize("attributes_first", [True, False])
def test_extensions_of_a_header_in_an_archive_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, suffix: str, attributes_first: bool
) -> None:
    import nibabel as nib

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = (nib.Nifti1Pair if suffix == ".img" else nib.Nifti1Image)(data, np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"written by hand"))
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / f"in/one{suffix}")
    nib.save(image, tmp_path / f"in/two{suffix}")
    archive = pack(tmp_path / "in", kind, tmp_path / "parcel")
    series = build_series(scan([archive]), policy=OWN_FILES)
    with unpacked_together(series) as together:
        for item in (*series, *together):
            source = open_series(item)
            if attributes_first:
                assert "nifti_extensions" in source.attributes
            np.testing.assert_array_equal(
                np.concatenate([slab.voxels for slab in source.slabs(2)], axis=2), data
            )
            (plain,) = build_series(scan([tmp_path / "in" / item.files[0].name]), policy=OWN_FILES)
            assert source.attributes == open_series(plain).attributes
    assert list(scratch.iterdir()) == []
    given_up = open_series(series[0])
    assert "nifti_extensions" in given_up.attributes
    del given_up
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("compressed", [False, True])
def test_a_tar_archive_of_the_oldest_kind_is_known_by_its_checksum(tmp_path: Path, compressed: bool) -> None:
    write_stack(tmp_path / "in", ramp())
    blocks = bytearray(pack(tmp_path / "in", "tar", tmp_path / "new").read_bytes())
    at = 0
    while blocks[at : at + 1] != b"\0":  # without mark, owner's name and version, as before POSIX
        size = int(blocks[at + 124 : at + 135], 8)
        blocks[at + 257 : at + 512] = bytes(255)
        blocks[at + 148 : at + 156] = b" " * 8
        blocks[at + 148 : at + 156] = f"{sum(blocks[at : at + 512]):06o}\0 ".encode()
        at += 512 * (1 + (size + 511) // 512)
    drop = tmp_path / "drop"
    drop.mkdir()
    (drop / "a").write_bytes(gzip.compress(blocks) if compressed else blocks)
    (series,) = build_series(scan([drop]))
    assert (series.verdict, len(series.instances)) == ("ingestable", 4)
    (plain,) = build_series(scan([tmp_path / "in"]))
    np.testing.assert_array_equal(voxels(series), voxels(plain))
