"""A snapshot of a store as the patch cache reads it: obs tables and stored voxels by box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError, ConfigurationError
from radiobject_assets.store import RadiObject, TileDBContext, Volume, VolumeCollection
from radiobject_assets.training.pairing import VolumeRow


class StoredVoxels:
    """A stored volume, or one `point` of its fourth axis, as the `VoxelSource` that patches are cut from."""

    def __init__(self, volume: Volume, point: int | None = None) -> None:
        self._volume = volume
        self._point = point
        self.shape: tuple[int, ...] = volume.shape if point is None else volume.shape[:3]
        self.dtype: np.dtype[Any] = volume.stored_dtype
        self.tile_depth = volume.tile_extents[2]

    def read(self, low: Sequence[int], high: Sequence[int], t: int) -> NDArray[Any]:
        """Stored voxels [low, high) of time point `t`, shape (X, Y, Z) of the box, in Fortran order."""
        start, size = list(low), [last - first for first, last in zip(low, high, strict=True)]
        if self._point is not None:
            t = self._point
        elif len(self.shape) == 3:
            return self._volume.read_box(start, size)
        return self._volume.read_box([*start, t], [*size, 1])[..., 0]


class StoredDataset:
    """A store at one snapshot.

    Parameters
    ----------
    snapshot
        Its name; what was written later is not seen.
    """

    def __init__(self, store_uri: str, snapshot: str, ctx: TileDBContext | None = None) -> None:
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

    def open(self, collection: str, row: VolumeRow, point: int | None = None) -> StoredVoxels:
        """The voxels of one volume, or of one `point` of its fourth axis.

        Raises
        ------
        AlignmentError
            The stored array has another shape or dtype than its row says.
        """
        volume = self._collection(collection)[row.obs_id]
        voxels = StoredVoxels(volume, point)
        if volume.shape != row.shape or voxels.dtype != row.dtype:
            raise AlignmentError(
                f"a volume of {collection!r} is stored as {volume.shape} {voxels.dtype}, but its obs row "
                f"says {row.shape} {row.dtype}; `validate()` of the collection names all such volumes"
            )
        return voxels
