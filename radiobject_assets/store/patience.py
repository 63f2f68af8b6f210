"""Reading a table while another process merges and removes its fragments: looking again for what vanished."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from radiobject_assets.errors import StorageError
from radiobject_assets.store.deadline import DeadlineError

T = TypeVar("T")

_ATTEMPTS = 6
_PAUSE_S = 0.03


def while_tidied(call: Callable[[], T], *, whatever: bool = False) -> T:
    """The result of `call()`, tried again where a file of a fragment was not there any more.

    TileDB lists fragments first and reads them one by one; a vacuum in between takes some away, when what
    they held is in a merged fragment already. A table that is damaged fails every time.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return call()
        except DeadlineError:
            raise
        except StorageError as error:
            if not whatever and not any(part in str(error) for part in ("__fragments", "__commits")):
                raise
            time.sleep(_PAUSE_S * attempt)
    return call()
