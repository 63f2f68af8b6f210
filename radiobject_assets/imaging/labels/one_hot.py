"""Labels that have a channel for each structure: one value a voxel, which is the number of its channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue, ImageSource, Slab
from radiobject_assets.system.temporary import temporary_folder

Channels = Literal["one_hot", "one_hot_with_background"]


class OneHotLabels:
    """Values of a 4D volume of zeros and ones (`source.ImageSource`).

    `one_hot`: a voxel of the first channel is 1, of the second 2; one of no channel is background, 0. With
    `one_hot_with_background` the first channel is the background itself, and every voxel has a channel. The
    channels follow each other in the file, so the values are gathered in a temporary file.
    """

    def __init__(self, source: ImageSource, channels: Channels) -> None:
        if len(source.shape) != 4 or source.dtype.kind not in "iu":
            raise ValueError(f"channels of shape {source.shape}, {source.dtype}: use a 4D volume of integers")
        self._source = source
        self._background = channels == "one_hot_with_background"
        self.shape: tuple[int, ...] = source.shape[:3]
        if source.shape[3] > np.iinfo(np.uint16).max:
            raise ImageReadError(Reason.LABELS_WITH_CHANNELS, f"{source.shape[3]} channels are no structures")
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if source.shape[3] <= 255 else np.uint16)
        self.affine: NDArray[np.float64] = source.affine
        self.slope = 1.0
        self.intercept = 0.0

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """Those of the image."""
        return self._source.attributes

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`.

        Raises
        ------
        ImageReadError
            LABELS_NOT_WHOLE for values other than 0 and 1, SEGMENTS_OVERLAP where a voxel has two channels,
            LABELS_WITH_CHANNELS where the background is not as `channels` says.
        """
        if depth < 1:
            raise ValueError(f"depth is {depth}, use 1 or more")
        columns, rows, n_slices = self.shape[:3]
        slice_bytes = columns * rows * self.dtype.itemsize
        inner = max(1, depth * self.dtype.itemsize // self._source.dtype.itemsize)
        missing = 0
        with temporary_folder() as folder, open(folder / "values", "w+b") as file:
            for slab in self._source.slabs(inner):
                for k in range(slab.voxels.shape[2]):
                    file.seek((slab.z + k) * slice_bytes)
                    # number of the channel, from 1; 0 where there is none so far
                    found = np.zeros((columns, rows), self.dtype, order="F")
                    if slab.t:
                        found[...] = self._plane(file.read(slice_bytes))
                    self._add(found, slab.voxels[:, :, k], slab.t)
                    if slab.t + 1 == self._source.shape[3]:
                        missing += int(np.count_nonzero(found == 0))
                    file.seek((slab.z + k) * slice_bytes)
                    file.write(found.tobytes(order="F"))
            self._check_background(missing)
            for z in range(0, n_slices, depth):
                thick = min(depth, n_slices - z)
                file.seek(z * slice_bytes)
                data = np.frombuffer(file.read(thick * slice_bytes), self.dtype)
                voxels = data.reshape((columns, rows, thick), order="F")
                yield Slab(z, 0, voxels - self.dtype.type(1) if self._background else voxels.copy(order="F"))

    def _plane(self, data: bytes) -> NDArray[Any]:
        return np.frombuffer(data, self.dtype).reshape(self.shape[:2], order="F")

    def _add(self, found: NDArray[Any], channel: NDArray[Any], number: int) -> None:
        marked = channel == 1
        if np.any(~marked & (channel != 0)):
            other = channel[~marked & (channel != 0)].flat[0]
            raise ImageReadError(
                Reason.LABELS_NOT_WHOLE, f"channel {number + 1} has the value {other}; 0 and 1 are expected"
            )
        if both := int(np.count_nonzero(marked & (found != 0))):
            raise ImageReadError(
                Reason.SEGMENTS_OVERLAP,
                f"{both} voxels of one slice are of channel {number + 1} and of an earlier one",
            )
        found[marked] = number + 1

    def _check_background(self, missing: int) -> None:
        if self._background and missing:
            raise ImageReadError(
                Reason.LABELS_WITH_CHANNELS,
                f"{missing} voxels have no channel, so that the first is not the background: set `channels: "
                "one_hot`",
            )
        if not self._background and not missing:
            raise ImageReadError(
                Reason.LABELS_WITH_CHANNELS,
                "every voxel has a channel, so one must be the background: where it is the first, set "
                "`channels: one_hot_with_background`",
            )

    def source_digest(self) -> str:
        """That of the image."""
        return self._source.source_digest()
