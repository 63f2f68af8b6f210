"""Any function of a module's top level, called in a worker process with an argument that can be pickled."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any

from radiobject_assets.workers.pool import Refusal, Work
from radiobject_assets.workers.process import Fill, LostError

Call = tuple[Callable[[Any], Any], Any]
"""A function and its argument."""


class CallError(Exception):
    """An error of a call that cannot be pickled: its class and what it says."""


def call(data: bytearray) -> tuple[dict[str, Any], bytes]:
    """In the worker: what a pickled `Call` returns or raises, pickled."""
    try:
        function, argument = pickle.loads(data)
        return {"raised": False}, pickle.dumps(function(argument))
    except Exception as error:  # noqa: BLE001  (whatever a task raises is its result; it is reported)
        return {"raised": True}, _pickled(error)


def _pickled(error: Exception) -> bytes:
    try:
        error.add_note(traceback.format_exc())
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # noqa: BLE001  (a class of its own can fail here in any way)
        return pickle.dumps(CallError(f"{type(error).__name__}: {error}"))
    return data


def _read(_: Call, document: dict[str, Any], size: int, fill: Fill) -> Any:
    data = bytearray(size)
    fill(memoryview(data))
    result = pickle.loads(data)
    return Refusal(result) if document["raised"] else result


def _lost(_: Call, error: LostError) -> LostError:
    return error


CALLS: Work[Call, Any] = Work(pickle.dumps, _read, _lost)
"""For processes whose function is `call`. They are trusted as this process is: answers are unpickled."""
