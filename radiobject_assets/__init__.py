"""radiobject-assets: raw DICOM and NIfTI to training batches, as Dagster assets over RadiObject on TileDB.

The public names are imported when they are first used: `import radiobject_assets` alone loads neither
TileDB nor torch nor Dagster.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_STORE = (
    "CompressionConfig", "Compressor", "Dataframe", "EagerQuery", "Index", "LazyQuery", "LazyStoreQuery",
    "OrientationConfig", "RadiObject", "RadiObjectConfig", "RadiObjectWriter", "ReadConfig", "S3Config",
    "SliceOrientation", "Snapshot", "TileConfig", "TileDBStats", "Volume", "VolumeCollection",
    "VolumeCollectionWriter", "WriteConfig", "align", "configure", "consolidate", "create_snapshot",
    "ctx_for_process", "ctx_for_threads", "delete_subjects", "delete_tiledb_uri", "get_radiobject_config",
    "get_tiledb_config", "get_tiledb_ctx", "import_radiobject", "list_snapshots", "map_on_threads",
    "reset_radiobject_config", "uri_exists", "vacuum",
)  # fmt: skip
_ERRORS = (
    "AlignmentError", "ConfigurationError", "ImageReadError", "IngestError", "RadiObjectError", "SchemaError",
    "ShapeError", "StorageError", "ViewError",
)  # fmt: skip
_TRAINING = (
    "PatchCache", "PatchCacheDataset", "PatchLoader", "assign_splits", "build_patch_cache", "patch_loader",
    "verify_patch_cache",
)  # fmt: skip
_IMAGING = (
    "DicomMetadata", "ImageFormat", "NiftiMetadata", "NiftiSource", "OrientationInfo",
    "detect_dicom_orientation", "detect_nifti_orientation", "discover_nifti_pairs", "extract_dicom_metadata",
    "extract_nifti_metadata", "infer_series_type", "is_orientation_valid", "reorient_to_canonical",
)  # fmt: skip
_MODULES = {
    **dict.fromkeys(_IMAGING, "imaging"),
    **dict.fromkeys(_STORE, "store"),
    **dict.fromkeys(_ERRORS, "errors"),
    **dict.fromkeys(_TRAINING, "training"),
    "Compute": "compute",
    "MemoryBudget": "memory",
    "PeakMemory": "memory",
    "build_definitions": "definitions",
    "ingest_sources": "ingest",
    "load_dataset": "dataset",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
