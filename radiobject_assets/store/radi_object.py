"""The store as a user sees it: subjects with their metadata, and collections of their volumes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import pandas as pd
import tiledb

from radiobject_assets.errors import AlignmentError, StorageError, ViewError
from radiobject_assets.store.choosing import Indexer, RowChoice
from radiobject_assets.store.context import ContextRef
from radiobject_assets.store.dataframe import Dataframe
from radiobject_assets.store.layout import STORE_FORMAT, CollectionEntry, entries_of, rename_collection
from radiobject_assets.store.log.reading import Picture, Place
from radiobject_assets.store.names import OBS_META, SUBJECT
from radiobject_assets.store.radiobject_format import (
    is_radiobjects,
    radiobject_collections,
    radiobject_rows,
)
from radiobject_assets.store.rows import Positions, Rows
from radiobject_assets.store.store_making import Images, Pairs, StoreMaking
from radiobject_assets.store.uris import join, normalise
from radiobject_assets.store.volume import Volume
from radiobject_assets.store.volume_collection import VolumeCollection

if TYPE_CHECKING:
    from radiobject_assets.store.store_query import LazyStoreQuery


class RadiObject(StoreMaking, RowChoice):
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

    A store that the RadiObject package wrote opens too, for reading: every id gives the volume that carries
    it. To change it, copy it with `import_radiobject`.
    """

    _KEY = SUBJECT

    def __init__(
        self,
        uri: str | os.PathLike[str],
        ctx: tiledb.Ctx | None = None,
        timestamp: int | str | None = None,
    ) -> None:
        where, reference = normalise(uri), ContextRef(ctx)
        rows = join(where, OBS_META)
        if is_radiobjects(where, reference.get(), STORE_FORMAT):
            if timestamp is not None:
                raise StorageError(f"{where}: the RadiObject package wrote it, without snapshots")
            self._show(where, reference, radiobject_rows(rows, reference, of_volumes=False))
        else:
            picture = Picture([Place(where, OBS_META)], reference, timestamp)
            if timestamp is not None:
                _ = picture.state  # so that a name that there is not fails here and now
            self._show(where, reference, Rows(rows, reference, picture))
        self._names: tuple[str, ...] | None = None
        self._entries: dict[str, CollectionEntry] | None = None
        self._roots: dict[str, VolumeCollection] = {}

    def _at(self, positions: Positions | None) -> Self:
        _ = self._collections  # what a view shows is settled when it is made
        return super()._at(positions)

    @property
    def _described(self) -> str:
        return f"this RadiObject ({len(self)} subjects)"

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def is_view(self) -> bool:
        """Whether this shows some of the subjects or collections only."""
        return self._positions is not None or self._names is not None

    @property
    def obs_meta(self) -> Dataframe:
        """The table of subjects."""
        return Dataframe._of(self._rows, {}, self._positions)

    def get_obs_row_by_obs_subject_id(self, obs_subject_id: str) -> pd.DataFrame:
        """The obs_meta row of one subject, as a DataFrame with one row."""
        return self._row(obs_subject_id)

    # -- collections --------------------------------------------------------------------------------

    @property
    def _collections(self) -> dict[str, CollectionEntry]:
        if self._entries is None:
            if self.is_radiobjects:
                found = radiobject_collections(self._uri, self._ctx.get())
            else:
                found = entries_of(self._uri, self._rows.picture.state)
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
            self._roots[name] = VolumeCollection._opened(uri, self._ctx, self._rows.picture, name)
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
        view = self._at(self._positions)
        view._names = tuple(names)
        return view

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

    def __getitem__(self, key: str | Sequence[str]) -> RadiObject:
        """A view of one or several subjects by id."""
        return self._by_ids([key] if isinstance(key, str) else list(key))

    @property
    def iloc(self) -> Indexer[RadiObject]:
        """Views of subjects by position: `iloc[0]`, `iloc[:10]`, `iloc[[0, 2]]`, `iloc[mask]`."""
        return Indexer(self._by_positions)

    @property
    def loc(self) -> Indexer[RadiObject]:
        """Views of subjects by id: `loc["s1"]`, `loc[["s1", "s2"]]`."""
        return Indexer(self.__getitem__)

    def sel(self, *, subject: str | Sequence[str]) -> RadiObject:
        """A view of one or several subjects by id."""
        return self[subject]

    def lazy(self) -> LazyStoreQuery:
        """A query over subjects and collections that reads nothing until asked for results."""
        from radiobject_assets.store.store_query import LazyStoreQuery

        return LazyStoreQuery(self)

    def describe(self) -> str:
        """A summary as text: subjects, collections with shapes, and columns with few values."""
        from radiobject_assets.store.summary import describe_store

        return describe_store(self)

    # -- changing -----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show what is stored now."""
        if self.is_view or self._rows.timestamp is not None:
            raise ViewError("a view or a snapshot keeps what it shows: open the store again")
        self._rows.refresh()
        self._entries, self._roots = None, {}

    def write(
        self, uri: str | os.PathLike[str], streaming: bool = True, ctx: tiledb.Ctx | None = None
    ) -> RadiObject:
        """Copy the subjects, collections and volumes shown here into a new store at `uri`.

        `streaming` is there for RadiObject's scripts; a copy always streams.
        """
        from radiobject_assets.store.copying import copy_store

        return copy_store(self, normalise(uri), ctx)

    materialize = write

    def append(
        self,
        images: Mapping[str, Images] | None = None,
        obs_meta: pd.DataFrame | None = None,
        reorient: bool | None = None,
        format_hint: Mapping[str, str] | None = None,
        progress: bool = False,
        niftis: Pairs | None = None,
        dicom_dirs: Pairs | None = None,
    ) -> Self:
        """Add images of new or known subjects; see `from_images`.

        In place of `images`, `niftis` or `dicom_dirs` are lists `[(path, subject_id), ...]` that are put into
        collections by the series type that a file's name tells, or the DICOM modality.
        """
        from radiobject_assets.store.building import append_to_store, one_source

        self._for_writing("append to")
        named, hint = one_source(images, niftis, dicom_dirs, format_hint)
        append_to_store(self._uri, named, obs_meta, reorient, hint, self._ctx.get(), progress)
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

    def __repr__(self) -> str:
        view = ", view" if self.is_view else ""
        names = ", ".join(self.collection_names) or "none"
        return f"RadiObject({len(self)} subjects, {self.n_collections} collections: {names}{view})"
