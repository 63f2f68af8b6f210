"""Queries over one collection: lazy ones hold steps and one volume at a time, eager ones hold results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import ConfigurationError, ShapeError
from radiobject_assets.store.format.staging import StagedVolume, stage_volume
from radiobject_assets.store.legacy.radiobject_array import read_only
from radiobject_assets.store.names import COLLECTIONS, OBS_ID, SUBJECT
from radiobject_assets.store.objects.chosen_rows import ChosenRows
from radiobject_assets.store.objects.chosen_volumes import ChosenVolumes
from radiobject_assets.store.objects.copying import copy_collection, row_attributes
from radiobject_assets.store.objects.making import making_collection
from radiobject_assets.store.objects.transforms import Transformed, TransformFn, run_all
from radiobject_assets.store.objects.volume import Volume
from radiobject_assets.store.storage.uris import join, normalise, validate_collection_name

T = TypeVar("T")
Opening: TypeAlias = Callable[[str, tiledb.Ctx | None], T]
"""What opens that which a query wrote, at its URI."""
Step = Callable[[ChosenRows], ChosenRows]


@dataclass(frozen=True, eq=False, repr=False)
class LazyQuery(Generic[T]):
    """Steps over a collection that run when results are asked for.

    Filters read obs columns only; transforms run on one volume after another. Every method gives a new query.
    """

    source: ChosenVolumes
    opening: Opening[T]
    steps: tuple[Step, ...] = ()
    transforms: tuple[TransformFn, ...] = ()

    def _then(self, step: Step) -> LazyQuery[T]:
        return replace(self, steps=(*self.steps, step))

    def chosen(self) -> ChosenVolumes:
        """The volumes that the steps choose."""
        rows = self.source.rows
        for step in self.steps:
            rows = step(rows)
        return self.source.at(rows)

    def filter(self, expr: str) -> LazyQuery[T]:
        """Volumes whose obs row meets a condition."""
        return self._then(lambda rows: rows.filter(expr))

    def filter_subjects(self, ids: Sequence[str]) -> LazyQuery[T]:
        """Volumes of these subjects; ids without volumes are passed over."""
        wanted = frozenset(ids)
        return self._then(lambda rows: rows.of_subjects(wanted))

    def iloc(self, key: Any) -> LazyQuery[T]:
        """Volumes by position, as `VolumeCollection.iloc`; an integer selects one."""
        return self._then(lambda rows: rows.by_positions(key))

    def loc(self, key: str | Sequence[str]) -> LazyQuery[T]:
        """Volumes by id."""
        ids = [key] if isinstance(key, str) else list(key)
        return self._then(lambda rows: rows.by_ids(ids))

    def head(self, n: int = 5) -> LazyQuery[T]:
        """The first `n` volumes."""
        return self._then(lambda rows: rows.head(n))

    def tail(self, n: int = 5) -> LazyQuery[T]:
        """The last `n` volumes."""
        return self._then(lambda rows: rows.tail(n))

    def sample(self, n: int = 5, seed: int | None = None) -> LazyQuery[T]:
        """`n` volumes drawn without replacement; without a seed the draw is made once, here."""
        drawn = int(np.random.default_rng(seed).integers(2**63)) if seed is None else seed
        return self._then(lambda rows: rows.sample(n, drawn))

    def map(self, fn: TransformFn) -> LazyQuery[T]:
        """Apply `fn(array, obs_row) -> array | (array, obs_updates)` to each volume."""
        return replace(self, transforms=(*self.transforms, fn))

    def count(self) -> int:
        """How many volumes there are; reads no voxels."""
        return len(self.chosen())

    def __len__(self) -> int:
        return self.count()

    def to_obs(self) -> pd.DataFrame:
        """The obs rows, before any transform."""
        return self.chosen().rows.frame()

    def iter_volumes(self) -> Iterator[Volume]:
        """The stored volumes; for transformed values iterate the query itself."""
        yield from self.chosen()

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """The transformed arrays, one at a time."""
        for result in self.results():
            yield result.volume

    def results(self) -> Iterator[Transformed]:
        """The transformed volumes with their rows and affines, one at a time."""
        for volume, row in self.chosen().with_rows():
            yield run_all(self.transforms, volume, row)

    def collected(self) -> EagerQuery[T]:
        """The results, held in memory."""
        return EagerQuery(self.source, self.opening, tuple(self.results()))

    def collected_batches(
        self, fn: Callable[[list[Any]], Sequence[Any]], batch_size: int = 8
    ) -> EagerQuery[T]:
        """What `fn` makes of lists of up to `batch_size` pairs (array, obs_row), held in memory."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: use 1 or more")
        loaded = tuple(self.results())
        results: list[Transformed] = []
        for first in range(0, len(loaded), batch_size):
            batch = loaded[first : first + batch_size]
            outputs = list(fn([_pair(item) for item in batch]))
            if len(outputs) != len(batch):
                raise ShapeError(
                    f"the batch function returned {len(outputs)} results for {len(batch)} volumes"
                )
            results += [i.apply(_returning(output)) for i, output in zip(batch, outputs, strict=True)]
        return EagerQuery(self.source, self.opening, tuple(results))

    def to_numpy_stack(self) -> NDArray[Any]:
        """All transformed arrays in one, (N, X, Y, Z[, T]).

        Raises
        ------
        ShapeError
            If there are none, or they differ in shape.
        """
        arrays = list(self)
        if not arrays:
            raise ShapeError("the query has no volumes to stack")
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise ShapeError(f"volumes of different shapes cannot be stacked: {sorted(shapes)[:3]}")
        return np.stack(arrays)

    def write(
        self,
        uri: str | os.PathLike[str] | None = None,
        name: str | None = None,
        streaming: bool = True,
        ctx: tiledb.Ctx | None = None,
    ) -> T:
        """Write the results into a new collection, holding one volume at a time.

        Parameters
        ----------
        uri
            Where; None puts the collection `name` into the store that the source belongs to.
        streaming
            Kept for RadiObject's scripts; writing always streams.
        """
        target, use = _target(self.source, uri, name), ctx or self.source.ctx.get()
        if self.transforms:
            write_results(target, name or self.source.name, self.results(), use)
        else:
            copy_collection(self.chosen(), target, name, use)
        return self.opening(target, ctx or self.source.ctx.explicit)

    materialize = write

    def __repr__(self) -> str:
        return f"LazyQuery({self.source.name!r}, {len(self.steps)} steps, {len(self.transforms)} transforms)"


