"""Building a patch cache from a snapshot.

1. *Plan.* The obs rows of the subjects' images and labels are paired; each pair gets a key, a digest of all
   that its patches depend on. The keys together are the cache's address: if it exists, there is nothing to
   do.
2. *Reuse.* Shards of an older cache with the same sampling that still hold wanted volumes are linked, so that
   adding one subject to 100,000 costs one subject. Small shards are rewritten, to keep their number in
   bounds.
3. *Cut.* Each remaining volume is read in one pass, within the budget, and its patches appended to a shard.
4. *Publish.* Index and `meta.json` are written, all is flushed, and the folder gets its name.

What is there already is compared with its digests first. Volumes with a damaged patch are cut again from the
store, and from nowhere else: a neighbour may share the damaged file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.errors import ConfigurationError, DamagedCacheError, StorageError
from radiobject_assets.store import TileDBContext, make_ctx
from radiobject_assets.system.durable_files import write_through
from radiobject_assets.system.folders import sync_path
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.training.alignment import patch_affine
from radiobject_assets.training.cache.cache_format import (
    FOLDER_PREFIX,
    INDEX_FILE,
    INDEX_SCHEMA,
    META_FILE,
    CacheMeta,
    cache_address,
    cached_volume_key,
    index_digest,
    patch_digest,
    sampling_digest,
    sampling_of,
)
from radiobject_assets.training.cache.cache_reading import PatchCache
from radiobject_assets.training.cache.current import point_to
from radiobject_assets.training.cache.cutting import (
    LabelledVoxels,
    VoxelSource,
    cut_patches,
    held,
    needs_padding,
    padding_value,
    rounds,
)
from radiobject_assets.training.cache.reuse import take_over
from radiobject_assets.training.cache.shard_writer import ShardWriter, unpublished_folder
from radiobject_assets.training.cache.stored_volumes import StoredDataset
from radiobject_assets.training.pairing import LeftOut, VolumeRow, pairs_to_cut, volume_rows
from radiobject_assets.training.sampling import PatchPlace, place_patches

logger = logging.getLogger(__name__)

SHARD_BYTES = 512 * 2**20
Progress = Callable[[int, int], None]
"""Called with (volumes done, volumes in all)."""


@dataclass(frozen=True)
class PatchCacheInfo:
    """A patch cache that is ready, and what it cost."""

    path: Path
    n_patches: int
    bytes: int
    """Size of all its files, whether written now or linked."""
    digest: str
    """The address: equal digests mean equal patches."""
    n_volumes: int
    n_subjects: int
    reused: bool
    """True if it was there already."""
    n_volumes_cut: int
    """Volumes that were read for it now; the others came from an older cache."""
    left_out: tuple[LeftOut, ...] = field(default=(), repr=False)
    """Images that give no patches, with reasons. Their ids may identify people."""

    @property
    def left_out_counts(self) -> dict[str, int]:
        """How many images were left out, by reason code."""
        reasons = [item.reason.value for item in self.left_out]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


@dataclass(frozen=True)
class _Planned:
    """A volume whose patches belong into the cache."""

    key: str
    image: VolumeRow
    label: VolumeRow | None
    t: int | None = None
    """The point of the image's fourth axis that is asked for."""


