"""What a value that travels through a loader is like: shapes, types, ranges, bytes; and what an error is."""

from __future__ import annotations

import math
import pickle
import sysconfig
import traceback
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_LEAVES = 12
_DIGEST_BYTES = 32 * 2**20
_OWN = Path(__file__).resolve().parent
_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib", "platstdlib")})


def arrays(value: Any, name: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays and tensors in an item, each with its key: through dicts, lists, and images of TorchIO."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "biuf":
            yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from arrays(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value[:_MOST_LEAVES]):
            yield from arrays(inner, f"{name}[{number}]")
    elif hasattr(value, "detach") and hasattr(value, "element_size"):  # a tensor, torch not being imported
        yield name, _of_tensor(value)
    elif getattr(value, "_loaded", False) and hasattr(value, "data"):  # an image of TorchIO that was read
        yield from arrays(value.data, name)


def _of_tensor(tensor: Any) -> NDArray[Any]:
    plain = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor  # MONAI's, without its history
    plain = plain.detach().cpu()
    try:
        return np.asarray(plain.numpy())
    except (TypeError, RuntimeError):  # bfloat16, sparse
        return np.asarray(plain.to_dense().float().numpy())


def array_facts(value: Any) -> list[dict[str, Any]]:
    """Each array of an item: its key, shape, dtype, bytes, least and greatest value, and whether all are
    finite."""
    found: list[dict[str, Any]] = []
    for name, array in arrays(value):
        if len(found) == _MOST_LEAVES:
            break
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        found.append(
            {
                "key": name,
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "bytes": int(array.nbytes),
                "finite": math.isfinite(low) and math.isfinite(high),  # NaN is the least of what holds one
                "low": low if math.isfinite(low) else None,
                "high": high if math.isfinite(high) else None,
            }
        )
    return found


def in_short(value: Any) -> str:
    """`image (1, 32, 32, 32) float32; label (32, 32, 32) uint8`; of what holds no array, its type."""
    told = "; ".join(
        f"{one['key']} {tuple(one['shape'])} {one['dtype']}".strip() for one in array_facts(value)[:4]
    )
    return told or type(value).__name__


def digest_of(value: Any) -> int | None:
    """CRC-32 of an item's arrays; None of an item without, or a large one."""
    found = [array for _, array in arrays(value)]
    if not found or sum(array.nbytes for array in found) > _DIGEST_BYTES:
        return None
    crc = 0
    for array in found:
        crc = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, crc)
    return crc


def error_facts(error: BaseException) -> dict[str, Any]:
    """An error for the journal: class, message, traceback, the line to look at, whether it can be pickled."""
    return {
        "error": type(error).__name__,
        "message": str(error)[:4000],
        "traceback": "".join(traceback.format_exception(error))[-20000:],
        "line": _line_of(error),
        "picklable": _is_picklable(error),
    }


def _line_of(error: BaseException) -> str:
    """The innermost line of the user's own code, else the innermost of all; without the probe's own."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not Path(frame.filename).resolve().is_relative_to(_OWN)
    ]
    own = [frame for frame in frames if not frame.filename.startswith((*_LIBRARIES, "<"))]
    for frame in reversed(own or frames):
        return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
    return ""


def _is_picklable(error: BaseException) -> bool:
    """Whether PyTorch can hand it to the main process: it sends the class by name, and the text."""
    try:
        pickle.loads(pickle.dumps(type(error)))
    except Exception:  # noqa: BLE001  (whatever pickling raises is the answer)
        return False
    return True
