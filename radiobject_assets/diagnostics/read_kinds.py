"""Kinds of findings on how a store reads: the data is right, and whoever reads it waits."""

from __future__ import annotations

from radiobject_assets.diagnostics.findings import Kind, Mend, Severity

_RIGHT = "The data is right."
_CACHE = "Training from the patch cache (`patches` in dataset.yaml) does not depend on it."


def _slow(code: str, problem: str, why: str, action: str, *, is_safe: bool = True) -> Kind:
    return Kind(code, Severity.WARN, problem, f"{why} {_RIGHT}", Mend(action, is_safe=is_safe))


_LAY_OUT_ANEW = (
    "Each volume is written anew beside the old one and replaces it when its voxels have the same digest; "
    "snapshots keep the old ones, and `vacuum` frees their space once nothing names them."
)

# -- how volumes lie in storage ---------------------------------------------------------------------------

COARSE_TILES = _slow(
    "coarse_tiles",
    "tiles that do not fit what is read of them",
    "Most voxels that are decoded are thrown away.",
    "Lay out {collection} with the tiles that are named. " + _LAY_OUT_ANEW + " "
    "`collections.{collection}.tile` in dataset.yaml holds for volumes that come later.",
)
HEAVY_CODEC = _slow(
    "heavy_codec",
    "a codec that is slow to decode",
    "Most of a read's time is spent on decompression.",
    "Store {collection} with the codec that is named. " + _LAY_OUT_ANEW,
)
NO_TILE_INDEX = _slow(
    "no_tile_index",
    "volumes without a tile index",
    "TileDB has to read them, which is slower, and from S3 it takes a copy of the whole array.",
    "Lay out {collection} anew with the tiles that it has. " + _LAY_OUT_ANEW,
)
MANY_FRAGMENTS = _slow(
    "many_fragments",
    "volumes that lie in many files",
    "A read goes from file to file, one after the other.",
    "Lay out {collection} anew, in one file for each volume. " + _LAY_OUT_ANEW,
)
MANY_SEGMENTS = _slow(
    "many_segments",
    "rows that lie in many small files",
    "Opening the collection reads all of them.",
    "Merge the files of rows; every snapshot stays readable.",
)

# -- how they are read --------------------------------------------------------------------------------------

SMALL_TILE_CACHE = _slow(
    "small_tile_cache",
    "a cache of decoded tiles that is too small for what is read",
    "Tiles are decoded, pushed out, and decoded again.",
    "Give the process that reads the cache that is named: "
    "`configure(read=ReadConfig(tile_cache_size_mb=...))` of `radiobject_assets.store`, or a larger "
    "memory budget in Dagster.",
)
CONTEXTS_NOT_SHARED = _slow(
    "contexts_not_shared",
    "arrays that are opened again for each read",
    "A context, store or volume that is made for each read keeps nothing for the next one.",
    "Open the store once (`RadiObject(uri)`), let all reads of the process share it, and pass no `ctx`, or "
    "one that is made once.",
)
READ_BY_TILEDB = _slow(
    "read_by_tiledb",
    "volumes that TileDB reads by setting, although the faster reader knows them",
    "It decodes whole tiles where blocks of them would do.",
    'Leave out `voxels="tiledb"` from the configuration.',
)
OUT_OF_MEMORY = _slow(
    "out_of_memory",
    "readers that may take more memory than there is",
    "The system ends one of them, in the middle of training.",
    "Use fewer workers, a smaller cache of tiles for each, or stream (`Volume.iter_slabs`, patches).",
)

# -- what lies between --------------------------------------------------------------------------------------

LOW_PARALLEL = _slow(
    "low_parallel",
    "requests that wait for each other",
    "Reads from S3 are made of several requests, and too few of them are under way at once.",
    "Set `max_parallel_ops` of `S3Config` to what is named.",
)
CONNECTION_CAP = _slow(
    "connection_cap",
    "storage that answers few requests at a time",
    "Requests that are made together wait in front of the server or a proxy.",
    "Raise the limit of connections of the server, proxy or load balancer; until then train from the patch "
    "cache on local disk.",
)
SLOW_DOWN = _slow(
    "slow_down",
    "storage that asks for fewer requests",
    "Requests are refused (503) and made again after a while.",
    "Set `max_parallel_ops` of `S3Config` to what is named, use fewer workers, or ask for a higher rate.",
)
LOW_BANDWIDTH = _slow(
    "low_bandwidth",
    "a line to the storage that is full",
    "More requests at once bring nothing: the bytes themselves take the time.",
    "Read less: patches or planes in place of whole volumes. " + _CACHE + " Else move the store, or the "
    "training, closer.",
)
FAR_STORE = _slow(
    "far_store",
    "a store that is far away, read one region after the other",
    "Each read waits for at least one round trip.",
    "Read several regions at once: `map_on_threads`, a loader's batches, or `num_workers`. " + _CACHE,
)
SLOW_DISK = _slow(
    "slow_disk",
    "a disk that is slow",
    "Reads wait for the disk, and a plain file on it takes as long.",
    "Put the store on a faster disk. " + _CACHE,
)

# -- what is known of it ------------------------------------------------------------------------------------

SLOW_READS = _slow(
    "slow_reads",
    "patches read slowly, and none of the known causes explains it",
    "Training that reads volumes directly would wait.",
    "Train from the patch cache on local disk; look at the disk and the network.",
)
READS_SLOWED = Kind(
    "reads_slowed",
    Severity.WARN,
    "patches read much slower than they used to, on a machine that is as fast as before",
    "Something between the store and this machine has changed. The data is right.",
    Mend(
        "See what else this check found, and whether the store was moved, its disk is nearly full or "
        "failing, or the network is slower. If it is to stay so, this warning ends by itself once half of "
        "the last hundred measurements are like this one.",
        is_safe=True,
    ),
)
NOT_MEASURED = Kind(
    "not_measured",
    Severity.WARN,
    "collections that training reads and that have no volume to measure",
    "Nothing is known of how they read.",
    Mend("Deliver images of {collection}, or correct `patches` in dataset.yaml.", is_safe=True),
)

CAUSES = (
    *(COARSE_TILES, HEAVY_CODEC, NO_TILE_INDEX, MANY_FRAGMENTS, MANY_SEGMENTS),
    *(SMALL_TILE_CACHE, CONTEXTS_NOT_SHARED, READ_BY_TILEDB, OUT_OF_MEMORY),
    *(LOW_PARALLEL, CONNECTION_CAP, SLOW_DOWN, LOW_BANDWIDTH, FAR_STORE, SLOW_DISK, SLOW_READS),
)
"""What a diagnosis may name."""
