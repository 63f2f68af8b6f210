"""Writing volumes one by one into a collection or store; what was written survives an interruption."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import ArrayLike, NDArray

from radiobject_assets.errors import AlignmentError, ShapeError, StorageError
from radiobject_assets.store.format.layout import ensure_collection, ensure_collection_at, ensure_store
from radiobject_assets.store.format.obs_table import obs_table
from radiobject_assets.store.format.staging import Attribute, StagedVolume, commit_volumes, stage_volume
from radiobject_assets.store.format.subject_rows import upsert_subjects
from radiobject_assets.store.names import OBS_ID, SUBJECT
from radiobject_assets.store.objects.building import add_subject_columns
from radiobject_assets.store.objects.radi_object import RadiObject
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.uris import normalise

COMMIT_EVERY = 32


class VolumeCollectionWriter:
    """Writes volumes into a collection, which is made if it is not there.

    Volumes become visible in groups of 32 and when the `with` block ends, also by an error: each is whole. A
    writer opened again on the same collection goes on: `written_ids` says what is there, and writing an id
    again replaces its volume.

    Parameters
    ----------
    shape
        The (X, Y, Z) that every volume must have; None allows any.
    obs_schema
        Name and dtype of columns that `write_volume` will fill.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> uri = tempfile.mkdtemp() + "/ct"
    >>> with VolumeCollectionWriter(uri) as writer:
    ...     writer.write_volume(np.zeros((4, 4, 4), np.int16), obs_id="s1_ct", obs_subject_id="s1")
    >>> writer.n_written
    1
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        shape: Sequence[int] | None = None,
        obs_schema: Mapping[str, Any] | None = None,
        name: str | None = None,
        ctx: tiledb.Ctx | None = None,
    ) -> None:
        self.uri = normalise(uri)
        self.shape = None if shape is None else tuple(int(size) for size in shape)
        self.name = name
        self._schema = dict(obs_schema or {})
        self._ctx = ContextRef(ctx)
        self._pending: list[StagedVolume] = []
        self._owners: dict[str, str] | None = None
        self._count = 0
        self._open = False
        self._store_uri: str | None = None

    def __enter__(self) -> Self:
        if self._open:
            raise StorageError("this writer is already initialized")
        ensure_collection_at(self.uri, self.name, self._ctx.get(), self._schema, self.shape)
        self._open = True
        return self

    @property
    def n_written(self) -> int:
        """Volumes written by this writer so far."""
        return self._count

    @property
    def written_ids(self) -> frozenset[str]:
        """Ids of the volumes that the collection has, those of earlier writers included."""
        rows = obs_table(self.uri, self._ctx.get()).read([])
        return frozenset(rows.column(OBS_ID).to_pylist()) | {volume.obs_id for volume in self._pending}

    def write_volume(
        self,
        data: NDArray[Any],
        obs_id: str,
        obs_subject_id: str,
        affine: ArrayLike | None = None,
        **attrs: Attribute,
    ) -> None:
        """Write one volume (X, Y, Z[, T]) with its columns.

        Raises
        ------
        ShapeError
            If the writer has a shape and this is another.
        StorageError
            Outside of the `with` block.
        AlignmentError
            If the id belongs to another subject in this collection.
        """
        if not self._open:
            raise StorageError("the writer is not initialized: use it in a `with` block")
        data = np.asarray(data)
        if self.shape is not None and data.shape[: len(self.shape)] != self.shape:
            raise ShapeError(f"Volume shape {data.shape} doesn't match the collection's shape {self.shape}")
        if any(volume.obs_id == obs_id for volume in self._pending):
            raise ValueError(f"obs_id {obs_id!r} was written by this writer already")
        if self._owners is None:  # once for a writer: at every commit it would grow with the store
            rows = obs_table(self.uri, self._ctx.get()).read([])
            self._owners = dict(zip(rows[OBS_ID].to_pylist(), rows[SUBJECT].to_pylist(), strict=True))
        if self._owners.setdefault(obs_id, obs_subject_id) != obs_subject_id:
            raise AlignmentError("the obs_id belongs to another subject in this collection: choose another")
        staged = stage_volume(
            self.uri,
            obs_id=obs_id,
            obs_subject_id=obs_subject_id,
            voxels=data,
            affine=None if affine is None else np.asarray(affine, np.float64),
            attributes=attrs,
            ctx=self._ctx.get(),
        )
        self._pending.append(staged)
        self._count += 1
        if len(self._pending) >= COMMIT_EVERY:
            self.flush()

    def write_batch(self, volumes: Iterable[tuple[NDArray[Any], str, str, Mapping[str, Attribute]]]) -> None:
        """Write several volumes, `(data, obs_id, obs_subject_id, columns)`."""
        for data, obs_id, subject, attrs in volumes:
            self.write_volume(data, obs_id, subject, **dict(attrs))

    def flush(self) -> None:
        """Make what was written visible now."""
        ctx = self._ctx.get()
        commit_volumes(self.uri, self._pending, ctx, with_subjects=self._store_uri is not None)
        self._pending = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            self._open = False


class RadiObjectWriter:
    """Writes a store collection by collection; opened again on the same URI it goes on.

    >>> import tempfile, numpy as np, pandas as pd
    >>> with RadiObjectWriter(tempfile.mkdtemp() + "/store") as writer:
    ...     writer.write_obs_meta(pd.DataFrame({"obs_subject_id": ["s1"], "age": [61]}))
    ...     with writer.add_collection("ct") as ct:
    ...         ct.write_volume(np.zeros((4, 4, 4), np.int16), obs_id="s1_ct", obs_subject_id="s1")
    >>> writer.finalize().collection_names
    ('ct',)
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        obs_meta_schema: Mapping[str, Any] | None = None,
        ctx: tiledb.Ctx | None = None,
    ) -> None:
        self.uri = normalise(uri)
        self._schema = dict(obs_meta_schema or {})
        self._ctx = ContextRef(ctx)
        self._names: list[str] = []
        self._open = False

    def __enter__(self) -> Self:
        ctx = self._ctx.get()
        ensure_store(self.uri, ctx)
        add_subject_columns(self.uri, self._schema, ctx)
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise StorageError("the writer is not initialized: use it in a `with` block")

    def write_obs_meta(self, df: pd.DataFrame) -> None:
        """Write subjects and their metadata (column obs_subject_id and any others)."""
        self._check_open()
        upsert_subjects(self.uri, df, self._ctx.get())

    def add_collection(
        self, name: str, shape: Sequence[int] | None = None, obs_schema: Mapping[str, Any] | None = None
    ) -> VolumeCollectionWriter:
        """A writer for the collection `name`, to be used in a `with` block."""
        self._check_open()
        if name in self._names:
            raise ValueError(f"Collection {name!r} was already added")
        uri = ensure_collection(self.uri, name, self._ctx.get())
        writer = VolumeCollectionWriter(uri, shape, obs_schema, name, self._ctx.explicit)
        writer._store_uri = self.uri
        self._names.append(name)
        return writer

    @property
    def collection_names(self) -> list[str]:
        """Collections added so far."""
        return list(self._names)

    def finalize(self) -> RadiObject:
        """The store, opened."""
        return RadiObject(self.uri, self._ctx.explicit)
