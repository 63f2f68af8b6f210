"""Paths as text for tables and keys: a name on disk may be no UTF-8, and then it is no text."""

from __future__ import annotations

from pathlib import PurePath


def path_text(path: PurePath | str) -> str:
    """A path with `\\udcXX` for each byte that is no UTF-8 (as after `unzip` of a name in another code)."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
