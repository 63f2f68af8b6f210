"""The RadiObject data structure on TileDB: volumes with affines, tables of volumes and subjects, snapshots.

What belongs here: the format on disk, reading and writing it, queries. What does not: image files (they
come through the entry-point group `radiobject_assets.image_readers`), Dagster, PyTorch. `docs/format.md`
specifies the format. The names here are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from radiobject_assets.store.deletion import DeletionReport, delete_subjects
    from radiobject_assets.store.indexing import Index, align
    from radiobject_assets.store.layout import (
        ensure_collection,
        ensure_store,
        is_store,
        list_collections,
        rename_collection,
    )
    from radiobject_assets.store.maintenance import VacuumReport, consolidate, vacuum
    from radiobject_assets.store.orientation import OrientationInfo
    from radiobject_assets.store.parallel import map_on_threads
    from radiobject_assets.store.query import EagerQuery, LazyQuery
    from radiobject_assets.store.radi_object import RadiObject
    from radiobject_assets.store.radiobject_import import ImportReport, import_radiobject
    from radiobject_assets.store.snapshots import Snapshot, create_snapshot, list_snapshots
    from radiobject_assets.store.staging import StagedVolume, commit_volumes, discard_staged, stage_volume
    from radiobject_assets.store.stats import TileDBStats
    from radiobject_assets.store.store_check import verify_store
    from radiobject_assets.store.store_query import LazyStoreQuery
    from radiobject_assets.store.subjects import ensure_subjects, upsert_subjects
    from radiobject_assets.store.uris import delete_tiledb_uri, uri_exists
    from radiobject_assets.store.verification import Problem, verify_volume
    from radiobject_assets.store.volume import Volume
    from radiobject_assets.store.volume_collection import VolumeCollection
    from radiobject_assets.store.writers import RadiObjectWriter, VolumeCollectionWriter

# Module: its public names.
_NAMES = {
    "config": (
        "CompressionConfig Compressor OrientationConfig RadiObjectConfig ReadConfig S3Config "
        "SliceOrientation TileConfig WriteConfig configure get_radiobject_config "
        "reset_radiobject_config set_radiobject_config"
    ),
    "context": "ctx_for_process ctx_for_threads get_tiledb_config get_tiledb_ctx make_ctx",
    "dataframe": "Dataframe",
    "deletion": "DeletionReport delete_subjects",
    "indexing": "Index align",
    "layout": "ensure_collection ensure_store is_store list_collections rename_collection",
    "maintenance": "VacuumReport consolidate vacuum",
    "orientation": "OrientationInfo",
    "parallel": "map_on_threads",
    "query": "EagerQuery LazyQuery",
    "radi_object": "RadiObject",
    "radiobject_import": "ImportReport import_radiobject",
    "snapshots": "Snapshot create_snapshot list_snapshots",
    "staging": "StagedVolume commit_volumes discard_staged stage_volume",
    "stats": "TileDBStats",
    "store_check": "verify_store",
    "store_query": "LazyStoreQuery",
    "subjects": "ensure_subjects upsert_subjects",
    "uris": "delete_tiledb_uri uri_exists",
    "verification": "Problem verify_volume",
    "volume": "Volume",
    "volume_collection": "VolumeCollection",
    "writers": "RadiObjectWriter VolumeCollectionWriter",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "CompressionConfig",
    "Compressor",
    "Dataframe",
    "DeletionReport",
    "EagerQuery",
    "ImportReport",
    "Index",
    "LazyQuery",
    "LazyStoreQuery",
    "OrientationConfig",
    "OrientationInfo",
    "Problem",
    "RadiObject",
    "RadiObjectConfig",
    "RadiObjectWriter",
    "ReadConfig",
    "S3Config",
    "SliceOrientation",
    "Snapshot",
    "StagedVolume",
    "TileConfig",
    "TileDBStats",
    "VacuumReport",
    "Volume",
    "VolumeCollection",
    "VolumeCollectionWriter",
    "WriteConfig",
    "align",
    "commit_volumes",
    "configure",
    "consolidate",
    "create_snapshot",
    "ctx_for_process",
    "ctx_for_threads",
    "delete_subjects",
    "delete_tiledb_uri",
    "discard_staged",
    "ensure_collection",
    "ensure_store",
    "ensure_subjects",
    "get_radiobject_config",
    "get_tiledb_config",
    "get_tiledb_ctx",
    "import_radiobject",
    "is_store",
    "list_collections",
    "list_snapshots",
    "make_ctx",
    "map_on_threads",
    "rename_collection",
    "reset_radiobject_config",
    "set_radiobject_config",
    "stage_volume",
    "upsert_subjects",
    "uri_exists",
    "vacuum",
    "verify_store",
    "verify_volume",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
