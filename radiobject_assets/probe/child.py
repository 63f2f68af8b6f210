"""The child in which a trial runs: `python -m radiobject_assets.probe FOLDER TEMPORARY`.

It may be killed by anything that the loader does, so whatever is learned is in the journal by then.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radiobject_assets.probe.child_journal import ChildJournal, watch_this_process
from radiobject_assets.probe.described import error_facts, in_short
from radiobject_assets.probe.integrity_step import files_exist, store_integrity
from radiobject_assets.probe.probed_subject import ProbeSubject, loaders_of, subject_of
from radiobject_assets.probe.trial import Mode, Trial
from radiobject_assets.system.resource_monitor import shared_memory_limit_mb

TRIAL = "trial.json"
# How the store of a trial is reached: the configuration of the process that probes, which has no secrets.
STORAGE = "storage.json"
_PDEATHSIG = 1
# Items that may fail before the rest is left: which kind of items fail is clear by then.
_MOST_FAILURES = 20
# Iterators that must not be taken apart before the end is noted: that waits for each worker.
_ALIVE: list[Any] = []
# Items whose reading is repeated, to know whether it gives the same each time.
_READ_TWICE = 4


def main(folder: Path, temporary: Path) -> None:
    """Run the trial that the folder names, and say how it ended.

    Sockets of workers, which nobody removes where a process is killed, are made below `temporary`.
    """
    _die_with_parent()
    # the user's own temporary files stay where they are; workers get this from the process that starts them
    getattr(multiprocessing.current_process(), "_config", {})["tempdir"] = str(temporary)
    trial = Trial.from_json((folder / TRIAL).read_text(encoding="utf-8"))
    journal = watch_this_process(folder)
    deadline = time.monotonic() + trial.limit_s
    _reach_storage(folder)
    try:
        how = _run(trial, subject_of(trial.subject), journal, deadline)
    except Exception as error:  # noqa: BLE001  (whatever the user's code raises is what is looked for)
        journal.note("raised", **error_facts(error))
        how = "raised"
    journal.note("end", how=how)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads and workers of the user's may hang at the interpreter's own end


def _reach_storage(folder: Path) -> None:
    if (folder / STORAGE).is_file():
        from radiobject_assets.store import RadiObjectConfig, set_radiobject_config

        content = (folder / STORAGE).read_text(encoding="utf-8")
        set_radiobject_config(RadiObjectConfig.model_validate_json(content))


def _die_with_parent() -> None:
    """Be killed when the probe is: nobody else would end a loader that hangs."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


def _run(trial: Trial, subject: ProbeSubject, journal: ChildJournal, deadline: float) -> str:
    if trial.config is not None:
        from radiobject_assets.store import RadiObjectConfig, set_radiobject_config

        set_radiobject_config(RadiObjectConfig.model_validate(trial.config))
    if trial.mode == Mode.INTEGRITY:
        journal.note("opened", kind="store")
        return store_integrity(subject, trial, journal, deadline)
    import torch

    _seed(trial.seed, torch)
    journal.note("stage", items=[], stage="factory")
    try:
        loaders = loaders_of(subject)
        first = loaders[0]
        parts = _Parts(first, trial)
    except Exception as error:  # noqa: BLE001
        journal.note("failed", items=[], stage="factory", given="", **error_facts(error))
        return "raised"
    journal.note("stage_done", items=[], stage="factory", arrays=[])
    journal.note("opened", **parts.facts(), n_loaders=len(loaders))
    if trial.mode == Mode.AS_IS:
        return _as_is(loaders, journal)
    if trial.mode == Mode.WORKERS:
        return _in_workers(parts, trial, journal, deadline)
    if trial.items is None and not trial.from_batch:
        files_exist(parts.dataset, trial, journal, deadline)
    return _item_by_item(parts, trial, journal, deadline)


def _seed(seed: int, torch: Any) -> None:
    import numpy as np

    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (what the probed code may draw from)
    random.seed(seed)


