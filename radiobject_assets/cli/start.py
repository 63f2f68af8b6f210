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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
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


def pyarrow_without_pandas() -> None:
    """Keep pyarrow from loading pandas (0.2 s) before something else does.

    With the first array that it makes, pyarrow imports pandas to know a Series when it sees one. It asks only
    once, so it is told that there is none, and told otherwise as soon as pandas is loaded for a reason.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    finder = _PandasLater()
    sys.meta_path.insert(0, finder)
    pa.scalar(0)
    finder.asked = True


class _PandasLater(MetaPathFinder):
    asked = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "pandas":
            return None
        if not self.asked:
            raise ModuleNotFoundError(fullname, name=fullname)
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _TellsPyarrow(spec.loader.name, spec.loader.path)
        return spec


class _TellsPyarrow(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        import pyarrow as pa

        pa.Table.from_pandas(module.DataFrame())  # what needs pandas makes pyarrow ask again
