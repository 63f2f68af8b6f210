"""A flipped byte in what TileDB parses unguarded is an error before TileDB sees it: the process lives on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from radiobject_assets.store.checksums import SUMS

from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject, consolidate, create_snapshot, upsert_subjects
from radiobject_assets.store.layout import rename_collection
from tests.store.conftest import put


@pytest.fixture
def lived_in(store: str) -> Path:
    """A store with merged and single fragments, deleted rows, added columns, a snapshot and a new name."""
    for seed in range(3):
        put(store, "ct", f"s{seed}", seed, modality="CT", echo_time_ms=2.5)
    consolidate(store)
    create_snapshot(store, "one")
    RadiObject(store).ct.delete(["s0_ct"])
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["s1"], "age": [50]}))
    rename_collection(store, "ct", "chest")
    return Path(store)


def unguarded(store: Path) -> list[Path]:
    """Files of groups and tables that TileDB parses and has no checksum of its own for."""
    found = [path for path in store.rglob("*") if path.is_file() and path.stat().st_size]
    kinds = ("__schema", "__meta", "__commits")
    return [
        path
        for path in found
        if "volumes" not in path.relative_to(store).parts
        and (path.parent.name in kinds or path.name == "__fragment_metadata.tdb")
    ]


def everything(store: Path) -> str:
    radi = RadiObject(store)
    rows = [radi.collection(name).to_obs().astype(str).to_numpy().tolist() for name in radi.collection_names]
    return repr((radi.collection_names, radi.obs_meta.read().astype(str).to_numpy().tolist(), rows))


def test_every_such_file_has_its_checksum(lived_in: Path) -> None:
    noted = {
        folder.parent / note.name.replace("@", "/")
        for folder in lived_in.rglob(SUMS)
        for note in folder.iterdir()
    }
    files = unguarded(lived_in)
    assert {path.parent.name for path in files} >= {"__schema", "__meta", "__commits"}
    assert set(files) - noted == set()


def test_a_flipped_byte_in_any_of_them_is_told_and_never_returned(lived_in: Path) -> None:
    truth = everything(lived_in)
    rng = np.random.default_rng(3)
    told = 0
    for path in unguarded(lived_in):
        content = path.read_bytes()
        for position in rng.integers(0, len(content), 2).tolist():
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(damaged))
            try:
                assert everything(lived_in) == truth  # of the snapshots' table nothing was asked
                assert "snapshots" in path.parts
            except StorageError as error:
                assert str(path) in str(error)  # noqa: PT017 - most of them raise, and the text is looked at
                told += 1
            path.write_bytes(content)
    assert told > 10
    assert everything(lived_in) == truth


def test_notes_that_a_power_cut_left_empty_make_nothing_unreadable(lived_in: Path) -> None:
    truth = everything(lived_in)
    for folder in lived_in.rglob(SUMS):
        for note in folder.iterdir():
            note.write_text("")
    assert everything(lived_in) == truth


def test_what_is_damaged_is_not_merged(lived_in: Path) -> None:
    put(str(lived_in), "chest", "s5", 5)
    path = next(lived_in.glob("collections/ct/obs/__fragments/*/__fragment_metadata.tdb"))
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])
    with pytest.raises(StorageError, match="damaged"):
        consolidate(lived_in)
    with pytest.raises(StorageError, match="damaged"):
        put(str(lived_in), "chest", "s6", 6)
    path.write_bytes(content)
    assert consolidate(lived_in)
