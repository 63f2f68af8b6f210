"""Vocabularies: a text file each, with one word or term a line, and its source in lines that begin with `#`.

A text of a header or a file name that is made of them says nothing about who somebody is.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def words(name: str) -> frozenset[str]:
    """The words of `<name>.txt`, read when they are first asked for."""
    lines = map(str.strip, files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8").splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))
