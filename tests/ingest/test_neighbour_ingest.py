"""Volumes of other formats go the whole way: taken in, matched, labelled, exported; the rest is told."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.export.nifti_files import export_store
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

DATASET = DatasetSettings.model_validate(
    {
        "collections": {
            "image": {"match": {"files": ["*_image.*"]}},
            "seg": {"match": {"files": ["*_seg.*", "*.seg.nrrd"]}, "kind": "labels", "labels_of": "image"},
        },
        "subjects": {"file_name": r"^(?P<subject>[A-Za-z0-9]+)"},
    }
)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def _image(seed: int, high: int = 1000, dtype: str = "i2") -> sitk.Image:
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.integers(0, high, (6, 7, 8)).astype(dtype))
    turned, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    image.SetDirection(turned.ravel())
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10, 20, -300))
    return image


def _as_nibabel(image: sitk.Image) -> nib.Nifti1Image:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return nib.Nifti1Image(sitk.GetArrayFromImage(image).transpose(2, 1, 0), LPS @ affine)


def _ingest(source: Path, tmp_path: Path, dataset: DatasetSettings = DATASET) -> IngestReport:
    return ingest_sources(
        [source], str(tmp_path / "store"), dataset, budget=MemoryBudget(256), compute=Compute(workers=1)
    )


def _write(path: Path, image: sitk.Image) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.suffix in (".mgz", ".mgh"):
        whole = _as_nibabel(image)
        nib.save(nib.MGHImage(np.asarray(whole.dataobj), whole.affine), path)
    else:
        sitk.WriteImage(image, str(path), path.suffix in (".mha", ".nrrd"))


@pytest.mark.parametrize(
    ("images", "labels"), [(".nrrd", ".nrrd"), (".mha", ".mha"), (".mhd", ".nrrd"), (".mgz", ".mgz")]
)
def test_images_and_labels_come_out_as_they_went_in(tmp_path: Path, images: str, labels: str) -> None:
    written = {}
    for number, subject in enumerate(("A1", "B2")):
        written[subject, "image"] = _image(number)
        written[subject, "seg"] = _image(number + 10, 3, "u1")
        _write(tmp_path / "in" / f"{subject}_image{images}", written[subject, "image"])
        _write(tmp_path / "in" / f"{subject}_seg{labels}", written[subject, "seg"])
    report = _ingest(tmp_path / "in", tmp_path)
    assert [(o.subject_id, o.collection, o.status) for o in report.outcomes] == [
        (subject, name, "written") for subject in ("A1", "B2") for name in ("image", "seg")
    ]
    radi = RadiObject(str(tmp_path / "store"))
    pairs = radi.collection("seg").to_obs().set_index("obs_subject_id")["labels_of"]
    assert all(pairs[subject].startswith(f"{subject}_image") for subject in ("A1", "B2"))
    for path in export_store(str(tmp_path / "store"), tmp_path / "out"):
        told = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text("utf-8"))
        expected = _as_nibabel(written[told["subject_id"], told["collection"]])
        ours = nib.load(path)
        assert np.array_equal(np.asarray(ours.dataobj), np.asarray(expected.dataobj))
        assert np.allclose(ours.affine, expected.affine, atol=1e-4)
    again = _ingest(tmp_path / "in", tmp_path)
    assert {outcome.status for outcome in again.outcomes} == {"unchanged"}


def test_a_slicer_segmentation_finds_its_image_and_keeps_its_segments(tmp_path: Path) -> None:
    _write(tmp_path / "in" / "A1_image.nrrd", _image(1))
    seg = _image(2, 3, "u1")
    for key, value in {"ID": "x", "Name": "liver", "LabelValue": "2", "Layer": "0"}.items():
        seg.SetMetaData(f"Segment0_{key}", value)
    _write(tmp_path / "in" / "A1.seg.nrrd", seg)
    _ingest(tmp_path / "in", tmp_path)
    row = RadiObject(str(tmp_path / "store")).collection("seg").to_obs().iloc[0]
    assert json.loads(row["segments"])[0]["label"] == "liver"
    assert row["labels_of"].startswith("A1_image")


def test_layers_of_overlapping_segments_are_volumes_of_their_own(tmp_path: Path) -> None:
    _write(tmp_path / "in" / "A1_image.nrrd", _image(1))
    voxels = np.random.default_rng(3).integers(0, 2, (6, 7, 8, 2)).astype("u1")
    seg = sitk.GetImageFromArray(voxels, isVector=True)
    seg.CopyInformation(_image(1))
    for number in (0, 1):
        for key, value in {"ID": "x", "Name": f"s{number}", "LabelValue": "1", "Layer": number}.items():
            seg.SetMetaData(f"Segment{number}_{key}", str(value))
    _write(tmp_path / "in" / "A1.seg.nrrd", seg)
    report = _ingest(tmp_path / "in", tmp_path)
    assert report.counts["written"] == 3
    assert report.counts["files"] == 2
    radi = RadiObject(str(tmp_path / "store"))
    rows = radi.collection("seg").to_obs().set_index("component")
    for layer in (0, 1):
        volume = radi.collection("seg")[rows.loc[f"layer{layer + 1}", "obs_id"]]
        assert np.array_equal(volume.to_numpy(), voxels[..., layer].transpose(2, 1, 0))
    assert {o.status for o in _ingest(tmp_path / "in", tmp_path).outcomes} == {"unchanged"}


def _command(source: Path, store: Path) -> tuple[int, dict]:
    done = subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", "ingest", str(source), "--store", str(store),
         "--json"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


def test_a_volume_that_was_left_out_makes_the_exit_code_1_and_a_note_does_not(tmp_path: Path) -> None:
    _write(tmp_path / "in" / "A1.nrrd", _image(1))
    (tmp_path / "in" / "notes.txt").write_text("measured on a Monday\n")
    (tmp_path / "in" / "thumbnail.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    assert _command(tmp_path / "in", tmp_path / "a")[0] == 0
    np.save(tmp_path / "in" / "B2.npy", np.zeros((3, 4, 5)))
    code, told = _command(tmp_path / "in", tmp_path / "b")
    assert code == 1
    assert [item["reason"] for item in told["unreadable"]] == [
        "foreign_format",
        "not_an_image",
        "not_an_image",
    ]


def test_values_that_lie_together_are_told_apart_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "dwi.nrrd"
    voxels = np.random.default_rng(1).integers(0, 9000, (64, 48, 40, 32)).astype("u2")  # (z, y, x, n)
    sitk.WriteImage(sitk.GetImageFromArray(voxels, isVector=True), str(path), False)
    (series,) = build_series(scan([path]))
    assert series.decoded_bytes == voxels.nbytes
    source = open_series(series)
    tracemalloc.start()
    for slab in source.slabs(8):
        if slab.z == 16:
            assert np.array_equal(slab.voxels, voxels[16:24, ..., slab.t].transpose(2, 1, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20 < voxels.nbytes, "a slab, not the volume of all its values"
