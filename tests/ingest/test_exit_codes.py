"""Exit code 0 says that every volume is in; 1 that one was left out, or that nothing was taken in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileDataset

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.pixels.acceptance import Problem
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.ingest.plan import plan_ingest
from radiobject_assets.ingest.report import IngestReport, outcomes_table
from tests.imaging.dicom_files import ramp, write_stack

SCAN = "1.2.826.0.1.3680043.10.7.1"
OTHER = "1.2.826.0.1.3680043.10.7.2"


def ingest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", "ingest", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def code_and_report(folder: Path, store: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    done = ingest(folder, "--store", str(store), "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def ct(folder: Path) -> None:
    write_stack(folder / "ct", ramp(6), series_uid=SCAN)


def changed(uid: str, change: Callable[[FileDataset], None], n_slices: int = 1) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        write_stack(
            folder / "other", ramp(n_slices), series_uid=uid, change=lambda dataset, _: change(dataset)
        )

    return write


def report_object(dataset: FileDataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    dataset.Modality = "SR"
    del dataset.PixelData


def radiograph(dataset: FileDataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.Modality = "CR"


def capture(dataset: FileDataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing


def scout(dataset: FileDataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def file(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


HARMLESS = {
    "a note": file("notes.txt", b"what the technician said"),
    "a thumbnail": file("thumb.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(50)),
    "an empty marker": file(".gitkeep", b""),
    "what macOS leaves": file("._scan.nii.gz", b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(60)),
    "a report": changed(OTHER, report_object),
    "a radiograph": changed(OTHER, radiograph),
    "one capture without a place": changed(OTHER, capture),
    "a scout": changed(OTHER, scout),
}
LEFT_OUT = {
    "a NIfTI file that is none": file("scan.nii.gz", b"<html>404 Not Found</html>"),
    "an empty image": file("scan.nii", b""),
    "a volume of another program": file("brain.nrrd", b"\1\2\3\4 no header that anybody knows"),
    "half a NIfTI file": lambda folder: half(folder / "scan.nii"),
    "slices without places": changed(OTHER, capture, 5),
}


def half(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.int16), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:700])


@pytest.mark.parametrize("harmless", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_nobody_would_want_beside_a_volume_ends_with_0(
    harmless: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    ct(tmp_path / "in")
    harmless(tmp_path / "in")
    code, report = code_and_report(tmp_path / "in", tmp_path / "store")
    counts = report["counts"]
    assert (code, counts["written"], counts["left_out"]) == (0, 1, 0)
    assert counts["unreadable"] + counts["quarantined"] == 1


@pytest.mark.parametrize("left_out", LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_what_is_or_may_be_a_volume_and_is_left_out_ends_with_1(
    left_out: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    ct(tmp_path / "in")
    left_out(tmp_path / "in")
    code, report = code_and_report(tmp_path / "in", tmp_path / "store")
    assert (code, report["counts"]["written"], report["counts"]["left_out"]) == (1, 1, 1)


@pytest.mark.parametrize(
    "harmless",
    [HARMLESS[name] for name in ("a note", "a scout", "one capture without a place", "what macOS leaves")],
)
def test_a_run_that_takes_nothing_in_ends_with_1_and_says_so(
    harmless: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    harmless(tmp_path / "in")
    done = ingest(tmp_path / "in", "--store", str(tmp_path / "store"))
    assert done.returncode == 1
    assert "nothing was taken in" in done.stdout


def test_reports_alone_end_with_0_since_nobody_can_do_anything(tmp_path: Path) -> None:
    HARMLESS["a report"](tmp_path / "in")
    done = ingest(tmp_path / "in", "--store", str(tmp_path / "store"))
    assert done.returncode == 0
    assert "nothing could be" in done.stdout


def test_labels_on_what_holds_no_volume_do_not_make_it_1(tmp_path: Path) -> None:
    HARMLESS["a report"](tmp_path)
    (planned,) = plan_ingest(scan([tmp_path]), DatasetSettings()).planned
    image = planned.outcome("quarantined")
    labels = replace(image, reason="reference_quarantined")
    assert not IngestReport((image, labels), (), 1.0, 1.0, 1).needs_attention
    volume = replace(image, reason="missing_slice")
    assert IngestReport((volume, labels), (), 1.0, 1.0, 1).left_out == (volume,)
    assert IngestReport((labels,), (), 1.0, 1.0, 1).needs_attention  # nothing was taken in


def test_what_was_taken_in_before_is_in(tmp_path: Path) -> None:
    ct(tmp_path / "in")
    assert code_and_report(tmp_path / "in", tmp_path / "store")[0] == 0
    code, report = code_and_report(tmp_path / "in", tmp_path / "store")
    assert (code, report["counts"]["unchanged"]) == (0, 1)
    for path in sorted((tmp_path / "in").rglob("I*"))[3:]:
        path.unlink()
    code, report = code_and_report(tmp_path / "in", tmp_path / "store")
    assert code == 0  # a part of what is held whole


def test_series_that_dataset_yaml_does_not_ask_for_end_with_0_unless_they_are_all(tmp_path: Path) -> None:
    ct(tmp_path / "in")
    nib.save(nib.Nifti1Image(ramp().astype(np.int16), np.eye(4)), tmp_path / "in" / "p1_t1.nii.gz")
    (tmp_path / "ct.yaml").write_text("collections: {ct: {match: {modality: CT}}}\n")
    (tmp_path / "mr.yaml").write_text("collections: {mr: {match: {modality: MR}}}\n")
    code, report = code_and_report(
        tmp_path / "in", tmp_path / "store", "--dataset", str(tmp_path / "ct.yaml")
    )
    assert (code, [s["reason"] for s in report["series"]]) == (0, [None, "no_collection"])
    code, _ = code_and_report(tmp_path / "in", tmp_path / "other", "--dataset", str(tmp_path / "mr.yaml"))
    assert code == 1


def test_the_help_says_what_the_exit_codes_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", "ingest", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Exit code 0" in done.stdout


def test_a_folder_of_volumes_in_other_formats_does_not_end_with_0(shared_data: Path, tmp_path: Path) -> None:
    code, report = code_and_report(shared_data / "cases/l17_foreign_formats/input", tmp_path / "store")
    assert code == 1
    assert report["counts"]["left_out"] > 0


def test_no_reason_that_asks_for_nothing_counts_as_a_volume_left_out() -> None:
    for reason, explanation in EXPLANATIONS.items():
        if explanation.action.startswith("Nothing"):
            assert not explanation.left_out, reason


def test_two_reasons_of_one_series_are_both_told(tmp_path: Path) -> None:
    ct(tmp_path)
    plan = plan_ingest(scan([tmp_path]), DatasetSettings())
    (planned,) = plan.planned
    also = (Problem(Reason.MISSING_SLICE, "2 of 8 slices are missing"),)
    series = replace(planned.series, verdict="quarantined", reason=Reason.TRUNCATED, also=also)
    outcome = replace(planned, series=replace(series, detail="ends early")).outcome("quarantined")
    report = IngestReport((outcome,), (), 1.0, 1.0, 1)
    (told,) = report.to_json()["series"]
    assert (told["reason"], told["reasons"]) == ("truncated", ["truncated", "missing_slice"])
    assert told["detail"] == "ends early; 2 of 8 slices are missing"
    assert report.quarantined_by_reason == {"truncated": 1, "missing_slice": 1}
    assert report.needs_attention
    table = outcomes_table([outcome], identifiers=False)
    assert table.loc[0, "also"] == "missing_slice: 2 of 8 slices are missing"
    scout_too = replace(outcome, also=(("localizer", "few slices"),))
    assert not IngestReport((scout_too, replace(outcome, status="unchanged")), (), 1.0, 1.0, 1).left_out
