"""The image size that a compressed frame declares itself, read before a decoder takes memory for it.

A header may say 512x512 while the codestream inside claims 60,000x60,000: decoders believe the codestream.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LS_FRAME = 0xF7
_START_OF_SCAN = 0xDA
# Restarts, start and end of image: none of them comes between the start of the image and that of the scan.
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})


@dataclass(frozen=True)
class FrameSize:
    """What a codestream says that it holds."""

    columns: int
    rows: int
    components: int


def declared_size(data: bytes) -> FrameSize | None:
    """Size of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame; None where the bytes do not tell."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 512)
    try:
        if start >= 0:
            return _jpeg2000_size(data, start)
        return _jpeg_size(data) if data[:2] == b"\xff\xd8" else None
    except struct.error:
        return None


def precision_of(data: bytes) -> int:
    """Bits of a sample that a JPEG or JPEG-LS frame declares; 0 where the bytes do not tell."""
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _START_OF_FRAME or marker == _JPEG_LS_FRAME:
            return data[at + 4]
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return 0


def sample_format(data: bytes) -> tuple[int, bool]:
    """Bits of a sample of a JPEG 2000 frame, and whether it is signed; 0 bits where the bytes do not tell."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 512)
    if start < 0 or len(data) < start + 43:
        return 0, False
    return (data[start + 42] & 0x7F) + 1, bool(data[start + 42] & 0x80)


def _jpeg2000_size(data: bytes, start: int) -> FrameSize:
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    return FrameSize(right - left, bottom - top, components)


def _jpeg_size(data: bytes) -> FrameSize | None:
    # The segments are walked up to the start of the scan: GDCM aborts the process on some that are not whole.
    at, size = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _WITHOUT_LENGTH:
            return None
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _START_OF_FRAME or marker == _JPEG_LS_FRAME:
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, at + 4)
            if not 2 <= precision <= 16 or length != 8 + 3 * components:
                return None
            size = FrameSize(columns, rows, components)
        if marker == _START_OF_SCAN:
            return size
        at += 2 + length
    return None
