"""Out of the store again: names that no id can break, BIDS, and time steps."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.export.bids_layout import BidsNames
from radiobject_assets.export.nifti_files import export_store, nifti_path
from radiobject_assets.store.format.layout import ensure_collection, ensure_store
from radiobject_assets.store.format.staging import commit_volumes, stage_volume
from radiobject_assets.store.format.subject_rows import upsert_subjects

IDS = ("../../etc/x", "a/b", "a%2Fb", "a-b", "..", ".", "患者 1", "A1", "a1", "患" * 90, "x" * 400, "nul\x7f")


def store_with(folder: Path, collection: str, subjects: tuple[str, ...]) -> str:
    uri = ensure_store(str(folder / "store"))
    target = ensure_collection(uri, collection)
    staged = [
        stage_volume(
            target,
            obs_id=subject,
            obs_subject_id=subject,
            voxels=np.full((3, 4, 5), number, np.int16),
            affine=np.diag([1.0, 2.0, 3.0, 1.0]),
            slope=-2.5,
            intercept=7.0,
        )
        for number, subject in enumerate(subjects)
    ]
    commit_volumes(target, staged)
    upsert_subjects(uri, pd.DataFrame({"obs_subject_id": list(subjects), "age": range(len(subjects))}))
    return uri


def test_no_two_ids_share_a_file_and_none_leaves_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    paths = export_store(store_with(tmp_path, "ct", IDS), out)
    assert len(set(paths)) == len(IDS)
    assert {path.parent for path in paths} == {out / "ct"}
    found = {}
    for path in paths:
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text("utf-8"))
        found[sidecar["obs_id"]] = int(np.asarray(nib.load(path).dataobj.get_unscaled())[0, 0, 0])
    assert found == {subject: number for number, subject in enumerate(IDS)}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "store"]


def test_a_plain_id_is_its_file_name() -> None:
    assert nifti_path("ct", "sub-01_ct_0a1b2c3d") == Path("ct/sub-01_ct_0a1b2c3d.nii.gz")


def test_a_negative_slope_comes_out_as_it_is(tmp_path: Path) -> None:
    (path,) = export_store(store_with(tmp_path, "ct", ("a",)), tmp_path / "out")
    image = nib.load(path)
    assert (image.dataobj.slope, image.dataobj.inter) == (-2.5, 7.0)
    assert np.allclose(image.affine, np.diag([1.0, 2.0, 3.0, 1.0]))


def test_an_export_into_the_store_itself_is_refused(tmp_path: Path) -> None:
    uri = store_with(tmp_path, "ct", ("a",))
    for out in (Path(uri), Path(uri) / "out"):
        with pytest.raises(ConfigurationError, match="lies in the store"):
            export_store(uri, out)


def test_bids_names_what_bids_knows_and_lists_the_rest_to_be_ignored(tmp_path: Path) -> None:
    known = export_store(store_with(tmp_path / "t1w", "t1w", ("s-1", "s1")), tmp_path / "t", layout="bids")
    labels = BidsNames(("s-1", "s1")).labels
    assert labels["s1"] == "s1"
    assert sorted(path.parent for path in known) == sorted(
        tmp_path / "t" / f"sub-{label}" / "anat" for label in labels.values()
    )
    assert all(path.name.endswith("_T1w.nii.gz") for path in known)
    assert not (tmp_path / "t" / ".bidsignore").exists()
    table = pd.read_csv(tmp_path / "t" / "participants.tsv", sep="\t")
    assert set(table["participant_id"]) == {f"sub-{label}" for label in labels.values()}
    export_store(store_with(tmp_path / "chest", "chest_ct", ("s1",)), tmp_path / "c", layout="bids")
    assert (tmp_path / "c" / ".bidsignore").read_text() == "sub-*/chestct/\n"


def test_a_bids_label_depends_on_its_subject_alone_and_survives_file_systems_without_case() -> None:
    few, many = BidsNames(["患者 1", "a/b"]).labels, BidsNames([*IDS, "患者-1"]).labels
    assert many["a/b"] == few["a/b"]
    assert many["患者 1"] == few["患者 1"] != many["患者-1"]
    assert len({label.casefold() for label in many.values()}) == len(many)
    assert all(label.isascii() and label.isalnum() for label in many.values())


def test_the_time_step_of_a_4d_volume_is_in_the_exported_header(tmp_path: Path) -> None:
    uri = ensure_store(str(tmp_path / "store"))
    target = ensure_collection(uri, "bold")
    staged = stage_volume(
        target,
        obs_id="a",
        obs_subject_id="a",
        voxels=np.zeros((3, 4, 5, 6), np.int16),
        attributes={"time_step_s": 2.5},
    )
    commit_volumes(target, [staged])
    (path,) = export_store(uri, tmp_path / "out")
    assert nib.load(path).header.get_zooms()[3] == 2.5
