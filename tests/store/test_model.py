"""Random sequences of operations on a store, compared with a plain in-memory model after every step."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from radiobject_assets.store import (
    RadiObject,
    VolumeCollection,
    commit_volumes,
    consolidate,
    create_snapshot,
    ensure_collection,
    ensure_store,
    stage_volume,
    upsert_subjects,
    vacuum,
)

SUBJECTS = ["b", "a", "Z", "10", "9", "患者-1", 'Ümit O\'Neil "x"', "a/b", "zz"]
DTYPES = ["int16", "uint8", "float32", "float64", "bool", "float16", ">i2", "uint16", "int32"]
ids = st.sampled_from(SUBJECTS)


@dataclass(frozen=True)
class Held:
    """A volume as the model remembers it."""

    subject: str
    voxels: Any
    affine: Any
    slope: float
    intercept: float
    grade: int | None

    def physical(self) -> Any:
        if self.slope == 1.0 and self.intercept == 0.0:
            return self.voxels
        return self.voxels.astype(np.float64) * self.slope + self.intercept


def make(subject: str, seed: int, grade: int | None) -> Held:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 7, 3))
    if seed % 5 == 0:
        shape = (*shape, 3)
    array = (rng.random(shape) * 50).astype(DTYPES[seed % len(DTYPES)])
    affine = np.eye(4)
    affine[:3] = rng.normal(size=(3, 4))
    scaled = seed % 2 and array.dtype.kind in "iu"
    return Held(subject, array, affine, 2.5 if scaled else 1.0, -7.0 if scaled else 0.0, grade)


class StoreModel(RuleBasedStateMachine):
    """The store on disk and what it should hold."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix="store-model-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT"))
        )
        self.uri = ensure_store(self.folder / "store")
        self.subjects: dict[str, int | None] = {}
        self.volumes: dict[str, dict[str, Held]] = {}
        self.snapshots: dict[str, tuple[dict[str, int | None], dict[str, dict[str, Held]]]] = {}
        self.radi = RadiObject(self.uri)
        self.copies = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def write(self, name: str, items: list[tuple[str, Held]]) -> None:
        uri = ensure_collection(self.uri, name)
        staged = [
            stage_volume(
                uri,
                obs_id=obs_id,
                obs_subject_id=held.subject,
                voxels=held.voxels,
                affine=held.affine,
                slope=held.slope,
                intercept=held.intercept,
                attributes={"grade": held.grade},
            )
            for obs_id, held in items
        ]
        commit_volumes(uri, staged)
        self.volumes.setdefault(name, {}).update(dict(items))

    @rule(
        name=st.sampled_from(["ct", "t1", "seg"]),
        batch=st.lists(
            st.tuples(ids, st.integers(0, 10_000), st.none() | st.integers(0, 5)), min_size=1, max_size=4
        ),
        backwards=st.booleans(),
    )
    def append_or_ingest_again(self, name: str, batch: list[Any], backwards: bool) -> None:
        items = {f"{subject}::{name}": make(subject, seed, grade) for subject, seed, grade in batch}
        frame = pd.DataFrame({"obs_subject_id": list({s for s, _, _ in batch})})
        upsert_subjects(self.uri, frame)
        for subject, _, _ in batch:
            self.subjects.setdefault(subject, None)
        ordered = sorted(items.items(), reverse=backwards)
        self.write(name, ordered)

    @precondition(lambda self: self.subjects)
    @rule(data=st.data(), age=st.integers(0, 99))
    def change_a_subject(self, data: st.DataObject, age: int) -> None:
        subject = data.draw(st.sampled_from(sorted(self.subjects)))
        upsert_subjects(self.uri, pd.DataFrame({"obs_subject_id": [subject], "age": [age]}))
        self.subjects[subject] = age

    @precondition(lambda self: any(self.volumes.values()))
    @rule(data=st.data())
    def delete_a_volume(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, v in self.volumes.items() if v)))
        obs_id = data.draw(st.sampled_from(sorted(self.volumes[name])))
        RadiObject(self.uri).collection(name).delete([obs_id])
        del self.volumes[name][obs_id]

    @precondition(lambda self: len(self.volumes) > 0)
    @rule(data=st.data(), new=st.sampled_from(["ct", "t1", "seg", "renamed", "other.1"]))
    def rename(self, data: st.DataObject, new: str) -> None:
        old = data.draw(st.sampled_from(sorted(self.volumes)))
        if new in self.volumes:
            return
        RadiObject(self.uri).rename_collection(old, new)
        self.volumes[new] = self.volumes.pop(old)

    @rule()
    def tidy(self) -> None:
        consolidate(self.uri)
        vacuum(self.uri, grace_s=0)

    @precondition(lambda self: len(self.snapshots) < 3)
    @rule()
    def take_a_snapshot(self) -> None:
        name = f"v{len(self.snapshots)}"
        create_snapshot(self.uri, name)
        self.snapshots[name] = (dict(self.subjects), {n: dict(v) for n, v in self.volumes.items()})

    @precondition(lambda self: self.subjects)
    @rule(low=st.integers(0, 99))
    def a_filtered_view_shows_the_volumes_of_its_subjects_only(self, low: int) -> None:
        view = RadiObject(self.uri)
        if "age" not in view.obs_meta.columns:
            return
        view = view.filter(f"age >= {low}")
        chosen = {s for s, age in self.subjects.items() if age is not None and age >= low}
        compare(view, {s: self.subjects[s] for s in chosen}, restricted(self.volumes, chosen))

    @precondition(lambda self: self.subjects)
    @rule(data=st.data())
    def views_by_position_and_id_agree(self, data: st.DataObject) -> None:
        radi = RadiObject(self.uri)
        order = sorted(self.subjects)
        assert radi.obs_subject_ids == order
        picks = data.draw(
            st.lists(st.integers(-len(order), len(order) - 1), unique_by=lambda i: i % len(order))
        )
        chosen = [order[i] for i in picks]
        assert radi.iloc[picks].obs_subject_ids == chosen
        assert radi.loc[chosen].obs_subject_ids == chosen
        compare(
            radi.iloc[picks], {s: self.subjects[s] for s in chosen}, restricted(self.volumes, set(chosen))
        )

    @precondition(lambda self: any(self.volumes.values()))
    @rule(data=st.data())
    def map_and_write_makes_a_collection_with_affines_and_rows(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, v in self.volumes.items() if v)))
        self.copies += 1
        target = self.folder / f"mapped{self.copies}"
        source = RadiObject(self.uri).collection(name)
        written = source.lazy().map(lambda array: array.astype(np.float64) + 1.0).write(target)
        expected = {
            obs_id: replace(held, voxels=held.physical().astype(np.float64) + 1.0, slope=1.0, intercept=0.0)
            for obs_id, held in self.volumes[name].items()
        }
        compare_collection(written, expected)
        shutil.rmtree(target)

    @precondition(lambda self: self.subjects)
    @rule()
    def a_written_copy_equals_its_source(self) -> None:
        self.copies += 1
        target = self.folder / f"copy{self.copies}"
        compare(RadiObject(self.uri).write(target), self.subjects, self.volumes)
        shutil.rmtree(target)

    @rule()
    def reopen(self) -> None:
        self.radi = RadiObject(self.uri)

    @invariant()
    def the_store_is_what_the_model_says(self) -> None:
        if hasattr(self, "uri"):
            compare(RadiObject(self.uri), self.subjects, self.volumes)

    @invariant()
    def snapshots_stay_what_they_were(self) -> None:
        if hasattr(self, "uri"):
            for name, (subjects, volumes) in self.snapshots.items():
                compare(RadiObject(self.uri, timestamp=name), subjects, volumes)


