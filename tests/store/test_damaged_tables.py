"""Damage to any file of a store's rows is told, in plain words; other rows never come back in silence."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    RadiObject,
    consolidate,
    create_snapshot,
    delete_subjects,
    ensure_store,
    list_snapshots,
    upsert_subjects,
)
from radiobject_assets.store.format.layout import rename_collection
from tests.store.conftest import put

_FRESH = multiprocessing.get_context("forkserver")
_FRESH.set_forkserver_preload(["tests.store.test_damaged_tables"])


@pytest.fixture
def lived_in(store: str) -> Path:
    """A store with merged and single segments, deleted rows, added columns, two snapshots and a new name."""
    for seed in range(3):
        put(store, "ct", f"s{seed}", seed, modality="CT", echo_time_ms=2.5)
    consolidate(store)
    create_snapshot(store, "one")
    RadiObject(store).ct.delete(["s0_ct"])
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["s1"], "age": [50]}))
    rename_collection(store, "ct", "chest")
    create_snapshot(store, "two")
    put(store, "chest", "s4", 4)
    return Path(store)


def everything(store: Path) -> str:
    """The present rows and those of both snapshots, as text."""
    shown = []
    for moment in (None, "one", "two"):
        radi = RadiObject(store, timestamp=moment)
        rows = [
            radi.collection(name).to_obs().astype(str).to_numpy().tolist() for name in radi.collection_names
        ]
        shown.append((radi.collection_names, radi.obs_meta.read().astype(str).to_numpy().tolist(), rows))
    return repr((shown, list_snapshots(store)))


def _answer(store: Path, answers: Connection) -> None:
    try:
        answers.send(everything(store))
    except StorageError as error:
        answers.send(error)


def fresh_look(store: Path) -> str | StorageError:
    """What a process that has read nothing yet is shown, or told."""
    here, there = _FRESH.Pipe()
    process = _FRESH.Process(target=_answer, args=(store, there))
    process.start()
    there.close()
    assert here.poll(60)
    found: str | StorageError = here.recv()
    process.join()
    return found


def files_of_rows(store: Path) -> list[Path]:
    """Those that the present state or a snapshot needs."""
    segments = [*store.glob("obs_meta/*.parquet"), *store.glob("collections/*/obs/*.parquet")]
    return sorted([store / "state.json", *store.glob("log/*/*.json"), *segments])


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    damaged[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def zero(content: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(content)))
    end = min(len(content), start + 512)
    return content[:start] + bytes(end - start) + content[end:]


def test_damage_in_any_file_of_rows_is_told_or_harmless_and_never_other_rows(lived_in: Path) -> None:
    truth = everything(lived_in)
    rng = np.random.default_rng(3)
    told = 0
    for path, damage in zip(files_of_rows(lived_in), cycle([flip, cut, zero])):
        content = path.read_bytes()
        path.write_bytes(damage(content, rng))
        seen = fresh_look(lived_in)
        path.write_bytes(content)
        if isinstance(seen, StorageError):
            assert path.name in str(seen)
            told += 1
        else:
            assert seen == truth, path.relative_to(lived_in)
    assert told > 8
    assert fresh_look(lived_in) == truth


def test_a_removed_file_of_rows_is_told_or_harmless_and_never_fewer_rows(lived_in: Path) -> None:
    truth = everything(lived_in)
    newest = max(lived_in.glob("log/*/*.json"))
    for path in files_of_rows(lived_in):
        aside = path.with_suffix(".aside")
        os.rename(path, aside)
        seen = fresh_look(lived_in)
        os.rename(aside, path)
        if isinstance(seen, StorageError):
            assert path.name in str(seen)
        else:
            assert seen == truth
            assert path != newest


def test_a_file_of_rows_copied_over_another_of_its_kind_is_told_or_harmless(lived_in: Path) -> None:
    truth = everything(lived_in)
    told = 0
    for suffix in (".json", ".parquet"):
        paths = [path for path in files_of_rows(lived_in) if path.suffix == suffix]
        for number, path in enumerate(paths):
            content = path.read_bytes()
            path.write_bytes(paths[number - 1].read_bytes())
            seen = fresh_look(lived_in)
            path.write_bytes(content)
            if isinstance(seen, StorageError):
                told += 1
            else:
                assert seen == truth, path.relative_to(lived_in)
    assert told > 5


def test_a_file_of_another_store_in_the_place_of_its_own_is_told(lived_in: Path, tmp_path: Path) -> None:
    other = Path(ensure_store(tmp_path / "other"))
    for seed in range(12):
        put(str(other), "chest", f"x{seed}", seed)
    truth = everything(lived_in)
    for path in files_of_rows(lived_in):
        twin = other / path.relative_to(lived_in)
        if twin.is_file():
            content = path.read_bytes()
            path.write_bytes(twin.read_bytes())
            seen = fresh_look(lived_in)
            path.write_bytes(content)
            assert isinstance(seen, StorageError) or seen == truth
            if path.name == "state.json" or path == max(lived_in.glob("log/*/*.json")):
                assert isinstance(seen, StorageError)


def test_what_is_damaged_is_neither_merged_nor_built_on_nor_erased_from(lived_in: Path) -> None:
    path = max(lived_in.glob("collections/ct/obs/*.parquet"), key=lambda found: found.stat().st_size)
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])
    for attempt in (consolidate, _put_again, _erase):
        with pytest.raises(StorageError, match=r"damaged.*restore it from a backup"):
            _in_a_fresh_process(attempt, lived_in)
    path.write_bytes(content)
    assert consolidate(lived_in)
    assert _erase(lived_in) is None
    assert RadiObject(lived_in, timestamp="one").obs_subject_ids == ["s0", "s2"]


def _put_again(store: Path) -> None:
    put(str(store), "chest", "s4", 5)


def _erase(store: Path) -> None:
    delete_subjects(store, ["s1"])


def _do(job: Callable[[Path], object], store: Path, answers: Connection) -> None:
    try:
        job(store)
        answers.send(None)
    except StorageError as error:
        answers.send(error)


def _in_a_fresh_process(job: Callable[[Path], object], store: Path) -> None:
    here, there = _FRESH.Pipe()
    process = _FRESH.Process(target=_do, args=(job, store, there))
    process.start()
    there.close()
    error = here.recv()
    process.join()
    if error is not None:
        raise error
