"""Whether a patch cache still says what the volumes say: patches compared with the store, voxel by voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.store import RadiObject, TileDBContext
from radiobject_assets.training.cache.cache_reading import PatchCache


@dataclass(frozen=True)
class PatchTruth:
    """Result of comparing some patches with the volumes that they were cut from."""

    n_patches: int
    n_compared: int
    n_wrong: int
    largest_difference: float
    """In physical units (HU for CT)."""

    @property
    def is_true(self) -> bool:
        """Whether every compared patch was equal."""
        return self.n_wrong == 0


def compare_patches(
    cache_path: Path,
    store_uri: str,
    *,
    image: str,
    labels: str | None,
    samples: int = 16,
    seed: int = 0,
    ctx: TileDBContext | None = None,
) -> PatchTruth:
    """Cut some of a cache's patches from the volumes again and compare, image and labels.

    The volumes are those of the cache's own snapshot. Voxels outside a volume (padding) are not compared.

    Raises
    ------
    StorageError
        The cache or the store can't be opened, or the snapshot is gone.
    """
    cache = PatchCache(cache_path)
    store = RadiObject(store_uri, ctx=ctx, timestamp=cache.meta.snapshot)
    count = min(samples, len(cache))
    chosen = np.random.default_rng(seed).permutation(len(cache))[:count]
    wrong, largest = 0, 0.0
    for index in sorted(int(i) for i in chosen):
        patch = cache[index]
        row = patch.row
        pairs = [(image, row["obs_id"], patch.image)]
        if labels is not None and patch.label is not None:
            pairs.append((labels, row["label_obs_id"], patch.label))
        differences = [
            _largest_difference(store, name, str(obs_id), row, voxels.astype(np.float64))
            for name, obs_id, voxels in pairs
        ]
        largest = max(largest, *differences)
        wrong += any(difference > _rounding(patch.image) for difference in differences)
    return PatchTruth(len(cache), count, wrong, largest)


def subjects_elsewhere(cache_path: Path, splits: pd.DataFrame, split: str) -> int:
    """How many subjects have patches in the cache of a split that they are not in.

    Parameters
    ----------
    splits
        `obs_subject_id`, `split`.

    Raises
    ------
    StorageError
        The cache can't be opened.
    """
    there = set(PatchCache(cache_path).index.column("obs_subject_id").to_pylist())
    return len(there - set(splits.loc[splits["split"] == split, "obs_subject_id"]))


def _largest_difference(
    store: RadiObject, collection: str, obs_id: str, row: Mapping[str, Any], voxels: NDArray[np.float64]
) -> float:
    volume = store.collection(collection).loc[obs_id]
    start = [int(row[f"start_{axis}"]) for axis in "xyz"]
    inside = [
        slice(max(0, s), min(size, s + p))
        for s, size, p in zip(start, volume.shape, voxels.shape, strict=False)
    ]
    within = tuple(slice(i.start - s, i.stop - s) for i, s in zip(inside, start, strict=True))
    window = tuple(inside) if volume.ndim == 3 else (*inside, int(row["t"]))
    true = np.asarray(volume[window], dtype=np.float64)
    return float(np.abs(true - voxels[within]).max()) if true.size else 0.0


def _rounding(image: NDArray[np.float32]) -> float:
    # the cache computes slope and intercept in float32
    return float(np.finfo(np.float32).eps) * 4 * max(1.0, float(np.abs(image).max(initial=0.0)))