class _Parts:
    """What a loader is made of, or what a data set alone would be given."""

    def __init__(self, made: Any, trial: Trial) -> None:
        from torch.utils.data import DataLoader, IterableDataset

        self.trial = trial
        self.made = made
        if hasattr(made, "cache") and type(made).__name__ == "PatchLoader":  # ours, which has no workers
            from radiobject_assets.training import PatchCacheDataset

            made = PatchCacheDataset(made.cache)
        self.loader = made if isinstance(made, DataLoader) else None
        self.dataset = made.dataset if self.loader is not None else made
        self.is_stream = isinstance(self.dataset, IterableDataset)
        is_map = hasattr(self.dataset, "__getitem__") and hasattr(self.dataset, "__len__")
        if not self.is_stream and not is_map:
            raise TypeError(f"it gave a {type(made).__name__}: a DataLoader or a Dataset is needed")
        own = self.loader
        self.collate: Any = own.collate_fn if own is not None else _as_list
        if own is not None and own.batch_sampler is None and not self.is_stream:
            self.collate = _Single(own.collate_fn)  # each item is a batch already
        self.own_workers = own.num_workers if own is not None else 2
        self.own_batch = (own.batch_size if own is not None else 1) or self._size_of_batches(own) or 1
        context = getattr(own, "multiprocessing_context", None)
        self.own_method = (context or multiprocessing.get_context()).get_start_method()
        self.prefetch = getattr(own, "prefetch_factor", None) or 2
        self.drop_last = bool(getattr(own, "drop_last", False))

    @staticmethod
    def _size_of_batches(loader: Any) -> int | None:
        return getattr(getattr(loader, "batch_sampler", None), "batch_size", None)

    @property
    def workers(self) -> int:
        return self.own_workers if self.trial.workers is None else self.trial.workers

    @property
    def method(self) -> str:
        return self.trial.start_method or self.own_method

    @property
    def batch_size(self) -> int:
        return self.trial.batch_size or self.own_batch

    def facts(self) -> dict[str, Any]:
        import resource

        return {
            "loader": type(self.made).__name__,
            "dataset": type(self.dataset).__name__,
            "is_loader": self.loader is not None,
            "n_items": None if self.is_stream else len(self.dataset),
            "batch_size": self.own_batch,
            "workers": self.own_workers,
            "start_method": self.own_method,
            "prefetch": self.prefetch,
            "collate": getattr(self.collate, "__name__", type(self.collate).__name__),
            "threads": len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0,
            "python_threads": [one.name for one in threading.enumerate()],
            "shared_memory_limit_mb": shared_memory_limit_mb(),
            "open_files_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "files_kept": _files_kept(),
        }

    def batches(self) -> Iterator[list[int]]:
        """Numbers of items, batch by batch, in the loader's own order or in that of the trial."""
        trial = self.trial
        if trial.items is not None:
            numbers: Any = iter(trial.items)
        elif self.loader is not None and self.loader.batch_sampler is not None and trial.batch_size is None:
            for batch in itertools.islice(self.loader.batch_sampler, trial.from_batch, None):
                yield [int(one) for one in batch]
            return
        else:
            numbers = iter(self.loader.sampler if self.loader is not None else range(len(self.dataset)))
        numbers = itertools.islice(numbers, trial.from_batch * self.batch_size, None)
        while batch := [int(one) for one in itertools.islice(numbers, self.batch_size)]:
            if len(batch) == self.batch_size or not self.drop_last or trial.items is not None:
                yield batch


def _as_list(items: Any) -> Any:
    return items


class _Single:
    """What converts a batch that the data set made, where each item is one."""

    def __init__(self, convert: Any) -> None:
        self._convert = convert

    def __call__(self, items: list[Any]) -> Any:
        return self._convert(items[0])


def _item_by_item(parts: _Parts, trial: Trial, journal: ChildJournal, deadline: float) -> str:
    from radiobject_assets.probe.watched_items import WatchedCollate, WatchedItems, WatchedStream
    from radiobject_assets.probe.watched_transforms import ITEM

    collate = WatchedCollate(parts.collate)
    if parts.is_stream:
        return _stream(WatchedStream(parts.dataset, journal.folder), collate, parts, journal, deadline)
    watched = WatchedItems(parts.dataset, journal.folder, with_transforms=trial.with_transforms)
    n_failed = 0
    read: list[int] = []
    for number, batch in enumerate(parts.batches(), start=trial.from_batch):
        if time.monotonic() > deadline:
            return "cut short"
        journal.note("batch_begun", number=number, items=batch)
        items = []
        for index in batch:
            try:
                item = watched[index]
            except Exception:  # noqa: BLE001  (noted where it was raised)
                n_failed += 1
                if n_failed >= _MOST_FAILURES:
                    return "cut short"
                continue
            journal.note("shape", item=index, shape=in_short(item), files=_open_files())
            items.append(item)
            read += [index] * (len(read) < _READ_TWICE)
        if len(items) == len(batch):
            ITEM.batch = batch
            with contextlib.suppress(Exception):  # noted by the watched function
                collate(items)
        journal.note("batch", number=number, n=len(items))
        del items
    for index in read[:_READ_TWICE]:  # where that gives the same, workers must give it too
        with contextlib.suppress(Exception):
            watched[index]
            journal.note("again", item=index)
    return "passed"


