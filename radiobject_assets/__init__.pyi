"""The public names of the package, and where they come from: `__init__.py` imports each on its first use."""

from .dataset import (
    load_dataset as load_dataset,
)
from .definitions import (
    build_definitions as build_definitions,
)
from .errors import (
    AlignmentError as AlignmentError,
    ConfigurationError as ConfigurationError,
    ImageReadError as ImageReadError,
    IngestError as IngestError,
    RadiObjectError as RadiObjectError,
    SchemaError as SchemaError,
    ShapeError as ShapeError,
    StorageError as StorageError,
    ViewError as ViewError,
)
from .imaging import (
    DicomMetadata as DicomMetadata,
    ImageFormat as ImageFormat,
    NiftiMetadata as NiftiMetadata,
    NiftiSource as NiftiSource,
    OrientationInfo as OrientationInfo,
    detect_dicom_orientation as detect_dicom_orientation,
    detect_nifti_orientation as detect_nifti_orientation,
    discover_nifti_pairs as discover_nifti_pairs,
    extract_dicom_metadata as extract_dicom_metadata,
    extract_nifti_metadata as extract_nifti_metadata,
    infer_series_type as infer_series_type,
    is_orientation_valid as is_orientation_valid,
    reorient_to_canonical as reorient_to_canonical,
)
from .ingest import (
    ingest_sources as ingest_sources,
)
from .store import (
    CompressionConfig as CompressionConfig,
    Compressor as Compressor,
    Dataframe as Dataframe,
    EagerQuery as EagerQuery,
    Index as Index,
    LazyQuery as LazyQuery,
    LazyStoreQuery as LazyStoreQuery,
    OrientationConfig as OrientationConfig,
    RadiObject as RadiObject,
    RadiObjectConfig as RadiObjectConfig,
    RadiObjectWriter as RadiObjectWriter,
    ReadConfig as ReadConfig,
    S3Config as S3Config,
    SliceOrientation as SliceOrientation,
    Snapshot as Snapshot,
    TileConfig as TileConfig,
    TileDBStats as TileDBStats,
    Volume as Volume,
    VolumeCollection as VolumeCollection,
    VolumeCollectionWriter as VolumeCollectionWriter,
    WriteConfig as WriteConfig,
    align as align,
    configure as configure,
    consolidate as consolidate,
    create_snapshot as create_snapshot,
    ctx_for_process as ctx_for_process,
    ctx_for_threads as ctx_for_threads,
    delete_subjects as delete_subjects,
    delete_tiledb_uri as delete_tiledb_uri,
    get_radiobject_config as get_radiobject_config,
    get_tiledb_config as get_tiledb_config,
    get_tiledb_ctx as get_tiledb_ctx,
    import_radiobject as import_radiobject,
    list_snapshots as list_snapshots,
    map_on_threads as map_on_threads,
    reset_radiobject_config as reset_radiobject_config,
    uri_exists as uri_exists,
    vacuum as vacuum,
)
from .system.compute import (
    Compute as Compute,
)
from .system.memory import (
    MemoryBudget as MemoryBudget,
)
from .system.resource_monitor import (
    ResourceMonitor as ResourceMonitor,
)
from .training import (
    PatchCache as PatchCache,
    PatchCacheDataset as PatchCacheDataset,
    PatchLoader as PatchLoader,
    assign_splits as assign_splits,
    build_patch_cache as build_patch_cache,
    patch_loader as patch_loader,
    verify_patch_cache as verify_patch_cache,
)

__version__: str
