"""Stores written by the RadiObject package: read by the id that each array carries, and copied into ours.

RadiObject finds a volume by the position of its id among the sorted ids, which another append shifts; the
array itself knows its id. Reading here goes by that, and the import reports the ids that RadiObject would
have mixed up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import SchemaError, StorageError
from radiobject_assets.store.affine import Affine, validate_affine
from radiobject_assets.store.building_state import building
from radiobject_assets.store.config import MB
from radiobject_assets.store.context import ctx_for_threads
from radiobject_assets.store.copying import stage_all
from radiobject_assets.store.deadline import storage_errors
from radiobject_assets.store.layout import OBS_ID, SUBJECT, ensure_collection
from radiobject_assets.store.staging import _COMPUTED, StagedVolume, commit_volumes, stage_volume
from radiobject_assets.store.subjects import ensure_subjects, upsert_subjects
from radiobject_assets.store.uris import join, list_names, normalise

_VOXELS = "voxels"


@dataclass(frozen=True)
class SourceVolume:
    """A volume of a RadiObject store."""

    uri: str
    position: int
    """Its number in the store: where RadiObject would look for some id."""
    obs_id: str | None
    """The id that the array itself carries."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: Affine | None
    """Voxel index to RAS+ millimetres; None where RadiObject did not keep it."""

    def slabs(self, ctx: tiledb.Ctx) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """The stored voxels as `(z, t, voxels)`, some slices at a time."""
        x, y, z_size = self.shape[:3]
        depth = max(1, 32 * MB // (x * y * self.dtype.itemsize))
        with storage_errors("read", self.uri), tiledb.open(self.uri, "r", ctx=ctx) as array:
            for t in range(self.shape[3] if len(self.shape) == 4 else 1):
                for z in range(0, z_size, depth):
                    key: tuple[Any, ...] = (slice(None), slice(None), slice(z, min(z + depth, z_size)))
                    part = array[(*key, t) if len(self.shape) == 4 else key]
                    yield z, t, part[_VOXELS] if isinstance(part, dict) else part

    def to_numpy(self, ctx: tiledb.Ctx | None = None) -> NDArray[Any]:
        """All stored voxels."""
        out = np.empty(self.shape, self.dtype, order="F")
        for z, t, part in self.slabs(ctx_for_threads(ctx)):
            where = out[:, :, z : z + part.shape[2]]
            (where[..., t] if out.ndim == 4 else where)[...] = part
        return out


class SourceCollection:
    """A collection of a RadiObject store."""

    def __init__(self, uri: str, name: str, ctx: tiledb.Ctx) -> None:
        self.uri, self.name, self._ctx = uri, name, ctx

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The obs table."""
        return _read_table(join(self.uri, "obs"), self._ctx)

    @cached_property
    def arrays(self) -> tuple[SourceVolume, ...]:
        """Every array, in the order of its number; those that the group's member list lost are there too."""
        numbers = sorted(int(n) for n in list_names(join(self.uri, "volumes"), self._ctx) if n.isdigit())
        return tuple(_open_volume(join(self.uri, "volumes", str(n)), n, self._ctx) for n in numbers)

    def __getitem__(self, obs_id: str) -> SourceVolume:
        """The volume whose array carries this id; KeyError without one, StorageError with several."""
        found = [volume for volume in self.arrays if volume.obs_id == obs_id]
        if not found:
            raise KeyError(f"no array of collection {self.name!r} carries the obs_id {obs_id!r}")
        if len(found) > 1:
            raise StorageError(f"{len(found)} arrays of collection {self.name!r} carry the same obs_id")
        return found[0]

    def mixed_up(self) -> list[str]:
        """Ids for which RadiObject 0.1.1 returns the array of another id."""
        by_position = {volume.position: volume.obs_id for volume in self.arrays}
        ids = list(self.rows[OBS_ID])
        return [
            obs_id for position, obs_id in enumerate(ids) if by_position.get(position) not in (None, obs_id)
        ]


class SourceStore:
    """A store of the RadiObject package, opened for reading.

    Raises
    ------
    StorageError
        If there is no such store at `uri`.
    """

    def __init__(self, uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None) -> None:
        self.uri, self._ctx = normalise(uri), ctx_for_threads(ctx)
        with storage_errors("look at", self.uri):
            parts = [
                tiledb.object_type(join(self.uri, p), ctx=self._ctx) for p in ("obs_meta", "collections")
            ]
            group = tiledb.object_type(self.uri, ctx=self._ctx) == "group"
        if not group or parts != ["array", "group"]:
            raise StorageError(f"{self.uri} is not a store of the RadiObject package")
        with storage_errors("open", self.uri), tiledb.Group(self.uri, "r", ctx=self._ctx) as opened:
            if "format" in opened.meta:
                raise StorageError(f"{self.uri} is a store of ours already: open it with RadiObject")

    @cached_property
    def obs_meta(self) -> pd.DataFrame:
        """The table of subjects."""
        return _read_table(join(self.uri, "obs_meta"), self._ctx)

    @cached_property
    def collections(self) -> dict[str, SourceCollection]:
        """Collections by name: those in the folder, so that members lost from the group are found."""
        folder = join(self.uri, "collections")
        found = {}
        for name in list_names(folder, self._ctx):
            uri = join(folder, name)
            if not name.startswith("__") and tiledb.object_type(join(uri, "obs"), ctx=self._ctx) == "array":
                found[name] = SourceCollection(uri, name, self._ctx)
        return found


@dataclass(frozen=True)
class ImportReport:
    """What `import_radiobject` copied, and what was wrong in the source."""

    subjects: int
    volumes: dict[str, int] = field(default_factory=dict)
    """Volumes copied, by collection."""
    mixed_up: dict[str, list[str]] = field(default_factory=dict)
    """By collection, ids for which RadiObject would have returned another id's voxels."""
    without_array: dict[str, list[str]] = field(default_factory=dict)
    """By collection, ids that have a row and no array."""
    without_row: dict[str, int] = field(default_factory=dict)
    """By collection, arrays that no row describes; they were not copied, as their subject is not known."""


def import_radiobject(
    old: str | os.PathLike[str], new: str | os.PathLike[str], ctx: tiledb.Ctx | None = None
) -> ImportReport:
    """Copy a store of the RadiObject package into a new store of ours; the old one is only read.

    Voxels go by the id that each array carries. Volumes without a stored affine get the identity, marked as
    assumed. Rescale was never kept by RadiObject, so values are taken as they are.
    """
    source, target, ctx = SourceStore(old, ctx), normalise(new), ctx_for_threads(ctx)
    report = ImportReport(len(source.obs_meta))
    with building(target, ctx, store=True):
        meta = source.obs_meta.drop(columns=[c for c in (OBS_ID,) if c in source.obs_meta])
        upsert_subjects(target, meta, ctx)
        for name, collection in source.collections.items():
            into = ensure_collection(target, name, ctx)
            jobs, missing = [], []
            for row in collection.rows.to_dict("records"):
                try:
                    volume = collection[row[OBS_ID]]
                except KeyError:
                    missing.append(row[OBS_ID])
                    continue
                jobs.append(_job(volume, {str(k): v for k, v in row.items()}, into, ctx))
            staged = stage_all(into, jobs, ctx)
            ensure_subjects(target, {v.obs_subject_id for v in staged}, ctx)
            commit_volumes(into, staged, ctx)
            described = set(collection.rows[OBS_ID])
            report.volumes[name] = len(staged)
            report.mixed_up[name] = collection.mixed_up()
            report.without_array[name] = missing
            report.without_row[name] = sum(v.obs_id not in described for v in collection.arrays)
    return report


def _job(volume: SourceVolume, row: dict[str, Any], into: str, ctx: tiledb.Ctx) -> Callable[[], StagedVolume]:
    attributes = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in row.items()
        if name not in (SUBJECT, OBS_ID) and name not in _COMPUTED and value is not None and value == value
    }
    return lambda: stage_volume(
        into,
        obs_id=row[OBS_ID],
        obs_subject_id=row[SUBJECT],
        shape=volume.shape,
        dtype=volume.dtype,
        affine=volume.affine,
        slabs=volume.slabs(ctx),
        attributes=attributes,
        ctx=ctx,
    )


