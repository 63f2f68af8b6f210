"""Is a patch cache the truth? Patches are cut from the store again, one by one, and compared byte by byte.

The comparison shares nothing with the building but the reading of a box: what is checked is that each cached
patch is the box of its volume at its start voxel, that its labels lie at the same place of the world, and
that the rescale of the index is the stored one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError, DamagedCacheError
from radiobject_assets.store import TileDBContext
from radiobject_assets.training.alignment import affine_of, check_same_grid, patch_affine
from radiobject_assets.training.cache.cache_reading import PatchCache
from radiobject_assets.training.cache.stored_volumes import StoredDataset
from radiobject_assets.training.pairing import VolumeRow, volume_rows


@dataclass(frozen=True)
class CacheProblem:
    """A patch that is not what the store holds. `obs_id` may identify a person: count, don't log."""

    patch: int
    """The patch's number in the cache; -1 where the whole cache is concerned."""
    obs_id: str
    problem: str


def verify_patch_cache(
    path: Path | str,
    store_uri: str,
    *,
    sample: int | None = None,
    seed: int = 0,
    snapshot: str | None = None,
    ctx: TileDBContext | None = None,
) -> list[CacheProblem]:
    """Compare cached patches with the store.

    Parameters
    ----------
    sample
        How many patches to compare, drawn with `seed`; None for all.
    snapshot
        The snapshot to compare with; by default the one that the cache was built from.

    Returns
    -------
    One entry a problem; empty when every compared patch is right. A cache that is too damaged to be opened is
    one problem, not an error.

    Raises
    ------
    StorageError
        The store cannot be read, or the cache can't be read now.
    """
    try:
        cache = PatchCache(path, check=False)  # what is damaged is told, patch by patch
    except DamagedCacheError as error:
        return [CacheProblem(-1, "", str(error))]
    dataset = StoredDataset(store_uri, snapshot or cache.meta.snapshot, ctx)
    images = {row.obs_id: row for row in volume_rows(dataset.obs(cache.meta.sampling["image"]))}
    name = cache.meta.sampling["labels"]
    labels = {} if name is None else {row.obs_id: row for row in volume_rows(dataset.obs(name))}
    chosen = np.arange(len(cache))
    if sample is not None and sample < len(cache):
        chosen = np.sort(np.random.default_rng(seed).choice(len(cache), sample, replace=False))
    problems = []
    for number in chosen.tolist():
        row = cache.row(number)
        found = _compare(cache, number, row, dataset, images, labels)
        problems += [CacheProblem(number, row["obs_id"], problem) for problem in found]
    return problems


@dataclass(frozen=True)
class DigestLook:
    """How many patches were compared with their digests, and the numbers of those that are damaged."""

    n_compared: int
    damaged: tuple[int, ...]


def compare_digests(path: Path | str, *, seconds: float | None = None, seed: int = 0) -> DigestLook:
    """Compare the bytes of a cache's patches with the digests that were written with them; no store is read.

    Parameters
    ----------
    seconds
        Stop after that long; which patches are looked at then is drawn with `seed`.

    Raises
    ------
    DamagedCacheError
        It is too damaged to be opened.
    StorageError
        There is none, or it can't be read now.
    """
    cache = PatchCache(path, check=False)
    order = np.arange(len(cache))
    if seconds is not None:
        order = np.random.default_rng(seed).permutation(len(cache))
    until = time.monotonic() + (float("inf") if seconds is None else seconds)
    damaged, compared = [], 0
    for number in order.tolist():
        if time.monotonic() > until:
            break
        compared += 1
        if not cache.is_sound(number):
            damaged.append(number)
    return DigestLook(compared, tuple(sorted(damaged)))


def _compare(
    cache: PatchCache,
    number: int,
    row: dict[str, Any],
    dataset: StoredDataset,
    images: dict[str, VolumeRow],
    labels: dict[str, VolumeRow],
) -> list[str]:
    stored_image, stored_label = cache.stored(number)
    image = images.get(row["obs_id"])
    if image is None:
        return ["its volume is not in the snapshot"]
    start = (row["start_x"], row["start_y"], row["start_z"])
    problems = []
    if image.obs_subject_id != row["obs_subject_id"]:
        problems.append("its volume belongs to another subject")
    if (image.slope, image.intercept) != (row["slope"], row["intercept"]):
        problems.append("its rescale is not that of the volume")
    if not np.array_equal(affine_of(row), patch_affine(image.affine, start)):
        problems.append("its affine is not that of its place")
    size = cache.size_voxels
    padding = 0.0 if row["padding"] is None else row["padding"]
    truth = _box(dataset, cache.meta.sampling["image"], image, start, size, row["t"], padding)
    if not _same_bytes(truth, stored_image):
        problems.append("its voxels are not those of the volume")
    if stored_label is None:
        return problems
    label = labels.get(row["label_obs_id"])
    if label is None:
        return [*problems, "its label volume is not in the snapshot"]
    try:
        check_same_grid(image.shape, image.affine, label.shape, label.affine, "image and labels")
    except AlignmentError as error:
        problems.append(str(error))
    if not _same_bytes(
        _box(dataset, cache.meta.sampling["labels"], label, start, size, 0, 0.0), stored_label
    ):
        problems.append("its labels are not those of the label volume")
    return problems


def _box(
    dataset: StoredDataset,
    collection: str,
    volume: VolumeRow,
    start: tuple[int, int, int],
    size: tuple[int, int, int],
    t: int,
    padding: float,
) -> NDArray[Any]:
    low = [max(0, first) for first in start]
    high = [min(extent, first + n) for extent, first, n in zip(volume.shape, start, size, strict=False)]
    inside = dataset.open(collection, volume).read(low, high, t)
    around = [(lo - first, first + n - hi) for lo, hi, first, n in zip(low, high, start, size, strict=True)]
    return np.pad(inside, around, constant_values=np.array(padding).astype(inside.dtype))


def _same_bytes(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
