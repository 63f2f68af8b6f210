"""Lazy queries over a whole store: subjects and collections chosen now, read when results are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import NDArray

from radiobject_assets.store.copying import staged_copies
from radiobject_assets.store.making import making_store
from radiobject_assets.store.names import SUBJECT
from radiobject_assets.store.query import LazyQuery, stage_result
from radiobject_assets.store.transforms import TransformFn
from radiobject_assets.store.uris import normalise
from radiobject_assets.store.volume import Volume

if TYPE_CHECKING:
    from radiobject_assets.store.radi_object import RadiObject


@dataclass(frozen=True)
class QueryCount:
    """How much a query selects."""

    n_subjects: int
    n_volumes: Mapping[str, int]
    """Volumes by collection."""


@dataclass(frozen=True)
class VolumeBatch:
    """Volumes of some subjects, stacked by collection."""

    volumes: Mapping[str, NDArray[Any]]
    obs_ids: Mapping[str, tuple[str, ...]]
    subject_ids: tuple[str, ...]


class LazyStoreQuery:
    """Steps over a store that run when results are asked for. Every method gives a new query."""

    def __init__(
        self,
        source: RadiObject,
        conditions: tuple[tuple[str, str], ...] = (),
        transforms: tuple[TransformFn, ...] = (),
    ) -> None:
        self._source = source
        self._conditions = conditions
        self._transforms = transforms

    def _on(self, source: RadiObject) -> LazyStoreQuery:
        return LazyStoreQuery(source, self._conditions, self._transforms)

    def filter(self, expr: str) -> LazyStoreQuery:
        """Subjects whose obs_meta row meets a condition."""
        return self._on(self._source.filter(expr))

    def filter_subjects(self, ids: Sequence[str]) -> LazyStoreQuery:
        """These subjects, of those selected so far."""
        wanted = set(ids)
        keep = np.asarray([subject in wanted for subject in self._source.obs_subject_ids], np.bool_)
        return self._on(self._source.iloc[keep])

    def iloc(self, key: Any) -> LazyStoreQuery:
        """Subjects by position."""
        return self._on(self._source.iloc[key])

    def loc(self, key: str | Sequence[str]) -> LazyStoreQuery:
        """Subjects by id."""
        return self._on(self._source.loc[key])

    def head(self, n: int = 5) -> LazyStoreQuery:
        """The first `n` subjects."""
        return self._on(self._source.head(n))

    def tail(self, n: int = 5) -> LazyStoreQuery:
        """The last `n` subjects."""
        return self._on(self._source.tail(n))

    def sample(self, n: int = 5, seed: int | None = None) -> LazyStoreQuery:
        """`n` subjects drawn without replacement."""
        return self._on(self._source.sample(n, seed))

    def filter_collection(self, collection_name: str, expr: str) -> LazyStoreQuery:
        """In one collection, volumes that meet a condition; subjects without any such volume are left out."""
        self._source.collection(collection_name)
        conditions = (*self._conditions, (collection_name, expr))
        return LazyStoreQuery(self._source, conditions, self._transforms)

    def select_collections(self, names: Sequence[str]) -> LazyStoreQuery:
        """Some of the collections, of those selected so far."""
        chosen = [name for name in self._source.collection_names if name in set(names)]
        return self._on(self._source.select_collections(chosen))

    def map(self, fn: TransformFn) -> LazyStoreQuery:
        """Apply `fn(array, obs_row) -> array | (array, obs_updates)` to each volume."""
        return LazyStoreQuery(self._source, self._conditions, (*self._transforms, fn))

    def _resolved(self) -> RadiObject:
        source = self._source
        for name, expr in self._conditions:
            if name in source.collection_names:
                with_match = set(source.collection(name).filter(expr).obs_subject_ids)
                keep = np.asarray([s in with_match for s in source.obs_subject_ids], np.bool_)
                source = source.iloc[keep]
        return source

    def _collection(self, source: RadiObject, name: str) -> LazyQuery:
        query = LazyQuery(source.collection(name), (), self._transforms)
        for where, expr in self._conditions:
            if where == name:
                query = query.filter(expr)
        return query

    def count(self) -> QueryCount:
        """Subjects and volumes selected; reads no voxels."""
        source = self._resolved()
        counts = {name: self._collection(source, name).count() for name in source.collection_names}
        return QueryCount(len(source), counts)

    def __len__(self) -> int:
        return len(self._resolved())

    def to_obs_meta(self) -> pd.DataFrame:
        """The rows of the selected subjects."""
        return self._resolved().obs_meta.read()

    def to_obs(self) -> pd.DataFrame:
        """The rows of the selected volumes of all collections, with a column `collection`."""
        source = self._resolved()
        frames = [
            self._collection(source, name).to_obs().assign(collection=name)
            for name in source.collection_names
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[SUBJECT])

    def iter_volumes(self, collection_name: str | None = None) -> Iterator[Volume]:
        """The stored volumes selected, collection by collection."""
        source = self._resolved()
        if collection_name is not None and collection_name not in source.collection_names:
            raise ValueError(f"Collection {collection_name!r} is not in the query's scope")
        for name in source.collection_names:
            if collection_name in (None, name):
                yield from self._collection(source, name).iter_volumes()

    def iter_batches(self, batch_size: int = 32) -> Iterator[VolumeBatch]:
        """The volumes of `batch_size` subjects at a time, stacked by collection."""
        source = self._resolved()
        subjects = source.obs_subject_ids
        for first in range(0, len(subjects), batch_size):
            part = subjects[first : first + batch_size]
            volumes: dict[str, NDArray[Any]] = {}
            ids: dict[str, tuple[str, ...]] = {}
            for name in source.collection_names:
                query = self._collection(source, name).filter_subjects(part)
                if query.count():
                    volumes[name] = query.to_numpy_stack()
                    ids[name] = tuple(query._view().obs_ids)
            yield VolumeBatch(volumes, ids, tuple(part))

    def to_numpy_stack(self) -> dict[str, NDArray[Any]]:
        """All volumes, stacked by collection."""
        source = self._resolved()
        return {name: self._collection(source, name).to_numpy_stack() for name in source.collection_names}

    def write(
        self, uri: str | os.PathLike[str], streaming: bool = True, ctx: tiledb.Ctx | None = None
    ) -> RadiObject:
        """Write subjects and transformed volumes into a new store, holding one volume at a time."""
        from radiobject_assets.store.radi_object import RadiObject

        source, target = self._resolved(), normalise(uri)
        use = ctx or source._ctx.get()
        with making_store(target, use) as made:
            made.subjects(source.obs_meta.read())
            for name in source.collection_names:
                query = self._collection(source, name)
                into = made.collection(name)
                if self._transforms:
                    made.put_in(name, (stage_result(into, result, use) for result in query._results()))
                else:
                    made.put_in(name, staged_copies(query._view(), into, use))
        return RadiObject(target, ctx or source._ctx.explicit)

    materialize = write

    def __repr__(self) -> str:
        found, transforms = self.count(), len(self._transforms)
        volumes = sum(found.n_volumes.values())
        return f"LazyStoreQuery({found.n_subjects} subjects, {volumes} volumes, {transforms} transforms)"
