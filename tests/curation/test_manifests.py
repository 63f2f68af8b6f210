"""Manifests of snapshots, differences between them, and whether what one has is what they say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import rfc8785
from delivery import Delivery, take_in
from hypothesis import given, strategies as st

from radiobject_assets.cli.commands import app
from radiobject_assets.curation.canonical_json import canonical
from radiobject_assets.curation.kept import keep_snapshot, kept_manifest, renew_manifests
from radiobject_assets.curation.manifest import Manifest
from radiobject_assets.errors import SchemaError
from radiobject_assets.store import (
    RadiObject,
    commit_volumes,
    create_snapshot,
    delete_snapshot,
    delete_subjects,
    list_collections,
    list_snapshots,
    obs_table,
    open_storage,
    rename_collection,
    stage_volume,
    update_obs,
    upsert_subjects,
)

Run = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that gives what a command prints with --json, and looks at its exit code."""

    def command(*arguments: str | Path, code: int = 0) -> Any:
        capsys.readouterr()
        ended = app(args=[*map(str, arguments), "--json"], standalone_mode=False)
        assert (ended or 0) == code
        return json.loads(capsys.readouterr().out)

    return command


def replace_voxels(uri: str, collection: str, key: tuple[str, str]) -> None:
    """Write a volume's voxels upside down in its place."""
    where = collection_uri(uri, collection)
    volume = RadiObject(uri).collection(collection).loc[key[1]]
    staged = stage_volume(
        where,
        obs_id=key[1],
        obs_subject_id=key[0],
        voxels=volume.to_numpy(stored=True)[::-1],
        affine=volume.affine,
        slope=volume.slope,
        intercept=volume.intercept,
        attributes={"kind": "image"},
    )
    commit_volumes(where, [staged])


@pytest.fixture
def written(delivered: Delivery, tmp_path: Path, run: Run) -> Path:
    path = tmp_path / "first.jsonl"
    run("manifest", delivered.uri, "--dataset", delivered.dataset, "-o", path)
    return path


def collection_uri(uri: str, name: str) -> str:
    return next(entry.uri for entry in list_collections(uri, None) if entry.name == name)


def first_key(uri: str, collection: str) -> tuple[str, str]:
    rows = obs_table(collection_uri(uri, collection)).read([])
    return rows.column("obs_subject_id")[0].as_py(), rows.column("obs_id")[0].as_py()


