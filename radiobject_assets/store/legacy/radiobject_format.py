"""Stores written by the RadiObject package, opened in their place: volumes by the id that each array carries.

RadiObject finds a volume by the position of its id among the sorted ids, which another append shifts; the
array itself knows its id. The rows made here name for each id the array that carries it, so that the rest of
the package reads such a store like one of ours. Nothing is ever written to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.orientation import affine_axcodes, spacing_mm
from radiobject_assets.store.arrays.array_copies import local_array, local_group
from radiobject_assets.store.format.layout import (
    AFFINE_COLUMNS,
    COLLECTION_FORMAT,
    OBS_CORE,
    SIZE_COLUMNS,
    SPACING_COLUMNS,
    STORE_FORMAT,
    CollectionEntry,
    check_format,
)
from radiobject_assets.store.format.volume_header import VolumeHeader
from radiobject_assets.store.legacy.radiobject_array import radiobject_header, read_only
from radiobject_assets.store.log.columns import Column, ColumnType, to_arrow
from radiobject_assets.store.log.commit_log import NoLogError
from radiobject_assets.store.log.state import State
from radiobject_assets.store.log.table_reading import Picture
from radiobject_assets.store.names import COLLECTIONS, OBS, OBS_ID, OBS_META, SUBJECT, VOLUMES
from radiobject_assets.store.storage import DeadlineError
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.errors import storage_errors
from radiobject_assets.store.storage.parallel import map_on_threads
from radiobject_assets.store.storage.uris import child_names, join, last_part, object_kind
from radiobject_assets.store.tables.rows import Rows

_PARTS = {STORE_FORMAT: ((OBS_META, "array"), (COLLECTIONS, "group")),
          COLLECTION_FORMAT: ((OBS, "array"), (VOLUMES, "group"))}  # fmt: skip


def is_radiobjects(uri: str, ctx: tiledb.Ctx, expected: str) -> bool:
    """Whether RadiObject wrote what is at `uri`, instead of this package.

    Raises
    ------
    StorageError
        Where there is neither, or one of ours in a version that this program cannot read.
    """
    try:
        check_format(uri, ctx, expected)
    except NoLogError:
        raise
    except DeadlineError:
        raise
    except StorageError:
        # Of a group of TileDB: a store of format 1 has a mark in its metadata.
        if object_kind(uri, ctx) != "group" or "format" in group_metadata(uri, ctx):
            raise
        if any(object_kind(join(uri, part), ctx) != kind for part, kind in _PARTS[expected]):
            raise
        return True
    return False


def group_metadata(uri: str, ctx: tiledb.Ctx) -> dict[str, Any]:
    """The metadata of the TileDB group at `uri`."""

    with (
        local_group(uri, ctx) as place,
        storage_errors("open", uri, ctx),
        tiledb.Group(place, "r", ctx=ctx) as group,
    ):
        return dict(group.meta.items())


def radiobject_collections(store_uri: str, ctx: tiledb.Ctx) -> list[CollectionEntry]:
    """Collections of a store, by name: those in its folder, so that members lost from the group are found.

    A renamed collection has its new name: RadiObject itself finds it no more.
    """
    folder = join(store_uri, COLLECTIONS)
    found = []
    for directory in child_names(folder, ctx):
        uri = join(folder, directory)
        if not directory.startswith("__") and object_kind(join(uri, OBS), ctx) == "array":
            found.append((directory, radiobject_collection_name(uri, ctx), uri))
    names = Counter(name for _, name, _ in found)
    entries = [CollectionEntry(name if names[name] == 1 else where, uri) for where, name, uri in found]
    return sorted(entries, key=lambda entry: entry.name)


def radiobject_collection_name(uri: str, ctx: tiledb.Ctx) -> str:
    """The name that a collection carries, else that of its folder."""
    return str(group_metadata(uri, ctx).get("name") or last_part(uri))


@dataclass(frozen=True)
class Inventory:
    """Rows and arrays of a collection, brought together by the id that each array carries."""

    rows: pd.DataFrame
    """The obs table, sorted by its keys, without the ids that no array carries."""
    headers: tuple[tuple[str, VolumeHeader], ...]
    """For each row the name and the header of its array."""
    mixed_up: tuple[str, ...]
    """Ids for which RadiObject 0.1.1 returns the array of another id."""
    without_array: tuple[str, ...]
    """Ids that have a row and no array."""
    without_row: int
    """Arrays that no row describes; their subject is not known."""


def take_inventory(collection_uri: str, ctx: tiledb.Ctx) -> Inventory:
    """Read the obs table and the header of every array.

    Raises
    ------
    StorageError
        If several arrays carry the same id: none of them can be told to be the one.
    """
    folder = join(collection_uri, VOLUMES)
    # The folder, not the group's member list, which loses members under concurrent writers.
    names = sorted((name for name in child_names(folder, ctx) if name.isdigit()), key=int)
    headers = map_on_threads(lambda name: _header(join(folder, name), ctx), names)
    counts = Counter(header.obs_id for header in headers if header.obs_id)
    twice = [obs_id for obs_id, count in counts.items() if count > 1]
    if twice:
        raise StorageError(f"{collection_uri}: {len(twice)} id(s) are each carried by several arrays")
    carrier = {h.obs_id: (name, h) for name, h in zip(names, headers, strict=True) if h.obs_id}
    rows = _read_table(join(collection_uri, OBS), ctx)
    ids = [str(obs_id) for obs_id in rows[OBS_ID]]
    at_position = {int(name): h.obs_id for name, h in zip(names, headers, strict=True)}
    there = np.asarray([obs_id in carrier for obs_id in ids], np.bool_)
    return Inventory(
        rows=rows[there].reset_index(drop=True),
        headers=tuple(carrier[obs_id] for obs_id in ids if obs_id in carrier),
        mixed_up=tuple(obs_id for i, obs_id in enumerate(ids) if at_position.get(i) not in (None, obs_id)),
        without_array=tuple(obs_id for obs_id in ids if obs_id not in carrier),
        without_row=sum(h.obs_id not in set(ids) for h in headers),
    )


def _header(uri: str, ctx: tiledb.Ctx) -> VolumeHeader:
    with (
        local_array(uri, ctx, voxels=False) as place,
        storage_errors("open", uri, ctx),
        tiledb.open(place, "r", ctx=ctx) as array,
    ):
        header = radiobject_header(array)
    if header is None:
        raise StorageError(f"{uri} is no volume of the RadiObject package")
    return header


class RadiObjectRows(Rows):
    """The rows of a table that RadiObject wrote, with the columns of ours: of obs, if it has a core."""

    def __init__(self, uri: str, ctx: ContextRef, core: Mapping[str, Column] | None = None) -> None:
        super().__init__(uri, ctx, Unlogged(), core=core)

    def _open_table(self) -> Any:
        ctx = self.ctx.get()
        if self.core:
            return HeldTable(_obs(take_inventory(self.uri.removesuffix(f"/{OBS}"), ctx)), (SUBJECT, OBS_ID))
        frame = _read_table(self.uri, ctx)
        return HeldTable(_arrow(frame.drop(columns=OBS_ID, errors="ignore")), (SUBJECT,))

    def new_table(self) -> Any:
        """Always an error: nothing is written to such a store."""
        raise read_only(self.uri, "change the table")


class Unlogged(Picture):
    """In place of a state, for a store without a log: it is shown as it is."""

    def __init__(self) -> None:
        super().__init__((), ContextRef())

    @property
    def state(self) -> State:
        """Nothing."""
        return State("store", "")


@dataclass(frozen=True)
class HeldTable:
    """A table in memory, read like a stored one."""

    rows: pa.Table
    index: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """Names of the columns beside the keys."""
        return [name for name in self.rows.column_names if name not in self.index]

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Keys and the columns asked for."""
        return self.rows.select([*self.index, *columns])

    def close(self) -> None:
        """Nothing is open."""


