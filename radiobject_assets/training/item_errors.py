"""Errors that say at which item and in which transform they happened.

A worker's traceback ends in a library's line, and the item is what one looks for. The error stays what it is;
a note is added (PEP 678), which tracebacks show and PyTorch carries from worker to main process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


def at_item(item: Callable[[], str], call: Callable[[], T]) -> T:
    """What `call` gives; its error names the item, which is asked for only then."""
    try:
        return call()
    except Exception as error:
        _note(error, f"while reading {item()}")
        raise


def transformed(item: Callable[[], str], transform: Callable[[T], T], value: T) -> T:
    """The value transformed; an error names the item and the transform, of a Compose its part."""
    try:
        return transform(value)
    except Exception as error:
        _note(error, f"in {_name(_failing_part(transform, error))}, applied to {item()}")
        raise


def _note(error: Exception, text: str) -> None:
    if not any(note.startswith(("while reading ", "in ")) for note in getattr(error, "__notes__", ())):
        error.add_note(text)


def _name(transform: Any) -> str:
    return str(getattr(transform, "__name__", None) or type(transform).__name__)


def _failing_part(transform: Any, error: BaseException) -> Any:
    """The transform that was running: the innermost part of a Compose that the traceback passes through."""
    parts = list(_parts(transform))
    found, cause = transform, error
    seen: set[int] = set()
    while id(cause) not in seen:
        seen.add(id(cause))
        for frame in _frames(cause):
            own, code = frame.f_locals.get("self"), frame.f_code
            for part in parts:
                if own is part or getattr(part, "__code__", None) is code:
                    found = part
        cause = cause.__cause__ or cause
    return found


def _parts(transform: Any, depth: int = 0) -> Iterator[Any]:
    inner = getattr(transform, "transforms", None)
    if depth < 5 and isinstance(inner, (list, tuple)):
        for part in inner:
            yield part
            yield from _parts(part, depth + 1)


def _frames(error: BaseException) -> Iterator[FrameType]:
    at = error.__traceback__
    while at is not None:
        yield at.tb_frame
        at = at.tb_next