def _files_kept() -> int:
    """How many files our own readers keep open on purpose, at most, where this process has them; else 0."""
    kept = 0
    if "radiobject_assets.store.arrays.reader_cache" in sys.modules:
        from radiobject_assets.store import most_open_files

        kept += most_open_files()
    if "radiobject_assets.training.cache.cache_reading" in sys.modules:
        from radiobject_assets.training.cache.cache_reading import MOST_MAPPED

        kept += 2 * MOST_MAPPED  # images and labels
    return kept


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def _stream(stream: Any, collate: Any, parts: _Parts, journal: ChildJournal, deadline: float) -> str:
    items = iter(stream)
    for number in itertools.count():
        if time.monotonic() > deadline:
            return "cut short"
        batch = list(itertools.islice(items, parts.batch_size))
        if not batch:
            return "passed"
        with contextlib.suppress(Exception):
            collate(batch)
        journal.note("batch", number=number, n=len(batch))
    return "passed"


def _in_workers(parts: _Parts, trial: Trial, journal: ChildJournal, deadline: float) -> str:
    from torch.utils.data import DataLoader

    from radiobject_assets.probe.watched_items import (
        WatchedCollate,
        WatchedItems,
        WatchedStart,
        WatchedStream,
    )

    watched_kind: Any = WatchedStream if parts.is_stream else WatchedItems
    own = parts.loader
    settings: dict[str, Any] = {
        "dataset": watched_kind(parts.dataset, journal.folder, with_transforms=trial.with_transforms),
        "collate_fn": WatchedCollate(parts.collate),
        "num_workers": parts.workers,
        "worker_init_fn": WatchedStart(getattr(own, "worker_init_fn", None), journal.folder),
        "generator": getattr(own, "generator", None),
    }
    if parts.workers:
        settings["multiprocessing_context"] = parts.method
        settings["prefetch_factor"] = trial.prefetch or parts.prefetch
    if parts.is_stream:
        settings["batch_size"] = parts.batch_size
    else:
        settings["batch_sampler"] = _Batches(parts)
    loader: Any = DataLoader(**settings)
    iterator: Any = None
    number = -1
    try:
        iterator = iter(loader)
        _ALIVE.append(iterator)
        for number, _ in enumerate(iterator):
            journal.note("batch", number=number, n=parts.batch_size)
            if time.monotonic() > deadline:
                return "cut short"
            if trial.most_batches is not None and number + 1 >= trial.most_batches:
                return "passed"
    except Exception as error:  # noqa: BLE001  (what the loader raises is what is looked for)
        _note_workers(iterator, journal)
        journal.note("raised", batch=number + 1, **error_facts(error))
        return "raised"
    return "passed"


class _Batches:
    """The trial's batches as a batch sampler."""

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[list[int]]:
        return self._parts.batches()


def _note_workers(iterator: Any, journal: ChildJournal) -> None:
    for worker, process in enumerate(getattr(iterator, "_workers", ())):
        with contextlib.suppress(RuntimeError):  # of PyTorch's handler, as the next worker dies
            process.join(2)
        if process.exitcode not in (None, 0):
            journal.note("worker_died", worker=worker, worker_pid=process.pid, code=process.exitcode)


def _as_is(loaders: list[Any], journal: ChildJournal) -> str:
    for which, (loader, most) in enumerate(zip(loaders, (2, 1), strict=False)):
        stage = "training batches" if which == 0 else "validation batch"
        journal.note("stage", items=[], stage=stage)
        try:
            if hasattr(loader, "dataset"):
                for number, _ in enumerate(itertools.islice(iter(loader), most)):
                    journal.note("batch", number=number, n=1)
            else:
                for number in range(min(most, len(loader))):
                    loader[number]
                    journal.note("batch", number=number, n=1)
        except Exception as error:  # noqa: BLE001
            journal.note("failed", items=[], stage=stage, given="", **error_facts(error))
            return "raised"
        journal.note("stage_done", items=[], stage=stage, arrays=[])
    return "passed"
