"""The public names of the store, and where they come from: `__init__.py` imports each on its first use."""

from .config import (
    CompressionConfig as CompressionConfig,
    Compressor as Compressor,
    OrientationConfig as OrientationConfig,
    RadiObjectConfig as RadiObjectConfig,
    ReadConfig as ReadConfig,
    S3Config as S3Config,
    SliceOrientation as SliceOrientation,
    TileConfig as TileConfig,
    WriteConfig as WriteConfig,
    configure as configure,
    get_radiobject_config as get_radiobject_config,
    reset_radiobject_config as reset_radiobject_config,
    set_radiobject_config as set_radiobject_config,
)
from .context import (
    ctx_for_process as ctx_for_process,
    ctx_for_threads as ctx_for_threads,
    get_tiledb_config as get_tiledb_config,
    get_tiledb_ctx as get_tiledb_ctx,
    make_ctx as make_ctx,
)
from .dataframe import (
    Dataframe as Dataframe,
)
from .deletion import (
    DeletionReport as DeletionReport,
    delete_subjects as delete_subjects,
)
from .indexing import (
    Index as Index,
    align as align,
)
from .layout import (
    ensure_collection as ensure_collection,
    ensure_store as ensure_store,
    is_store as is_store,
    list_collections as list_collections,
    rename_collection as rename_collection,
)
from .maintenance import (
    VacuumReport as VacuumReport,
    consolidate as consolidate,
    vacuum as vacuum,
)
from .orientation import (
    OrientationInfo as OrientationInfo,
)
from .parallel import (
    map_on_threads as map_on_threads,
)
from .query import (
    EagerQuery as EagerQuery,
    LazyQuery as LazyQuery,
)
from .radi_object import (
    RadiObject as RadiObject,
)
from .radiobject_import import (
    ImportReport as ImportReport,
    import_radiobject as import_radiobject,
)
from .snapshots import (
    Snapshot as Snapshot,
    create_snapshot as create_snapshot,
    delete_snapshot as delete_snapshot,
    list_snapshots as list_snapshots,
)
from .staging import (
    StagedVolume as StagedVolume,
    commit_volumes as commit_volumes,
    discard_staged as discard_staged,
    stage_volume as stage_volume,
)
from .stats import (
    TileDBStats as TileDBStats,
)
from .store_check import (
    verify_store as verify_store,
)
from .store_query import (
    LazyStoreQuery as LazyStoreQuery,
)
from .subjects import (
    ensure_subjects as ensure_subjects,
    upsert_subjects as upsert_subjects,
)
from .uris import (
    delete_tiledb_uri as delete_tiledb_uri,
    uri_exists as uri_exists,
)
from .verification import (
    Problem as Problem,
    verify_volume as verify_volume,
)
from .volume import (
    Volume as Volume,
)
from .volume_collection import (
    VolumeCollection as VolumeCollection,
)
from .writers import (
    RadiObjectWriter as RadiObjectWriter,
    VolumeCollectionWriter as VolumeCollectionWriter,
)
