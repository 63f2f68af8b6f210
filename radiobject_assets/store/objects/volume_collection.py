"""A collection of volumes, opened: rows of obs, each naming one array; roots, and views of some rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import NDArray

from radiobject_assets.store.format.volume_header import same_shape
from radiobject_assets.store.names import SUBJECT
from radiobject_assets.store.objects.chosen_rows import ChosenRows, Indexer
from radiobject_assets.store.objects.chosen_volumes import ChosenVolumes
from radiobject_assets.store.objects.copying import collection_from_volumes, copy_collection
from radiobject_assets.store.objects.dataframe import Dataframe
from radiobject_assets.store.objects.datasets import dataset_of
from radiobject_assets.store.objects.image_batches import (
    ImageBatch,
    append_images,
    create_collection_from_images,
)
from radiobject_assets.store.objects.indexing import Index, is_position
from radiobject_assets.store.objects.making import making_collection
from radiobject_assets.store.objects.query import EagerQuery, LazyQuery
from radiobject_assets.store.objects.transforms import TransformFn
from radiobject_assets.store.objects.verification import VolumeProblem, validate_collection, verify_collection
from radiobject_assets.store.objects.volume import Volume
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.uris import normalise

ImageSources = Sequence[tuple[str | Path, str]]


class VolumeCollection:
    """Volumes of one kind.

    Rows are sorted by (obs_subject_id, obs_id). An object shows what was there when it was opened; it sees
    its own writes, and those of others after `refresh()`. A view keeps what it shows.

    Parameters
    ----------
    uri
        The collection: local path, file:// or s3://.
    ctx
        TileDB context; None for the process's own.
    timestamp
        Milliseconds since 1970 to see it as it was then; None for now.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        ctx: tiledb.Ctx | None = None,
        timestamp: int | str | None = None,
    ) -> None:
        self._show(ChosenVolumes.opened(uri, ctx, timestamp))

    def _show(self, chosen: ChosenVolumes, changed: Callable[[], None] | None = None) -> None:
        self._chosen, self._changed = chosen, changed

    @classmethod
    def of(cls, chosen: ChosenVolumes, changed: Callable[[], None] | None = None) -> Self:
        """A collection that shows volumes chosen before; `changed` is called after it has changed some."""
        collection = cls.__new__(cls)
        collection._show(chosen, changed)
        return collection

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_changed": None}  # in another process nobody waits for it

    @property
    def chosen(self) -> ChosenVolumes:
        """What it shows at present, as a value that does not change."""
        return self._chosen

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Where it is stored."""
        return self._chosen.uri

    @property
    def name(self) -> str:
        """Name of the collection."""
        return self._chosen.name

    @property
    def timestamp(self) -> int | None:
        """The moment shown, in milliseconds since 1970; None for now."""
        return self._chosen.rows.timestamp

    @property
    def is_view(self) -> bool:
        """Whether this shows a part only."""
        return self._chosen.rows.positions is not None

    @property
    def is_radiobjects(self) -> bool:
        """Whether the RadiObject package wrote it: it can be read here and not changed."""
        return self._chosen.rows.is_radiobjects

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Volume]:
        return iter(self._chosen)

    @property
    def obs_ids(self) -> list[str]:
        """Ids of the volumes in order."""
        return self._chosen.ids

    @property
    def obs_subject_ids(self) -> list[str]:
        """Subject of each volume, in order."""
        return self._chosen.rows.subjects

    @property
    def index(self) -> Index:
        """Index of the ids, in order."""
        return self._chosen.rows.index

    @property
    def subjects(self) -> Index:
        """The subjects, each once, in order."""
        return Index(tuple(dict.fromkeys(self.obs_subject_ids)), SUBJECT)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(X, Y, Z) that all volumes share, or None; of an empty collection, what it was made for.

        Volumes with time have a fourth number in their own `shape`.
        """
        return self._chosen.shape

    @property
    def is_uniform(self) -> bool:
        """Whether all volumes have the same shape, time included."""
        return len(self._chosen.shapes) <= 1

    @property
    def obs(self) -> Dataframe:
        """The table of volumes: one row for each, with geometry, acquisition and provenance."""
        return Dataframe.of(self._chosen.rows, self._after_change)

    def to_obs(self) -> pd.DataFrame:
        """The obs rows as a pandas DataFrame."""
        return self._chosen.rows.frame()

    def get_obs_row_by_obs_id(self, obs_id: str) -> pd.DataFrame:
        """The obs row of one volume, as a DataFrame with one row."""
        return self._chosen.rows.row(obs_id)

    def refresh(self) -> None:
        """Show what is stored now (of a root)."""
        self._chosen = self._chosen.anew()

    # -- choosing -----------------------------------------------------------------------------------

    def _view(self, rows: ChosenRows) -> Self:
        return self.of(self._chosen.at(rows))

    def _volume(self, obs_id: str) -> Volume:
        return self._chosen.volume(self._chosen.rows.position(obs_id))

    @overload
    def __getitem__(self, key: int | str) -> Volume: ...
    @overload
    def __getitem__(self, key: slice | list[Any] | NDArray[Any]) -> VolumeCollection: ...
    def __getitem__(self, key: Any) -> Volume | VolumeCollection:
        """A volume by position or id, or a view by slice, list of positions or ids, or boolean mask."""
        named = isinstance(key, (list, tuple, pd.Series, Index)) and all(isinstance(k, str) for k in key)
        return self._identified(key) if named or isinstance(key, str) else self._located(key)

    def _located(self, key: Any) -> Volume | VolumeCollection:
        rows = self._chosen.rows.by_positions(key)
        return self._chosen.volume(rows.where[0]) if is_position(key) else self._view(rows)

    def _identified(self, key: Any) -> Volume | VolumeCollection:
        return self._volume(key) if isinstance(key, str) else self._view(self._chosen.rows.by_ids(list(key)))

    @property
    def iloc(self) -> Indexer[Any]:
        """Volumes by position: `iloc[3]`, `iloc[-2:]`, `iloc[[0, 2]]`, `iloc[mask]`."""
        return Indexer(self._located)

    @property
    def loc(self) -> Indexer[Any]:
        """Volumes by id: `loc["s1_ct"]`, `loc[["s1_ct", "s2_ct"]]`."""
        return Indexer(self._identified)

    def sel(self, *, subject: str | Sequence[str]) -> VolumeCollection:
        """A view of the volumes of one or several subjects; KeyError for a subject without volumes."""
        wanted = {subject} if isinstance(subject, str) else set(subject)
        missing = wanted - set(self.obs_subject_ids)
        if missing:
            raise KeyError(f"subject(s) {sorted(missing)[:3]} not found in collection {self.name!r}")
        return self._view(self._chosen.rows.of_subjects(wanted))

    def filter(self, expr: str) -> Self:
        """A view of the rows that meet a condition, e.g. `"age >= 50"` or `"spacing_z_mm <= 1.5"`."""
        return self._view(self._chosen.rows.filter(expr))

    def with_values(self, column: str, values: Collection[str]) -> Self:
        """A view of the rows whose text column has one of these values, e.g. `"arrival", ["drop-1"]`.

        As `filter`, for a few out of very many: of other rows nothing is read but their ids and this column.
        """
        return self._view(self._chosen.rows.with_values(column, values))

    def head(self, n: int = 5) -> Self:
        """A view of the first `n`; with a negative `n`, of all but the last, as in pandas."""
        return self._view(self._chosen.rows.head(n))

    def tail(self, n: int = 5) -> Self:
        """A view of the last `n`; with a negative `n`, of all but the first, as in pandas."""
        return self._view(self._chosen.rows.tail(n))

    def sample(self, n: int = 5, seed: int | None = None) -> Self:
        """A view of `n` drawn without replacement (all if there are fewer), in order."""
        return self._view(self._chosen.rows.sample(n, seed))

    def groupby_subject(self) -> Iterator[tuple[str, VolumeCollection]]:
        """Each subject with a view of its volumes."""
        groups: dict[str, list[int]] = {}
        for position, subject in zip(self._chosen.rows.where, self.obs_subject_ids, strict=True):
            groups.setdefault(subject, []).append(int(position))
        for subject, positions in groups.items():
            yield subject, self._view(self._chosen.rows.at(np.asarray(positions, np.intp)))

    # -- queries ------------------------------------------------------------------------------------

    def lazy(self) -> LazyQuery[VolumeCollection]:
        """A query that reads nothing until asked for results."""
        return LazyQuery(self._chosen, VolumeCollection)

    def map(self, fn: TransformFn) -> EagerQuery[VolumeCollection]:
        """Apply `fn(array, obs_row)` to every volume now, and hold the results."""
        return self.lazy().map(fn).collected()

    def map_batches(
        self, fn: Callable[[list[Any]], Sequence[Any]], batch_size: int = 8
    ) -> EagerQuery[VolumeCollection]:
        """Apply `fn([(array, obs_row), ...]) -> [result, ...]` to batches of volumes now."""
        return self.lazy().collected_batches(fn, batch_size)

    def write(
        self, uri: str | os.PathLike[str], name: str | None = None, ctx: tiledb.Ctx | None = None
    ) -> VolumeCollection:
        """Copy the volumes shown here, with their rows, into a new collection at `uri`."""
        reference = self._chosen.ctx
        copy_collection(self._chosen, normalise(uri), name, ctx or reference.get())
        return VolumeCollection(uri, ctx or reference.explicit)

    materialize = write

    def to_dataset(self, **options: Any) -> Any:
        """A PyTorch data set of these volumes (needs the `torch` extra)."""
        return dataset_of(self, **options)

    # -- changing -----------------------------------------------------------------------------------

    def _after_change(self) -> None:
        self.refresh()
        if self._changed is not None:
            self._changed()

    def append(
        self,
        niftis: ImageSources | None = None,
        dicom_dirs: ImageSources | None = None,
        reorient: bool | None = None,
        progress: bool = False,
        validate_dimensions: bool = True,
    ) -> Self:
        """Add volumes from NIfTI files or DICOM directories; all of them appear together, or none.

        Where the volumes share a shape, others are refused (ShapeError) unless `validate_dimensions=False`.
        """
        self._chosen.rows.check_writable("append to")
        if niftis is None and dicom_dirs is None:
            raise ValueError("Must provide either niftis or dicom_dirs")
        if niftis is not None and dicom_dirs is not None:
            raise ValueError("Cannot provide both niftis and dicom_dirs: append one after the other")
        kind, images = ("nifti", niftis) if niftis is not None else ("dicom", dicom_dirs)
        batch = ImageBatch(kind, images or [], None, reorient)
        if validate_dimensions and self.shape is not None:
            batch = replace(batch, validate_dimensions=True, expected_shape=self.shape)
        append_images(self.uri, self.name, batch, self._chosen.ctx.get(), progress)
        self._after_change()
        return self

    def delete(self, obs_ids: Sequence[str]) -> None:
        """Delete volumes by id: their rows at once, their arrays with the next `vacuum`.

        Earlier snapshots keep them; to remove a patient everywhere use `delete_subjects`.
        """
        chosen = self._chosen.rows
        chosen.check_writable("delete from")
        gone = chosen.by_ids(list(obs_ids))
        chosen.all.new_table().delete(list(zip(gone.subjects, gone.column(gone.key), strict=True)))
        self._after_change()

    # -- checking -----------------------------------------------------------------------------------

    def validate(self) -> None:
        """Check that rows and arrays match; reads no voxels.

        Raises
        ------
        StorageError
            Naming the volumes whose array is missing or says something else than its row.
        AlignmentError
            If an id belongs to two subjects.
        """
        validate_collection(self._chosen)

    def verify(self) -> list[VolumeProblem]:
        """Read every voxel and recompute its digest; an empty list means all is as it was written.

        Raises
        ------
        StorageError
            If the RadiObject package wrote the collection: it recorded nothing to compare with.
        """
        return verify_collection(self._chosen)

    # -- making -------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str],
        shape: Sequence[int] | None = None,
        obs_schema: Mapping[str, Any] | None = None,
        name: str | None = None,
        ctx: tiledb.Ctx | None = None,
    ) -> Self:
        """An empty collection for volumes of `shape` (None: any), with the columns `obs_schema` in obs."""
        with making_collection(normalise(uri), name, ContextRef(ctx).get(), shape, obs_schema):
            pass
        return cls(uri, ctx)

    @classmethod
    def from_niftis(
        cls,
        uri: str | os.PathLike[str],
        niftis: ImageSources,
        obs: pd.DataFrame | None = None,
        reorient: bool | None = None,
        validate_dimensions: bool = True,
        valid_subject_ids: Sequence[str] | set[str] | None = None,
        name: str | None = None,
        ctx: tiledb.Ctx | None = None,
        progress: bool = False,
    ) -> Self:
        """A new collection from NIfTI files, `[(path, subject_id), ...]`."""
        batch = ImageBatch("nifti", niftis, obs, reorient, validate_dimensions, valid_subject_ids)
        create_collection_from_images(normalise(uri), name, batch, ContextRef(ctx).get(), progress)
        return cls(uri, ctx)

    @classmethod
    def from_dicoms(
        cls,
        uri: str | os.PathLike[str],
        dicom_dirs: ImageSources,
        obs: pd.DataFrame | None = None,
        reorient: bool | None = None,
        validate_dimensions: bool = True,
        valid_subject_ids: Sequence[str] | set[str] | None = None,
        name: str | None = None,
        ctx: tiledb.Ctx | None = None,
        progress: bool = False,
    ) -> Self:
        """A new collection from DICOM directories, `[(directory, subject_id), ...]`."""
        batch = ImageBatch("dicom", dicom_dirs, obs, reorient, validate_dimensions, valid_subject_ids)
        create_collection_from_images(normalise(uri), name, batch, ContextRef(ctx).get(), progress)
        return cls(uri, ctx)

    @classmethod
    def from_volumes(
        cls,
        uri: str | os.PathLike[str],
        volumes: Sequence[tuple[str, Volume]],
        obs_data: pd.DataFrame | None = None,
        name: str | None = None,
        ctx: tiledb.Ctx | None = None,
        validate_dimensions: bool = True,
    ) -> Self:
        """A new collection with copies of volumes, `[(obs_id, volume), ...]`.

        `obs_data` has a row for each obs_id with its obs_subject_id and any other columns; without it every
        volume is a subject of its own, with its obs_id. Volumes of different shapes are a ShapeError unless
        `validate_dimensions=False`.
        """
        if validate_dimensions:
            same_shape([volume.shape for _, volume in volumes])
        collection_from_volumes(normalise(uri), volumes, obs_data, name, ContextRef(ctx).get())
        return cls(uri, ctx)

    # RadiObject's names; its own tests and scripts that follow them call these.
    _create = create
    _from_volumes = from_volumes

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape or ())) or ("mixed shapes" if len(self) else "no shape")
        view = ", view" if self.is_view else ""
        return f"VolumeCollection({self.name!r}, {len(self)} volumes, {shape}{view})"
