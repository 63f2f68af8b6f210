"""The Siemens CSA image header (0029,1010): a list of named values in a private binary layout.

Layout as described by nibabel's documentation of CSA1 and CSA2 (`SV10`): a count of tags, each with a name of
64 bytes, a count of items, and items of four lengths followed by padded text.
"""

from __future__ import annotations

import struct

_MAX_TAGS = 1024


def read_csa(data: bytes) -> dict[str, tuple[str, ...]]:
    """Name to values (as text) of all tags; empty where the bytes are not a CSA header."""
    found: dict[str, tuple[str, ...]] = {}
    second = data[:4] == b"SV10"
    at = 8 if second else 0
    try:
        (count,) = struct.unpack_from("<I", data, at)
        if not 1 <= count <= _MAX_TAGS:
            return {}
        at += 8
        first_count = 0
        for number in range(count):
            name, _, _, _, items, _ = struct.unpack_from("<64si4siii", data, at)
            at += 84
            first_count = items if number == 0 else first_count
            values = []
            for _ in range(items):
                lengths = struct.unpack_from("<4i", data, at)
                at += 16
                # CSA1 adds the number of items of its first tag to every length.
                length = lengths[1] if second else lengths[0] - first_count
                if length < 0 or at + length > len(data):
                    break
                values.append(data[at : at + length].split(b"\0")[0].decode("latin-1").strip())
                at += (length + 3) // 4 * 4
            found[name.split(b"\0")[0].decode("latin-1")] = tuple(value for value in values if value)
    except struct.error:
        return found
    return found
