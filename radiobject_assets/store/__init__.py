"""The RadiObject data structure on TileDB: volumes with affines, tables of volumes and subjects, snapshots.

What belongs here: the format on disk, reading and writing it, queries. What does not: image files (they
come through the entry-point group `radiobject_assets.image_readers`), Dagster, PyTorch. `docs/format.md`
specifies the format.
"""

from __future__ import annotations

from radiobject_assets.store.config import (
    CompressionConfig,
    Compressor,
    OrientationConfig,
    RadiObjectConfig,
    ReadConfig,
    S3Config,
    SliceOrientation,
    TileConfig,
    WriteConfig,
    configure,
    get_radiobject_config,
    reset_radiobject_config,
    set_radiobject_config,
)
from radiobject_assets.store.context import (
    ctx_for_process,
    ctx_for_threads,
    get_tiledb_config,
    get_tiledb_ctx,
    make_ctx,
)
from radiobject_assets.store.dataframe import Dataframe
from radiobject_assets.store.indexing import Index, align
from radiobject_assets.store.layout import (
    ensure_collection,
    ensure_store,
    is_store,
    list_collections,
    rename_collection,
)
from radiobject_assets.store.radi_object import RadiObject
from radiobject_assets.store.snapshots import Snapshot, create_snapshot, list_snapshots
from radiobject_assets.store.staging import StagedVolume, commit_volumes, discard_staged, stage_volume
from radiobject_assets.store.subjects import ensure_subjects, upsert_subjects
from radiobject_assets.store.uris import delete_tiledb_uri, uri_exists
from radiobject_assets.store.volume import Volume
from radiobject_assets.store.volume_collection import VolumeCollection

__all__ = [
    "CompressionConfig",
    "Compressor",
    "Dataframe",
    "Index",
    "OrientationConfig",
    "RadiObject",
    "RadiObjectConfig",
    "ReadConfig",
    "S3Config",
    "SliceOrientation",
    "Snapshot",
    "StagedVolume",
    "TileConfig",
    "Volume",
    "VolumeCollection",
    "WriteConfig",
    "align",
    "commit_volumes",
    "configure",
    "create_snapshot",
    "ctx_for_process",
    "ctx_for_threads",
    "delete_tiledb_uri",
    "discard_staged",
    "ensure_collection",
    "ensure_store",
    "ensure_subjects",
    "get_radiobject_config",
    "get_tiledb_config",
    "get_tiledb_ctx",
    "is_store",
    "list_collections",
    "list_snapshots",
    "make_ctx",
    "rename_collection",
    "reset_radiobject_config",
    "set_radiobject_config",
    "stage_volume",
    "upsert_subjects",
    "uri_exists",
]