def build_patch_cache(
    store_uri: str,
    *,
    snapshot: str,
    subjects: Iterable[str],
    patches: PatchesConfig,
    out_dir: Path | str,
    budget: MemoryBudget,
    ctx: TileDBContext | None = None,
    shard_bytes: int = SHARD_BYTES,
    allow_empty: bool = False,
    on_progress: Progress | None = None,
) -> PatchCacheInfo:
    """Cut the patches of some subjects out of a snapshot, or find that they are cut already.

    Parameters
    ----------
    snapshot
        Name of the snapshot; what was written later is not seen.
    subjects
        Ids of the subjects, as of one split.
    patches
        Collections, patch extents, how many and where.
    out_dir
        Local folder that holds one sub-folder a cache. Keep caches of different splits in one `out_dir` or in
        several; older ones are used for new ones only within one.
    budget
        Half of its tasks' share holds patches, a quarter each one slab of the image and of the labels.
    shard_bytes
        Size at which a shard file is closed.
    allow_empty
        Whether a cache without any patch is made rather than refused.

    Raises
    ------
    ConfigurationError
        The snapshot or a collection does not exist, `out_dir` is no local folder, or no volume gives patches
        (the message says why, by reason).
    StorageError
        The store or a cache that is there can't be read, the disk is full, or a volume is damaged. What was
        there stays, nothing new is left behind.
    """
    if "://" in str(out_dir):
        raise ConfigurationError(
            f"{out_dir}: a patch cache lies in a local folder, since it is memory-mapped"
        )
    wanted = set(subjects)
    # a context of our own keeps TileDB within its part of the budget, whatever the process is configured for
    ctx = ctx or make_ctx(None, **{"sm.mem.total_budget": str(budget.tiledb_bytes)})
    dataset = StoredDataset(store_uri, snapshot, ctx)
    sampling = sampling_digest(patches)
    planned, left_out = _plan(dataset, wanted, patches, sampling)
    address = cache_address(sampling, [volume.key for volume in planned])
    target = Path(out_dir) / _folder_name(address)
    if not planned and not allow_empty:
        raise _without_patches(left_out, patches)
    there = _identity(target)
    found, damaged = _existing(target)
    if found is not None and not damaged:
        os.utime(target / META_FILE)  # it is the latest again: eviction goes by that
        point_to(target, snapshot)
        return _info(found, reused=True, cut=0, left_out=left_out)
    with _publishing(target, there) as folder:
        with ShardWriter(folder, patches.size_voxels, shard_bytes) as writer:
            sound = {volume.key for volume in planned} - damaged
            older = take_over(sound, target.parent, folder, sampling_of(patches), writer)
            remaining = [volume for volume in planned if volume.key not in older.keys]
            _check_room(remaining, patches, target.parent)
            index = [*older.index]
            for number, volume in enumerate(remaining):
                index.append(_cut_volume(dataset, volume, patches, writer, budget))
                if on_progress is not None:
                    on_progress(len(older.keys) + number + 1, len(planned))
            shards = (*older.shards, *writer.finish())
        table = _ordered_index(index)
        pq.write_table(table, folder / INDEX_FILE, compression="zstd")
        sync_path(folder / INDEX_FILE)
        meta = CacheMeta(
            index_digest=index_digest((folder / INDEX_FILE).read_bytes()),
            address=address,
            size_voxels=patches.size_voxels,
            sampling=sampling_of(patches),
            snapshot=snapshot,
            n_patches=table.num_rows,
            n_volumes=len(planned),
            n_subjects=len({volume.image.obs_subject_id for volume in planned}),
            shards=tuple(sorted(shards, key=lambda shard: shard.name)),
        )
        write_through(folder / META_FILE, meta.to_json().encode())
    made = PatchCache(target)
    point_to(target, snapshot)
    return _info(made, reused=False, cut=len(remaining), left_out=left_out)


def cache_to_build(
    store_uri: str,
    snapshot: str,
    subjects: Iterable[str],
    patches: PatchesConfig,
    ctx: TileDBContext | None = None,
) -> str:
    """Name of the folder that `build_patch_cache` would make, or find, for the same arguments.

    Raises
    ------
    ConfigurationError
        The snapshot or a collection does not exist.
    StorageError
        The store can't be read.
    """
    sampling = sampling_digest(patches)
    planned, _ = _plan(StoredDataset(store_uri, snapshot, ctx), set(subjects), patches, sampling)
    return _folder_name(cache_address(sampling, [volume.key for volume in planned]))


def _folder_name(address: str) -> str:
    return f"{FOLDER_PREFIX}{address[:16]}"


def _plan(
    dataset: StoredDataset, subjects: set[str], patches: PatchesConfig, sampling: str
) -> tuple[list[_Planned], list[LeftOut]]:
    labels = None if patches.labels is None else _rows_of(dataset.obs(patches.labels), subjects)
    images = _rows_of(dataset.obs(patches.image), subjects)
    pairs, left_out = pairs_to_cut(images, labels, patches.point)
    planned = []
    for image, label in pairs:
        t = None if patches.point is None else image.index_of(patches.point)
        planned.append(_Planned(cached_volume_key(sampling, image, label, t), image, label, t))
    return planned, left_out


def _rows_of(obs: pd.DataFrame, subjects: set[str]) -> list[VolumeRow]:
    return volume_rows(obs[obs["obs_subject_id"].isin(subjects)])


def _existing(target: Path) -> tuple[PatchCache | None, set[str]]:
    """What is at `target`, if it can be opened, and the keys of the volumes of which patches are damaged.

    Raises
    ------
    StorageError
        It can't be read now: it is left as it is.
    """
    if not target.exists():
        return None, set()
    try:
        found = PatchCache(target, check=False)
    except DamagedCacheError as error:
        logger.warning("the patch cache at %s is damaged and is built again: %s", target, error)
        return None, set()
    keys = found.index.column("volume_key")
    damaged = {keys[i].as_py() for i in range(len(found)) if not found.is_sound(i)}
    if damaged:
        logger.warning("%s: %d volumes have damaged patches and are cut again", target, len(damaged))
    return found, damaged


