"""Pixels that are not one whole number of bytes each: bits, packed 12-bit values, subsampled colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def unpack_bits(data: bytes, skip: int, count: int) -> Bytes:
    """`count` single-bit pixels, lowest bit of a byte first, after `skip` bits (PS3.5 8.1.1)."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return bits[skip : skip + count]


def unpack_12_bits(data: bytes, skip: int, count: int) -> NDArray[np.uint16]:
    """`count` 12-bit pixels of which two share three bytes, after `skip` bits (0 or 4), lowest first.

    BitsAllocated 12 was retired after ACR-NEMA 2.0; little endian (PS3.5-2004 annex D).
    """
    nibbles = np.empty(len(data) * 2, np.uint16)
    packed = np.frombuffer(data, np.uint8)
    nibbles[0::2], nibbles[1::2] = packed & 15, packed >> 4
    three = nibbles[skip // 4 : skip // 4 + 3 * count].reshape(count, 3)
    return (three[:, 0] | three[:, 1] << 4 | three[:, 2] << 8).astype(np.uint16)


def expand_422(data: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Luminance and colour differences (rows, columns, 3) of pairs of pixels that share the latter.

    A pair is stored as Y, Y, CB, CR (PS3.3 C.7.6.3.1.2).
    """
    pairs = data.reshape(rows, columns // 2, 4)
    whole = np.empty((rows, columns, 3), data.dtype)
    whole[..., 0] = pairs[..., :2].reshape(rows, columns)
    whole[..., 1] = np.repeat(pairs[..., 2], 2, axis=1)
    whole[..., 2] = np.repeat(pairs[..., 3], 2, axis=1)
    return whole
