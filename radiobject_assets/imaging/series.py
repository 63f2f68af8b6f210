"""Series: instances that form one volume, with a verdict.

This module holds the value that the rest of the platform works with, and `build_series`, the pure function
that makes it out of a scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.instance import Instance
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scan import ScanResult

Kind = Literal["image", "labels", "other"]
Verdict = Literal["ingestable", "quarantined"]
ImageDtype = np.dtype[Any]


@dataclass(frozen=True, eq=False)
class Series:
    """One series (split where echo, phase, orientation or geometry differ) and what was decided about it.

    series_uid, component
        SeriesInstanceUID ("" for NIfTI) and "" or what splits it (echo, phase, orientation, stack...).
    key
        Stable unique key of (series, component); of a NIfTI, its path relative to the scanned root.
    files
        Every file that belongs to it, duplicates included.
    shape, dtype, affine, slope, intercept
        Of the volume that `open_series` will give; None unless ingestable.
    references
        SeriesInstanceUIDs of the images that a SEG or RTSTRUCT refers to.
    decoded_bytes
        Bytes of the decoded volume.
    native_codec
        True if the pixels need a C codec (compressed transfer syntax).
    instances
        In slice order (time outermost), duplicates removed; empty for NIfTI.
    """

    series_uid: str
    component: str
    key: str
    kind: Kind
    patient_id: str | None
    study_uid: str
    modality: str
    description: str
    files: tuple[Path, ...]
    verdict: Verdict
    reason: Reason | None
    detail: str
    shape: tuple[int, ...] | None = None
    dtype: ImageDtype | None = None
    affine: NDArray[np.float64] | None = None
    slope: float | None = None
    intercept: float | None = None
    references: tuple[str, ...] = ()
    decoded_bytes: int = 0
    native_codec: bool = False
    instances: tuple[Instance, ...] = ()


def build_series(
    scan: ScanResult, known_images: Mapping[str, Grid] | None = None
) -> tuple[Series, ...]:
    """Group the instances of a scan into series, order their slices, and judge each."""
    raise NotImplementedError
