"""A snapshot of a store as the patch cache reads it: obs tables and stored voxels by box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError, ConfigurationError
from radiobject_assets.store.radi_object import RadiObject
from radiobject_assets.store.volume import Volume
from radiobject_assets.store.volume_collection import VolumeCollection
from radiobject_assets.training.pairing import VolumeRow


class StoredVoxels:
    """A stored volume as the `VoxelSource` that patches are cut from."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self.shape: tuple[int, ...] = volume.shape
        self.dtype: np.dtype[Any] = volume.stored_dtype
        self.tile_depth = volume.tile_extents[2]

    def read(self, low: Sequence[int], high: Sequence[int], t: int) -> NDArray[Any]:
        """Stored voxels [low, high) of time point `t`, shape (X, Y, Z) of the box, in Fortran order."""
        start, size = list(low), [last - first for first, last in zip(low, high, strict=True)]
        if len(self.shape) == 3:
            return self._volume.read_box(start, size)
        return self._volume.read_box([*start, t], [*size, 1])[..., 0]


class StoredDataset:
    """A store at one snapshot.

    Parameters
    ----------
    snapshot
        Its name; what was written later is not seen.
    """

    def __init__(self, store_uri: str, snapshot: str, ctx: tiledb.Ctx | None = None) -> None:
        self._radi = RadiObject(store_uri, ctx=ctx, timestamp=snapshot)
        self._collections: dict[str, VolumeCollection] = {}

    def _collection(self, name: str) -> VolumeCollection:
        if name not in self._collections:
            if name not in self._radi.collection_names:
                known = ", ".join(self._radi.collection_names) or "none"
                raise ConfigurationError(f"no collection {name!r} in this snapshot; there are: {known}")
            self._collections[name] = self._radi.collection(name)
        return self._collections[name]

    def obs(self, collection: str) -> pd.DataFrame:
        """The obs table of a collection: one row a volume."""
        return self._collection(collection).obs.read()

    def open(self, collection: str, row: VolumeRow) -> StoredVoxels:
        """The voxels of one volume.

        Raises
        ------
        AlignmentError
            The stored array has another shape or dtype than its row says.
        """
        voxels = StoredVoxels(self._collection(collection)[row.obs_id])
        if voxels.shape != row.shape or voxels.dtype != row.dtype:
            raise AlignmentError(
                f"a volume of {collection!r} is stored as {voxels.shape} {voxels.dtype}, but its obs row "
                f"says {row.shape} {row.dtype}; run `radiobject-assets doctor`"
            )
        return voxels
