"""One volume, from its files to a staged array: the function that runs in a worker process.

It writes the array under a new token and gives back what the commit needs. Nothing that it does is visible
to a reader: the parent commits the rows of many volumes at once.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.reversed_rows import TURNED, turns_rows
from radiobject_assets.imaging.opening.members import local_copy
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.pixels.decoders import Decoders
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.source import ImageSource
from radiobject_assets.ingest.labels_on_images.labelled_image import ImageCandidate, entities_of
from radiobject_assets.ingest.labels_on_images.open_labels import (
    LabelChannels,
    open_drawn_labels,
    open_image_of_labels,
)
from radiobject_assets.ingest.naming.file_place import FilePlace
from radiobject_assets.ingest.work.reading_ahead import read_ahead
from radiobject_assets.orientation import orientation_source
from radiobject_assets.store import (
    RadiObjectConfig,
    StagedVolume,
    TileConfig,
    get_radiobject_config,
    set_radiobject_config,
    stage_volume,
)
from radiobject_assets.system.memory import MB

# A slab's bytes are in memory this many times at once: decoded, put together into whole layers of tiles,
# compressed; and the next one is being decoded.
COPIES_OF_A_SLAB = 4
# A volume is read and written in slabs of about this size at most, or of one layer of tiles: the next one is
# read while this one is compressed.
_AT_ONCE_BYTES = 16 * MB
# Beside the slabs: the compressed bytes of one file, codec scratch, TileDB's own state.
FIXED_BYTES = 48 * MB
_READ_BYTES = 4 * MB


@dataclass(frozen=True)
class VolumeTask:
    """What a worker needs to stage one volume."""

    series: Series
    collection_uri: str
    obs_id: str
    subject_id: str
    kind: Literal["image", "labels"]
    arrival: str
    slab_bytes: int
    """Bytes of decoded voxels that may be held at once."""
    tile: TileConfig | None = None
    stored_digest: str | None = None
    """source_digest of the row that the store has now; equal files are not written again."""
    images: tuple[ImageCandidate, ...] = ()
    """For labels: the images that they may lie on."""
    file: FilePlace | None = None
    """For NIfTI labels: where they lie, wherever the file that is read is now."""
    channels: LabelChannels = "quarantine"
    """For labels with a fourth axis: what it is (`CollectionConfig.channels`)."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    config: RadiObjectConfig | None = None

    @property
    def needed_bytes(self) -> int:
        """Bytes that staging takes at most, the interpreter excluded."""
        return min(self.slab_bytes, max(1, self.series.decoded_bytes)) * COPIES_OF_A_SLAB + FIXED_BYTES


@dataclass(frozen=True)
class VolumeResult:
    """A staged volume, or why there is none."""

    staged: StagedVolume | None = None
    unchanged: bool = False
    reason: Reason | None = None
    detail: str = ""
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


def ingest_volume(task: VolumeTask, decoders: Decoders | None = None) -> VolumeResult:
    """Decode one series and stage its volume; `decoders` decode compressed frames, or else this process.

    Raises
    ------
    StorageError
        The store can't be written (a full disk, a lost connection); nothing of the volume remains.
    """
    if task.config is not None and task.config != get_radiobject_config():
        set_radiobject_config(task.config)
    try:
        if task.stored_digest is not None and digest_of_files(task.series) == task.stored_digest:
            return VolumeResult(unchanged=True, shape=task.series.shape, dtype=str(task.series.dtype))
        source, image = _open(task, decoders)
        return _stage(task, source, image)
    except ImageReadError as error:
        return VolumeResult(reason=Reason(error.code), detail=error.detail)


def digest_of_files(series: Series) -> str | None:
    """`ImageSource.source_digest` of a series from its files alone; None if they can't be read."""
    try:
        with local_copy(series) as local:
            return _digest_of_local_files(local)
    except (OSError, ImageReadError):
        return None  # decoding will say which file it is


