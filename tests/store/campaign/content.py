"""What the campaign writes: volumes made from a number, and one spelling of every value.

Each subject has a mark (16 bytes) that its voxels repeat, so that what is left of an erased subject can be
found in a file of any format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

Value = str | int | float | bool | None
Row = frozenset[tuple[str, str]]
"""Columns with a value, each with its canonical text."""

VOXELS = "(voxels)"
"""Stands among a row's columns for what was read as the volume's voxels."""

# What the store adds by itself; not foretold, but pinned at the first sight of a volume (`model.Pinned`).
KEPT_BY_THE_STORE = frozenset(
    {"volume", "spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "axcodes", "orientation_source", "kind"}
    | {"index_digest"}
    | {"stored_bytes", "writer_version", "written_at", "voxel_bytes"}
    | {"sform_code", "qform_code", "xyzt_units", "nifti_version", "nifti_description", "source_digest"}
    | {"fourth_axis", "fourth_axis_values", "time_step_s"}
)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class VolumeSpec:
    """A volume that is going to be written: all of it follows from this."""

    subject: str
    obs_id: str
    seed: int
    shape: tuple[int, ...] = (6, 5, 4)
    dtype: str = "int16"
    slope: float = 1.0
    intercept: float = 0.0
    attributes: Mapping[str, Value] = field(default_factory=dict)


def mark_of(subject: str) -> bytes:
    """The 16 bytes that voxels of a subject repeat."""
    return blake2b(b"mark of " + subject.encode(), digest_size=16).digest()


def voxels(spec: VolumeSpec) -> NDArray[Any]:
    """The stored voxels: the subject's mark over and over, then numbers that no other seed has."""
    rng = np.random.default_rng(spec.seed)
    kind = np.dtype(spec.dtype)
    count = math.prod(spec.shape)
    array = rng.integers(0, 200, count).astype(kind)
    if kind.kind in "iu":
        marked = np.frombuffer(mark_of(spec.subject) * (count * kind.itemsize // 32), kind)
        array[: len(marked)] = marked
    return array.reshape(spec.shape, order="F")


def affine(spec: VolumeSpec) -> NDArray[np.float64]:
    """A matrix that no other seed has."""
    rng = np.random.default_rng((spec.seed, 1))
    matrix = np.diag([1.5, 0.75, 2.5, 1.0])
    matrix[:3, 3] = rng.integers(-4000, 4000, 3) / 8
    return matrix


def digest_of(stored: NDArray[Any]) -> str:
    """The digest of stored voxels as docs/format.md defines it, made here once more."""
    little = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    return f"blake3:{blake3(little.tobytes(order='F')).hexdigest()}"


def canonical(value: Any) -> str | None:
    """One text for what may come back as a number, as text (a column of mixed types) or as missing."""
    if value is None or value != value or str(value) == "NaT":
        return None
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, str) and value.lower() in ("true", "false")):
        return str(int(str(value).lower() == "true"))
    numeric = isinstance(value, (int, float, np.number)) or (
        isinstance(value, str) and _NUMBER.fullmatch(value)
    )
    if not numeric:
        return f"text {value}"
    number = float(value)
    exact = isinstance(value, (int, np.integer)) or (isinstance(value, str) and value.lstrip("-").isdigit())
    if exact or (math.isfinite(number) and number == int(number) and abs(number) < 2**53):
        return str(int(value) if exact else int(number))
    return repr(number)


def row_of(values: Mapping[str, Any]) -> Row:
    """The columns of a row that have a value."""
    texts = ((name, canonical(value)) for name, value in values.items())
    return frozenset((name, text) for name, text in texts if text is not None)


def expected_row(spec: VolumeSpec) -> Row:
    """The row that a volume has when it is written."""
    size = (*spec.shape, 1)[:4]
    matrix = affine(spec)
    digest = digest_of(voxels(spec))
    return row_of(
        {
            "obs_subject_id": spec.subject,
            "ndim": len(spec.shape),
            **dict(zip(("size_x", "size_y", "size_z", "size_t"), size, strict=True)),
            "dtype": spec.dtype,
            **{f"affine_{r}{c}": float(matrix[r, c]) for r in range(3) for c in range(4)},
            "slope": spec.slope,
            "intercept": spec.intercept,
            "voxel_digest": digest,
            VOXELS: f"{digest} {spec.dtype} {spec.shape}",
            **spec.attributes,
        }
    )
