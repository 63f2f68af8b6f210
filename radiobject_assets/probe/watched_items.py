"""A data set and a collate function that say in the journal what they are about to do.

They stand around the user's own in the child and in its workers, and pass everything else through, so that a
`worker_init_fn` that reaches for the data set finds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import IterableDataset

from radiobject_assets.probe.child_journal import here, watch_this_process
from radiobject_assets.probe.described import error_facts, in_short
from radiobject_assets.probe.watched_transforms import ITEM, watch_transforms, without_transforms


class _Begin:
    """Pickled before the data set, so that a process watches itself before anything of the user's runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return _begin, (self.folder,)


def _begin(folder: Path) -> _Begin:
    watch_this_process(folder).note("stage", items=[], stage="unpickling of the data set")
    return _Begin(folder)


class WatchedItems:
    """A map-style data set, watched."""

    def __init__(self, inner: Any, folder: Path, *, with_transforms: bool = True) -> None:
        self.__dict__.update(
            _probe_inner=inner, _probe_folder=folder, _probe_with=with_transforms, _probe_ready=False
        )

    def __len__(self) -> int:
        return len(self._probe_inner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_probe_") or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)
        return getattr(self.__dict__["_probe_inner"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._probe_inner, name, value)

    def __getstate__(self) -> tuple[Any, ...]:
        return _Begin(self._probe_folder), self._probe_inner, self._probe_with

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        begin, inner, with_transforms = state
        self.__init__(inner, begin.folder, with_transforms=with_transforms)  # type: ignore[misc]
        here().note("stage_done", items=[], stage="unpickling of the data set")

    def _get_ready(self) -> None:
        """Watch the transforms, on first use in each process: watched ones can't be pickled."""
        if not self._probe_ready:
            self.__dict__["_probe_ready"] = True
            if self._probe_with:
                watch_transforms(self._probe_inner)
            else:
                without_transforms(self._probe_inner)

    def __getitem__(self, index: Any) -> Any:
        return self._probe_observed([int(index)], lambda: self._probe_inner[index])

    def __getitems__(self, indices: Sequence[Any]) -> list[Any]:
        """Items of one batch, in the way in which PyTorch would ask the data set for them."""
        ITEM.batch = [int(index) for index in indices]
        together = getattr(self._probe_inner, "__getitems__", None)
        if together is None or len(indices) == 1:
            return [self[index] for index in indices]
        return list(self._probe_observed([int(i) for i in indices], lambda: together(indices)))

    def _probe_observed(self, numbers: list[int], call: Callable[[], Any]) -> Any:
        self._get_ready()
        begun = time.perf_counter()
        ITEM.begin(numbers)
        try:
            item = call()
        except Exception as error:
            ITEM.failed("read" if not ITEM.is_read else "data set, after its transforms", error)
            raise
        ITEM.read(item)
        here().note("item_done", items=numbers, s=round(time.perf_counter() - begun, 5))
        return item


class WatchedStream(IterableDataset[Any]):
    """An iterable data set, watched: items are numbered as they come in each process."""

    def __init__(self, inner: Any, folder: Path, *, with_transforms: bool = True) -> None:
        self.inner, self.folder, self.with_transforms = inner, folder, with_transforms

    def __getstate__(self) -> tuple[Any, ...]:
        return _Begin(self.folder), self.inner, self.with_transforms

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        begin, self.inner, self.with_transforms = state
        self.folder = begin.folder
        here().note("stage_done", items=[], stage="unpickling of the data set")

    def __iter__(self) -> Iterator[Any]:
        (watch_transforms if self.with_transforms else without_transforms)(self.inner)
        stream, number = iter(self.inner), 0
        while True:
            begun = time.perf_counter()
            ITEM.begin([number])
            try:
                item = next(stream)
            except StopIteration:
                here().note("stage_done", items=[number], stage="read", arrays=[])
                return
            except Exception as error:
                ITEM.failed("read" if not ITEM.is_read else "data set, after its transforms", error)
                raise
            ITEM.read(item)
            here().note("item_done", items=[number], s=round(time.perf_counter() - begun, 5))
            yield item
            number += 1


class WatchedCollate:
    """A collate function, watched."""

    def __init__(self, inner: Callable[[Any], Any]) -> None:
        self.inner = inner

    def __call__(self, items: Any) -> Any:
        given = [in_short(item) for item in items] if isinstance(items, list) else [in_short(items)]
        told = "; ".join(dict.fromkeys(given))[:400]
        numbers = ITEM.batch or ITEM.numbers
        here().note("stage", items=numbers, stage="collate", given=told)
        try:
            batch = self.inner(items)
        except Exception as error:
            here().note("failed", items=numbers, stage="collate", given=told, **error_facts(error))
            raise
        here().note("stage_done", items=numbers, stage="collate", arrays=[])
        return batch


class WatchedStart:
    """A `worker_init_fn`, watched; it also makes the worker watch itself."""

    def __init__(self, inner: Callable[[int], Any] | None, folder: Path) -> None:
        self.inner, self.folder = inner, folder

    def __call__(self, worker: int) -> None:
        journal = watch_this_process(self.folder)
        journal.note("worker", worker=worker)
        ITEM.numbers = []
        journal.note("stage", items=[], stage="worker_init_fn")
        if self.inner is not None:
            try:
                self.inner(worker)
            except Exception as error:
                ITEM.failed("worker_init_fn", error)
                raise
        journal.note("stage_done", items=[], stage="worker_init_fn", arrays=[])
