"""A collection of volumes: rows of obs, each naming one array; roots, and views of some rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError, StorageError, ViewError
from radiobject_assets.store.context import ContextRef
from radiobject_assets.store.dataframe import Dataframe
from radiobject_assets.store.indexing import Index, resolve_positions
from radiobject_assets.store.layout import (
    COLLECTION_FORMAT,
    OBS,
    OBS_CORE,
    OBS_ID,
    SIZE_COLUMNS,
    SUBJECT,
    VOLUMES,
    check_format,
    collection_name,
)
from radiobject_assets.store.rows import Positions, Rows
from radiobject_assets.store.uris import join, normalise
from radiobject_assets.store.volume import Volume
from radiobject_assets.store.volume_header import HEADER_COLUMNS

if TYPE_CHECKING:
    from radiobject_assets.store.query import EagerQuery, LazyQuery, TransformFn
    from radiobject_assets.store.verification import Problem

ImageSources = Sequence[tuple[str | Path, str]]


class VolumeCollection:
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

    def __init__(
        self,
        uri: str | os.PathLike[str],
        ctx: tiledb.Ctx | None = None,
        timestamp: int | None = None,
    ) -> None:
        self._setup(normalise(uri), ContextRef(ctx), timestamp, None)
        check_format(self._uri, self._ctx.get(), COLLECTION_FORMAT)

    def _setup(self, uri: str, ctx: ContextRef, timestamp: int | None, name: str | None) -> None:
        self._uri, self._ctx, self._timestamp, self._name = uri, ctx, timestamp, name
        self._rows = Rows(join(uri, OBS), ctx, OBS_CORE, timestamp)
        self._positions: Positions | None = None

    @classmethod
    def _opened(cls, uri: str, ctx: ContextRef, timestamp: int | None, name: str) -> VolumeCollection:
        collection = cls.__new__(cls)
        collection._setup(uri, ctx, timestamp, name)
        return collection

    def _view(self, positions: Positions) -> VolumeCollection:
        view = VolumeCollection.__new__(VolumeCollection)
        view.__dict__.update(self.__dict__)
        view._positions = positions
        return view

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Where the collection is."""
        return self._uri

    @property
    def name(self) -> str:
        """Name of the collection."""
        if self._name is None:
            self._name = collection_name(self._uri, self._ctx.get())
        return self._name

    @property
    def timestamp(self) -> int | None:
        """The moment shown, in milliseconds since 1970; None for now."""
        return self._timestamp

    @property
    def is_view(self) -> bool:
        """Whether this shows some of the volumes only."""
        return self._positions is not None

    @property
    def _where(self) -> Positions:
        return np.arange(len(self._rows), dtype=np.intp) if self._positions is None else self._positions

    def __len__(self) -> int:
        return len(self._rows) if self._positions is None else len(self._positions)

    def __iter__(self) -> Iterator[Volume]:
        for position in self._where:
            yield self._volume_at(int(position))

    def _column(self, name: str) -> list[Any]:
        values = self._rows.column(name)
        taken: list[Any] = (values if self._positions is None else values.take(self._positions)).to_pylist()
        return taken

    @property
    def obs_ids(self) -> list[str]:
        """Ids of the volumes in order."""
        return self._column(OBS_ID)

    @property
    def obs_subject_ids(self) -> list[str]:
        """Subject of each volume, in the same order."""
        return self._column(SUBJECT)

    @property
    def subjects(self) -> Index:
        """The subjects, each once, in order."""
        return Index(tuple(dict.fromkeys(self.obs_subject_ids)), SUBJECT)

    @property
    def index(self) -> Index:
        """Index of the volume ids."""
        return Index.build(self.obs_ids, OBS_ID)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape that all volumes share, or None."""
        shapes = self._shapes()
        return next(iter(shapes)) if len(shapes) == 1 else None

    @property
    def is_uniform(self) -> bool:
        """Whether all volumes have the same shape."""
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
        return self._rows.frame(None, np.asarray([self._position(obs_id)], np.intp))

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

    def _position(self, obs_id: str) -> int:
        try:
            position = self._rows.position(obs_id, OBS_ID)
        except KeyError:
            position = -1
        if position < 0 or (self._positions is not None and position not in self._chosen):
            raise KeyError(f"obs_id {obs_id!r} not found in collection {self.name!r} ({len(self)} volumes)")
        return position

    @property
    def _chosen(self) -> set[int]:
        return set() if self._positions is None else set(self._positions.tolist())

    @overload
    def __getitem__(self, key: int | str) -> Volume: ...
    @overload
    def __getitem__(self, key: slice | list[Any] | NDArray[Any]) -> VolumeCollection: ...
    def __getitem__(self, key: Any) -> Volume | VolumeCollection:
        """A volume by position or id, or a view by slice, list of positions or ids, or boolean mask."""
        if isinstance(key, str):
            return self._volume_at(self._position(key))
        if (
            isinstance(key, (list, tuple, pd.Series, Index))
            and len(key)
            and all(isinstance(k, str) for k in key)
        ):
            return self._by_ids(list(key))
        return self._by_positions(key)

    def _by_positions(self, key: Any) -> Volume | VolumeCollection:
        found = resolve_positions(key, len(self))
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            return self._volume_at(int(self._where[found[0]]))
        return self._view(self._where[found])

    def _by_ids(self, ids: Sequence[str]) -> VolumeCollection:
        return self._view(np.asarray([self._position(obs_id) for obs_id in ids], np.intp))

    @property
    def iloc(self) -> _ByPosition:
        """Volumes by position: `iloc[3]`, `iloc[-2:]`, `iloc[[0, 2]]`, `iloc[mask]`."""
        return _ByPosition(self)

    @property
    def loc(self) -> _ById:
        """Volumes by id: `loc["s1_ct"]`, `loc[["s1_ct", "s2_ct"]]`."""
        return _ById(self)

    def sel(self, *, subject: str | Sequence[str]) -> VolumeCollection:
        """A view of the volumes of one or several subjects; KeyError for a subject without volumes."""
        wanted = [subject] if isinstance(subject, str) else list(subject)
        subjects = self.obs_subject_ids
        missing = set(wanted) - set(subjects)
        if missing:
            raise KeyError(f"subject(s) {sorted(missing)[:3]} not found in collection {self.name!r}")
        chosen = set(wanted)
        return self._view(self._where[np.asarray([s in chosen for s in subjects], np.bool_)])

    def _of_subjects(self, subjects: set[str]) -> VolumeCollection:
        keep = np.asarray([s in subjects for s in self.obs_subject_ids], np.bool_)
        return self._view(self._where[keep])

    def filter(self, expr: str) -> VolumeCollection:
        """A view of the volumes whose obs row meets a condition, e.g. `"spacing_z_mm <= 1.5"`."""
        return self._view(self._rows.matching(expr, self._where))

    def head(self, n: int = 5) -> VolumeCollection:
        """A view of the first `n` volumes."""
        return self._view(self._where[: max(0, n)])

    def tail(self, n: int = 5) -> VolumeCollection:
        """A view of the last `n` volumes."""
        return self._view(self._where[max(0, len(self) - max(0, n)) :])

    def sample(self, n: int = 5, seed: int | None = None) -> VolumeCollection:
        """A view of `n` volumes drawn without replacement (all of them if there are fewer), in order."""
        drawn = np.random.default_rng(seed).choice(len(self), size=min(n, len(self)), replace=False)
        return self._view(self._where[np.sort(drawn)])

    def groupby_subject(self) -> Iterator[tuple[str, VolumeCollection]]:
        """Each subject with a view of its volumes."""
        groups: dict[str, list[int]] = {}
        for position, subject in zip(self._where, self.obs_subject_ids, strict=True):
            groups.setdefault(subject, []).append(int(position))
        for subject, positions in groups.items():
            yield subject, self._view(np.asarray(positions, np.intp))

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

    def write(self, uri: str | os.PathLike[str], name: str | None = None) -> VolumeCollection:
        """Copy the volumes shown here, with their rows, into a new collection at `uri`."""
        from radiobject_assets.store.copying import copy_collection

        return copy_collection(self, normalise(uri), name)

    def to_dataset(self, **options: Any) -> Any:
        """A PyTorch data set of these volumes (needs the `torch` extra)."""
        from importlib import import_module

        training = import_module("radiobject_assets.training")
        return training.VolumeCollectionDataset(self, **options)

    # -- changing -----------------------------------------------------------------------------------

    def _for_writing(self, action: str) -> None:
        if self.is_view:
            raise ViewError(
                f"Cannot {action} a view: {action} the collection itself, or write() the view first"
            )
        if self._timestamp is not None:
            raise ViewError(f"Cannot {action} a snapshot: open the store without a timestamp")

    def append(
        self,
        niftis: ImageSources | None = None,
        dicom_dirs: ImageSources | None = None,
        reorient: bool | None = None,
        progress: bool = False,
    ) -> Self:
        """Add volumes from NIfTI files or DICOM directories; all of them appear together, or none."""
        from radiobject_assets.store.readers import append_images

        self._for_writing("append to")
        if niftis is None and dicom_dirs is None:
            raise ValueError("Must provide either niftis or dicom_dirs")
        if niftis is not None and dicom_dirs is not None:
            raise ValueError("Cannot provide both niftis and dicom_dirs: append one after the other")
        kind = "nifti" if niftis is not None else "dicom"
        append_images(
            self._uri, self.name, niftis or dicom_dirs or [], kind, self._ctx.get(), reorient, progress
        )
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
        problems = check_rows(self)
        if problems:
            shown = "; ".join(str(problem) for problem in problems[:5])
            raise StorageError(f"collection {self.name!r} has {len(problems)} problem(s): {shown}")

    def verify(self) -> list[Problem]:
        """Read every voxel and recompute its digest; an empty list means all is as it was written."""
        from radiobject_assets.store.verification import verify_collection

        return verify_collection(self)

    # -- making -------------------------------------------------------------------------------------

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
    ) -> VolumeCollection:
        """A new collection from NIfTI files, `[(path, subject_id), ...]`."""
        from radiobject_assets.store.readers import ImageBatch, create_collection_from_images

        batch = ImageBatch("nifti", niftis, obs, reorient, validate_dimensions, valid_subject_ids)
        create_collection_from_images(normalise(uri), name, batch, ContextRef(ctx).get(), progress)
        return cls(uri, ctx)

    @classmethod
    def from_volumes(
        cls,
        uri: str | os.PathLike[str],
        volumes: Sequence[tuple[str, Volume]],
        obs: pd.DataFrame | None = None,
        name: str | None = None,
        ctx: tiledb.Ctx | None = None,
    ) -> VolumeCollection:
        """A new collection with copies of volumes, `[(obs_id, volume), ...]`.

        `obs` has a row for each obs_id with its obs_subject_id and any other columns; without it every volume
        is a subject of its own, with its obs_id.
        """
        from radiobject_assets.store.copying import collection_from_volumes

        collection_from_volumes(normalise(uri), volumes, obs, name, ContextRef(ctx).get())
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
    ) -> VolumeCollection:
        """A new collection from DICOM directories, `[(directory, subject_id), ...]`."""
        from radiobject_assets.store.readers import ImageBatch, create_collection_from_images

        batch = ImageBatch("dicom", dicom_dirs, obs, reorient, validate_dimensions, valid_subject_ids)
        create_collection_from_images(normalise(uri), name, batch, ContextRef(ctx).get(), progress)
        return cls(uri, ctx)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape or ())) or "mixed shapes"
        view = ", view" if self.is_view else ""
        return f"VolumeCollection({self.name!r}, {len(self)} volumes, {shape}{view})"


class _ByPosition:
    def __init__(self, collection: VolumeCollection) -> None:
        self._collection = collection

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            raise TypeError("iloc takes positions; use loc for ids")
        return self._collection._by_positions(key)


class _ById:
    def __init__(self, collection: VolumeCollection) -> None:
        self._collection = collection

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._collection[key]
        ids = list(key)
        if not all(isinstance(obs_id, str) for obs_id in ids):
            raise TypeError("loc takes ids; use iloc for positions")
        return self._collection._by_ids(ids)
