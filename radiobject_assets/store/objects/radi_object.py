"""The store as a user sees it: subjects with their metadata, and collections of their volumes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import pandas as pd
import tiledb

from radiobject_assets.errors import AlignmentError, ViewError
from radiobject_assets.store.format.deletion import delete_subjects
from radiobject_assets.store.format.layout import rename_collection
from radiobject_assets.store.objects.building import (
    Images,
    Pairs,
    append_to_store,
    create_store,
    create_store_from_images,
    nifti_images,
    one_source,
)
from radiobject_assets.store.objects.chosen_rows import ChosenRows, Indexer
from radiobject_assets.store.objects.chosen_store import ChosenStore
from radiobject_assets.store.objects.chosen_volumes import ChosenVolumes
from radiobject_assets.store.objects.copying import copy_into_store, copy_store, store_from_collections
from radiobject_assets.store.objects.dataframe import Dataframe
from radiobject_assets.store.objects.indexing import Index
from radiobject_assets.store.objects.store_query import LazyStoreQuery
from radiobject_assets.store.objects.store_summary import summarise_store
from radiobject_assets.store.objects.verification import validate_store
from radiobject_assets.store.objects.volume import Volume
from radiobject_assets.store.objects.volume_collection import VolumeCollection
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.uris import normalise


class RadiObject:
    """A store opened for reading, or a view of some of its subjects and collections.

    Subjects are the rows of `obs_meta`, sorted by id. `radi.ct` is `radi.collection("ct")`. A view filters
    its collections too: it shows the volumes of its subjects only. An object shows what was there when it was
    opened; it sees its own writes, and those of others after `refresh()`. A view keeps what it shows.

    A store that the RadiObject package wrote opens too, for reading: every id gives the volume that carries
    it. To change it, copy it with `import_radiobject`.

    Parameters
    ----------
    uri
        The store: local path, file:// or s3://.
    ctx
        TileDB context; None for the process's own.
    timestamp
        Milliseconds since 1970, or the name of a snapshot, to see the store as it was then.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        ctx: tiledb.Ctx | None = None,
        timestamp: int | str | None = None,
    ) -> None:
        self._chosen = ChosenStore.opened(uri, ctx, timestamp)

    @classmethod
    def of(cls, chosen: ChosenStore) -> Self:
        """A store that shows what was chosen before."""
        store = cls.__new__(cls)
        store._chosen = chosen
        return store

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Where it is stored."""
        return self._chosen.uri

    @property
    def timestamp(self) -> int | None:
        """The moment shown, in milliseconds since 1970; None for now."""
        return self._chosen.subjects.timestamp

    @property
    def is_view(self) -> bool:
        """Whether this shows some of the subjects or collections only."""
        return self._chosen.is_view

    @property
    def is_radiobjects(self) -> bool:
        """Whether the RadiObject package wrote it: it can be read here and not changed."""
        return self._chosen.subjects.is_radiobjects

    def __len__(self) -> int:
        return len(self._chosen.subjects)

    @property
    def obs_subject_ids(self) -> list[str]:
        """Ids of the subjects, in order."""
        return self._chosen.subjects.subjects

    @property
    def index(self) -> Index:
        """Index of the ids, in order."""
        return self._chosen.subjects.index

    @property
    def obs_meta(self) -> Dataframe:
        """The table of subjects."""
        return Dataframe.of(self._chosen.subjects, self.refresh)

    def get_obs_row_by_obs_subject_id(self, obs_subject_id: str) -> pd.DataFrame:
        """The obs_meta row of one subject, as a DataFrame with one row."""
        return self._chosen.subjects.row(obs_subject_id)

    # -- collections --------------------------------------------------------------------------------

    @property
    def collection_names(self) -> tuple[str, ...]:
        """Names of the collections, sorted (of a selection: in its order)."""
        return self._chosen.names

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
        return VolumeCollection.of(self._chosen.collection(name), None if self.is_view else self.refresh)

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
        return self.of(self._chosen.select(names))

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

    def _view(self, subjects: ChosenRows) -> Self:
        return self.of(self._chosen.at(subjects))

    def __getitem__(self, key: str | Sequence[str]) -> RadiObject:
        """A view of one or several subjects by id."""
        return self._view(self._chosen.subjects.by_ids([key] if isinstance(key, str) else list(key)))

    @property
    def iloc(self) -> Indexer[RadiObject]:
        """Views of subjects by position: `iloc[0]`, `iloc[:10]`, `iloc[[0, 2]]`, `iloc[mask]`."""
        return Indexer(lambda key: self._view(self._chosen.subjects.by_positions(key)))

    @property
    def loc(self) -> Indexer[RadiObject]:
        """Views of subjects by id: `loc["s1"]`, `loc[["s1", "s2"]]`."""
        return Indexer(self.__getitem__)

    def sel(self, *, subject: str | Sequence[str]) -> RadiObject:
        """A view of one or several subjects by id."""
        return self[subject]

    def filter(self, expr: str) -> Self:
        """A view of the subjects that meet a condition, e.g. `"age >= 50 and sex == 'F'"`."""
        return self._view(self._chosen.subjects.filter(expr))

    def head(self, n: int = 5) -> Self:
        """A view of the first `n`; with a negative `n`, of all but the last, as in pandas."""
        return self._view(self._chosen.subjects.head(n))

    def tail(self, n: int = 5) -> Self:
        """A view of the last `n`; with a negative `n`, of all but the first, as in pandas."""
        return self._view(self._chosen.subjects.tail(n))

    def sample(self, n: int = 5, seed: int | None = None) -> Self:
        """A view of `n` drawn without replacement (all if there are fewer), in order."""
        return self._view(self._chosen.subjects.sample(n, seed))

    def lazy(self) -> LazyStoreQuery[RadiObject]:
        """A query over subjects and collections that reads nothing until asked for results."""
        return LazyStoreQuery(self._chosen, RadiObject)

    def describe(self) -> str:
        """A summary as text: subjects, collections with shapes, and columns with few values."""
        return summarise_store(self._chosen)

    # -- changing -----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show what is stored now."""
        if self.is_view or self.timestamp is not None:
            raise ViewError("a view or a snapshot keeps what it shows: open the store again")
        self._chosen = ChosenStore.opened(self.uri, self._chosen.ctx.explicit)

    def write(
        self, uri: str | os.PathLike[str], streaming: bool = True, ctx: tiledb.Ctx | None = None
    ) -> RadiObject:
        """Copy the subjects, collections and volumes shown here into a new store at `uri`.

        `streaming` is there for RadiObject's scripts; a copy always streams.
        """
        reference = self._chosen.ctx
        copy_store(self._chosen, normalise(uri), ctx or reference.get())
        return RadiObject(uri, ctx or reference.explicit)

    materialize = write

    def _check_writable(self, action: str) -> None:
        self._chosen.subjects.check_writable(action)
        if self.is_view:
            raise ViewError(f"Cannot {action} a view: {action} the whole, or write() the view first")

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
        self._check_writable("append to")
        named, hint = one_source(images, niftis, dicom_dirs, format_hint)
        append_to_store(self.uri, named, obs_meta, reorient, hint, self._chosen.ctx.get(), progress)
        self.refresh()
        return self

    def add_collection(self, name: str, vc: VolumeCollection) -> Self:
        """Copy a collection into this store under `name`; its subjects must be known here."""
        self._check_writable("add a collection to")
        copy_into_store(self._chosen, name, vc.chosen)
        self.refresh()
        return self

    def rename_collection(self, old: str, new: str) -> None:
        """Give a collection another name; snapshots made before keep the old one."""
        self._check_writable("rename a collection of")
        rename_collection(self.uri, old, new, self._chosen.ctx.get())
        self.refresh()

    def delete_subjects(self, ids: Sequence[str]) -> None:
        """Remove subjects physically: voxels and rows, from the present and from every snapshot."""
        self._check_writable("delete from")
        delete_subjects(self.uri, ids, self._chosen.ctx.get())
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
        validate_store(self._chosen)

    # -- making -------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str],
        obs_meta_schema: Mapping[str, Any] | None = None,
        ctx: tiledb.Ctx | None = None,
    ) -> Self:
        """An empty store whose obs_meta has the columns `obs_meta_schema` (name to dtype)."""
        create_store(normalise(uri), obs_meta_schema or {}, ContextRef(ctx).get())
        return cls(uri, ctx)

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
    ) -> Self:
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
    def from_niftis(
        cls,
        uri: str | os.PathLike[str],
        niftis: Pairs | None = None,
        image_dir: str | os.PathLike[str] | None = None,
        collection_name: str | None = None,
        images: Mapping[str, Images] | None = None,
        validate_alignment: bool = False,
        obs_meta: pd.DataFrame | None = None,
        reorient: bool | None = None,
        ctx: tiledb.Ctx | None = None,
        progress: bool = False,
    ) -> Self:
        """`from_images` for NIfTI files alone.

        In place of `images`: `niftis`, a list `[(path, subject_id), ...]`, or the folder `image_dir`; they
        go into the collection `collection_name`, else into one for each series type that their names tell.
        """
        named = nifti_images(images, niftis, image_dir, collection_name)
        hint = dict.fromkeys(named, "nifti")
        return cls.from_images(uri, named, validate_alignment, obs_meta, reorient, hint, ctx, progress)

    @classmethod
    def from_dicoms(
        cls,
        uri: str | os.PathLike[str],
        dicom_dirs: Pairs,
        obs_meta: pd.DataFrame | None = None,
        reorient: bool | None = None,
        ctx: tiledb.Ctx | None = None,
        progress: bool = False,
    ) -> Self:
        """`from_images` for DICOM folders, `[(folder, subject_id), ...]`: a collection for each modality."""
        named, hint = one_source(None, None, dicom_dirs, None)
        return cls.from_images(uri, named, False, obs_meta, reorient, hint, ctx, progress)

    @classmethod
    def from_collections(
        cls,
        uri: str | os.PathLike[str],
        collections: Mapping[str, VolumeCollection | str],
        obs_meta: pd.DataFrame | None = None,
        ctx: tiledb.Ctx | None = None,
    ) -> Self:
        """A new store with copies of collections (objects or URIs), affines and rows included."""
        chosen = {
            name: ChosenVolumes.opened(one, ctx) if isinstance(one, str) else one.chosen
            for name, one in collections.items()
        }
        store_from_collections(normalise(uri), chosen, obs_meta, ContextRef(ctx).get())
        return cls(uri, ctx)

    # RadiObject's names; its own tests and scripts that follow them call these.
    _create = create
    _from_volume_collections = from_collections

    def __repr__(self) -> str:
        view = ", view" if self.is_view else ""
        names = ", ".join(self.collection_names) or "none"
        return f"RadiObject({len(self)} subjects, {self.n_collections} collections: {names}{view})"
