"""The image size that a compressed frame declares itself, read before a decoder takes memory for it.

A header may say 512x512 while the codestream inside claims 60,000x60,000: decoders believe the codestream.
"""

from __future__ import annotations

import struct

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LS_FRAME = 0xF7


def declared_size(data: bytes) -> tuple[int, int] | None:
    """(columns, rows) of a JPEG, JPEG-LS or JPEG 2000 frame; None where the bytes do not tell."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 512)
    if start >= 0:
        return _jpeg2000_size(data, start)
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    return None


def _jpeg2000_size(data: bytes, start: int) -> tuple[int, int] | None:
    if len(data) < start + 24:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    return right - left, bottom - top


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _START_OF_FRAME or marker == _JPEG_LS_FRAME:
            rows, columns = struct.unpack_from(">HH", data, at + 5)
            return columns, rows
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + length
    return None
