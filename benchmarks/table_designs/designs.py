"""The designs by name; libraries that are not installed are left out."""

from __future__ import annotations

import importlib.util
from importlib import import_module

from benchmarks.table_designs.design import Design, Place

_ALL = {
    "store": ("whole_store", "WholeStore", "tiledb"),
    "narrow": ("narrow", "Narrow", "tiledb"),
    "parquet": ("segments", "Segments", "pyarrow"),
    "arrow": ("segments", "ArrowSegments", "pyarrow"),
    "delta": ("delta", "Delta", "deltalake"),
    "lance": ("lance_rows", "Lance", "lance"),
}
"""Module, class, and the library that must be there. A process imports only the ones that it measures."""

DESIGNS = tuple(name for name, (_, _, library) in _ALL.items() if importlib.util.find_spec(library))
TITLES = {
    "store": "the store",
    "narrow": "narrow rows in TileDB",
    "parquet": "Parquet segments",
    "arrow": "Arrow segments",
    "delta": "Delta",
    "lance": "Lance",
}


def module_of(name: str) -> str:
    """The module of a design."""
    return f"{__package__}.{_ALL[name][0]}"


def library_of(name: str) -> str:
    """The library that a design needs."""
    return _ALL[name][2]


def design(name: str, place: Place) -> Design:
    """A design at a place."""
    made: Design = getattr(import_module(module_of(name)), _ALL[name][1])(place)
    return made
