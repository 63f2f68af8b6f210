"""Transforms that say what they are given and what they make, without being other transforms.

The transforms of a `Compose` (of MONAI, TorchIO, torchvision or anybody who keeps them in `transforms`) are
found by looking through the data set. An object gets a class derived from its own, so that `isinstance`
holds and libraries treat it as before; a function gets a stand-in. Nothing watched is ever pickled: each
process watches its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableSequence
from functools import cache
from typing import Any

from radiobject_assets.probe.child_journal import here
from radiobject_assets.probe.described import array_facts, digest_of, error_facts, in_short

_NAMES = ("transform", "_transform", "transforms", "_transforms", "target_transform")
_INNER = ("dataset", "datasets", "_dataset", "subjects_dataset")
_DEPTH = 6


class CurrentItem(threading.local):
    """The item that this thread is at, and whether it is still being read."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.batch: list[int] = []
        self.is_read = True
        self.noted: BaseException | None = None

    def begin(self, numbers: list[int]) -> None:
        """An item is asked for: everything until its first transform is reading."""
        self.numbers, self.is_read = numbers, False
        here().note("stage", items=numbers, stage="read")

    def read(self, value: Any) -> None:
        """The item has been read, if that was not known yet."""
        if self.is_read:
            return
        self.is_read = True
        here().note(
            "stage_done", items=self.numbers, stage="read", arrays=array_facts(value), crc=digest_of(value)
        )

    def failed(self, stage: str, error: BaseException, given: str = "") -> None:
        """An error, where it is raised first; those who pass it on or wrap it add nothing."""
        seen = self.noted
        cause: BaseException | None = error
        while cause is not None:
            if cause is seen:
                return
            cause = cause.__cause__ or cause.__context__
        self.noted = error
        here().note("failed", items=self.numbers, stage=stage, given=given, **error_facts(error))


ITEM = CurrentItem()
_STAGES: dict[int, str] = {}


def _observed(stage: str, call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    first = arguments[0] if arguments else None
    ITEM.read(first)
    given = in_short(first)  # now, since many transforms change what they are given
    here().note("stage", items=ITEM.numbers, stage=stage, given=given)
    try:
        made = call(*arguments, **named)
    except Exception as error:
        ITEM.failed(stage, error, given)
        raise
    here().note("stage_done", items=ITEM.numbers, stage=stage, arrays=array_facts(made))
    return made


class _WatchedCall:
    """A function in the place of a transform."""

    def __init__(self, call: Callable[..., Any], stage: str) -> None:
        self._call, self._stage = call, stage

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _observed(self._stage, self._call, arguments, named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_call"], name)


@cache
def _watched_class(base: Any) -> Any:
    def __call__(self: Any, *arguments: Any, **named: Any) -> Any:
        stage = _STAGES.get(id(self), f"transform ({base.__name__})")
        return _observed(stage, lambda *a, **n: base.__call__(self, *a, **n), arguments, named)

    own = {"__slots__": (), "__call__": __call__, "__module__": base.__module__, "__doc__": base.__doc__}
    made = type(base)(base.__name__, (base,), own)
    made.__qualname__ = base.__qualname__
    return made


def _watched(transform: Any, stage: str) -> Any:
    kind: Any = type(transform)
    if kind.__module__ == "builtins" or hasattr(transform, "__self__"):
        return _WatchedCall(transform, stage)
    try:
        transform.__class__ = _watched_class(kind)
    except TypeError:  # another memory layout: extension types, functions
        return _WatchedCall(transform, stage)
    _STAGES[id(transform)] = stage
    return transform


def _parts(value: Any) -> Any:
    """The transforms of a Compose; None of a single transform."""
    inner = getattr(value, "transforms", None)
    if inner is not None and not callable(inner) and hasattr(inner, "__iter__"):
        return inner
    return None


class _Watching:
    """One pass over a data set, in which each transform gets its number."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def transform(self, value: Any) -> Any:
        """The same transform, watched; of a Compose each of its parts."""
        parts = _parts(value)
        if parts is not None:
            self.all_of(value, "transforms", parts)
            return value
        if not callable(value):
            return value
        name = getattr(value, "__name__", None) or type(value).__name__
        stage = f"transform {len(self.stages) + 1} ({name})"
        self.stages.append(stage)
        return _watched(value, stage)

    def all_of(self, holder: Any, name: str, parts: Any) -> None:
        """Watch each of several transforms, which `holder` keeps under `name`."""
        watched = [self.transform(one) for one in parts]
        if isinstance(parts, tuple):
            setattr(holder, name, tuple(watched))
        elif isinstance(parts, MutableSequence):
            parts[:] = watched
        # else a ModuleList or the like: objects that were changed in their place

    def dataset(self, value: Any, depth: int = 0) -> None:
        """Watch the transforms of a data set and of those within it."""
        own = getattr(value, "__dict__", None)
        if own is None or depth > _DEPTH:
            return
        for name in _NAMES:
            held = own.get(name)
            if held is None:
                continue
            if isinstance(held, (list, tuple)):
                self.all_of(value, name, held)
            elif callable(held):
                setattr(value, name, self.transform(held))
        for inner in _inner(own):
            self.dataset(inner, depth + 1)


def _inner(own: dict[str, Any]) -> Iterator[Any]:
    for name in _INNER:
        held = own.get(name)
        if isinstance(held, (list, tuple)):
            yield from held
        elif held is not None:
            yield held


def watch_transforms(dataset: Any) -> list[str]:
    """Watch every transform that is found in a data set; the names of their stages, in order."""
    watching = _Watching()
    watching.dataset(dataset)
    return watching.stages


def without_transforms(dataset: Any, depth: int = 0) -> int:
    """Take out every transform that is found; how many places there were."""
    own = getattr(dataset, "__dict__", None)
    if own is None or depth > _DEPTH:
        return 0
    places = 0
    for name in _NAMES:
        held = own.get(name)
        if isinstance(held, (list, tuple)):
            setattr(dataset, name, type(held)())
            places += 1
        elif held is not None and callable(held):
            setattr(dataset, name, _unchanged)
            places += 1
    return places + sum(without_transforms(inner, depth + 1) for inner in _inner(own))


def _unchanged(value: Any) -> Any:
    return value
