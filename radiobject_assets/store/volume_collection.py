"""A collection of volumes: rows of obs, each naming one array; roots, and views of some rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError, StorageError, ViewError
from radiobject_assets.store.choosing import Indexer, RowChoice
from radiobject_assets.store.collection_making import CollectionMaking, ImageSources
from radiobject_assets.store.context import ContextRef
from radiobject_assets.store.dataframe import Dataframe
from radiobject_assets.store.indexing import Index, is_position
from radiobject_assets.store.layout import (
    COLLECTION_FORMAT,
    OBS_CORE,
    SIZE_COLUMNS,
    collection_name,
    declared_shape,
)
from radiobject_assets.store.log.reading import Picture, places_of_table
from radiobject_assets.store.names import OBS, OBS_ID, SUBJECT, VOLUMES
from radiobject_assets.store.radiobject_array import read_only
from radiobject_assets.store.radiobject_format import (
    Unlogged,
    is_radiobjects,
    radiobject_collection_name,
    radiobject_rows,
    take_inventory,
)
from radiobject_assets.store.rows import Rows
from radiobject_assets.store.uris import join, normalise
from radiobject_assets.store.volume import Volume
from radiobject_assets.store.volume_header import HEADER_COLUMNS

if TYPE_CHECKING:
    from radiobject_assets.store.query import EagerQuery, LazyQuery, TransformFn
    from radiobject_assets.store.verification import Problem


class VolumeCollection(CollectionMaking, RowChoice):
    """Volumes of one kind.

    Parameters
    ----------
    uri
        The collection: local path, file:// or s3://.
    ctx
        TileDB context; None for the process's own.
    timestamp
        Milliseconds since 1970 to see it as it was then; None for now.

    Rows are sorted by (obs_subject_id, obs_id). An object shows what was there when it first looked; it sees
    its own writes, and those of others after `refresh()`.
    """

    _KEY = OBS_ID

    def __init__(
        self,
        uri: str | os.PathLike[str],
        ctx: tiledb.Ctx | None = None,
        timestamp: int | str | None = None,
    ) -> None:
        where, reference = normalise(uri), ContextRef(ctx)
        theirs = is_radiobjects(where, reference.get(), COLLECTION_FORMAT)
        picture = None if theirs else Picture(places_of_table(join(where, OBS)), reference, timestamp)
        self._setup(where, reference, picture, None)

    def _setup(self, uri: str, ctx: ContextRef, picture: Picture | None, name: str | None) -> None:
        where = join(uri, OBS)
        if picture is None:
            self._show(uri, ctx, radiobject_rows(where, ctx, of_volumes=True))
        else:
            self._show(uri, ctx, Rows(where, ctx, picture, core=OBS_CORE))
        self._name = name

    @classmethod
    def _opened(cls, uri: str, ctx: ContextRef, picture: Picture, name: str) -> VolumeCollection:
        """The collection at `uri` in a state that others show too."""
        collection = cls.__new__(cls)
        collection._setup(uri, ctx, None if isinstance(picture, Unlogged) else picture, name)
        return collection

    @property
    def _described(self) -> str:
        return f"collection {self.name!r} ({len(self)} volumes)"

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the collection."""
        if self._name is None:
            named = radiobject_collection_name if self.is_radiobjects else collection_name
            self._name = named(self._uri, self._ctx.get())
        return self._name

    def __iter__(self) -> Iterator[Volume]:
        for position in self._where:
            yield self._volume_at(int(position))

    @property
    def obs_ids(self) -> list[str]:
        """Ids of the volumes in order."""
        return self._column(OBS_ID)

    @property
    def subjects(self) -> Index:
        """The subjects, each once, in order."""
        return Index(tuple(dict.fromkeys(self.obs_subject_ids)), SUBJECT)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(X, Y, Z) that all volumes share, or None; of an empty collection, what it was made for.

        Volumes with time have a fourth number in their own `shape`.
        """
        shapes = {shape[:3] for shape in self._shapes()}
        if not shapes and not self.is_view and not self.is_radiobjects:
            return declared_shape(self._uri, self._ctx.get())
        return next(iter(shapes)) if len(shapes) == 1 else None

    @property
    def is_uniform(self) -> bool:
        """Whether all volumes have the same shape, time included."""
        return len(self._shapes()) <= 1

    def _shapes(self) -> set[tuple[int, ...]]:
        self._rows.load(["ndim", *SIZE_COLUMNS])
        columns = [np.asarray(self._column(name), dtype=np.int64) for name in ("ndim", *SIZE_COLUMNS)]
        table = np.unique(np.stack(columns, axis=1), axis=0) if len(self) else np.empty((0, 5), np.int64)
        return {tuple(int(v) for v in row[1 : 1 + row[0]]) for row in table}

    @property
    def obs(self) -> Dataframe:
        """The table of volumes: one row for each, with geometry, acquisition and provenance."""
        return Dataframe._of(self._rows, OBS_CORE, self._positions)

    def to_obs(self) -> pd.DataFrame:
        """The obs rows as a pandas DataFrame."""
        return self.obs.read()

    def get_obs_row_by_obs_id(self, obs_id: str) -> pd.DataFrame:
        """The obs row of one volume, as a DataFrame with one row."""
        return self._row(obs_id)

    def refresh(self) -> None:
        """Show what is stored now (of a root)."""
        if self._positions is not None:
            raise ViewError("a view keeps what it shows; refresh the collection and make the view again")
        self._rows.refresh()
        self._name = None

    # -- choosing -----------------------------------------------------------------------------------

    def _volume_at(self, position: int) -> Volume:
        row = self._rows.records(position, HEADER_COLUMNS)
        return Volume._from_row(join(self._uri, VOLUMES, row["volume"]), row, self._ctx)

    @overload
    def __getitem__(self, key: int | str) -> Volume: ...
    @overload
    def __getitem__(self, key: slice | list[Any] | NDArray[Any]) -> VolumeCollection: ...
    def __getitem__(self, key: Any) -> Volume | VolumeCollection:
        """A volume by position or id, or a view by slice, list of positions or ids, or boolean mask."""
        if isinstance(key, str):
            return self._volume_at(self._position(key))
        named = isinstance(key, (list, tuple, pd.Series, Index)) and all(isinstance(k, str) for k in key)
        return self._by_ids(list(key)) if named else self._located(key)

    def _located(self, key: Any) -> Volume | VolumeCollection:
        view = self._by_positions(key)
        return self._volume_at(int(view._where[0])) if is_position(key) else view

    def _identified(self, key: Any) -> Volume | VolumeCollection:
        return self._volume_at(self._position(key)) if isinstance(key, str) else self._by_ids(list(key))

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
        wanted = [subject] if isinstance(subject, str) else list(subject)
        subjects = self.obs_subject_ids
        missing = set(wanted) - set(subjects)
        if missing:
            raise KeyError(f"subject(s) {sorted(missing)[:3]} not found in collection {self.name!r}")
        return self._of_subjects(set(wanted))

    def groupby_subject(self) -> Iterator[tuple[str, VolumeCollection]]:
        """Each subject with a view of its volumes."""
        groups: dict[str, list[int]] = {}
        for position, subject in zip(self._where, self.obs_subject_ids, strict=True):
            groups.setdefault(subject, []).append(int(position))
        for subject, positions in groups.items():
            yield subject, self._at(np.asarray(positions, np.intp))

    # -- queries ------------------------------------------------------------------------------------

    def lazy(self) -> LazyQuery:
        """A query that reads nothing until asked for results."""
        from radiobject_assets.store.query import LazyQuery

        return LazyQuery(self)

    def map(self, fn: TransformFn) -> EagerQuery:
        """Apply `fn(array, obs_row)` to every volume now, and hold the results."""
        from radiobject_assets.store.query import EagerQuery

        return EagerQuery.run(self, fn)

    def map_batches(self, fn: Callable[[list[Any]], Sequence[Any]], batch_size: int = 8) -> EagerQuery:
        """Apply `fn([(array, obs_row), ...]) -> [result, ...]` to batches of volumes now."""
        from radiobject_assets.store.query import EagerQuery

        return EagerQuery.run_batches(self, fn, batch_size)

    def write(
        self, uri: str | os.PathLike[str], name: str | None = None, ctx: tiledb.Ctx | None = None
    ) -> VolumeCollection:
        """Copy the volumes shown here, with their rows, into a new collection at `uri`."""
        from radiobject_assets.store.copying import copy_collection

        return copy_collection(self, normalise(uri), name, ctx)

    materialize = write

    def to_dataset(self, **options: Any) -> Any:
        """A PyTorch data set of these volumes (needs the `torch` extra)."""
        from importlib import import_module

        training = import_module("radiobject_assets.training")
        return training.VolumeCollectionDataset(self, **options)

    # -- changing -----------------------------------------------------------------------------------

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
        from radiobject_assets.store.readers import ImageBatch, append_images

        self._for_writing("append to")
        if niftis is None and dicom_dirs is None:
            raise ValueError("Must provide either niftis or dicom_dirs")
        if niftis is not None and dicom_dirs is not None:
            raise ValueError("Cannot provide both niftis and dicom_dirs: append one after the other")
        kind, images = ("nifti", niftis) if niftis is not None else ("dicom", dicom_dirs)
        batch = ImageBatch(kind, images or [], None, reorient)
        if validate_dimensions and self.shape is not None:
            batch = replace(batch, validate_dimensions=True, expected_shape=self.shape)
        append_images(self._uri, self.name, batch, self._ctx.get(), progress)
        self.refresh()
        return self

    def delete(self, obs_ids: Sequence[str]) -> None:
        """Delete volumes by id: their rows at once, their arrays with the next `vacuum`.

        Earlier snapshots keep them; to remove a patient everywhere use `delete_subjects`.
        """
        self._for_writing("delete from")
        wanted = [self._position(obs_id) for obs_id in obs_ids]
        subjects, ids = self._rows.keys(SUBJECT), self._rows.keys(OBS_ID)
        self._rows.new_table().delete([(subjects[i], ids[i]) for i in wanted])
        self.refresh()

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
        from radiobject_assets.store.verification import check_rows

        if len(set(self.obs_ids)) != len(self):
            raise AlignmentError(f"collection {self.name!r} has ids that belong to more than one subject")
        if self.is_radiobjects:
            lost = len(take_inventory(self._uri, self._ctx.get()).without_array)
            problems = [f"{lost} row(s) whose obs_id no array carries"] if lost else []
        else:
            problems = [str(problem) for problem in check_rows(self)]
        if problems:
            shown = "; ".join(problems[:5])
            raise StorageError(f"collection {self.name!r} has {len(problems)} problem(s): {shown}")

    def verify(self) -> list[Problem]:
        """Read every voxel and recompute its digest; an empty list means all is as it was written.

        Raises
        ------
        StorageError
            If the RadiObject package wrote the collection: it recorded nothing to compare with.
        """
        from radiobject_assets.store.verification import verify_collection

        if self.is_radiobjects:
            raise read_only(self._uri, "find digests of voxels in")
        return verify_collection(self)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape or ())) or ("mixed shapes" if len(self) else "no shape")
        view = ", view" if self.is_view else ""
        return f"VolumeCollection({self.name!r}, {len(self)} volumes, {shape}{view})"
