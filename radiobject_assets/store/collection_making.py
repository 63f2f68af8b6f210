"""Making a collection: empty, from images, or from volumes."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import tiledb

from radiobject_assets.store.context import ContextRef
from radiobject_assets.store.making import making_collection
from radiobject_assets.store.uris import normalise
from radiobject_assets.store.volume import Volume
from radiobject_assets.store.volume_header import same_shape

if TYPE_CHECKING:
    from radiobject_assets.store.readers import ImageBatch

ImageSources = Sequence[tuple[str | Path, str]]


class CollectionMaking(ABC):
    """The ways in which a collection is made: each whole, or nothing is left of it."""

    @abstractmethod
    def __init__(self, uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None) -> None:
        """Open the collection at `uri`."""

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str],
        shape: Sequence[int] | None = None,
        obs_schema: Mapping[str, Any] | None = None,
        name: str | None = None,
        ctx: tiledb.Ctx | None = None,
    ) -> Self:
        """An empty collection for volumes of `shape` (None: any), with the columns `obs_schema` in obs."""
        where, use = normalise(uri), ContextRef(ctx).get()
        with making_collection(where, name, use, shape, obs_schema):
            pass
        return cls(uri, ctx)

    @classmethod
    def from_niftis(
        cls,
        uri: str | os.PathLike[str],
        niftis: ImageSources,
        obs: pd.DataFrame | None = None,
        reorient: bool | None = None,
        validate_dimensions: bool = True,
        valid_subject_ids: Sequence[str] | set[str] | None = None,
        name: str | None = None,
        ctx: tiledb.Ctx | None = None,
        progress: bool = False,
    ) -> Self:
        """A new collection from NIfTI files, `[(path, subject_id), ...]`."""
        from radiobject_assets.store.readers import ImageBatch

        batch = ImageBatch("nifti", niftis, obs, reorient, validate_dimensions, valid_subject_ids)
        return cls._from_batch(uri, name, batch, ctx, progress)

    @classmethod
    def from_volumes(
        cls,
        uri: str | os.PathLike[str],
        volumes: Sequence[tuple[str, Volume]],
        obs_data: pd.DataFrame | None = None,
        name: str | None = None,
        ctx: tiledb.Ctx | None = None,
        validate_dimensions: bool = True,
    ) -> Self:
        """A new collection with copies of volumes, `[(obs_id, volume), ...]`.

        `obs_data` has a row for each obs_id with its obs_subject_id and any other columns; without it every
        volume is a subject of its own, with its obs_id. Volumes of different shapes are a ShapeError unless
        `validate_dimensions=False`.
        """
        from radiobject_assets.store.copying import collection_from_volumes

        if validate_dimensions:
            same_shape([volume.shape for _, volume in volumes])
        collection_from_volumes(normalise(uri), volumes, obs_data, name, ContextRef(ctx).get())
        return cls(uri, ctx)

    @classmethod
    def from_dicoms(
        cls,
        uri: str | os.PathLike[str],
        dicom_dirs: ImageSources,
        obs: pd.DataFrame | None = None,
        reorient: bool | None = None,
        validate_dimensions: bool = True,
        valid_subject_ids: Sequence[str] | set[str] | None = None,
        name: str | None = None,
        ctx: tiledb.Ctx | None = None,
        progress: bool = False,
    ) -> Self:
        """A new collection from DICOM directories, `[(directory, subject_id), ...]`."""
        from radiobject_assets.store.readers import ImageBatch

        batch = ImageBatch("dicom", dicom_dirs, obs, reorient, validate_dimensions, valid_subject_ids)
        return cls._from_batch(uri, name, batch, ctx, progress)

    @classmethod
    def _from_batch(
        cls,
        uri: str | os.PathLike[str],
        name: str | None,
        batch: ImageBatch,
        ctx: tiledb.Ctx | None,
        progress: bool,
    ) -> Self:
        from radiobject_assets.store.readers import create_collection_from_images

        create_collection_from_images(normalise(uri), name, batch, ContextRef(ctx).get(), progress)
        return cls(uri, ctx)

    # RadiObject's names; its own tests and scripts that follow them call these.
    _create = create
    _from_volumes = from_volumes
