"""The voxels of a new array, written as one fragment of TileDB's format, chunk by chunk.

TileDB's own writer goes over the voxels a dozen times, mostly outside a core's cache, and took two thirds of
an ingest; here every tile is made in one pass (`tile_encoder`), and the file is on its way to the disk while
the next tiles are made. The fragment appears with its commit file, after all else is on the disk.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ShapeError
from radiobject_assets.store.disk import write_all, write_through
from radiobject_assets.store.fragment_metadata import FORMAT_VERSION, METADATA_FILE, DenseFragment
from radiobject_assets.store.log.log import now_ms
from radiobject_assets.store.tile_encoder import EncodedTile, TileEncoder
from radiobject_assets.store.tile_index import DATA_FILE, DataFile, Layout, TileIndex
from radiobject_assets.store.uris import new_token

# Tiles that a thread makes before the next thread may have the interpreter's lock.
_BATCH_BYTES = 1024 * 1024
# What is handed to the disk at once, while other tiles are being made.
_FLUSH_BYTES = 8 * 1024 * 1024


class FragmentWriter:
    """Writes all voxels of an array that was just created on a local disk.

    Parameters
    ----------
    folder
        Of the array; its schema is there and no fragment.
    layout
        Of the array, as its schema has it; the dtype carries the voxels.
    level
        Of the compressor.
    threads
        That make tiles beside the caller's, which writes them.
    """

    def __init__(self, folder: Path, layout: Layout, level: int, threads: int) -> None:
        (self._schema,) = (p.name for p in (folder / "__schema").iterdir() if p.is_file())
        self._folder = folder
        self._layout = layout
        self._encoder = TileEncoder(layout, level)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="flush")
        moment = now_ms()
        self._name = f"__{moment}_{moment}_{new_token()}_{FORMAT_VERSION}"
        data = folder / DATA_FILE.format(self._name)
        data.parent.mkdir(parents=True)
        self._file = data.open("wb", buffering=0)
        self._nbytes = self._flushed = 0
        self._flushing: Future[None] | None = None
        self._tiles: list[int] = []
        self._lows: list[Any] = []
        self._highs: list[Any] = []
        self._totals: list[int | float] = []
        self._offsets: list[int] = []
        self._sizes: list[int] = []
        self._checksums: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._disk.shutdown(wait=True, cancel_futures=True)
        self._file.close()

    def write(self, voxels: NDArray[Any]) -> None:
        """Write the next chunk: whole layers of tiles (X, Y, depth[, T]) in the order of storage.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        shared = voxels.view(self._layout.dtype)
        tile_bytes = self._layout.tile_cells * self._layout.itemsize
        together = max(1, _BATCH_BYTES // tile_bytes)
        tiles = list(self._encoder.tiles(voxels.shape))
        waiting: deque[Future[list[EncodedTile]]] = deque()
        for first in range(0, len(tiles), together):
            waiting.append(self._pool.submit(self._encode, shared, tiles[first : first + together]))
            while len(waiting) > 2 * self._threads:
                self._take(waiting.popleft().result())
        while waiting:
            self._take(waiting.popleft().result())

    def _encode(self, voxels: NDArray[Any], places: Sequence[tuple[slice, ...]]) -> list[EncodedTile]:
        return [self._encoder.encode(voxels[place]) for place in places]

    def _take(self, tiles: Sequence[EncodedTile]) -> None:
        for tile in tiles:
            self._tiles.append(self._nbytes)
            self._lows.append(tile.low)
            self._highs.append(tile.high)
            self._totals.append(tile.total)
            self._offsets += (self._nbytes + begin for begin in tile.begins)
            self._sizes += tile.sizes
            self._checksums += tile.checksums
            self._nbytes += len(tile.content)
        write_all(self._file.fileno(), [tile.content for tile in tiles])
        if self._nbytes - self._flushed >= _FLUSH_BYTES and (not self._flushing or self._flushing.done()):
            self._flush()

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.result()
        self._flushed = self._nbytes
        self._flushing = self._disk.submit(os.fdatasync, self._file.fileno())

    def finish(self) -> TileIndex:
        """Complete the fragment, on the disk, and let it appear; its tile index.

        Raises
        ------
        OSError
            If the disk does not take it.
        ShapeError
            If what was written are not the array's tiles.
        """
        expected = math.prod(self._layout.grid)
        if len(self._tiles) != expected:
            raise ShapeError(f"{len(self._tiles)} tiles were written of an array of {expected}")
        self._flush()
        fragment = DenseFragment(
            self._schema,
            self._layout.shape,
            self._layout.tile_cells,
            np.dtype(self._layout.dtype),
            self._nbytes,
            self._tiles,
            self._lows,
            self._highs,
            self._totals,
        )
        name = DATA_FILE.format(self._name)
        write_through(self._folder / Path(name).with_name(METADATA_FILE), fragment.encode())
        if self._flushing is not None:
            self._flushing.result()
        commits = self._folder / "__commits"
        commits.mkdir(exist_ok=True)
        write_through(commits / f"{self._name}.wrt", b"")
        return TileIndex(
            self._layout,
            (DataFile(name, self._nbytes, len(self._offsets)),),
            np.array(self._offsets, np.uint64),
            np.array(self._sizes, np.uint32),
            np.array(self._checksums, np.uint64),
        )