def _obs(inventory: Inventory) -> pa.Table:
    """The obs table with the columns of ours: what the arrays say goes before what the rows say."""
    records = [_core_values(name, header) for name, header in inventory.headers]
    old = _arrow(inventory.rows)
    columns = {name: old.column(name) for name in (SUBJECT, OBS_ID)}
    for name, column in OBS_CORE.items():
        if not records or name in records[0]:
            columns[name] = pa.array([record[name] for record in records], _arrow_type(column))
        else:
            values = old.column(name) if name in old.column_names else pa.nulls(len(records))
            columns[name] = values.cast(_arrow_type(column))
    columns.update({name: old.column(name) for name in old.column_names if name not in columns})
    return pa.table(columns)


def _arrow_type(column: Column) -> pa.DataType:
    return (column.type or ColumnType.UTF8).arrow


def _core_values(name: str, header: VolumeHeader) -> dict[str, Any]:
    affine = np.asarray([*header.affine, (0.0, 0.0, 0.0, 1.0)])
    sizes = (*header.shape, 1)[:4] if len(header.shape) == 3 else header.shape
    return {
        "volume": name,
        "ndim": len(header.shape),
        **dict(zip(SIZE_COLUMNS, sizes, strict=True)),
        "dtype": header.dtype.name,
        **dict(zip(AFFINE_COLUMNS, affine[:3].ravel().tolist(), strict=True)),
        **dict(zip(SPACING_COLUMNS, spacing_mm(affine), strict=True)),
        "axcodes": affine_axcodes(affine),
        "orientation_source": header.orientation_source,
        "slope": header.slope,
        "intercept": header.intercept,
        "kind": header.kind,
        "voxel_digest": header.voxel_digest,
        "voxel_bytes": int(np.prod(header.shape, dtype=np.int64)) * header.dtype.itemsize,
        "stored_bytes": None,
        "index_digest": None,
        "writer_version": "RadiObject",
        "written_at": None,
    }


def _arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.table({str(name): to_arrow(str(name), frame[name])[1] for name in frame.columns})


def _read_table(uri: str, ctx: tiledb.Ctx) -> pd.DataFrame:
    with (
        local_array(uri, ctx, voxels=True) as place,
        storage_errors("read", uri, ctx),
        tiledb.open(place, "r", ctx=ctx) as array,
    ):
        index = [array.schema.domain.dim(i).name for i in range(array.schema.domain.ndim)]
        if array.nonempty_domain() is None:
            names = [array.schema.attr(i).name for i in range(array.schema.nattr)]
            columns: dict[str, Any] = {name: pd.Series(dtype=object) for name in [*index, *names]}
        else:
            columns = dict(array.query(order="C")[:])
    frame = pd.DataFrame({name: _plain(values) for name, values in columns.items()})
    others = [name for name in frame.columns if name not in index]
    return frame.sort_values(index, ignore_index=True)[[*index, *others]]


def _plain(values: Any) -> Any:
    if np.asarray(values).dtype.kind in "OS":
        return [v.decode() if isinstance(v, bytes) else v for v in np.asarray(values, dtype=object)]
    return values
