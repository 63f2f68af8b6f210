"""Stored values and physical ones: which dtype a volume has, and which slope and intercept.

Stored integers are kept wherever one slope and one intercept fit the whole volume. Where they differ from
slice to slice (PET, some MR) the physical values are computed in float64 and rounded once: to float32 for
stored values of up to 16 bits (whose steps it resolves with 8 bits to spare), to float64 beyond. Where a
lookup table is no straight line, the voxels are what it gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from radiobject_assets.imaging.dicom.instance import Frame, Instance


@dataclass(frozen=True)
class ValueRange:
    """dtype, slope and intercept of a volume; `per_slice` if slices are rescaled on reading."""

    dtype: np.dtype[Any]
    slope: float
    intercept: float
    per_slice: bool


def file_dtype(instance: Instance) -> np.dtype[Any]:
    """dtype that holds the pixels of an instance's file, native byte order."""
    if instance.pixel_keyword == "FloatPixelData":
        return np.dtype(np.float32)
    if instance.pixel_keyword == "DoubleFloatPixelData":
        return np.dtype(np.float64)
    if instance.bits_allocated == 1:
        return np.dtype(np.uint8)
    # 12 bits, packed in the file, take two bytes
    return np.dtype(f"{'i' if instance.signed else 'u'}{(instance.bits_allocated + 7) // 8}")


def stored_dtype(instance: Instance) -> np.dtype[Any]:
    """dtype of an instance's voxels: the file's, or what its lookup table gives."""
    return np.dtype(f"u{instance.table_bits // 8}") if instance.table else file_dtype(instance)


def widest(instances: Sequence[Instance]) -> np.dtype[Any]:
    """dtype that holds the stored values of all instances: the widest, signed where one is.

    Scanners give dark slices 8 bits and their neighbours 16. Of unsigned values BitsStored counts, so that
    12 bits go with signed 16 without a wider type.
    """
    dtypes = {stored_dtype(instance) for instance in instances}
    if len(dtypes) == 1:
        return dtypes.pop()
    if not any(dtype.kind == "i" for dtype in dtypes):
        return np.result_type(*dtypes)
    narrow = {_signed_for(instance) for instance in instances}
    return np.result_type(*narrow)


def _signed_for(instance: Instance) -> np.dtype[Any]:
    dtype = stored_dtype(instance)
    if dtype.kind != "u":
        return dtype
    bits = instance.table_bits if instance.table else instance.bits_stored
    return np.dtype(f"i{next(size for size in (1, 2, 4, 8) if 8 * size > bits)}")


def value_range(instances: Sequence[Instance], frames: Sequence[Frame]) -> ValueRange:
    """How the planes of one volume are stored."""
    dtype = widest(instances)
    rescales = {(frame.slope, frame.intercept) for frame in frames}
    mapped = {(instance.table, instance.table_bits) for instance in instances}
    if len(rescales) == 1 and len(mapped) == 1:
        slope, intercept = rescales.pop()
        return ValueRange(dtype, slope, intercept, per_slice=False)
    wide = dtype != np.float32 and any(file_dtype(instance).itemsize > 2 for instance in instances)
    return ValueRange(np.dtype(np.float64 if wide else np.float32), 1.0, 0.0, per_slice=True)
