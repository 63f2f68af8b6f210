"""The image source of a DICOM series: planes decoded in volume order, slab by slab."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.mosaic import tile_of
from radiobject_assets.imaging.dicom.reversed_rows import TURNED, turns_rows
from radiobject_assets.imaging.dicom.values import stored_dtype, value_range
from radiobject_assets.imaging.pixels.acceptance import is_colour
from radiobject_assets.imaging.pixels.coded_frames import NATIVE_CODECS
from radiobject_assets.imaging.pixels.decoders import Decoders
from radiobject_assets.imaging.pixels.pixel_data import PixelFile, clear_overflow_bits
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.source import AttributeValue, Slab

_MAX_OPEN_FILES = 256
# Small files are read and hashed this many ahead, in a thread, while planes are put in their place.
_FILES_AHEAD = 4
_SMALL_FILE_BYTES = 8 << 20
# Frames that are with decoders at once, so that none of them waits while a slab is put together.
_FRAMES_FOR_EACH_DECODER = 8
_BYTES_BEING_DECODED = 32 << 20


class DicomSource:
    """Voxels of an ingestable DICOM image series (`source.ImageSource`).

    Parameters
    ----------
    decoders
        Who decodes the frames of C codecs; None: this thread does, and one that crashes ends the process.
    """

    def __init__(self, series: Series, decoders: Decoders | None = None) -> None:
        if series.shape is None or series.affine is None or series.dtype is None:
            raise ValueError(f"series is {series.verdict}, it has no volume to read")
        self._instances = series.instances
        self._planes = series.planes
        self.shape: tuple[int, ...] = series.shape
        self.dtype: np.dtype[Any] = series.dtype
        self.affine: NDArray[np.float64] = series.affine
        self.slope = 1.0 if series.slope is None else series.slope
        self.intercept = 0.0 if series.intercept is None else series.intercept
        self.attributes: Mapping[str, AttributeValue] = series.attributes
        frames = [self._instances[i].frames[f] for i, f in self._planes]
        self._frames = frames
        self._per_slice = value_range([self._instances[i] for i, _ in self._planes], frames).per_slice
        self._components = 3 if is_colour(self._instances[0]) else 1
        self._digests: dict[int, bytes] = {}
        self._left: dict[int, int] = {}
        self._open: OrderedDict[int, PixelFile] = OrderedDict()
        self._to_come: deque[int] = deque()
        self._coming: dict[int, Future[PixelFile]] = {}
        self._reader: ThreadPoolExecutor | None = None
        self._last: tuple[int, int, NDArray[Any]] | None = None
        self._decoders = decoders
        self._to_decode: deque[tuple[int, int]] = deque()
        self._decoding: deque[Future[NDArray[Any]]] = deque()

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`. Files stay open only while planes of theirs are still to come."""
        if depth < 1:
            raise ValueError(f"depth is {depth}, use 1 or more")
        columns, rows, n_slices = self.shape[:3]
        n_times = self.shape[3] if len(self.shape) > 3 else 1
        self._left = dict.fromkeys(range(len(self._instances)), 0)
        for number, _ in self._planes:
            self._left[number] += self._components
        if self._decoders is not None:
            self._to_decode = deque(self._compressed_frames(n_times * n_slices))
        small = all(
            i.size_bytes <= _SMALL_FILE_BYTES and i.transfer_syntax not in NATIVE_CODECS
            for i in self._instances
        )
        if small and len(self._instances) > _FILES_AHEAD:
            self._to_come = deque(dict.fromkeys(number for number, _ in self._planes))
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="dicom-reader")
        try:
            for t in range(n_times):
                for z in range(0, n_slices, depth):
                    thick = min(depth, n_slices - z)
                    voxels = np.empty((thick, rows, columns), self.dtype)
                    for k in range(thick):
                        if self._components > 1:
                            self._read_plane(z + k, voxels[k], component=t)
                        else:
                            self._read_plane(t * n_slices + z + k, voxels[k])
                    yield Slab(z, t, voxels.transpose(2, 1, 0))
        finally:
            self._to_decode.clear()
            for decoding in self._decoding:
                decoding.cancel()
            self._decoding.clear()
            self._stop_reading_ahead()
            for file in self._open.values():
                file.close()
            self._open.clear()
            self._last = None

    def _read_ahead(self) -> None:
        while self._reader is not None and self._to_come and len(self._coming) < _FILES_AHEAD:
            number = self._to_come.popleft()
            if number not in self._open and self._left[number]:
                hashing = number not in self._digests
                self._coming[number] = self._reader.submit(
                    PixelFile, self._instances[number], hashing=hashing
                )

    def _stop_reading_ahead(self) -> None:
        if self._reader is not None:
            self._reader.shutdown(wait=True, cancel_futures=True)
            self._reader = None
        for future in self._coming.values():
            if not future.cancelled() and future.exception() is None:
                future.result().close()
        self._coming.clear()
        self._to_come.clear()

    def _read_plane(self, plane: int, target: NDArray[Any], component: int = 0) -> None:
        number, index = self._planes[plane]
        instance = self._instances[number]
        frame_index = 0 if instance.tiles else index
        if self._last is not None and self._last[:2] == (number, frame_index):
            stored = self._last[2]
        else:
            stored = self._stored(number, frame_index)
            self._last = (number, frame_index, stored) if instance.tiles else None
        if instance.tiles:
            stored = tile_of(stored, instance, index)
        if self._components > 1:
            stored = stored[..., component]
        if self._frames[plane].rows_reversed:
            stored = stored[::-1]
        if self._per_slice:
            values = stored.astype(stored_dtype(instance))
            clear_overflow_bits(values, instance)
            frame = self._frames[plane]
            target[...] = values.astype(np.float64) * frame.slope + frame.intercept
        elif stored_dtype(instance) == target.dtype:
            target[...] = stored
            clear_overflow_bits(target, instance)
        else:  # a slice of fewer bits than others: its sign is where its own type has it
            values = stored.astype(stored_dtype(instance))
            clear_overflow_bits(values, instance)
            target[...] = values
        self._left[number] -= 1
        if self._left[number] == 0:
            self._file(number).check_unchanged()
            self._close(number)

    def _compressed_frames(self, n_planes: int) -> Iterator[tuple[int, int]]:
        """File and frame of each frame that `_read_plane` will ask for, in that order."""
        last: tuple[int, int] | None = None
        planes = self._planes[:n_planes] if self._components == 1 else self._planes * self._components
        for number, index in planes:
            instance = self._instances[number]
            frame = number, 0 if instance.tiles else index
            if instance.transfer_syntax in NATIVE_CODECS and not (instance.tiles and frame == last):
                yield frame
            last = frame

    def _stored(self, number: int, index: int) -> NDArray[Any]:
        if self._decoders is None or self._instances[number].transfer_syntax not in NATIVE_CODECS:
            return self._file(number).frame(index)
        self._decode_ahead(self._decoders)
        try:
            decoded = self._decoding.popleft().result()
        except ImageReadError as error:
            raise ImageReadError(error.code, error.detail, self._instances[number].path) from error
        self._decode_ahead(self._decoders)
        return self._file(number).frame(index, decoded)

    def _decode_ahead(self, decoders: Decoders) -> None:
        i = self._instances[0]
        fitting = _BYTES_BEING_DECODED // max(1, i.rows * i.columns * i.samples * i.bits_allocated // 8)
        most = max(1, min(decoders.workers * _FRAMES_FOR_EACH_DECODER, fitting, _MAX_OPEN_FILES // 2))
        while self._to_decode and len(self._decoding) < most:
            number, index = self._to_decode.popleft()
            self._decoding.append(decoders.submit(self._file(number).coded(index)))

    def _file(self, number: int) -> PixelFile:
        file = self._open.get(number)
        if file is None:
            while len(self._open) >= _MAX_OPEN_FILES:
                self._close(next(iter(self._open)))
            coming = self._coming.pop(number, None)
            if coming is not None:
                file = coming.result()
            else:
                file = PixelFile(self._instances[number], hashing=number not in self._digests)
            if file.digest:
                self._digests[number] = file.digest
            self._open[number] = file
            self._read_ahead()
        self._open.move_to_end(number)
        return file

    def _close(self, number: int) -> None:
        file = self._open.pop(number, None)
        if file is not None:
            file.close()

    def source_digest(self) -> str:
        """blake3 over the digests of the files, in volume order; valid once `slabs` was exhausted."""
        if len(self._digests) < len(self._instances):
            raise ImageReadError(
                Reason.FILE_CHANGED, "not every file has been read yet: exhaust slabs() first"
            )
        hasher = blake3()
        for number in range(len(self._instances)):
            hasher.update(self._digests[number])
        if turns_rows(self._instances):
            hasher.update(TURNED)
        return hasher.hexdigest()
