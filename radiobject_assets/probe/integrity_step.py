"""The step before any reading: whether what a store holds is what was written, and whether files are there.

It looks at as much as its time allows: a large store, or a slow one, is no broken one.
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from radiobject_assets.probe.child_journal import ChildJournal
from radiobject_assets.probe.probed_subject import ProbeSubject
from radiobject_assets.probe.trial import Trial

# Of a trial's time: files are only looked at before the items themselves are read.
_FOR_FILES = 1 / 4
# Of the time that one item may be silent: what could be unzipped by then is taken for the whole.
_FOR_ONE_ITEM = 1 / 2


def store_integrity(subject: ProbeSubject, trial: Trial, journal: ChildJournal, deadline: float) -> str:
    """Compare volumes with their digests; how many there was time for is how many items the trial had."""
    from radiobject_assets.store import RadiObject

    store = RadiObject(subject.text)
    left = trial.integrity_items
    for name in store.collection_names:
        collection = store.collection(name)
        for number in range(min(len(collection), left)):
            if time.monotonic() > deadline:
                return "cut short"
            left -= 1
            journal.note("stage", items=[number], stage=f"digest of a volume of {name}")
            for problem in collection[number : number + 1].verify():
                journal.note(
                    "found", kind=problem.code, token=problem.token, evidence=problem.detail, collection=name
                )
            journal.note("item_done", items=[number], s=0.0)
    return "passed"


def files_exist(dataset: Any, trial: Trial, journal: ChildJournal, deadline: float) -> None:
    """Look whether the files are there that items name, of data sets that keep a list of them."""
    stage = "file of an item"
    deadline = min(deadline, time.monotonic() + trial.limit_s * _FOR_FILES)
    for number, item in enumerate(_listed(dataset)[: trial.integrity_items]):
        now = time.monotonic()
        if now > deadline:
            return
        until = min(deadline, now + trial.silent_s * _FOR_ONE_ITEM)
        journal.note("stage", items=[number], stage=stage)
        for path in _paths(item):
            for kind, told in _wrong_with(path, until):
                journal.note("found", kind=kind, item=number, where=path, evidence=told)
        journal.note("stage_done", items=[], stage=stage)  # without items: no row in the table of stages


def _wrong_with(path: str, until: float) -> Iterator[tuple[str, str]]:
    if not os.path.exists(path):
        yield "loader_item_missing", ""
    elif os.path.isfile(path) and os.path.getsize(path) == 0:
        yield "loader_item_missing", "an empty file"
    elif path.endswith(".gz") and not _unzips(path, until):
        told = "its gzip stream breaks off or is damaged; some libraries read zeros there"
        yield "loader_item_unreadable", told


def _unzips(path: str, until: float) -> bool:
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20) and time.monotonic() < until:
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return True


def _listed(dataset: Any) -> list[Any]:
    """MONAI's `data`, TorchIO's `_subjects`, torchvision's `samples`, and what people call theirs."""
    for name in ("data", "_subjects", "samples", "files", "paths"):
        held = getattr(dataset, name, None)
        if isinstance(held, (list, tuple)):
            return list(held)
    return []


def _paths(item: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(item, os.PathLike) or (isinstance(item, str) and os.sep in item and "://" not in item):
        yield os.fspath(item)
    elif isinstance(item, Mapping) and depth < 3:
        for one in item.values():
            yield from _paths(one, depth + 1)
    elif isinstance(item, (list, tuple)) and depth < 3:
        for one in item:
            yield from _paths(one, depth + 1)
    elif isinstance(getattr(item, "path", None), os.PathLike):  # an image of TorchIO
        yield os.fspath(item.path)
