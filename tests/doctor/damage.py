"""Damage to a store and to what is beside it, made in the ways in which it comes about."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.doctor.mend_tasks import Attempt
from radiobject_assets.store import (
    RadiObject,
    commit_volumes,
    list_collections,
    make_ctx,
    normalise,
    obs_table,
    stage_volume,
    update_obs,
)
from radiobject_assets.store.format.layout import store_log
from radiobject_assets.store.log.table_reading import read_table

OLD_S = 3 * 86_400


def rows(store: str, collection: str) -> list[dict[str, Any]]:
    found = read_inventory(store, collections=[collection]).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in found]


def collection_uri(store: str, name: str) -> str:
    return next(entry.uri for entry in list_collections(store, make_ctx()) if entry.name == name)


def inventory(store: str) -> pd.DataFrame:
    return read_inventory(store)


def value(store: str, collection: str, number: int, column: str) -> Any:
    obs_id = rows(store, collection)[number]["obs_id"]
    return RadiObject(store).collection(collection).get_obs_row_by_obs_id(obs_id)[column].iloc[0]


def array(store: str, collection: str, number: int) -> Path:
    token = str(rows(store, collection)[number]["volume"])
    return Path(collection_uri(store, collection)) / "volumes" / token


def set_columns(store: str, collection: str, number: int, **values: Any) -> str:
    """What a notebook does that "corrects" a table: a new row, by the store's own API."""
    row = rows(store, collection)[number]
    update_obs(collection_uri(store, collection), {(row["obs_subject_id"], row["obs_id"]): values})
    return str(row["obs_id"])


def give_to(store: str, collection: str, number: int, subject: str) -> None:
    """A row under another subject, which only a hand in the tables can do."""
    row = rows(store, collection)[number]
    key = (row["obs_subject_id"], row["obs_id"])
    table = obs_table(collection_uri(store, collection), make_ctx())
    held = table.read(keys=[[key[0]], [key[1]]])
    at = held.schema.get_field_index("obs_subject_id")
    table.upsert(held.set_column(at, "obs_subject_id", pa.array([subject], held.schema.types[at])))
    table.delete([key])


def remove_array(store: str, collection: str, number: int) -> None:
    """A clean-up script that took a folder for a temporary one."""
    shutil.rmtree(array(store, collection, number))


def data_file(store: str, collection: str, number: int) -> Path:
    return max(array(store, collection, number).rglob("*.tdb"), key=lambda path: path.stat().st_size)


def cut_off(path: Path) -> None:
    """A copy that was interrupted, or a disk that was full."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path: Path) -> None:
    """A bit that a disk or a cable turned."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(bytes(content))


def orphan(store: str, collection: str) -> None:
    """A writer that was killed between staging and commit."""
    stage_volume(
        collection_uri(store, collection), obs_id="nobody", obs_subject_id="nobody",
        voxels=np.ones((8, 8, 8), np.int16), affine=np.eye(4),
    )  # fmt: skip


def copy_under_another_id(store: str, collection: str, number: int) -> None:
    """The same delivery under two names."""
    row = rows(store, collection)[number]
    volume = RadiObject(store).collection(collection).loc[row["obs_id"]]
    uri = collection_uri(store, collection)
    staged = stage_volume(
        uri, obs_id=f"{row['obs_id']}-again", obs_subject_id=row["obs_subject_id"],
        shape=volume.shape, dtype=volume.stored_dtype, affine=np.asarray(volume.affine),
        slabs=[(z, t, slab) for z, t, slab in volume.iter_slabs(stored=True)],
        slope=volume.slope, intercept=volume.intercept, attributes={"kind": row["kind"]},
    )  # fmt: skip
    commit_volumes(uri, [staged], with_subjects=True)


def staged_file(folder: Path) -> None:
    """What a writer staged that was killed three days ago."""
    folder.mkdir(exist_ok=True)
    file = folder / ("0123456789abcdef" * 2)
    file.write_bytes(b"half of a segment")
    os.utime(file, (time.time() - OLD_S,) * 2)


def age(path: Path) -> None:
    os.utime(path, (time.time() - OLD_S,) * 2)


def voxels(store: str) -> dict[tuple[str, str], bytes]:
    """Every volume's voxels, by collection and id."""
    opened = RadiObject(store)
    return {
        (name, volume.obs_id or ""): np.asarray(volume.to_numpy()).tobytes()
        for name in opened.collection_names
        for volume in opened.collection(name)
    }


def twice(table: pd.DataFrame) -> pd.DataFrame:
    """The first subject in another split as well: two tables that were put one below the other."""
    first = table[table["is_current"].astype(bool)].iloc[[0]]
    other = next(name for name in sorted(set(table["split"])) if name != first["split"].iloc[0])
    return pd.concat([table, first.assign(split=other)], ignore_index=True)


def new_volume(store: str, collection: str, number: int) -> str:
    """What a writer adds."""
    uri = collection_uri(store, collection)
    image = np.full((8, 8, 8), number, np.int16)
    image[0, 0, 0] = -number - 1
    affine = np.diag([1.0, 1.0, 1.0 + number, 1.0])
    staged = stage_volume(
        uri, obs_id=f"new-{number}", obs_subject_id=f"new-{number}", voxels=image, affine=affine,
        attributes={"kind": "image"},
    )  # fmt: skip
    commit_volumes(uri, [staged], with_subjects=True)
    return f"new-{number}"


def many_commits(store: str, collection: str, n: int = 30) -> None:
    """Writers that were killed each time between a commit and the merging of small files."""
    where = normalise(store)
    name = next(
        f"collections/{directory}/obs"
        for directory, entry in store_log(where).newest().collections.items()
        if entry.name == collection
    )
    table = store_log(where).newest().table(name)
    held = read_table(store_log(where).storage, name, table)
    for _ in range(n):
        store_log(where).commit("put", lambda draft: draft.put(name, held))


def openable(store: str) -> bool:
    return len(RadiObject(store).collection_names) > 0


@dataclass(frozen=True)
class Lives:
    """A task that is done."""

    needed_bytes: int = 64 << 20

    def perform(self) -> Attempt:
        return Attempt(True, "done")


@dataclass(frozen=True)
class Dies:
    """A task whose process is killed, as the system does that runs out of memory."""

    needed_bytes: int = 64 << 20

    def perform(self) -> Attempt:
        os.kill(os.getpid(), signal.SIGKILL)
        return Attempt(True)


@dataclass(frozen=True)
class Full:
    """A task that finds the disk full."""

    needed_bytes: int = 64 << 20

    def perform(self) -> Attempt:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