def _read_table(uri: str, ctx: tiledb.Ctx) -> pd.DataFrame:
    with storage_errors("read", uri), tiledb.open(uri, "r", ctx=ctx) as array:
        index = [array.schema.domain.dim(i).name for i in range(array.schema.domain.ndim)]
        if array.nonempty_domain() is None:
            names = [array.schema.attr(i).name for i in range(array.schema.nattr)]
            return pd.DataFrame({name: pd.Series(dtype=object) for name in [*index, *names]})
        columns = array.query(order="C")[:]
    frame = pd.DataFrame({name: _plain(values) for name, values in columns.items()})
    others = [name for name in frame.columns if name not in index]
    return frame.sort_values(index, ignore_index=True)[[*index, *others]]


def _plain(values: Any) -> Any:
    if np.asarray(values).dtype.kind in "OS":
        return [v.decode() if isinstance(v, bytes) else v for v in np.asarray(values, dtype=object)]
    return values


def _open_volume(uri: str, position: int, ctx: tiledb.Ctx) -> SourceVolume:
    with storage_errors("open", uri), tiledb.open(uri, "r", ctx=ctx) as array:
        schema, meta = array.schema, dict(array.meta.items())
        shape = tuple(int(schema.domain.dim(i).size) for i in range(schema.domain.ndim))
        dtype = np.dtype(schema.attr(0).dtype)
    obs_id = meta.get("obs_id")
    return SourceVolume(uri, position, str(obs_id) if obs_id else None, shape, dtype, _affine(uri, meta))


def _affine(uri: str, meta: dict[str, Any]) -> Affine | None:
    text = meta.get("orientation_affine")
    if not text:
        return None
    try:
        return validate_affine(json.loads(text))
    except ValueError as error:
        raise SchemaError(f"{uri}: the stored affine cannot be used: {error}") from error
