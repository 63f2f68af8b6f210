"""The profile of one volume: one pass over its voxels, slab by slab, in bounded memory.

All values are physical, as the store gives them: Hounsfield units for CT.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.profiling.profile_version import PROFILE_VERSION
from radiobject_assets.profiling.slices import SliceWatch
from radiobject_assets.profiling.thumbnail import Box, Reduction, Thumbnail, descriptors
from radiobject_assets.profiling.value_counts import CountedValues, ValueCounter
from radiobject_assets.store import Volume

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
QUALITY = (
    "foreground_fraction",
    "clipped_fraction",
    "snr_dietrich",
    "fber",
    "efc",
    "constant_slices",
    "dropout_slices",
    "interslice_difference",
    "interslice_jump",
)
"""Names of the figures of quality; `value_counts` and `slices` say what they are, and whose."""
BINS = 64
_CT_RANGE = (-1024.0, 3072.0)
_SLAB_BYTES = 8 << 20


@dataclass(frozen=True)
class VolumeProfile:
    """What is known of the voxels of one volume."""

    figures: Mapping[str, Any]
    """By name of the column: values, histogram, foreground box, classes, quality."""
    thumbnail: Thumbnail | None
    """Of images, to know them again; None for labels and for what has no two values."""

    @property
    def descriptor(self) -> NDArray[np.float32] | None:
        """Numbers of the thumbnail that are the same however it is turned."""
        return None if self.thumbnail is None else descriptors(self.thumbnail[None])[0]


def state_of(row: Mapping[str, Any]) -> str:
    """Digest of what a volume's profile is made from; another digest, and it is made anew.

    Parameters
    ----------
    row
        The volume's row of the inventory.
    """
    names = ("volume", "voxel_digest", "slope", "intercept", "kind", "modality", "segments")
    affine = [row[f"affine_{i}{j}"] for i in range(3) for j in range(4)]
    told = [PROFILE_VERSION, *(str(row.get(name)) for name in names), *(repr(float(v)) for v in affine)]
    return hashlib.blake2b("\0".join(told).encode(), digest_size=16).hexdigest()


def profile_volume(
    volume: Volume, *, modality: str | None = None, segments: str | None = None
) -> VolumeProfile:
    """Read a volume once and say what it is like.

    Of a series in time (4D) all voxels are counted; the foreground, slices and thumbnail are those of the
    first time point.

    Parameters
    ----------
    modality
        Of CT the histogram is over -1024 to 3072 HU, 64 each; else between the extreme thousandths.
    segments
        The column of obs of that name: JSON that names the classes of a label volume.

    Raises
    ------
    StorageError
        The voxels can't be read.
    """
    is_labels = volume.kind == "labels"
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    counter = ValueCounter(volume.stored_dtype, volume.slope, volume.intercept)
    reduction, slices = Reduction(shape), SliceWatch(shape[:2])
    for z, t, stored in volume.iter_slabs(stored=True, max_bytes=_SLAB_BYTES):
        counter.add(stored)
        if t:
            continue
        physical = _physical(volume, stored)
        if is_labels:
            reduction.add(z, np.asarray(physical != 0, dtype=np.float32))
        else:
            reduction.add(z, physical)
            slices.add(physical)
    values = counter.done()
    figures: dict[str, Any] = {
        "spacing_mm": list(volume.spacing_mm),
        "shape": list(volume.shape),
        "orientation": volume.axcodes,
    }
    if values is None:
        return VolumeProfile({**figures, "n_voxels": 0, "non_finite": int(np.prod(volume.shape))}, None)
    threshold = 0.0 if is_labels else values.threshold()
    for name, (low, high) in zip("xyz", reduction.box(threshold), strict=True):
        figures |= {f"foreground_{name}_from": low, f"foreground_{name}_to": high}
    figures |= {"n_voxels": values.total, "non_finite": values.non_finite}
    if is_labels:
        return VolumeProfile({**figures, "classes": _classes(values, volume.spacing_mm, segments)}, None)
    figures |= _of_values(values, modality)
    spread = figures["p99"] - figures["p1"]
    figures |= values.quality(threshold) | slices.quality(figures["p1"], spread)
    is_one = len(values.values) < 2
    return VolumeProfile(figures, None if is_one else reduction.thumbnail(threshold))


def read_foreground(volume: Volume, box: Box) -> NDArray[np.float32]:
    """The foreground that a profile tells (`foreground_x_from`...), as means over blocks: at most 128 along
    each axis.

    Raises
    ------
    StorageError
        The voxels can't be read.
    """
    reduction = Reduction((volume.shape[0], volume.shape[1], volume.shape[2]))
    for z, t, stored in volume.iter_slabs(stored=True, max_bytes=_SLAB_BYTES):
        if t:
            break
        reduction.add(z, _physical(volume, stored))
    parts = zip(box, reduction.factors, strict=True)
    return reduction.means()[tuple(slice(low // by, -(-high // by)) for (low, high), by in parts)]


def _physical(volume: Volume, stored: NDArray[Any]) -> NDArray[np.float32]:
    physical = stored.astype(np.float32)
    if volume.slope != 1.0 or volume.intercept != 0.0:
        physical = physical * np.float32(volume.slope) + np.float32(volume.intercept)
    if volume.stored_dtype.kind == "f":
        physical = np.nan_to_num(physical, nan=0.0, posinf=0.0, neginf=0.0)
    return physical


def _of_values(values: CountedValues, modality: str | None) -> dict[str, Any]:
    found = dict(zip((f"p{p}" for p in PERCENTILES), values.percentiles(PERCENTILES), strict=True))
    low, high = _CT_RANGE if modality == "CT" else values.percentiles((0.1, 99.9))
    high = high if high > low else low + 1.0
    return {
        "least": float(values.values[0]),
        "greatest": float(values.values[-1]),
        "mean": values.mean,
        "std": values.std,
        **found,
        "histogram_from": low,
        "histogram_to": high,
        "histogram": values.histogram(low, high, BINS).tolist(),
    }


def _classes(values: CountedValues, spacing_mm: tuple[float, float, float], segments: str | None) -> str:
    """Voxels and millilitres of each class that occurs, as JSON, with the name that `segments` gives it."""
    ml = float(np.prod(spacing_mm)) / 1000.0
    names = _names(segments)
    return json.dumps(
        [
            {
                "value": float(value) if value % 1 else int(value),
                "name": names.get(float(value), ""),
                "voxels": int(count),
                "ml": round(int(count) * ml, 6),
            }
            for value, count in zip(values.values, values.counts, strict=True)
            if value != 0
        ]
    )


def _names(segments: str | None) -> dict[float, str]:
    try:
        told = json.loads(segments) if isinstance(segments, str) and segments else []
    except ValueError:
        return {}
    found = {}
    for number, one in enumerate(told if isinstance(told, list) else [], start=1):
        if isinstance(one, dict):
            found[float(one.get("value") or number)] = str(one.get("label") or one.get("type") or "")
    return found
