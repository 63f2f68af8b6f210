"""Extensions of NIfTI headers, as text that fits an attribute: what follows the header, up to the voxels.

An extension is its size (a multiple of 16, these 8 bytes included), a code that says what it is, and bytes
(nifti1.h, "HEADER EXTENSIONS").
"""

from __future__ import annotations

import base64
import json
import struct

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
    at = 352 if nifti.version == 1 else 544
    end = min(len(header), at + nifti.extension_bytes)
    if end - at > MAX_EXTENSION_BYTES:
        return ""
    found: list[tuple[int, str]] = []
    while at + 16 <= end:
        size, code = struct.unpack_from(f"{nifti.order}2i", header, at)
        if size < 16 or at + size > end:
            break
        found.append((code, base64.b64encode(header[at + 8 : at + size]).decode("ascii")))
        at += size
    return json.dumps(found) if found else ""
