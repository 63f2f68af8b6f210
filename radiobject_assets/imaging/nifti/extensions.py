"""Extensions of NIfTI headers, as text that fits an attribute: what follows the header, up to the voxels.

An extension is its size (a multiple of 16, these 8 bytes included), a code that says what it is, and bytes
(nifti1.h, "HEADER EXTENSIONS").
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator

from radiobject_assets.imaging.nifti.header import NiftiFile

MAX_EXTENSION_BYTES = 1 << 20
"""More than this is not kept: it is data of its own."""


def extensions_of(header: bytes, nifti: NiftiFile) -> str:
    """JSON list of [code, base64 of the bytes] of the extensions that are whole; "" if there is none.

    Parameters
    ----------
    header
        The inflated bytes of the file up to its voxels (all bytes of a .hdr file).
    """
    found = [(code, base64.b64encode(data).decode("ascii")) for code, data in _whole(header, nifti)]
    return json.dumps(found) if found else ""


def embedded_texts(header: bytes, nifti: NiftiFile) -> list[tuple[int, str]]:
    """Code of each extension, and what can be read of it as text; parameters as `extensions_of`."""
    return [
        (code, "".join(c if c.isprintable() else " " for c in data.decode("utf-8", "replace")))
        for code, data in _whole(header, nifti)
    ]


def _whole(header: bytes, nifti: NiftiFile) -> Iterator[tuple[int, bytes]]:
    at = 352 if nifti.version == 1 else 544
    end = min(len(header), at + nifti.extension_bytes)
    if end - at > MAX_EXTENSION_BYTES:
        return
    while at + 16 <= end:
        size, code = struct.unpack_from(f"{nifti.order}2i", header, at)
        if size < 16 or at + size > end:
            return
        yield code, header[at + 8 : at + size]
        at += size
