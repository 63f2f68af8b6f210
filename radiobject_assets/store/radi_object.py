"""The store as a user sees it: subjects with their metadata, and collections of their volumes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError, ViewError
from radiobject_assets.store.context import ContextRef
from radiobject_assets.store.dataframe import Dataframe
from radiobject_assets.store.indexing import Index, resolve_positions
from radiobject_assets.store.layout import (
    OBS_META,
    STORE_FORMAT,
    SUBJECT,
    CollectionEntry,
    check_format,
    list_collections,
    rename_collection,
)
from radiobject_assets.store.rows import Positions, Rows
from radiobject_assets.store.snapshots import resolve_timestamp
from radiobject_assets.store.uris import join, normalise
from radiobject_assets.store.volume import Volume
from radiobject_assets.store.volume_collection import VolumeCollection

if TYPE_CHECKING:
    from radiobject_assets.store.store_query import LazyStoreQuery

Images = str | os.PathLike[str] | Sequence[tuple[str | Path, str]]


class RadiObject:
    """A store opened for reading, or a view of some of its subjects and collections.

    Parameters
    ----------
    uri
        The store: local path, file:// or s3://.
    ctx
        TileDB context; None for the process's own.
    timestamp
        Milliseconds since 1970, or the name of a snapshot, to see the store as it was then.

    Subjects are the rows of `obs_meta`, sorted by id. `radi.ct` is `radi.collection("ct")`. A view filters
    its collections too: it shows the volumes of its subjects only.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        ctx: tiledb.Ctx | None = None,
        timestamp: int | str | None = None,
    ) -> None:
        self._uri = normalise(uri)
        self._ctx = ContextRef(ctx)
        check_format(self._uri, self._ctx.get(), STORE_FORMAT)
        self._timestamp = resolve_timestamp(self._uri, timestamp, self._ctx.get())
        self._rows = Rows(join(self._uri, OBS_META), self._ctx, timestamp=self._timestamp)
        self._positions: Positions | None = None
        self._names: tuple[str, ...] | None = None
        self._entries: dict[str, CollectionEntry] | None = None
        self._roots: dict[str, VolumeCollection] = {}

    def _view(self, positions: Positions | None, names: tuple[str, ...] | None = None) -> RadiObject:
        _ = self._collections  # what a view shows is settled when it is made
        view = RadiObject.__new__(RadiObject)
        view.__dict__.update(self.__dict__)
        view._positions = positions
        view._names = names if names is not None else self._names
        return view

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Where the store is."""
        return self._uri

    @property
    def timestamp(self) -> int | None:
        """The moment shown, in milliseconds since 1970; None for now."""
        return self._timestamp

    @property
    def is_view(self) -> bool:
        """Whether this shows some of the subjects or collections only."""
        return self._positions is not None or self._names is not None

    @property
    def _where(self) -> Positions:
        return np.arange(len(self._rows), dtype=np.intp) if self._positions is None else self._positions

    def __len__(self) -> int:
        return len(self._rows) if self._positions is None else len(self._positions)

    @property
    def obs_meta(self) -> Dataframe:
        """The table of subjects."""
        return Dataframe._of(self._rows, {}, self._positions)

    @property
    def obs_subject_ids(self) -> list[str]:
        """Ids of the subjects in order."""
        values = self._rows.column(SUBJECT)
        taken: list[str] = (values if self._positions is None else values.take(self._positions)).to_pylist()
        return taken

    @property
    def index(self) -> Index:
        """Index of the subject ids."""
        return Index.build(self.obs_subject_ids, SUBJECT)

    def get_obs_row_by_obs_subject_id(self, obs_subject_id: str) -> pd.DataFrame:
        """The obs_meta row of one subject, as a DataFrame with one row."""
        return self._rows.frame(None, np.asarray([self._position(obs_subject_id)], np.intp))

    # -- collections --------------------------------------------------------------------------------

    @property
    def _collections(self) -> dict[str, CollectionEntry]:
        if self._entries is None:
            found = list_collections(self._uri, self._ctx.get(), self._timestamp)
            self._entries = {entry.name: entry for entry in found}
        return self._entries

    @property
    def collection_names(self) -> tuple[str, ...]:
        """Names of the collections, sorted (of a selection: in its order)."""
        return tuple(self._collections) if self._names is None else self._names

    @property
    def n_collections(self) -> int:
        """How many collections there are."""
        return len(self.collection_names)

    def collection(self, name: str) -> VolumeCollection:
        """The collection `name`; of a view, its part with the view's subjects.

        Raises
        ------
        KeyError
            Where there is none of that name.
        """
        if name not in self.collection_names:
            names = ", ".join(self.collection_names) or "none"
            raise KeyError(f"Collection {name!r} not found; there are {names}")
        if name not in self._roots:
            uri = self._collections[name].uri
            self._roots[name] = VolumeCollection._opened(uri, self._ctx, self._timestamp, name)
        root = self._roots[name]
        return root if self._positions is None else root._of_subjects(set(self.obs_subject_ids))

    def __getattr__(self, name: str) -> VolumeCollection:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.collection(name)
        except KeyError as error:
            raise AttributeError(
                f"a RadiObject has no attribute or collection {name!r}: {error.args[0]}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.collection_names)

    def __contains__(self, name: object) -> bool:
        return name in self.collection_names

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.collection_names})

    def select_collections(self, names: Sequence[str]) -> RadiObject:
        """A view with some of the collections."""
        for name in names:
            if name not in self.collection_names:
                raise KeyError(f"Collection {name!r} not found; there are {', '.join(self.collection_names)}")
        return self._view(self._positions, tuple(names))

    @property
    def all_obs_ids(self) -> list[str]:
        """Ids of all volumes, collection by collection."""
        return [obs_id for name in self.collection_names for obs_id in self.collection(name).obs_ids]

    def get_volume(self, obs_id: str) -> Volume:
        """The volume with this id, whatever its collection.

        Raises
        ------
        KeyError
            Where no collection has it.
        AlignmentError
            Where several collections do: ask the collection.
        """
        found = [name for name in self.collection_names if obs_id in self.collection(name).index]
        if not found:
            raise KeyError(f"obs_id {obs_id!r} not found in any collection of this RadiObject")
        if len(found) > 1:
            raise AlignmentError(
                f"obs_id {obs_id!r} is in the collections {', '.join(found)}: use collection(name)"
            )
        return self.collection(found[0])[obs_id]

    # -- choosing subjects --------------------------------------------------------------------------

    def _position(self, subject: str) -> int:
        try:
            position = self._rows.position(subject, SUBJECT)
        except KeyError:
            position = -1
        if position < 0 or (self._positions is not None and position not in self._positions):
            raise KeyError(f"obs_subject_id {subject!r} not found ({len(self)} subjects)")
        return position

    def __getitem__(self, key: str | list[str]) -> RadiObject:
        """A view of one or several subjects by id."""
        return self.loc[key]

    @property
    def iloc(self) -> _ByPosition:
        """Views of subjects by position: `iloc[0]`, `iloc[:10]`, `iloc[[0, 2]]`, `iloc[mask]`."""
        return _ByPosition(self)

    @property
    def loc(self) -> _ById:
        """Views of subjects by id: `loc["s1"]`, `loc[["s1", "s2"]]`."""
        return _ById(self)

    def sel(self, *, subject: str | Sequence[str]) -> RadiObject:
        """A view of one or several subjects by id."""
        return self.loc[subject if isinstance(subject, str) else list(subject)]

    def filter(self, expr: str) -> RadiObject:
        """A view of the subjects whose obs_meta row meets a condition, e.g. `"age >= 50"`."""
        return self._view(self._rows.matching(expr, self._where))

    def head(self, n: int = 5) -> RadiObject:
        """A view of the first `n` subjects."""
        return self._view(self._where[: max(0, n)])

    def tail(self, n: int = 5) -> RadiObject:
        """A view of the last `n` subjects."""
        return self._view(self._where[max(0, len(self) - max(0, n)) :])

    def sample(self, n: int = 5, seed: int | None = None) -> RadiObject:
        """A view of `n` subjects drawn without replacement (all if there are fewer), in order."""
        drawn = np.random.default_rng(seed).choice(len(self), size=min(n, len(self)), replace=False)
        return self._view(self._where[np.sort(drawn)])

    def lazy(self) -> LazyStoreQuery:
        """A query over subjects and collections that reads nothing until asked for results."""
        from radiobject_assets.store.store_query import LazyStoreQuery

        return LazyStoreQuery(self)

    def describe(self) -> str:
        """A summary as text: subjects, collections with shapes, and columns with few values."""
        from radiobject_assets.store.summary import describe_store

        return describe_store(self)

    # -- changing -----------------------------------------------------------------------------------

    def _for_writing(self, action: str) -> None:
        if self.is_view:
            raise ViewError(f"Cannot {action} a view: use the store itself, or write() the view first")
        if self._timestamp is not None:
            raise ViewError(f"Cannot {action} a snapshot: open the store without a timestamp")

    def refresh(self) -> None:
        """Show what is stored now."""
        self._for_writing("refresh")
        self._rows.refresh()
        self._entries, self._roots = None, {}

    def write(self, uri: str | os.PathLike[str]) -> RadiObject:
        """Copy the subjects, collections and volumes shown here into a new store at `uri`."""
        from radiobject_assets.store.copying import copy_store

        return copy_store(self, normalise(uri))

    def append(
        self,
        images: Mapping[str, Images],
        obs_meta: pd.DataFrame | None = None,
        reorient: bool | None = None,
        format_hint: Mapping[str, str] | None = None,
        progress: bool = False,
    ) -> Self:
        """Add images of new or known subjects; see `from_images`."""
        from radiobject_assets.store.building import append_to_store

        self._for_writing("append to")
        append_to_store(self._uri, images, obs_meta, reorient, format_hint, self._ctx.get(), progress)
        self.refresh()
        return self

    def add_collection(self, name: str, vc: VolumeCollection) -> Self:
        """Copy a collection into this store under `name`; its subjects must be known here."""
        from radiobject_assets.store.copying import add_collection

        self._for_writing("add a collection to")
        add_collection(self, name, vc)
        self.refresh()
        return self

    def rename_collection(self, old: str, new: str) -> None:
        """Give a collection another name; snapshots made before keep the old one."""
        self._for_writing("rename a collection of")
        rename_collection(self._uri, old, new, self._ctx.get())
        self.refresh()

    def delete_subjects(self, ids: Sequence[str]) -> None:
        """Remove subjects physically: voxels and rows, from the present and from every snapshot."""
        from radiobject_assets.store.deletion import delete_subjects

        self._for_writing("delete from")
        delete_subjects(self._uri, ids, self._ctx.get())
        self.refresh()

    def validate(self) -> None:
        """Check that subjects, rows and arrays match; reads no voxels.

        Raises
        ------
        AlignmentError
            If a volume belongs to a subject that obs_meta does not have.
        StorageError
            If a collection is damaged.
        """
        subjects = set(self.obs_subject_ids)
        for name in self.collection_names:
            collection = self.collection(name)
            strangers = set(collection.obs_subject_ids) - subjects
            if strangers:
                raise AlignmentError(
                    f"collection {name!r} has volumes of {len(strangers)} subject(s) that obs_meta lacks"
                )
            collection.validate()

    # -- making -------------------------------------------------------------------------------------

    @classmethod
    def from_images(
        cls,
        uri: str | os.PathLike[str],
        images: Mapping[str, Images],
        validate_alignment: bool = False,
        obs_meta: pd.DataFrame | None = None,
        reorient: bool | None = None,
        format_hint: Mapping[str, str] | None = None,
        ctx: tiledb.Ctx | None = None,
        progress: bool = False,
    ) -> RadiObject:
        """A new store from images; nothing is left at `uri` if it fails.

        Parameters
        ----------
        images
            Collection name to a glob, a directory, or `[(path, subject_id), ...]`.
        validate_alignment
            Whether every collection must have the same subjects.
        obs_meta
            Subject metadata with the column obs_subject_id.
        format_hint
            Collection name to `nifti` or `dicom`, where it should not be detected.
        """
        from radiobject_assets.store.building import create_store_from_images

        create_store_from_images(
            normalise(uri),
            images,
            validate_alignment,
            obs_meta,
            reorient,
            format_hint,
            ContextRef(ctx).get(),
            progress,
        )
        return cls(uri, ctx)

    @classmethod
    def from_collections(
        cls,
        uri: str | os.PathLike[str],
        collections: Mapping[str, VolumeCollection | str],
        obs_meta: pd.DataFrame | None = None,
        ctx: tiledb.Ctx | None = None,
    ) -> RadiObject:
        """A new store with copies of collections (objects or URIs), affines and rows included."""
        from radiobject_assets.store.copying import store_from_collections

        opened = {n: VolumeCollection(c, ctx) if isinstance(c, str) else c for n, c in collections.items()}
        store_from_collections(normalise(uri), opened, obs_meta, ContextRef(ctx).get())
        return cls(uri, ctx)

    def __repr__(self) -> str:
        view = ", view" if self.is_view else ""
        names = ", ".join(self.collection_names) or "none"
        return f"RadiObject({len(self)} subjects, collections: {names}{view})"


class _ByPosition:
    def __init__(self, radi: RadiObject) -> None:
        self._radi = radi

    def __getitem__(self, key: int | slice | Sequence[int] | NDArray[Any]) -> RadiObject:
        return self._radi._view(self._radi._where[resolve_positions(key, len(self._radi))])


class _ById:
    def __init__(self, radi: RadiObject) -> None:
        self._radi = radi

    def __getitem__(self, key: str | Sequence[str]) -> RadiObject:
        ids = [key] if isinstance(key, str) else list(key)
        return self._radi._view(np.asarray([self._radi._position(subject) for subject in ids], np.intp))
