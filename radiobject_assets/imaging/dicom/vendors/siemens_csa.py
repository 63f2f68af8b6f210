"""The Siemens CSA image header (0029,1010): a list of named values in a private binary layout.

Layout as described by nibabel's documentation of CSA1 and CSA2 (`SV10`): a count of tags, each with a name of
64 bytes, a count of items, and items of four lengths followed by padded text. CSA1 (older software) adds a
constant to every length: the number of items of its first tag by SPM, of its second by nibabel. Whichever
it is, the right one leads from name to name through the whole list, and a wrong one does not.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from functools import lru_cache

_MAX_TAGS = 1024
_MAX_ADDED = 64
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")

Tags = dict[str, tuple[str, ...]]


@lru_cache(maxsize=4)  # diffusion and phase encoding of one image both ask
def read_csa(data: bytes) -> Tags:
    """Name to values (as text) of all tags; empty where the bytes are not a CSA header."""
    if data[:4] == b"SV10":
        return _read(data, 8, None)[0]
    if len(data) < 92:
        return {}
    (first_items,) = struct.unpack_from("<i", data, 8 + 76)
    best: Tags = {}
    for added in dict.fromkeys((first_items, *range(_MAX_ADDED))):
        found, whole = _read(data, 0, added)
        if whole:
            return found
        best = best or found
    return best


def _read(data: bytes, at: int, added: int | None) -> tuple[Tags, bool]:
    """Tags, and whether the list was followed to its end; `added` is what a CSA1 header adds to lengths."""
    found: Tags = {}
    try:
        (count,) = struct.unpack_from("<I", data, at)
        if not 1 <= count <= _MAX_TAGS:
            return {}, True
        at += 8
        for _ in range(count):
            name, _, _, _, items, _ = struct.unpack_from("<64si4siii", data, at)
            name = name.split(b"\0")[0]
            if added is not None and not _NAME.fullmatch(name):
                return found, False
            at += 84
            values, at = _values(data, at, range(items), added)
            found[name.decode("latin-1")] = tuple(value for value in values if value)
    except struct.error:
        return found, False
    return found, True


def _values(data: bytes, at: int, items: Iterable[int], added: int | None) -> tuple[list[str], int]:
    values = []
    for _ in items:
        lengths = struct.unpack_from("<4i", data, at)
        at += 16
        length = lengths[1] if added is None else lengths[0] - added
        if length < 0 or at + length > len(data):
            break
        values.append(data[at : at + length].split(b"\0")[0].decode("latin-1").strip())
        at += (length + 3) // 4 * 4
    return values, at