def _digest_of_local_files(series: Series) -> str:
    hasher = blake3()
    if series.nifti is not None:
        for path in dict.fromkeys((series.nifti.path, series.nifti.data_file or series.nifti.path)):
            _update_from_file(hasher, path)
        return str(hasher.hexdigest())
    for instance in series.instances:
        each = blake3()
        _update_from_file(each, instance.path)
        hasher.update(each.digest())
    if turns_rows(series.instances):
        hasher.update(TURNED)
    return str(hasher.hexdigest())


def _update_from_file(hasher: Any, path: Path) -> None:
    # read, not mapped: the pages of a mapped file count as this process' memory, all 4 GB of them
    with open(path, "rb") as file:
        while data := file.read(_READ_BYTES):
            hasher.update(data)


def _open(task: VolumeTask, decoders: Decoders | None) -> tuple[ImageSource, ImageCandidate | None]:
    if task.kind == "image":
        return open_series(task.series, decoders=decoders), None
    if task.series.is_drawn:
        return open_drawn_labels(task.series, task.images, decoders)
    return open_image_of_labels(
        task.series,
        task.images,
        entities_of(task.series.attributes, task.arrival),
        task.file,
        channels=task.channels,
        held_bytes=task.slab_bytes,
        decoders=decoders,
    )


def _stage(task: VolumeTask, source: ImageSource, image: ImageCandidate | None) -> VolumeResult:
    series = task.series
    slice_bytes = max(1, math.prod(source.shape[:2]) * source.dtype.itemsize)
    tile_depth = task.tile.extents_for_shape(source.shape)[2] if task.tile is not None else 64
    at_once = min(task.slab_bytes, max(_AT_ONCE_BYTES, tile_depth * slice_bytes))
    depth = max(1, at_once // slice_bytes)
    if depth > tile_depth:
        depth -= depth % tile_depth  # whole layers of tiles: what is left over would be copied
    depth = min(depth, source.shape[2])
    with closing(read_ahead(_slabs(source, depth))) as slabs:
        staged = stage_volume(
            task.collection_uri,
            obs_id=task.obs_id,
            obs_subject_id=task.subject_id,
            shape=source.shape,
            dtype=source.dtype,
            affine=source.affine,
            slabs=slabs,
            slope=source.slope,
            intercept=source.intercept,
            orientation_source=orientation_source(
                series.nifti.format if series.nifti else "dicom", source.attributes
            ),
            tile=task.tile,
            buffer_bytes=at_once,
            sources=[instance.sop_instance_uid for instance in series.instances],
            attributes={
                **source.attributes,
                **task.attributes,
                "kind": task.kind,
                "modality": series.modality,
                "series_uid": series.series_uid,
                "study_uid": series.study_uid,
                "component": series.component,
                "arrival": task.arrival,
                "n_instances": len(series.files),
                "labels_of_collection": image.collection if image else None,
                "labels_of": image.obs_id if image else None,
                **({"labels_found_by": image.found_by} if image else {}),
            },
        )
    attributes = {**staged.attributes, "source_digest": source.source_digest()}
    return VolumeResult(
        staged=replace(staged, attributes=attributes),
        detail=_clipped(staged.attributes),
        shape=tuple(source.shape),
        dtype=str(source.dtype),
    )


def _clipped(attributes: Mapping[str, Any]) -> str:
    """What of labels lies beyond their image, in words."""
    parts = [
        f"{count} {what} beyond the image and were clipped"
        for name, what in (("contours_clipped", "contours reach"), ("labels_clipped", "labelled voxels lie"))
        if (count := attributes.get(name))
    ]
    return "; ".join(parts)


def _slabs(source: ImageSource, depth: int) -> Generator[tuple[int, int, NDArray[Any]], None, None]:
    for slab in source.slabs(depth):
        yield slab.z, slab.t, np.asarray(slab.voxels)
