"""Functions applied to volumes: how they are called, and what becomes of geometry and rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.errors import ShapeError
from radiobject_assets.orientation import Affine
from radiobject_assets.store.arrays.affine import validate_affine
from radiobject_assets.store.objects.volume import Volume

TransformFn = Callable[..., Any]
"""`fn(array, obs_row) -> array | (array, obs_updates)`; a function of one argument gets the array only."""


@dataclass(frozen=True)
class Transformed:
    """A volume on its way through transforms: physical values, its row, and where it lies."""

    array: Any
    """A volume; the last transform may have made something else of it, such as a number."""
    row: Mapping[str, Any]
    affine: Affine

    @classmethod
    def load(cls, volume: Volume, row: Mapping[str, Any]) -> Transformed:
        """The physical values of a stored volume."""
        return cls(volume.to_numpy(), dict(row), volume.affine)

    def apply(self, fn: TransformFn) -> Transformed:
        """The result of one transform.

        `obs_updates` changes columns of the row; its entry `affine` (4x4) replaces the affine, which is
        otherwise kept: a transform that crops, flips or resamples must return the new one.
        """
        result = fn(self.array, pd.Series(dict(self.row), dtype=object)) if _takes_row(fn) else fn(self.array)
        updates: Mapping[str, Any] = {}
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
            result, updates = result
        updates = dict(updates)
        affine = validate_affine(updates.pop("affine")) if "affine" in updates else self.affine
        return Transformed(result, {**self.row, **updates}, affine)

    @property
    def volume(self) -> NDArray[Any]:
        """The result as a volume.

        Raises
        ------
        ShapeError
            If it is not a 3D or 4D array.
        """
        array = np.asarray(self.array)
        if array.ndim not in (3, 4) or array.dtype.kind == "O":
            raise ShapeError(f"the transform returned shape {array.shape}: a volume must be 3D or 4D")
        return array


def _takes_row(fn: TransformFn) -> bool:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return False  # NumPy's ufuncs and other C functions take the array
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return not isinstance(fn, np.ufunc) and len(positional) < 2
    required = [p for p in positional if p.default is p.empty]
    return len(required) >= 2 or (len(positional) >= 2 and positional[1].name in ("row", "obs_row", "obs"))


def run_all(transforms: Sequence[TransformFn], volume: Volume, row: Mapping[str, Any]) -> Transformed:
    """A stored volume taken through transforms in order."""
    current = Transformed.load(volume, row)
    for fn in transforms:
        current = current.apply(fn)
    return current
