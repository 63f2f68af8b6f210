"""Which fragments of encapsulated pixel data belong to which frame (PS3.5 A.4).

A frame may be in several fragments, and the table of offsets may be empty, absent or wrong. An extended
offset table is not needed: where it is used, every frame is one fragment (PS3.3 C.7.6.3.1.8).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence

Read = Callable[[int, int], bytes]
"""(offset, size) -> up to `size` bytes of the encapsulated pixel data."""
Fragment = tuple[int, int]
"""Offset from the start of the pixel data, and length."""

_ITEM = (0xFFFE, 0xE000)
# Start of a JPEG or JPEG-LS image, of a JPEG 2000 codestream, of a JP2 file around one.
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff", b"\0\0\0\x0cjP")


def fragments_of_frames(read: Read, size: int, n_frames: int) -> list[list[Fragment]]:
    """The fragments of each frame, in order.

    Parameters
    ----------
    size
        Of what follows the start of the pixel data in the file, in bytes.

    Raises
    ------
    ValueError
        The fragments cannot be divided into so many frames.
    """
    offsets, fragments = _walk(read, size)
    if len(fragments) == n_frames:
        return [[fragment] for fragment in fragments]
    if n_frames == 1 and fragments:
        return [fragments]
    if len(fragments) > n_frames:
        for starts in (offsets, _codestreams(read, fragments)):
            divided = _divide(fragments, starts, n_frames)
            if divided is not None:
                return divided
    raise ValueError(f"{len(fragments)} fragments cannot be divided into {n_frames} frames")


def _walk(read: Read, size: int) -> tuple[list[int], list[Fragment]]:
    """Where frames start according to the basic offset table, and all fragments that are not empty."""
    offsets: list[int] = []
    fragments: list[Fragment] = []
    at, first = 0, True
    while at + 8 <= size:
        group, element, length = struct.unpack("<HHI", read(at, 8))
        at += 8
        if (group, element) != _ITEM or at + length > size:
            break
        if first:
            table = struct.unpack(f"<{length // 4}I", read(at, length // 4 * 4))
            offsets = [at + length + offset for offset in table]  # of the items: 8 bytes before their values
            first = False
        elif length:
            fragments.append((at, length))
        at += length
    return offsets, fragments


def _codestreams(read: Read, fragments: Sequence[Fragment]) -> list[int]:
    return [at - 8 for at, _ in fragments if read(at, 6).startswith(_STARTS)]


def _divide(
    fragments: Sequence[Fragment], starts: Sequence[int], n_frames: int
) -> list[list[Fragment]] | None:
    if len(starts) != n_frames or list(starts) != sorted(starts) or starts[0] > fragments[0][0] - 8:
        return None
    frames: list[list[Fragment]] = [[] for _ in starts]
    for fragment in fragments:
        frames[bisect_right(starts, fragment[0] - 8) - 1].append(fragment)
    return frames if all(frames) else None
