"""How often a file is opened, and what happens to one that changes between the scan and the reading of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.ingest import plan_ingest, run_ingest
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "imaging"))
from dicom_files import FrameSpec, enhanced_dataset, write_stack

# Every `open` of this process and of the processes that it starts, one path a line. An audit hook sees what
# Python opens; the readers open files in no other way.
COUNTING = """
import os, sys
log = os.open(os.environ["OPENED_FILES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def note(event, arguments, landing=os.environ["LANDING"]):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.fsdecode(arguments[0])
        if path.startswith(landing):
            os.write(log, (path + "\\n").encode())
sys.addaudithook(note)
"""


def compress(folder: Path, syntax: str) -> None:
    for path in folder.iterdir():
        ds = dcmread(path)
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(path)


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landing")
    voxels = np.random.default_rng(5).integers(0, 4000, (6, 40, 32), dtype=np.uint16)
    for number, name in enumerate(("classic", "rle", "jpeg2000", "duplicates")):
        write_stack(folder / name, voxels, series_uid=f"1.2.3.{number}")
    compress(folder / "rle", RLELossless)
    compress(folder / "jpeg2000", JPEG2000Lossless)
    for path in sorted((folder / "duplicates").iterdir())[:3]:
        shutil.copyfile(path, path.with_name(f"copy-{path.name}"))
    image = nib.Nifti1Image(voxels.astype(np.int16), np.eye(4))
    (folder / "enhanced").mkdir()
    frames = [FrameSpec(pixels, (0.0, 0.0, 2.0 * k)) for k, pixels in enumerate(voxels)]
    enhanced_dataset(frames).save_as(folder / "enhanced" / "object.dcm", enforce_file_format=True)
    (folder / "nifti").mkdir()
    nib.save(image, folder / "nifti" / "image.nii.gz")
    nib.save(image, folder / "nifti" / "plain.nii")
    return folder


def opens(landing: Path, work: Path) -> Counter[Path]:
    """How often each file below `landing` is opened by the ingest command and all its processes."""
    (work / "counting").mkdir()
    (work / "counting" / "sitecustomize.py").write_text(COUNTING)
    log = work / "opened"
    command = [sys.executable, "-m", "radiobject_assets.cli", "ingest", str(landing), "--json"]
    environment = {
        "OPENED_FILES": str(log),
        "LANDING": str(landing),
        "PYTHONPATH": os.pathsep.join([str(work / "counting"), os.environ.get("PYTHONPATH", "")]),
    }
    subprocess.run(
        [*command, "--store", str(work / "store")],
        env={**os.environ, **environment}, check=True, capture_output=True,
    )  # fmt: skip
    return Counter(path for line in log.read_text().splitlines() if (path := Path(line)).is_file())


def test_each_file_is_opened_twice_at_most_once_for_its_header_and_once_for_its_voxels(
    landing: Path, tmp_path: Path
) -> None:
    found = opens(landing, tmp_path)
    report = RadiObject(str(tmp_path / "store"))
    assert sum(len(report.collection(name)) for name in report.collection_names) == 7
    files = {path for path in landing.rglob("*") if path.is_file()}
    assert set(found) == files
    assert max(found.values()) == 2


def grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\0" * 512)


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 512)


def replace(path: Path) -> None:
    """Another image in a file of the same name and size."""
    if path.suffix == ".nii":
        image = nib.load(path)
        other = nib.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), np.diag([2.0, 3.0, 4.0, 1.0]))
        nib.save(other, path)
        return
    size = path.stat().st_size
    ds = dcmread(path)
    ds.SOPInstanceUID = ds.SOPInstanceUID[:-1] + ("1" if ds.SOPInstanceUID[-1] != "1" else "2")
    ds.save_as(path)
    with open(path, "ab") as file:
        file.write(b"\0" * (size - path.stat().st_size))
    os.truncate(path, size)


@pytest.mark.parametrize("change", [grow, shrink, replace, Path.unlink], ids=lambda change: change.__name__)
@pytest.mark.parametrize("kind", ["classic", "enhanced", "rle", "jpeg2000", "nifti"])
def test_a_file_that_changes_after_the_scan_is_a_reason_that_says_what_to_do_and_never_other_voxels(
    landing: Path, tmp_path: Path, kind: str, change: Callable[[Path], None]
) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    for path in landing.joinpath(kind).iterdir():
        if path.suffix != ".gz":
            shutil.copyfile(path, folder / path.name)
    plan = plan_ingest(scan([folder]), DatasetSettings())
    change(sorted(folder.iterdir())[-1])
    uri = str(tmp_path / "store")
    report = run_ingest(plan, uri, budget=MemoryBudget(), compute=Compute(workers=2))
    (outcome,) = report.outcomes
    assert (outcome.status, outcome.reason) == ("quarantined", Reason.FILE_CHANGED)
    assert "ingest again" in EXPLANATIONS[Reason.FILE_CHANGED].action
    assert sum(len(RadiObject(uri).collection(name)) for name in RadiObject(uri).collection_names) == 0


def test_a_tar_gz_is_inflated_for_its_headers_and_once_for_all_its_series(
    landing: Path, tmp_path: Path
) -> None:
    times = {}
    for count in (2, 3):
        packed = tmp_path / f"packed-{count}"
        packed.mkdir()
        with tarfile.open(packed / "all.tar.gz", "w:gz") as archive:
            for number in range(count):
                folder = tmp_path / f"{count}-{number}"
                write_stack(folder, np.full((4, 8, 8), number, np.uint16), series_uid=f"1.2.3.{number}")
                archive.add(folder, arcname=folder.name)
        work = tmp_path / f"work-{count}"
        work.mkdir()
        (times[count],) = opens(packed, work).values()
        radi = RadiObject(str(work / "store"))
        assert sorted(int(volume.to_numpy().max()) for volume in radi.collection("ct")) == list(range(count))
    assert times[2] == times[3]
