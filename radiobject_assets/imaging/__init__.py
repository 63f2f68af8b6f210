"""From files to image sources: DICOM, NIfTI, segmentations and contours, with geometry and verdicts.

The way of the data: `scan` reads every file's header once (`instance.Instance`), `series.build_series`
groups instances into series with a verdict each, `opening.open_series` decodes an ingestable one in slabs
(`source.ImageSource`). No TileDB and no Dagster here.

The names that RadiObject's users know are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ORIENTATION = (
    "OrientationInfo",
    "detect_dicom_orientation",
    "detect_nifti_orientation",
    "is_orientation_valid",
    "reorient_to_canonical",
)
_METADATA = ("DicomMetadata", "NiftiMetadata", "extract_dicom_metadata", "extract_nifti_metadata")
_PAIRS = ("ImageFormat", "NiftiSource", "discover_nifti_pairs")
_MODULES = {
    **dict.fromkeys(_ORIENTATION, "orientation"),
    **dict.fromkeys(_METADATA, "metadata"),
    **dict.fromkeys(_PAIRS, "nifti_pairs"),
    "infer_series_type": "series_type",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
