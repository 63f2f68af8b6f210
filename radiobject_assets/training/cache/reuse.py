"""Taking over patches that an older cache beside this one has already.

A full shard of which every patch is wanted is linked: no byte moves. From other shards the wanted patches are
copied into new ones, so that the shards' number stays in bounds however often a cache grows, and nobody who
was deleted stays in a shard.

Damage is not taken over: what is copied is compared with its digest, and what is linked keeps its digests,
so that it is compared when it is read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from radiobject_assets.errors import StorageError
from radiobject_assets.training.cache.cache_format import CacheMeta, ShardMeta, shard_paths
from radiobject_assets.training.cache.cache_reading import PatchCache
from radiobject_assets.training.cache.shard_writer import ShardWriter, link_shard

logger = logging.getLogger(__name__)


@dataclass
class TakenOver:
    """What older caches gave: keys of volumes, their index rows, and the shards that were linked."""

    keys: set[str] = field(default_factory=set)
    index: list[pa.Table] = field(default_factory=list)
    shards: list[ShardMeta] = field(default_factory=list)


def take_over(
    wanted: set[str], parent: Path, folder: Path, sampling: dict[str, Any], writer: ShardWriter
) -> TakenOver:
    """Link or copy what the caches in `parent` have of the `wanted` volume keys, newest cache first.

    A cache that is damaged, or cut in another way, is passed over.
    """
    taken = TakenOver()
    for path in sorted(parent.glob("patches-*"), key=lambda path: path.stat().st_mtime, reverse=True):
        if taken.keys == wanted:
            break
        try:
            if CacheMeta.read(path).sampling != sampling:
                continue
            old = PatchCache(path)
        except StorageError as error:
            logger.warning("an older patch cache is passed over: %s", error)
            continue
        for shard in old.meta.shards:
            _take_shard(old, shard, wanted, folder, writer, taken)
    return taken


def _take_shard(
    old: PatchCache, shard: ShardMeta, wanted: set[str], folder: Path, writer: ShardWriter, taken: TakenOver
) -> None:
    positions = np.flatnonzero(pc.equal(old.index.column("shard"), shard.name).to_numpy())
    rows = old.index.take(positions)
    keys = set(rows.column("volume_key").to_pylist())
    use = (keys & wanted) - taken.keys
    if not use:
        return
    kept = pc.is_in(rows.column("volume_key"), value_set=pa.array(sorted(use)))
    rows, positions = rows.filter(kept), positions[kept.to_numpy()]
    linked = shard in taken.shards  # two older caches may share the very same file
    if linked or (writer.is_full(shard) and rows.num_rows == shard.rows):
        if not linked:
            try:
                link_shard(old.path, folder, shard)
            except FileNotFoundError:  # evicted meanwhile: its patches are cut once more
                for path in shard_paths(folder, shard):
                    path.unlink(missing_ok=True)
                return
            taken.shards.append(shard)
        taken.keys |= use
        taken.index.append(rows)
        return
    for key in sorted(use):
        mine = pc.equal(rows.column("volume_key"), key)
        chosen = positions[mine.to_numpy()]
        if not all(map(old.is_sound, chosen.tolist())):
            logger.warning("%s: patches of a volume are damaged; it is cut again from the store", old.path)
            continue
        taken.keys.add(key)
        taken.index.append(_copy_volume(old, chosen, rows.filter(mine), writer))


def _copy_volume(
    old: PatchCache, positions: np.ndarray[Any, np.dtype[np.intp]], rows: pa.Table, writer: ShardWriter
) -> pa.Table:
    """Copy the patches of one volume, one by one: the index rows with their new places."""
    places = []
    for position in positions.tolist():
        image, label = old.stored(position)
        places.append(writer.add(image[None], None if label is None else label[None]))
    writer.end_volume()
    shard, row = (
        pa.array([place[i] for place in places], rows.schema.field(name).type)
        for i, name in enumerate(("shard", "row"))
    )
    rows = rows.set_column(rows.schema.get_field_index("shard"), "shard", shard)
    return rows.set_column(rows.schema.get_field_index("row"), "row", row)
