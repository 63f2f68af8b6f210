"""Labels as whole numbers: scaled integers brought back, whole floats stored as integers, others refused.

A tool that saves labels with the header of an image scales them: 2 is stored as -23405 and read as 2.00007.
The whole number is what was meant, and it is certain where every voxel lies as near to one as the scaling
can bring it. What was resampled linearly, or holds probabilities, has voxels in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue, ImageSource, Slab

# Floats that were once scaled integers of 16 bits are off by less, and nothing that was interpolated is.
_FLOAT_TOLERANCE = 1e-3
# A step between stored values up to this still tells which whole number was meant.
_LARGEST_STEP = 0.25
# slope and intercept of NIfTI are float32.
_SINGLE = 1e-6
# Above, not every whole number is a float64.
_LARGEST = 2**53
_TYPES = tuple(np.dtype(name) for name in ("u1", "u2", "u4", "u8"))
_SIGNED_TYPES = tuple(np.dtype(name) for name in ("i1", "i2", "i4", "i8"))


@dataclass(frozen=True)
class Values:
    """What the voxels of a volume are, by one look at all of them.

    not_whole, not_finite
        Numbers of voxels between whole numbers, and of NaN and infinite ones.
    example
        One of the values between whole numbers.
    low, high
        The smallest and largest whole number; 0 where there is none.
    """

    n_voxels: int = 0
    not_whole: int = 0
    not_finite: int = 0
    example: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest integer type that holds them."""
        for dtype in _TYPES if self.low >= 0 else _SIGNED_TYPES:
            if np.iinfo(dtype).min <= self.low and self.high <= np.iinfo(dtype).max:
                return dtype
        return _SIGNED_TYPES[-1]


def whole_numbers(reopen: Callable[[], ImageSource], depth_of: Callable[[ImageSource], int]) -> ImageSource:
    """The labels that `reopen` opens, as integers without a scaling.

    Integers that are not scaled are taken as they are. Others are read twice: what they are is known when all
    have been seen.

    Parameters
    ----------
    reopen
        Opens the labels; each source is read once.
    depth_of
        Slices that may be held at once.

    Raises
    ------
    ImageReadError
        LABELS_NOT_WHOLE where voxels are no whole numbers, with how many, and an example.
    """
    source = reopen()
    if source.dtype.kind in "iu" and (source.slope, source.intercept) == (1.0, 0.0):
        return source
    found = survey_values(source, depth_of(source))
    problem = _problem(found)
    if problem:
        raise ImageReadError(Reason.LABELS_NOT_WHOLE, problem)
    return WholeNumbers(reopen(), found.dtype)


def survey_values(source: ImageSource, depth: int) -> Values:
    """Look at all voxels of a source once."""
    n_voxels = not_whole = not_finite = 0
    example = 0.0
    low, high = np.inf, -np.inf
    for slab in source.slabs(depth):
        physical, tolerance = _physical(slab.voxels, source)
        finite = np.isfinite(physical)
        whole = np.rint(physical, where=finite, out=np.zeros_like(physical))
        between = finite & (np.abs(physical - whole, where=finite, out=np.zeros_like(physical)) > tolerance)
        n_voxels += physical.size
        not_finite += physical.size - int(np.count_nonzero(finite))
        if n_between := int(np.count_nonzero(between)):
            example = example if not_whole else float(physical[between].flat[0])
            not_whole += n_between
        low = min(low, float(whole.min(where=finite, initial=np.inf)))
        high = max(high, float(whole.max(where=finite, initial=-np.inf)))
    if low > high:
        low = high = 0.0
    return Values(n_voxels, not_whole, not_finite, example, low, high)


def _physical(stored: NDArray[Any], source: ImageSource) -> tuple[NDArray[np.float64], float]:
    """Physical values, and how far from a whole number one may be that was meant to be it."""
    with np.errstate(over="ignore", invalid="ignore"):
        physical = stored.astype(np.float64) * source.slope + source.intercept
    if source.dtype.kind == "f":
        return physical, _FLOAT_TOLERANCE
    largest = max(abs(float(stored.max())), abs(float(stored.min()))) if stored.size else 0.0
    rounding = _SINGLE * (largest * abs(source.slope) + abs(source.intercept))
    step = abs(source.slope)
    half = step / 2 if step <= _LARGEST_STEP else 0.0
    return physical, min(_LARGEST_STEP, half + rounding)


def _problem(found: Values) -> str:
    if found.not_finite:
        return f"{_share(found.not_finite, found.n_voxels)} of the voxels are no numbers (NaN or infinite)"
    if found.not_whole:
        return (
            f"{_share(found.not_whole, found.n_voxels)} of the voxels are no whole numbers (such as "
            f"{found.example:.4g}): resampled linearly, or probabilities?"
        )
    if max(abs(found.low), abs(found.high)) > _LARGEST:
        return f"the values reach from {found.low:.4g} to {found.high:.4g}, which no labels do"
    return ""


def _share(part: int, whole: int) -> str:
    percent = 100 * part / max(1, whole)
    return f"{percent:.2g} %" if percent >= 0.01 else f"{part} of {whole}"


class WholeNumbers:
    """Physical values of an image, rounded to whole numbers (`source.ImageSource`)."""

    def __init__(self, source: ImageSource, dtype: np.dtype[Any]) -> None:
        self._source = source
        self.shape: tuple[int, ...] = source.shape
        self.dtype: np.dtype[Any] = dtype
        self.affine: NDArray[np.float64] = source.affine
        self.slope = 1.0
        self.intercept = 0.0

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """Those of the image."""
        return self._source.attributes

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`. Of wide stored voxels fewer slices are held than of what they become."""
        if depth < 1:
            raise ValueError(f"depth is {depth}, use 1 or more")
        columns, rows, n_slices = self.shape[:3]
        out = np.empty((columns, rows, 0), self.dtype)
        for slab in self._source.slabs(max(1, depth * self.dtype.itemsize // self._source.dtype.itemsize)):
            for k in range(slab.voxels.shape[2]):
                z = slab.z + k
                if z % depth == 0:
                    thick = min(depth, n_slices - z)
                    out = np.empty((columns, rows, thick), self.dtype, order="F")
                physical, _ = _physical(slab.voxels[:, :, k], self._source)
                out[:, :, z % depth] = np.rint(physical)
                if z + 1 == n_slices or (z + 1) % depth == 0:
                    yield Slab(z - z % depth, slab.t, out)

    def source_digest(self) -> str:
        """That of the image."""
        return self._source.source_digest()