def restricted(volumes: dict[str, dict[str, Held]], subjects: set[str]) -> dict[str, dict[str, Held]]:
    return {n: {i: h for i, h in held.items() if h.subject in subjects} for n, held in volumes.items()}


def compare(radi: RadiObject, subjects: dict[str, int | None], volumes: dict[str, dict[str, Held]]) -> None:
    assert set(radi.obs_subject_ids) == set(subjects)
    assert radi.collection_names == tuple(sorted(volumes))
    frame = radi.obs_meta.read()
    if "age" in frame:
        ages = dict(zip(frame["obs_subject_id"], frame["age"], strict=True))
        assert {s: None if pd.isna(a) else int(a) for s, a in ages.items()} == subjects
    else:
        assert all(age is None for age in subjects.values())
    for name, held in volumes.items():
        compare_collection(radi.collection(name), held)


def compare_collection(collection: VolumeCollection, expected: dict[str, Held]) -> None:
    assert collection.obs_ids == sorted(expected, key=lambda i: (expected[i].subject, i))
    grades = collection.to_obs()
    for position, obs_id in enumerate(collection.obs_ids):
        held = expected[obs_id]
        volume = collection[obs_id]
        assert volume.obs_subject_id == held.subject
        assert collection.iloc[position].obs_id == obs_id
        stored = volume.to_numpy(stored=True)
        assert stored.dtype == held.voxels.dtype.newbyteorder("=")
        assert np.array_equal(stored, held.voxels)
        assert np.array_equal(volume.affine, held.affine)
        assert (volume.slope, volume.intercept) == (held.slope, held.intercept)
        np.testing.assert_allclose(volume.to_numpy(), held.physical(), rtol=1e-6)
        if "grade" in grades:
            value = grades["grade"].iloc[position]
            assert (None if pd.isna(value) else int(value)) == held.grade


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
