"""Making a store: empty, from images, or from collections."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import tiledb

from radiobject_assets.store.context import ContextRef
from radiobject_assets.store.uris import normalise

if TYPE_CHECKING:
    from radiobject_assets.store.volume_collection import VolumeCollection

Pairs = Sequence[tuple[str | Path, str]]
Images = str | os.PathLike[str] | Pairs


class StoreMaking(ABC):
    """The ways in which a store is made: each whole, or nothing is left of it."""

    @abstractmethod
    def __init__(self, uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None) -> None:
        """Open the store at `uri`."""

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str],
        obs_meta_schema: Mapping[str, Any] | None = None,
        ctx: tiledb.Ctx | None = None,
    ) -> Self:
        """An empty store whose obs_meta has the columns `obs_meta_schema` (name to dtype)."""
        from radiobject_assets.store.building import create_store

        create_store(normalise(uri), obs_meta_schema or {}, ContextRef(ctx).get())
        return cls(uri, ctx)

    @classmethod
    def from_images(
        cls,
        uri: str | os.PathLike[str],
        images: Mapping[str, Images],
        validate_alignment: bool = False,
        obs_meta: pd.DataFrame | None = None,
        reorient: bool | None = None,
        format_hint: Mapping[str, str] | None = None,
        ctx: tiledb.Ctx | None = None,
        progress: bool = False,
    ) -> Self:
        """A new store from images; nothing is left at `uri` if it fails.

        Parameters
        ----------
        images
            Collection name to a glob, a directory, or `[(path, subject_id), ...]`.
        validate_alignment
            Whether every collection must have the same subjects.
        obs_meta
            Subject metadata with the column obs_subject_id.
        format_hint
            Collection name to `nifti` or `dicom`, where it should not be detected.
        """
        from radiobject_assets.store.building import create_store_from_images

        create_store_from_images(
            normalise(uri),
            images,
            validate_alignment,
            obs_meta,
            reorient,
            format_hint,
            ContextRef(ctx).get(),
            progress,
        )
        return cls(uri, ctx)

    @classmethod
    def from_niftis(
        cls,
        uri: str | os.PathLike[str],
        niftis: Pairs | None = None,
        image_dir: str | os.PathLike[str] | None = None,
        collection_name: str | None = None,
        images: Mapping[str, Images] | None = None,
        validate_alignment: bool = False,
        obs_meta: pd.DataFrame | None = None,
        reorient: bool | None = None,
        ctx: tiledb.Ctx | None = None,
        progress: bool = False,
    ) -> Self:
        """`from_images` for NIfTI files alone.

        In place of `images`: `niftis`, a list `[(path, subject_id), ...]`, or the folder `image_dir`; they
        go into the collection `collection_name`, else into one for each series type that their names tell.
        """
        from radiobject_assets.store.building import nifti_images

        named = nifti_images(images, niftis, image_dir, collection_name)
        hint = dict.fromkeys(named, "nifti")
        return cls.from_images(uri, named, validate_alignment, obs_meta, reorient, hint, ctx, progress)

    @classmethod
    def from_dicoms(
        cls,
        uri: str | os.PathLike[str],
        dicom_dirs: Pairs,
        obs_meta: pd.DataFrame | None = None,
        reorient: bool | None = None,
        ctx: tiledb.Ctx | None = None,
        progress: bool = False,
    ) -> Self:
        """`from_images` for DICOM folders, `[(folder, subject_id), ...]`: a collection for each modality."""
        from radiobject_assets.store.building import one_source

        named, hint = one_source(None, None, dicom_dirs, None)
        return cls.from_images(uri, named, False, obs_meta, reorient, hint, ctx, progress)

    @classmethod
    def from_collections(
        cls,
        uri: str | os.PathLike[str],
        collections: Mapping[str, VolumeCollection | str],
        obs_meta: pd.DataFrame | None = None,
        ctx: tiledb.Ctx | None = None,
    ) -> Self:
        """A new store with copies of collections (objects or URIs), affines and rows included."""
        from radiobject_assets.store.copying import store_from_collections
        from radiobject_assets.store.volume_collection import VolumeCollection

        opened = {n: VolumeCollection(c, ctx) if isinstance(c, str) else c for n, c in collections.items()}
        store_from_collections(normalise(uri), opened, obs_meta, ContextRef(ctx).get())
        return cls(uri, ctx)

    # RadiObject's names; its own tests and scripts that follow them call these.
    _create = create
    _from_volume_collections = from_collections
