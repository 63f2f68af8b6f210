"""The public names of the store, and where they come from: `__init__.py` imports each on its first use."""

from .arrays.observing import (
    ObservedRead as ObservedRead,
    observed_reads as observed_reads,
)
from .arrays.reader_cache import (
    most_open_files as most_open_files,
)
from .arrays.stored_layout import (
    CodecTrial as CodecTrial,
    StoredLayout as StoredLayout,
)
from .arrays.tile_cache import (
    CacheCounts as CacheCounts,
    cache_counts as cache_counts,
)
from .format.contents import (
    store_contents as store_contents,
)
from .format.correspondence import (
    arrays_without_rows as arrays_without_rows,
    rows_without_arrays as rows_without_arrays,
    snapshots_without_arrays as snapshots_without_arrays,
)
from .format.deletion import (
    DeletionReport as DeletionReport,
    arrays_of_subjects as arrays_of_subjects,
    delete_subjects as delete_subjects,
    subjects_in_files as subjects_in_files,
)
from .format.forgotten import (
    FORGOTTEN_MARK as FORGOTTEN_MARK,
    ForgottenSubjects as ForgottenSubjects,
    allow_again as allow_again,
    forgetting_key as forgetting_key,
    forgotten_subjects as forgotten_subjects,
    note_forgotten as note_forgotten,
)
from .format.housekeeping import (
    Untidy as Untidy,
    untidiness as untidiness,
)
from .format.layout import (
    AFFINE_COLUMNS as AFFINE_COLUMNS,
    SIZE_COLUMNS as SIZE_COLUMNS,
    CollectionEntry as CollectionEntry,
    TileDBContext as TileDBContext,
    ensure_collection as ensure_collection,
    ensure_store as ensure_store,
    is_store as is_store,
    list_collections as list_collections,
    rename_collection as rename_collection,
)
from .format.maintenance import (
    VacuumReport as VacuumReport,
    consolidate as consolidate,
    vacuum as vacuum,
)
from .format.obs_rows import (
    WITHOUT_COLUMN as WITHOUT_COLUMN,
    free_columns as free_columns,
)
from .format.obs_table import (
    obs_table as obs_table,
    update_obs as update_obs,
)
from .format.relinked_volumes import (
    relink_volumes as relink_volumes,
)
from .format.snapshots import (
    Snapshot as Snapshot,
    create_snapshot as create_snapshot,
    delete_snapshot as delete_snapshot,
    describe_state as describe_state,
    list_snapshots as list_snapshots,
)
from .format.staging import (
    StagedVolume as StagedVolume,
    commit_volumes as commit_volumes,
    discard_staged as discard_staged,
    stage_volume as stage_volume,
)
from .format.subject_rows import (
    ensure_subjects as ensure_subjects,
    subjects_table as subjects_table,
    update_subjects as update_subjects,
    upsert_subjects as upsert_subjects,
)
from .format.whole_state import (
    WholeState as WholeState,
    whole_state as whole_state,
)
from .log.columns import (
    Column as Column,
    validate_id as validate_id,
)
from .names import (
    ASSIGNED_DIVISION as ASSIGNED_DIVISION,
    ASSIGNED_SPLIT as ASSIGNED_SPLIT,
    OBS_ID as OBS_ID,
    SUBJECT as SUBJECT,
)
from .objects.dataframe import (
    Dataframe as Dataframe,
)
from .objects.indexing import (
    Index as Index,
    align as align,
)
from .objects.nifti_export import (
    write_nifti as write_nifti,
)
from .objects.pseudonyms import (
    hold_pseudonyms as hold_pseudonyms,
)
from .objects.query import (
    EagerQuery as EagerQuery,
    LazyQuery as LazyQuery,
)
from .objects.radi_object import (
    RadiObject as RadiObject,
)
from .objects.radiobject_import import (
    ImportReport as ImportReport,
    import_radiobject as import_radiobject,
)
from .objects.rewriting import (
    RewriteReport as RewriteReport,
    rewrite_volumes as rewrite_volumes,
)
from .objects.stats import (
    TileDBStats as TileDBStats,
)
from .objects.store_check import (
    verify_store as verify_store,
    verify_tables as verify_tables,
)
from .objects.store_query import (
    LazyStoreQuery as LazyStoreQuery,
)
from .objects.verification import (
    VolumeProblem as VolumeProblem,
    verify_volume as verify_volume,
)
from .objects.volume import (
    Volume as Volume,
)
from .objects.volume_collection import (
    VolumeCollection as VolumeCollection,
)
from .objects.volume_orientation import (
    OrientationInfo as OrientationInfo,
)
from .objects.writers import (
    RadiObjectWriter as RadiObjectWriter,
    VolumeCollectionWriter as VolumeCollectionWriter,
)
from .storage.config import (
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
from .storage.context import (
    ctx_for_process as ctx_for_process,
    ctx_for_threads as ctx_for_threads,
    ctx_with as ctx_with,
    get_tiledb_config as get_tiledb_config,
    get_tiledb_ctx as get_tiledb_ctx,
    make_ctx as make_ctx,
)
from .storage.errors import (
    MissingError as MissingError,
)
from .storage.parallel import (
    map_on_threads as map_on_threads,
)
from .storage.read_meter import (
    ReadCounts as ReadCounts,
    read_counts as read_counts,
)
from .storage.s3_objects import (
    S3Object as S3Object,
    S3Objects as S3Objects,
)
from .storage.storage import (
    Storage as Storage,
)
from .storage.storage_of_uri import (
    open_storage as open_storage,
)
from .storage.uris import (
    delete_tiledb_uri as delete_tiledb_uri,
    local_path as local_path,
    normalise as normalise,
    uri_exists as uri_exists,
)
from .tables.table import (
    Table as Table,
)
