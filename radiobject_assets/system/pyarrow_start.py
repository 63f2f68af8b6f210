"""pyarrow without pandas, for programs of this package: a library does not change how others import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType


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