def test_a_manifest_has_every_volume_and_no_identifier(delivered: Delivery, written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert not [name for name in delivered.identifiers if name in text]
    assert str(delivered.folder) not in text
    for line in written.read_bytes().splitlines():
        assert rfc8785.dumps(json.loads(line)) == line
    manifest = Manifest(written)
    (snapshot,) = list_snapshots(delivered.uri)
    assert manifest.header.snapshot_digest == snapshot.digest
    radi = RadiObject(delivered.uri, timestamp="first")
    digests = sorted(
        v for name in radi.collection_names for v in radi.collection(name).to_obs()["voxel_digest"]
    )
    assert sorted(volume.voxels for volume in manifest.volumes()) == digests
    tokens = [volume.volume for volume in manifest.volumes()]
    assert tokens == sorted(tokens)
    splits = sorted(subject.split for subject in manifest.subjects() if subject.split)
    assert splits == sorted(radi.obs_meta.read()["assigned_split"])


def test_the_canonical_form_is_that_of_the_standard() -> None:
    # RFC 8785, 3.2.2 and 3.2.3
    given = '{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001], '
    given += '"string": "\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/", '
    given += '"literals": [null, true, false]}'
    assert rfc8785.dumps(json.loads(given)).hex() == (
        "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b3333333333333333"
        "332e333333333333332c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac245c75"
        "303030665c6e4127425c225c5c5c5c5c222f227d"
    )


texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.one_of(
    st.integers(-(2**53) + 1, 2**53 - 1), st.floats(allow_nan=False, allow_infinity=False), texts
)


@given(
    st.dictionaries(
        st.text("abcXYZ_019"),
        st.one_of(values, st.booleans(), st.lists(values), st.dictionaries(st.text("ab"), texts)),
    )
)
def test_the_quick_way_writes_what_an_independent_one_does(document):
    assert canonical(document) == rfc8785.dumps(document)


def test_the_same_snapshot_gives_the_same_manifest(
    delivered: Delivery, written: Path, tmp_path: Path, run: Run
) -> None:
    again = tmp_path / "again.jsonl"
    run("manifest", delivered.uri, "--dataset", delivered.dataset, "-o", again)
    assert again.read_bytes() == written.read_bytes()
    assert run("diff", written, again)["same_data"]


@pytest.mark.parametrize("damage", ["cut", "byte", "line"])
def test_a_manifest_that_was_changed_is_refused(written: Path, damage: str) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    if damage == "cut":
        lines = lines[:-2]
    elif damage == "line":
        del lines[2]
    else:
        lines[-2] = lines[-2].replace(b'"kind":"', b'"kind":"x')
    written.write_bytes(b"".join(lines))
    with pytest.raises(SchemaError, match="make it anew"):
        Manifest(written).check()


def test_diff_tells_each_kind_of_change(delivered: Delivery, run: Run) -> None:
    uri = delivered.uri
    ct = collection_uri(uri, "ct")
    (shifted, described, *_) = [
        (row["obs_subject_id"], row["obs_id"]) for row in obs_table(ct).read([]).to_pylist()
    ]
    gone = first_key(uri, "t1w")
    # an affine that is mirrored or moved by 30 mm, an attribute, a volume less, another diagnosis and split
    x = obs_table(ct).read(["affine_03"], keys=[[shifted[0]], [shifted[1]]]).column("affine_03")[0].as_py()
    update_obs(ct, {shifted: {"affine_03": x + 30.0}, described: {"kernel": "B60f"}})
    obs_table(collection_uri(uri, "t1w")).delete([gone])
    upsert_subjects(uri, pd.DataFrame({"obs_subject_id": [shifted[0]], "diagnosis": ["other"]}))
    create_snapshot(uri, "second")
    found = run("diff", f"{uri}@first", f"{uri}@second", code=1)
    assert found["counts"] == {"subjects_changed": 1, "volumes_changed": 2, "volumes_removed": 1}
    assert sorted(one["what"] for one in found["volumes"] if one["change"] == "changed") == [
        ["attributes"],
        ["geometry"],
    ]
    assert {one["collection"] for one in found["volumes"] if one["change"] == "removed"} == {"t1w"}


def test_diff_tells_other_voxels_added_volumes_and_moves_between_splits(
    delivered: Delivery, written: Path, tmp_path: Path, run: Run
) -> None:
    uri = delivered.uri
    replace_voxels(uri, "ct", first_key(uri, "ct"))
    newcomers = tmp_path / "newcomers"
    newcomers.mkdir()
    shutil.copy(next(delivered.folder.rglob("*_T1w.nii.gz")), newcomers / "newcomer_T1w.nii.gz")
    take_in(newcomers, uri, delivered.settings)
    subjects = RadiObject(uri, timestamp="first").obs_meta.read().reset_index()
    subject, was = subjects.iloc[0][["obs_subject_id", "assigned_split"]]
    now = "test" if was != "test" else "train"
    upsert_subjects(uri, pd.DataFrame({"obs_subject_id": [subject], "assigned_split": [now]}))
    create_snapshot(uri, "second")
    found = run("diff", written, f"{uri}@second", code=1)
    changed = [one for one in found["volumes"] if one["change"] == "changed"]
    assert changed
    assert "voxels" in changed[0]["what"]
    assert found["counts"]["volumes_added"] == 1
    assert [one["what"] for one in found["subjects"] if one["change"] == "moved"] == [[was, now]]


def test_a_copy_of_a_store_has_the_same_data_and_a_renamed_collection_is_told(
    delivered: Delivery, written: Path, tmp_path: Path, run: Run
) -> None:
    copy = str(tmp_path / "copy")
    RadiObject(delivered.uri).write(copy)
    assert run("diff", delivered.uri, copy)["same_data"]
    # from the manifest's side the copy is another store: it is compared by content
    assert run("diff", written, copy)["compared_by_content"]
    assert run("match", copy, written)["complete"]
    rename_collection(delivered.uri, "t1w", "mr")
    found = run("diff", f"{delivered.uri}@first", delivered.uri, code=1)
    assert set(found["counts"]) == {"volumes_renamed"}


def test_the_delivery_and_an_export_match_the_manifest(
    delivered: Delivery, written: Path, tmp_path: Path, run: Run
) -> None:
    n_volumes = len(list(Manifest(written).volumes()))
    assert run("match", delivered.folder, written) == {
        "complete": True, "equal": n_volumes, "missing": 0, "different": 0, "extra": 0, "volumes": [],
    }  # fmt: skip
    out = tmp_path / "exported"
    run("export", delivered.uri, out)
    found = run("match", out, written)
    assert (found["complete"], found["equal"]) == (True, n_volumes)


def test_match_says_what_is_missing_different_and_extra(delivered: Delivery, written: Path, run: Run) -> None:
    images = sorted(delivered.folder.rglob("*_T1w.nii.gz"))
    missing, moved, extra = images[0], images[1], images[1].with_name("newcomer_T1w.nii.gz")
    image = nib.load(moved)
    voxels = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.roll(voxels, 3), image.affine, image.header), extra)
    affine = image.affine.copy()
    affine[0, 3] += 30.0
    nib.save(nib.Nifti1Image(voxels, affine), moved)
    missing.unlink()
    found = run("match", delivered.folder, written, code=1)
    assert {state: found[state] for state in ("missing", "different", "extra")} == {
        "missing": 1, "different": 1, "extra": 1,
    }  # fmt: skip
    assert [one["what"] for one in found["volumes"] if one["state"] == "different"] == [["place"]]


