"""All kinds of findings, by code. A subject of its own has its kinds in a module of its own, named here."""

from __future__ import annotations

from collections.abc import Mapping

from radiobject_assets.diagnostics import damage_kinds, folder_kinds, kinds, loader_kinds, read_kinds
from radiobject_assets.diagnostics.findings import Kind

_MODULES = (kinds, damage_kinds, folder_kinds, loader_kinds, read_kinds)


def every_kind() -> Mapping[str, Kind]:
    """Every kind of finding that a command or a check may tell, by its code."""
    found: dict[str, Kind] = {}
    for module in _MODULES:
        for told in vars(module).values():
            for value in told.values() if isinstance(told, Mapping) else (told,):
                if isinstance(value, Kind) and found.setdefault(value.code, value) != value:
                    raise AssertionError(f"two kinds of finding have the code {value.code}")
    return found
