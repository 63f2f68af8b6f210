"""How a command starts and ends without doing what nobody needs: half of the time of `ingest` for one series
was that.

For the commands of this package only: a library does not change how others import, collect garbage or end.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def loading() -> Iterator[None]:
    """Around imports: nothing of what they make is garbage, and to look for some is a tenth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def leave(code: int) -> NoReturn:
    """End the process: what is registered for its end is done, the interpreter is not taken apart.

    Freeing every module and the contexts of TileDB one by one takes 50 ms, and the system frees them anyway.
    """
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if sys.flags.inspect or sys.getprofile() or sys.gettrace() or not all(t.daemon for t in others):
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
