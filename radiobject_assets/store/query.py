"""Queries over one collection: lazy ones hold steps and one volume at a time, eager ones hold results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import ConfigurationError, ShapeError
from radiobject_assets.store.copying import copy_collection, row_attributes
from radiobject_assets.store.making import making_collection
from radiobject_assets.store.names import OBS_ID, SUBJECT
from radiobject_assets.store.radiobject_array import read_only
from radiobject_assets.store.staging import StagedVolume, stage_volume
from radiobject_assets.store.transforms import Transformed, TransformFn, run_all
from radiobject_assets.store.uris import join, normalise, validate_collection_name
from radiobject_assets.store.volume import Volume
from radiobject_assets.store.volume_collection import VolumeCollection

__all__ = ["EagerQuery", "LazyQuery", "TransformFn", "write_results"]

Step = Callable[[VolumeCollection], VolumeCollection]


class LazyQuery:
    """Steps over a collection that run when results are asked for.

    Filters read obs columns only; transforms run on one volume after another. Every method gives a new query.
    """

    def __init__(
        self, source: VolumeCollection, steps: tuple[Step, ...] = (), transforms: tuple[TransformFn, ...] = ()
    ) -> None:
        self._source = source
        self._steps = steps
        self._transforms = transforms

    def _then(self, step: Step) -> LazyQuery:
        return LazyQuery(self._source, (*self._steps, step), self._transforms)

    def _view(self) -> VolumeCollection:
        view = self._source
        for step in self._steps:
            view = step(view)
        return view

    def filter(self, expr: str) -> LazyQuery:
        """Volumes whose obs row meets a condition."""
        return self._then(lambda view: view.filter(expr))

    def filter_subjects(self, ids: Sequence[str]) -> LazyQuery:
        """Volumes of these subjects; ids without volumes are passed over."""
        wanted = set(ids)
        return self._then(lambda view: view._of_subjects(wanted))

    def iloc(self, key: Any) -> LazyQuery:
        """Volumes by position, as `VolumeCollection.iloc`; an integer selects one."""
        picked = [int(key)] if isinstance(key, (int, np.integer)) else key
        return self._then(lambda view: view.iloc[picked])

    def loc(self, key: str | Sequence[str]) -> LazyQuery:
        """Volumes by id."""
        ids = [key] if isinstance(key, str) else list(key)
        return self._then(lambda view: view.loc[ids])

    def head(self, n: int = 5) -> LazyQuery:
        """The first `n` volumes."""
        return self._then(lambda view: view.head(n))

    def tail(self, n: int = 5) -> LazyQuery:
        """The last `n` volumes."""
        return self._then(lambda view: view.tail(n))

    def sample(self, n: int = 5, seed: int | None = None) -> LazyQuery:
        """`n` volumes drawn without replacement; without a seed the draw is made once, here."""
        drawn = np.random.default_rng(seed).integers(2**63) if seed is None else seed
        return self._then(lambda view: view.sample(n, int(drawn)))

    def map(self, fn: TransformFn) -> LazyQuery:
        """Apply `fn(array, obs_row) -> array | (array, obs_updates)` to each volume."""
        return LazyQuery(self._source, self._steps, (*self._transforms, fn))

    def count(self) -> int:
        """How many volumes there are; reads no voxels."""
        return len(self._view())

    def __len__(self) -> int:
        return self.count()

    def to_obs(self) -> pd.DataFrame:
        """The obs rows, before any transform."""
        return self._view().to_obs()

    def iter_volumes(self) -> Iterator[Volume]:
        """The stored volumes; for transformed values iterate the query itself."""
        yield from self._view()

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """The transformed arrays, one at a time."""
        for result in self._results():
            yield result.volume

    def _results(self) -> Iterator[Transformed]:
        view = self._view()
        for position in view._where:
            row = view._rows.records(int(position))
            yield run_all(self._transforms, view._volume_at(int(position)), row)

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
    ) -> VolumeCollection:
        """Write the results into a new collection, holding one volume at a time.

        Parameters
        ----------
        uri
            Where; None puts the collection `name` into the store that the source belongs to.
        streaming
            Kept for RadiObject's scripts; writing always streams.
        """
        view = self._view()
        target = _target(view, uri, name)
        if not self._transforms:
            return copy_collection(view, target, name)
        write_results(target, name or view.name, self._results(), ctx or view._ctx.get())
        return VolumeCollection(target, ctx or view._ctx.explicit)

    materialize = write

    def __repr__(self) -> str:
        return (
            f"LazyQuery({self._source.name!r}, {len(self._steps)} steps, {len(self._transforms)} transforms)"
        )


class EagerQuery:
    """Results of transforms with their rows, held in memory in the order of the volumes.

    A result may be anything, such as a mean; `write` and a further `map` of volumes need arrays.
    """

    def __init__(self, source: VolumeCollection, results: Sequence[Transformed]) -> None:
        self._source = source
        self._held = tuple(results)

    @classmethod
    def run(cls, source: VolumeCollection, fn: TransformFn) -> EagerQuery:
        """Apply `fn` to every volume of `source`."""
        return cls(source, list(LazyQuery(source).map(fn)._results()))

    @classmethod
    def run_batches(
        cls, source: VolumeCollection, fn: Callable[[list[Any]], Sequence[Any]], batch_size: int
    ) -> EagerQuery:
        """Apply `fn` to lists of up to `batch_size` pairs (array, obs_row)."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: use 1 or more")
        loaded = list(LazyQuery(source)._results())
        results: list[Transformed] = []
        for first in range(0, len(loaded), batch_size):
            batch = loaded[first : first + batch_size]
            outputs = list(fn([(item.array, pd.Series(dict(item.row), dtype=object)) for item in batch]))
            if len(outputs) != len(batch):
                raise ShapeError(
                    f"the batch function returned {len(outputs)} results for {len(batch)} volumes"
                )
            for item, output in zip(batch, outputs, strict=True):
                results.append(item.apply(_returning(output)))
        return cls(source, results)

    def map(self, fn: TransformFn) -> EagerQuery:
        """Apply another transform to the results."""
        return EagerQuery(self._source, [result.apply(fn) for result in self._held])

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[Any, pd.Series]]:
        return iter(self.to_list())

    def __getitem__(self, i: int | slice) -> Any:
        """One `(result, obs_row)`, or for a slice a query of some."""
        held = self._held[i]
        return _pair(held) if isinstance(held, Transformed) else EagerQuery(self._source, held)

    def to_list(self) -> list[tuple[Any, pd.Series]]:
        """The results with their rows, `[(result, obs_row), ...]`."""
        return [_pair(result) for result in self._held]

    def to_dataframe(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows after the transforms' updates; `columns` chooses and orders them."""
        frame = pd.DataFrame([dict(result.row) for result in self._held])
        return frame if columns is None else frame[list(columns)]

    def write(
        self,
        uri: str | os.PathLike[str] | None = None,
        name: str | None = None,
        streaming: bool = True,
        ctx: tiledb.Ctx | None = None,
    ) -> VolumeCollection:
        """Write the results into a new collection; see `LazyQuery.write`."""
        target = _target(self._source, uri, name)
        write_results(target, name or self._source.name, iter(self._held), ctx or self._source._ctx.get())
        return VolumeCollection(target, ctx or self._source._ctx.explicit)

    materialize = write

    def __repr__(self) -> str:
        return f"EagerQuery({len(self)} results)"


def _pair(result: Transformed) -> tuple[Any, pd.Series]:
    return result.array, pd.Series(dict(result.row), dtype=object)


def _returning(output: Any) -> TransformFn:
    return lambda array: output


def _target(source: VolumeCollection, uri: str | os.PathLike[str] | None, name: str | None) -> str:
    if uri is not None:
        return normalise(uri)
    if source.is_radiobjects:
        raise read_only(source.uri, "write a collection beside")
    parent, separator, _ = source.uri.rpartition("/collections/")
    if not separator or name is None:
        raise ConfigurationError(
            "write(): give `uri`, or for a collection of a store the `name` of the new collection beside it"
        )
    return join(parent, "collections", validate_collection_name(name))


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