@contextlib.contextmanager
def _publishing(target: Path, damaged: tuple[int, int] | None) -> Iterator[Path]:
    """A staging folder that becomes `target`; the damaged cache that was found there makes room at the end.

    Whatever another builder has put there meanwhile stays: somebody may be reading it.
    """
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.damaged")
    for left in target.parent.glob(f".{target.name}.*.damaged"):  # of a builder that was killed here
        shutil.rmtree(left, ignore_errors=True)
    try:
        with unpublished_folder(target) as folder:
            yield folder
            if damaged is not None and _identity(target) == damaged:
                target.rename(aside)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)  # most of its patches are sound
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder it is; None where there is none."""
    try:
        there = folder.stat()
    except FileNotFoundError:
        return None
    return there.st_dev, there.st_ino


def _without_patches(left_out: list[LeftOut], patches: PatchesConfig) -> ConfigurationError:
    reasons = Counter(item.reason.value for item in left_out)
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    why = f"images were left out: {why}" if why else f"these subjects have no image in {patches.image!r}"
    return ConfigurationError(
        f"no volume gives patches: {why}. See patches.image and patches.labels in dataset.yaml; "
        "allow_empty=True makes an empty cache"
    )


def _info(cache: PatchCache, *, reused: bool, cut: int, left_out: list[LeftOut]) -> PatchCacheInfo:
    return PatchCacheInfo(
        path=cache.path,
        n_patches=len(cache),
        bytes=sum(file.stat().st_size for file in cache.path.iterdir()),
        digest=cache.meta.address,
        n_volumes=cache.meta.n_volumes,
        n_subjects=cache.meta.n_subjects,
        reused=reused,
        n_volumes_cut=cut,
        left_out=tuple(left_out),
    )


def _check_room(remaining: list[_Planned], patches: PatchesConfig, parent: Path) -> None:
    itemsizes = sum(v.image.dtype.itemsize + (v.label.dtype.itemsize if v.label else 0) for v in remaining)
    needed = itemsizes * patches.per_volume * int(np.prod(patches.size_voxels))
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise StorageError(
            f"{parent}: the patch cache needs {needed // 2**20} MB and {free // 2**20} MB are free; "
            "make room, or lower patches.per_volume or patches.size_voxels"
        )


def _cut_volume(
    dataset: StoredDataset,
    volume: _Planned,
    patches: PatchesConfig,
    writer: ShardWriter,
    budget: MemoryBudget,
) -> pa.Table:
    """Cut one volume into the writer's shards: its index rows."""
    size = patches.size_voxels
    share = budget.tasks_bytes // 4
    image_source: VoxelSource = dataset.open(patches.image, volume.image, volume.t)
    label_source: VoxelSource | None = None
    if volume.label is not None and patches.labels is not None:
        label_source = held(dataset.open(patches.labels, volume.label), share)
    places = _places(volume, patches, label_source, share)
    patch_bytes = int(np.prod(size)) * (
        image_source.dtype.itemsize + (label_source.dtype.itemsize if label_source else 0)
    )
    groups = list(rounds(places, patch_bytes, 2 * share))
    padded = needs_padding(volume.image.shape, size)
    if padded or len(groups) > 1:
        image_source = held(image_source, share)
    padding = padding_value(image_source, volume.image.slope, share) if padded else 0
    rows = []
    for group in groups:
        image = cut_patches(image_source, group, size, padding, share)
        label = None if label_source is None else cut_patches(label_source, group, size, 0, share)
        shard, first = writer.add(image, label)
        rows += [
            {
                **_index_row(volume, place, shard, first + i, padding if padded else None),
                "image_digest": patch_digest(image[i]),
                "label_digest": None if label is None else patch_digest(label[i]),
            }
            for i, place in enumerate(group)
        ]
    writer.end_volume()
    return pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)


def _places(
    volume: _Planned, patches: PatchesConfig, labels: VoxelSource | None, limit_bytes: int
) -> tuple[PatchPlace, ...]:
    foreground = None
    if patches.foreground_fraction > 0:
        if labels is None:
            raise ConfigurationError("patches.foreground_fraction above 0 needs patches.labels")
        foreground = LabelledVoxels(labels, limit_bytes)
    placed = place_patches(
        volume.image.shape,
        patches.size_voxels,
        patches.per_volume,
        seed=patches.seed,
        obs_id=volume.image.obs_id,
        foreground_fraction=patches.foreground_fraction,
        foreground=foreground,
    )
    t = volume.t
    return placed if t is None else tuple(replace(place, t=t) for place in placed)


def _index_row(
    volume: _Planned, place: PatchPlace, shard: str, row: int, padding: int | float | None
) -> dict[str, Any]:
    affine = patch_affine(volume.image.affine, place.start)
    return {
        "obs_id": volume.image.obs_id,
        "obs_subject_id": volume.image.obs_subject_id,
        "label_obs_id": None if volume.label is None else volume.label.obs_id,
        "patch": place.number,
        "shard": shard,
        "row": row,
        **{f"start_{axis}": start for axis, start in zip("xyz", place.start, strict=True)},
        "t": place.t,
        "foreground": place.foreground,
        "slope": volume.image.slope,
        "intercept": volume.image.intercept,
        "padding": None if padding is None else float(padding),
        **{f"affine_{i}{j}": float(affine[i, j]) for i in range(3) for j in range(4)},
        **dict(volume.image.lineage),
        "volume_key": volume.key,
    }


def _ordered_index(parts: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables([INDEX_SCHEMA.empty_table(), *parts])
    return table.sort_by([("obs_id", "ascending"), ("patch", "ascending")])
