"""Volumes laid out anew: other tiles and codecs, the same voxels, and nothing else changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    CompressionConfig,
    Compressor,
    RadiObject,
    SliceOrientation,
    TileConfig,
    commit_volumes,
    create_snapshot,
    ensure_collection,
    ensure_store,
    ensure_subjects,
    obs_table,
    rewrite_volumes,
    stage_volume,
    update_obs,
    vacuum,
    verify_store,
)
from tests.store.conftest import AFFINE, voxels

SHAPE = (70, 66, 40)
OF_THE_ARRAY = {"volume", "index_digest", "stored_bytes", "written_at", "writer_version"}
LZ4 = CompressionConfig(algorithm=Compressor.LZ4)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Volumes of 3 and 4 axes, of subjects with rows that differ."""
    uri = ensure_store(tmp_path / "store")
    ct = ensure_collection(uri, "ct")
    ensure_subjects(uri, ["a", "b", "c"])
    for number, subject in enumerate("abc"):
        shape = (*SHAPE, 2) if subject == "c" else SHAPE
        attributes = {"modality": "CT", "series_uid": f"1.{number}"} | ({"note": "x"} if number else {})
        staged = stage_volume(
            ct,
            obs_id=f"{subject}_ct",
            obs_subject_id=subject,
            voxels=voxels(number, shape),
            affine=AFFINE,
            slope=2.0,
            intercept=-100.0,
            attributes=attributes,  # type: ignore[arg-type]  # texts
            sources=[f"1.2.{number}"],
        )
        commit_volumes(ct, [staged])
    return uri


def test_voxels_and_rows_stay_and_the_snapshot_keeps_the_old_arrays(store: str) -> None:
    ct = ensure_collection(store, "ct")
    before = obs_table(ct).read().to_pandas()
    snapshot = create_snapshot(store, "one")
    axial = TileConfig(orientation=SliceOrientation.AXIAL)
    report = rewrite_volumes(store, "ct", tile=axial, compression=LZ4)
    assert (report.rewritten, report.as_wanted, report.changed_meanwhile) == (3, 0, 0)
    after = obs_table(ct).read().to_pandas()
    assert list(after) == list(before)
    for name in set(before) - OF_THE_ARRAY:
        assert before[name].equals(after[name]), name
    assert not set(before["volume"]) & set(after["volume"])
    for number, volume in enumerate(RadiObject(store).ct):
        assert volume.stored_layout.codec == "lz4"
        assert volume.tile_extents[:3] == (70, 66, 1)
        assert volume.tile_orientation is SliceOrientation.AXIAL
        assert volume.sources == (f"1.2.{number}",)
        assert np.array_equal(volume.to_numpy(stored=True), voxels(number, volume.shape))
    assert verify_store(store) == []
    assert vacuum(store, grace_s=0).arrays == 0
    then = RadiObject(store, timestamp="one")
    assert then.ct["a_ct"].tile_extents == (64, 64, 32)
    assert np.array_equal(then.ct["a_ct"].to_numpy(stored=True), voxels(0, SHAPE))
    assert snapshot.digest == create_snapshot(store, "two").digest or snapshot.name == "one"
    again = rewrite_volumes(store, "ct", tile=axial, compression=LZ4)
    assert (again.rewritten, again.as_wanted) == (0, 3)


def test_a_row_that_changes_meanwhile_keeps_the_change_and_a_new_volume_is_left_alone(store: str) -> None:
    ct = ensure_collection(store, "ct")

    def meddle(done: int, total: int, text: str) -> None:
        if done == total:  # all are copied, and none is committed
            update_obs(ct, {("a", "a_ct"): {"note": "seen"}})
            newer = stage_volume(ct, obs_id="b_ct", obs_subject_id="b", voxels=voxels(9, SHAPE))
            commit_volumes(ct, [newer])

    report = rewrite_volumes(store, "ct", compression=LZ4, on_progress=meddle)
    assert (report.rewritten, report.changed_meanwhile) == (2, 1)
    rows = obs_table(ct).read(["note"]).to_pandas().set_index("obs_id")
    assert rows.loc["a_ct", "note"] == "seen"
    collection = RadiObject(store).ct
    assert collection["a_ct"].stored_layout.codec == "lz4"
    assert collection["b_ct"].stored_layout.codec == "zstd"
    assert np.array_equal(collection["b_ct"].to_numpy(), voxels(9, SHAPE))
    assert verify_store(store) == []


def test_what_is_interrupted_leaves_the_store_as_it_was_and_goes_on_with_the_next_call(store: str) -> None:
    ct = ensure_collection(store, "ct")
    before = obs_table(ct).read().to_pandas()

    def interrupt(done: int, total: int, text: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rewrite_volumes(store, "ct", compression=LZ4, on_progress=interrupt)
    assert obs_table(ct).read().to_pandas().equals(before)
    assert verify_store(store) == []  # no array without a row either
    assert rewrite_volumes(store, "ct", compression=LZ4).rewritten == 3


def test_voxels_that_are_not_those_that_were_written_are_not_carried_on(store: str) -> None:
    uri = RadiObject(store).ct["b_ct"].uri
    (data,) = Path(uri).glob("__fragments/*/a0.tdb")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(StorageError):
        rewrite_volumes(store, "ct", compression=LZ4)
    assert {volume.stored_layout.codec for volume in RadiObject(store).ct} == {"zstd"}


def test_an_unknown_collection_is_named_with_those_there_are(store: str) -> None:
    with pytest.raises(StorageError, match="it has ct"):
        rewrite_volumes(store, "mr")
