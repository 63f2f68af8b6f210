"""Lazy queries over a whole store: subjects and collections chosen now, read when results are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

import pandas as pd
import tiledb
from numpy.typing import NDArray

from radiobject_assets.store.names import SUBJECT
from radiobject_assets.store.objects.chosen_rows import ChosenRows
from radiobject_assets.store.objects.chosen_store import ChosenStore
from radiobject_assets.store.objects.chosen_volumes import ChosenVolumes
from radiobject_assets.store.objects.copying import staged_copies
from radiobject_assets.store.objects.making import making_store
from radiobject_assets.store.objects.query import LazyQuery, Opening, T, stage_result
from radiobject_assets.store.objects.transforms import TransformFn
from radiobject_assets.store.objects.volume import Volume
from radiobject_assets.store.storage.uris import normalise


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


@dataclass(frozen=True, eq=False, repr=False)
class LazyStoreQuery(Generic[T]):
    """Steps over a store that run when results are asked for. Every method gives a new query."""

    source: ChosenStore
    opening: Opening[T]
    conditions: tuple[tuple[str, str], ...] = ()
    """Of volumes: the name of a collection and a filter expression."""
    transforms: tuple[TransformFn, ...] = ()

    def _of(self, subjects: ChosenRows) -> LazyStoreQuery[T]:
        return replace(self, source=self.source.at(subjects))

    def filter(self, expr: str) -> LazyStoreQuery[T]:
        """Subjects whose obs_meta row meets a condition."""
        return self._of(self.source.subjects.filter(expr))

    def filter_subjects(self, ids: Sequence[str]) -> LazyStoreQuery[T]:
        """These subjects, of those selected so far."""
        return self._of(self.source.subjects.of_subjects(ids))

    def iloc(self, key: Any) -> LazyStoreQuery[T]:
        """Subjects by position."""
        return self._of(self.source.subjects.by_positions(key))

    def loc(self, key: str | Sequence[str]) -> LazyStoreQuery[T]:
        """Subjects by id."""
        return self._of(self.source.subjects.by_ids([key] if isinstance(key, str) else list(key)))

    def head(self, n: int = 5) -> LazyStoreQuery[T]:
        """The first `n` subjects."""
        return self._of(self.source.subjects.head(n))

    def tail(self, n: int = 5) -> LazyStoreQuery[T]:
        """The last `n` subjects."""
        return self._of(self.source.subjects.tail(n))

    def sample(self, n: int = 5, seed: int | None = None) -> LazyStoreQuery[T]:
        """`n` subjects drawn without replacement."""
        return self._of(self.source.subjects.sample(n, seed))

    def filter_collection(self, collection_name: str, expr: str) -> LazyStoreQuery[T]:
        """In one collection, volumes that meet a condition; subjects without any such volume are left out."""
        self.source.check_names([collection_name])
        return replace(self, conditions=(*self.conditions, (collection_name, expr)))

    def select_collections(self, names: Sequence[str]) -> LazyStoreQuery[T]:
        """Some of the collections, of those selected so far."""
        return replace(self, source=self.source.select([n for n in self.source.names if n in set(names)]))

    def map(self, fn: TransformFn) -> LazyStoreQuery[T]:
        """Apply `fn(array, obs_row) -> array | (array, obs_updates)` to each volume."""
        return replace(self, transforms=(*self.transforms, fn))

    def chosen(self) -> ChosenStore:
        """The subjects and collections that the steps choose."""
        source = self.source
        for name, expr in self.conditions:
            if name in source.names:
                with_match = source.collection(name).rows.filter(expr).subjects
                source = source.at(source.subjects.of_subjects(with_match))
        return source

    def _collection(self, source: ChosenStore, name: str) -> LazyQuery[ChosenVolumes]:
        query = LazyQuery(source.collection(name), ChosenVolumes.opened, (), self.transforms)
        for where, expr in self.conditions:
            if where == name:
                query = query.filter(expr)
        return query

    def count(self) -> QueryCount:
        """Subjects and volumes selected; reads no voxels."""
        source = self.chosen()
        counts = {name: self._collection(source, name).count() for name in source.names}
        return QueryCount(len(source.subjects), counts)

    def __len__(self) -> int:
        return len(self.chosen().subjects)

    def to_obs_meta(self) -> pd.DataFrame:
        """The rows of the selected subjects."""
        return self.chosen().subjects.frame()

    def to_obs(self) -> pd.DataFrame:
        """The rows of the selected volumes of all collections, with a column `collection`."""
        source = self.chosen()
        frames = [self._collection(source, name).to_obs().assign(collection=name) for name in source.names]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[SUBJECT])

    def iter_volumes(self, collection_name: str | None = None) -> Iterator[Volume]:
        """The stored volumes selected, collection by collection."""
        source = self.chosen()
        if collection_name is not None and collection_name not in source.names:
            raise ValueError(f"Collection {collection_name!r} is not in the query's scope")
        for name in source.names:
            if collection_name in (None, name):
                yield from self._collection(source, name).iter_volumes()

    def iter_batches(self, batch_size: int = 32) -> Iterator[VolumeBatch]:
        """The volumes of `batch_size` subjects at a time, stacked by collection."""
        source = self.chosen()
        subjects = source.subjects.subjects
        for first in range(0, len(subjects), batch_size):
            part = subjects[first : first + batch_size]
            volumes: dict[str, NDArray[Any]] = {}
            ids: dict[str, tuple[str, ...]] = {}
            for name in source.names:
                query = self._collection(source, name).filter_subjects(part)
                if query.count():
                    volumes[name] = query.to_numpy_stack()
                    ids[name] = tuple(query.chosen().ids)
            yield VolumeBatch(volumes, ids, tuple(part))

    def to_numpy_stack(self) -> dict[str, NDArray[Any]]:
        """All volumes, stacked by collection."""
        source = self.chosen()
        return {name: self._collection(source, name).to_numpy_stack() for name in source.names}

    def write(self, uri: str | os.PathLike[str], streaming: bool = True, ctx: tiledb.Ctx | None = None) -> T:
        """Write subjects and transformed volumes into a new store, holding one volume at a time."""
        source, target = self.chosen(), normalise(uri)
        use = ctx or source.ctx.get()
        with making_store(target, use) as made:
            made.subjects(source.subjects.frame())
            for name in source.names:
                query = self._collection(source, name)
                into = made.collection(name)
                if self.transforms:
                    made.put_in(name, (stage_result(into, result, use) for result in query.results()))
                else:
                    made.put_in(name, staged_copies(query.chosen(), into, use))
        return self.opening(target, ctx or source.ctx.explicit)

    materialize = write

    def __repr__(self) -> str:
        found, transforms = self.count(), len(self.transforms)
        volumes = sum(found.n_volumes.values())
        return f"LazyStoreQuery({found.n_subjects} subjects, {volumes} volumes, {transforms} transforms)"
