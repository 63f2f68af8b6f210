"""One name, one meaning: who searches for a module, a class or a function finds one."""

from __future__ import annotations

import ast
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "radiobject_assets"

# Modules of one name: what all packages have, and commands that are called after the room that they run.
SHARED_MODULES = {"__init__", "__main__", "ingest", "store"}
# `radiobject_assets.errors` are raised by all; `store.storage.errors` words what storage answered.
SHARED_MODULES |= {"errors"}
# The room, and the module that says what its members have in common.
SHARED_MODULES |= {"storage"}
# The room of PACS and senders, and the module that opens ZIP and tar files: the field calls both archives.
SHARED_MODULES |= {"archives"}
# What a program runs.
SHARED_NAMES = {"main"}


def sources() -> Iterator[Path]:
    for place, _, names in os.walk(PACKAGE, followlinks=True):  # `resources` is a link
        yield from (Path(place, name) for name in names if name.endswith(".py"))


def twice(places: dict[str, list[str]], shared: set[str]) -> list[str]:
    return [
        f"{name}: {', '.join(where)}"
        for name, where in sorted(places.items())
        if name not in shared and len(where) > 1
    ]


def test_no_two_modules_have_one_name() -> None:
    places = defaultdict(list)
    for path in sources():
        where = str(path.relative_to(PACKAGE))
        places[path.stem].append(where)
        if path.stem == "__init__" and path.parent != PACKAGE:
            places[path.parent.name].append(where)
    assert not twice(places, SHARED_MODULES), "rename one of each"


def test_no_two_public_classes_or_functions_have_one_name() -> None:
    places = defaultdict(list)
    for path in sources():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert not twice(places, SHARED_NAMES), "rename one of each, or make one private"


def test_one_module_touches_the_inside_of_tiledb() -> None:
    """Import contracts see the package `tiledb` only, not which part of it is imported."""
    inside = re.compile(r"tiledb\.(libtiledb|cc)\b|from tiledb import .*\b(libtiledb|cc)\b")
    touching = [path for path in sources() if inside.search(path.read_text(encoding="utf-8"))]
    assert touching == [PACKAGE / "store" / "arrays" / "tiledb_array.py"]