def test_a_store_whose_voxels_changed_does_not_match(delivered: Delivery, written: Path, run: Run) -> None:
    replace_voxels(delivered.uri, "ct", first_key(delivered.uri, "ct"))
    found = run("match", delivered.uri, written, code=1)
    assert [one["state"] for one in found["volumes"]] == ["different"]
    assert found["volumes"][0]["what"][0] == "voxels"
    assert run("match", f"{delivered.uri}@first", written)["complete"]


def test_a_command_that_could_not_run_ends_with_2(tmp_path: Path, written: Path) -> None:
    for arguments in (("diff", tmp_path / "no", written), ("match", tmp_path / "no", written)):
        command = [sys.executable, "-m", "radiobject_assets.cli", *map(str, arguments)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_whoever_is_erased_is_gone_from_the_kept_manifests_and_others_stay(
    delivered: Delivery, tmp_path: Path
) -> None:
    storage = open_storage(str(tmp_path / "tables"))
    create_snapshot(delivered.uri, "second")
    for name in ("first", "second"):
        keep_snapshot(storage, delivered.uri, name, settings=delivered.settings)
    with kept_manifest(storage, "first") as manifest:
        assert manifest is not None
        before = {subject.subject: subject for subject in manifest.subjects()}
    assert renew_manifests(storage, delivered.uri) == 0
    delete_subjects(delivered.uri, [RadiObject(delivered.uri).obs_subject_ids[0]])
    delete_snapshot(delivered.uri, "second")
    assert renew_manifests(storage, delivered.uri, settings=delivered.settings) == 2
    with kept_manifest(storage, "first") as manifest:
        assert manifest is not None
        after = {subject.subject: subject for subject in manifest.subjects()}
        assert manifest.header.snapshot_digest == list_snapshots(delivered.uri)[0].digest
    (erased,) = before.keys() - after.keys()
    assert {token: before[token] for token in after} == after
    texts = [storage.read(entry.path) for entry in storage.list("manifests")]
    assert len(texts) == 3  # the manifest and both cards of the snapshot that is left
    assert not [text for text in texts if erased.encode() in text]


def test_settings_that_name_places_are_not_in_a_manifest(
    delivered: Delivery, tmp_path: Path, run: Run
) -> None:
    text = delivered.dataset.read_text(encoding="utf-8")
    delivered.dataset.write_text(
        f"{text}landing: /patients/meier\nstore: {delivered.uri}\nsplit: {{by_hand: /patients/hand.tsv}}\n"
    )
    path = tmp_path / "m.jsonl"
    run("manifest", delivered.uri, "--dataset", delivered.dataset, "-o", path)
    assert "meier" not in path.read_text(encoding="utf-8")
    assert "/patients" not in path.read_text(encoding="utf-8")
    assert "patches" in Manifest(path).header.settings