@dataclass(frozen=True, eq=False, repr=False)
class EagerQuery(Generic[T]):
    """Results of transforms with their rows, held in memory in the order of the volumes.

    A result may be anything, such as a mean; `write` and a further `map` of volumes need arrays.
    """

    source: ChosenVolumes
    opening: Opening[T]
    held: tuple[Transformed, ...]

    def map(self, fn: TransformFn) -> EagerQuery[T]:
        """Apply another transform to the results."""
        return replace(self, held=tuple(result.apply(fn) for result in self.held))

    def __len__(self) -> int:
        return len(self.held)

    def __iter__(self) -> Iterator[tuple[Any, pd.Series]]:
        return iter(self.to_list())

    def __getitem__(self, i: int | slice) -> Any:
        """One `(result, obs_row)`, or for a slice a query of some."""
        held = self.held[i]
        return _pair(held) if isinstance(held, Transformed) else replace(self, held=held)

    def to_list(self) -> list[tuple[Any, pd.Series]]:
        """The results with their rows, `[(result, obs_row), ...]`."""
        return [_pair(result) for result in self.held]

    def to_dataframe(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows after the transforms' updates; `columns` chooses and orders them."""
        frame = pd.DataFrame([dict(result.row) for result in self.held])
        return frame if columns is None else frame[list(columns)]

    def write(
        self,
        uri: str | os.PathLike[str] | None = None,
        name: str | None = None,
        streaming: bool = True,
        ctx: tiledb.Ctx | None = None,
    ) -> T:
        """Write the results into a new collection; see `LazyQuery.write`."""
        target, use = _target(self.source, uri, name), ctx or self.source.ctx.get()
        write_results(target, name or self.source.name, iter(self.held), use)
        return self.opening(target, ctx or self.source.ctx.explicit)

    materialize = write

    def __repr__(self) -> str:
        return f"EagerQuery({len(self)} results)"


def _pair(result: Transformed) -> tuple[Any, pd.Series]:
    return result.array, pd.Series(dict(result.row), dtype=object)


def _returning(output: Any) -> TransformFn:
    return lambda array: output


def _target(source: ChosenVolumes, uri: str | os.PathLike[str] | None, name: str | None) -> str:
    if uri is not None:
        return normalise(uri)
    if source.rows.is_radiobjects:
        raise read_only(source.uri, "write a collection beside")
    parent, separator, _ = source.uri.rpartition(f"/{COLLECTIONS}/")
    if not separator or name is None:
        raise ConfigurationError(
            "write(): give `uri`, or for a collection of a store the `name` of the new collection beside it"
        )
    return join(parent, COLLECTIONS, validate_collection_name(name))


def write_results(uri: str, name: str, results: Iterator[Transformed], ctx: tiledb.Ctx) -> None:
    """A new collection of transformed volumes, all visible at once at the end."""
    with making_collection(uri, name, ctx) as put:
        put(stage_result(uri, result, ctx) for result in results)


def stage_result(uri: str, result: Transformed, ctx: tiledb.Ctx) -> StagedVolume:
    """Stage one transformed volume."""
    return stage_volume(
        uri,
        obs_id=str(result.row[OBS_ID]),
        obs_subject_id=str(result.row[SUBJECT]),
        voxels=result.volume,
        affine=result.affine,
        attributes=row_attributes(result.row),
        orientation_source=result.row.get("orientation_source"),
        ctx=ctx,
    )
