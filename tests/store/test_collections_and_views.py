"""Collections, stores, views, filters and tables behave as NumPy and pandas users expect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from radiobject_assets.errors import SchemaError, ShapeError, StorageError, ViewError
from radiobject_assets.store import (
    Dataframe,
    Index,
    RadiObject,
    RadiObjectWriter,
    VolumeCollection,
    VolumeCollectionWriter,
    align,
    commit_volumes,
    ensure_collection,
    ensure_store,
    stage_volume,
    upsert_subjects,
)
from radiobject_assets.store.tables.filters import Condition
from tests.store.conftest import AFFINE, put, voxels


@pytest.fixture
def radi(store: str) -> RadiObject:
    """Three subjects, written in an order that is not sorted; `b` has two CT volumes and no PT."""
    for number, subject in enumerate(["c", "a", "b"]):
        put(store, "ct", subject, number, modality="CT", grade=number, note="it's" if number else None)
    put(store, "ct", "b", 7, obs_id="b_ct_acq-1", grade=9)
    for number, subject in enumerate(["c", "a"]):
        put(store, "pt", subject, 20 + number)
    upsert_subjects(
        store, pd.DataFrame({"obs_subject_id": ["a", "b", "c"], "age": [30, 40, 50], "sex": ["F", None, "M"]})
    )
    return RadiObject(store)


def test_positions_and_ids_address_the_same_volumes(radi: RadiObject) -> None:
    assert radi.ct.obs_ids == ["a_ct", "b_ct", "b_ct_acq-1", "c_ct"]
    assert radi.ct[-1].obs_id == radi.ct.iloc[np.int64(3)].obs_id == "c_ct"
    assert radi.ct[1:3].obs_ids == radi.ct[["b_ct", "b_ct_acq-1"]].obs_ids
    assert radi.ct.iloc[np.array([True, False, False, True])].obs_ids == ["a_ct", "c_ct"]
    assert radi.ct.loc[["c_ct", "a_ct"]].obs_ids == ["c_ct", "a_ct"]
    assert len(radi.ct[[]]) == 0
    assert radi.ct[::-1][0].obs_id == "c_ct"
    for wrong in (4, -5, [9]):
        with pytest.raises(IndexError):
            radi.ct[wrong]
    with pytest.raises(KeyError, match="nobody"):
        radi.ct["nobody"]
    with pytest.raises(IndexError, match="mask"):
        radi.ct.iloc[[True]]


def test_choosing_follows_pandas_at_its_edges(radi: RadiObject) -> None:
    ids = pd.Series(radi.ct.obs_ids)
    for n in (-9, -2, 0, 2, 9):
        assert radi.ct.head(n).obs_ids == ids.head(n).tolist()
        assert radi.ct.tail(n).obs_ids == ids.tail(n).tolist()
    assert radi.ct.iloc[...].obs_ids == ids.iloc[...].tolist()
    assert radi.ct.iloc[np.array(2)].obs_id == ids.iloc[2]
    assert radi.ct.loc[ids > "b_ct"].obs_ids == ids.loc[ids > "b_ct"].tolist()
    assert radi.loc[np.zeros(len(radi), bool)].obs_subject_ids == []
    with pytest.raises(TypeError):
        radi.ct.iloc[1.5]


def test_a_view_filters_its_collections(radi: RadiObject) -> None:
    view = radi.loc[["b", "c"]]
    assert view.ct.obs_ids == ["b_ct", "b_ct_acq-1", "c_ct"]
    assert view.pt.obs_ids == ["c_pt"]
    assert set(view.all_obs_ids) == {"b_ct", "b_ct_acq-1", "c_ct", "c_pt"}
    with pytest.raises(KeyError):
        view.get_volume("a_ct")
    assert view.filter("age < 45").ct.obs_subject_ids == ["b", "b"]
    assert view.select_collections(["pt"]).collection_names == ("pt",)
    with pytest.raises(ViewError):
        view.rename_collection("ct", "x")
    with pytest.raises(ViewError):
        view.ct.append(niftis=[])


@pytest.mark.parametrize(
    ("expression", "ids"),
    [
        ("grade >= 1", ["a_ct", "b_ct", "b_ct_acq-1"]),
        ("grade == 0 or obs_subject_id in ['a', 'zz']", ["a_ct", "c_ct"]),
        ("not (grade >= 1) and modality == 'CT'", ["c_ct"]),
        ('note == "it\'s"', ["a_ct", "b_ct"]),
        ('note != "it\'s"', ["b_ct_acq-1", "c_ct"]),
        ("note == None", ["b_ct_acq-1", "c_ct"]),
        ("modality != None & grade < 2", []),
        ("(modality != None) & (grade < 2)", ["a_ct", "c_ct"]),
        ("1 <= grade < 9", ["a_ct", "b_ct"]),
        ("0.5 < grade", ["a_ct", "b_ct", "b_ct_acq-1"]),
        ("`spacing_z_mm` == 2.5", ["a_ct", "b_ct", "b_ct_acq-1", "c_ct"]),
    ],
)
def test_one_filter_language_with_the_same_answer_on_roots_and_views(
    radi: RadiObject, expression: str, ids: list[str]
) -> None:
    if " & grade" in expression and "(" not in expression:
        with pytest.raises(SchemaError):
            radi.ct.filter(expression)
        return
    assert radi.ct.filter(expression).obs_ids == ids
    assert radi.ct[::-1].filter(expression).obs_ids == ids[::-1]
    assert radi.ct.obs.read(value_filter=expression)["obs_id"].tolist() == ids
    assert radi.ct.lazy().filter(expression).to_obs()["obs_id"].tolist() == ids


@pytest.mark.parametrize("missing", ["dose == None", "dose in [None]", "dose in [None, 7.5]"])
def test_what_is_not_a_number_is_missing_however_it_is_asked_for(missing: str) -> None:
    doses = pa.array([float("nan"), 0.0, None])  # as the RadiObject package's own tables hold them
    assert Condition(missing).mask(lambda name: doses, 3).tolist() == [True, False, True]
    assert Condition(f"not ({missing})").mask(lambda name: doses, 3).tolist() == [False, True, False]


@pytest.mark.parametrize(
    "expression", ["", "grade >", "import os", "grade == 'x'", "f(grade)", "nothing == 1", "note < 3"]
)
def test_a_filter_that_makes_no_sense_is_an_error(radi: RadiObject, expression: str) -> None:
    with pytest.raises(SchemaError):
        radi.ct.filter(expression)


def test_head_tail_sample_groups_and_selection(radi: RadiObject) -> None:
    assert radi.head(2).obs_subject_ids == ["a", "b"]
    assert radi.ct.tail(1).obs_ids == ["c_ct"]
    assert radi.ct.head(0).obs_ids == []
    assert radi.ct.sample(3, seed=1).obs_ids == radi.ct.sample(3, seed=1).obs_ids
    assert len(radi.sample(99)) == 3
    assert {s: view.obs_ids for s, view in radi.ct.groupby_subject()}["b"] == ["b_ct", "b_ct_acq-1"]
    assert radi.ct.sel(subject="b").obs_ids == ["b_ct", "b_ct_acq-1"]
    assert radi.sel(subject=["c", "a"]).obs_subject_ids == ["c", "a"]
    with pytest.raises(KeyError):
        radi.sel(subject="nobody")


def test_partial_updates_keep_other_columns(store: str, radi: RadiObject) -> None:
    radi.obs_meta.update(pd.DataFrame({"obs_subject_id": ["a"], "age": [31]}))
    frame = RadiObject(store).obs_meta.read().set_index("obs_subject_id")
    assert frame.loc["a", "age"] == 31
    assert frame.loc["a", "sex"] == "F"
    assert frame.loc["c", "age"] == 50
    radi.ct.obs.update(pd.DataFrame({"obs_subject_id": ["a"], "obs_id": ["a_ct"], "quality": [0.5]}))
    rows = VolumeCollection(radi.ct.uri).to_obs().set_index("obs_id")
    assert rows.loc["a_ct", "quality"] == 0.5
    assert rows.loc["a_ct", "grade"] == 1
    assert np.array_equal(VolumeCollection(radi.ct.uri)["a_ct"].affine, AFFINE)


def test_a_table_has_columns_added_dropped_updated_and_deleted(tmp_path: Path) -> None:
    frame = pd.DataFrame({"obs_subject_id": ["ü", "b"], "obs_id": ["1", "2"], "n": [1, 2], "t": ["x", None]})
    table = Dataframe.from_pandas(tmp_path / "t", frame)
    assert len(table) == 2
    assert table.columns == ["n", "t"]
    assert table.dtypes["n"] == np.int64
    table.add_column("f", np.float32, fill=1.5)
    assert table.read()["f"].tolist() == [1.5, 1.5]
    table.update(pd.DataFrame({"obs_subject_id": ["b"], "obs_id": ["2"], "n": [5]}))
    assert table.read(columns=["n", "f"])["n"].tolist() == [5, 1]
    assert table.read()["f"].tolist() == [1.5, 1.5]
    assert table.delete("n == 5") == 1
    assert table.read()["obs_subject_id"].tolist() == ["ü"]
    table.drop_column("t")
    assert table.columns == ["n", "f"]
    with pytest.raises(ValueError, match="already exists"):
        table.add_column("n", int)
    with pytest.raises(SchemaError, match="no column"):
        table.read(columns=["gone"])


def test_transforms_carry_affines_and_update_rows(radi: RadiObject, tmp_path: Path) -> None:
    def halve(array: np.ndarray, row: pd.Series) -> tuple[np.ndarray, dict[str, object]]:
        affine = AFFINE.copy()
        affine[:, 0] *= 2
        return array[::2], {"halved": row["obs_id"], "affine": affine}

    written = radi.ct.lazy().filter("grade > 0").map(np.negative).map(halve).write(tmp_path / "out")
    assert written.to_obs()["halved"].tolist() == ["a_ct", "b_ct", "b_ct_acq-1"]
    assert written.to_obs()["grade"].tolist() == [1, 2, 9]
    assert np.array_equal(written["a_ct"].to_numpy(), -radi.ct["a_ct"].to_numpy()[::2])
    assert written["a_ct"].affine[0, 0] == 2 * AFFINE[0, 0]
    assert written["a_ct"].spacing_mm[0] == pytest.approx(1.6)
    kept = radi.ct.map(lambda a: a + 1).write(tmp_path / "kept")
    assert np.array_equal(kept["c_ct"].affine, AFFINE)
    assert len(radi.ct.map(lambda a: a * 2)) == 4
    batches = radi.ct.map_batches(lambda items: [a - a.min() for a, _ in items], batch_size=3)
    assert [array.min() for array, _ in batches] == [0, 0, 0, 0]
    means = radi.ct.map(lambda a: a.mean())
    assert {row["obs_id"]: mean for mean, row in means} == {v.obs_id: v.to_numpy().mean() for v in radi.ct}
    assert means[0][1]["grade"] == 1
    with pytest.raises(ShapeError, match="3D or 4D"):
        means.write(tmp_path / "means")
    assert not (tmp_path / "means").exists()


def test_a_finished_place_is_never_written_over(radi: RadiObject, tmp_path: Path) -> None:
    radi.write(tmp_path / "copy")
    with pytest.raises(StorageError, match="already exists"):
        radi.write(tmp_path / "copy")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError):
        ensure_store(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="something else"):
        ensure_store(tmp_path / "folder")
    assert (tmp_path / "folder" / "mine.txt").read_text() == "mine"


def test_a_transform_that_fails_leaves_nothing(radi: RadiObject, tmp_path: Path) -> None:
    def fails(array: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        radi.ct.lazy().map(fails).write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_renaming_keeps_volumes_and_frees_the_name(store: str, radi: RadiObject) -> None:
    radi.rename_collection("pt", "pet")
    put(store, "pt", "a", 50)
    again = RadiObject(store)
    assert again.collection_names == ("ct", "pet", "pt")
    assert again.pet.obs_ids == ["a_pt", "c_pt"]
    assert np.array_equal(again.pt["a_pt"].to_numpy(stored=True), voxels(50))
    assert np.array_equal(again.pet["a_pt"].to_numpy(stored=True), voxels(21))


def test_interrupted_writers_go_on_where_they_were(tmp_path: Path) -> None:
    uri = tmp_path / "store"

    def interrupted() -> None:
        with RadiObjectWriter(uri) as writer:
            writer.write_obs_meta(pd.DataFrame({"obs_subject_id": ["s0"], "age": [3]}))
            with writer.add_collection("ct", shape=(7, 6, 5), obs_schema={"grade": int}) as ct:
                ct.write_volume(voxels(0), obs_id="s0_ct", obs_subject_id="s0", grade=1)
                raise OSError("cable")

    with pytest.raises(OSError, match="cable"):
        interrupted()
    with RadiObjectWriter(uri) as writer, writer.add_collection("ct", shape=(7, 6, 5)) as ct:
        assert ct.written_ids == {"s0_ct"}
        ct.write_volume(voxels(1), obs_id="s1_ct", obs_subject_id="s1", grade=2)
        with pytest.raises(ValueError, match="doesn't match"):
            ct.write_volume(voxels(1)[1:], obs_id="bad", obs_subject_id="s1")
    radi = writer.finalize()
    radi.validate()
    assert radi.ct.obs_ids == ["s0_ct", "s1_ct"]
    assert radi.ct.to_obs()["grade"].tolist() == [1, 2]
    with pytest.raises(RuntimeError, match="with"):
        VolumeCollectionWriter(tmp_path / "x").write_volume(voxels(1), "a", "b")


def test_values_of_another_type_do_not_stop_a_commit(store: str) -> None:
    uri = ensure_collection(store, "ct")
    for number, value in enumerate([1, 2.5, "three", True]):
        staged = stage_volume(
            uri, obs_id=f"v{number}", obs_subject_id="s", voxels=voxels(1), attributes={"x": value}
        )
        commit_volumes(uri, [staged])
    assert len(VolumeCollection(uri).to_obs()["x"].dropna()) == 4


def test_index_is_an_ordered_set_of_ids() -> None:
    index = Index.build(["c", "a", "b"])
    assert (index & Index.build(["b", "c"])).to_list() == ["c", "b"]
    assert (index | Index.build(["z", "a"])).to_list() == ["c", "a", "b", "z"]
    assert (index - Index.build(["a"])).to_list() == ["c", "b"]
    assert (index ^ Index.build(["a", "q"])).to_list() == ["c", "b", "q"]
    assert Index.build(["a"]) <= index
    assert hash(index) == hash(Index.build(["c", "a", "b"]))
    assert index.take([-1, 0]).to_list() == ["b", "c"]
    assert index.mask([True, False, True]).to_list() == ["c", "b"]
    assert not index.is_aligned(Index.build(["a", "b", "c"]))
    assert align(index, Index.build(["b", "x", "c"])).to_list() == ["c", "b"]
    with pytest.raises(ValueError, match="Duplicate"):
        Index.build(["a", "a"])


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "päd", "x" * 101, "a b"])
def test_collection_names_cannot_leave_their_folder(store: str, name: str) -> None:
    with pytest.raises(StorageError, match="collection name"):
        ensure_collection(store, name)
