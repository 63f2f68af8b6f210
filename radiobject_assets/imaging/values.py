"""Stored values and physical ones: which dtype a volume has, and which slope and intercept.

Stored integers are kept wherever one slope and one intercept fit the whole volume. Where they differ from
slice to slice (PET, some MR) the physical values are computed in float64 and rounded once: to float32 for
stored values of up to 16 bits (whose steps it resolves with 8 bits to spare), to float64 beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from radiobject_assets.imaging.instance import Frame, Instance


@dataclass(frozen=True)
class ValueRange:
    """dtype, slope and intercept of a volume; `per_slice` if slices are rescaled on reading."""

    dtype: np.dtype[Any]
    slope: float
    intercept: float
    per_slice: bool


def stored_dtype(instance: Instance) -> np.dtype[Any]:
    """dtype of an instance's stored values, native byte order."""
    if instance.pixel_keyword == "FloatPixelData":
        return np.dtype(np.float32)
    if instance.pixel_keyword == "DoubleFloatPixelData":
        return np.dtype(np.float64)
    return np.dtype(f"{'i' if instance.signed else 'u'}{instance.bits_allocated // 8}")


def value_range(instances: Sequence[Instance], frames: Sequence[Frame]) -> ValueRange:
    """How the planes of one volume are stored."""
    dtype = stored_dtype(instances[0])
    rescales = {(frame.slope, frame.intercept) for frame in frames}
    if len(rescales) == 1:
        slope, intercept = rescales.pop()
        return ValueRange(dtype, slope, intercept, per_slice=False)
    wide = dtype.itemsize > 2 and dtype != np.float32
    return ValueRange(np.dtype(np.float64 if wide else np.float32), 1.0, 0.0, per_slice=True)
