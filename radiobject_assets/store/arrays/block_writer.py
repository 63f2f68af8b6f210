"""The voxels of a new array, written as one fragment of TileDB's format, chunk by chunk.

TileDB's own writer goes over the voxels a dozen times, mostly outside a core's cache, and took two thirds of
an ingest; here every tile is made in one pass (`blocks.encoding`), and the file is on its way to the disk
while the next tiles are made. The fragment appears with its commit file, after all else is on the disk.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ShapeError
from radiobject_assets.store.arrays.array_files import GrowingFile, put_file
from radiobject_assets.store.arrays.voxels import Chunk
from radiobject_assets.store.blocks.encoding import EncodedTile, TileEncoder
from radiobject_assets.store.blocks.fragment import METADATA_FILE, DenseFragment
from radiobject_assets.store.blocks.index import DATA_FILE, DataFile, TileIndex
from radiobject_assets.store.blocks.tile_layout import FORMAT_VERSION, TileLayout
from radiobject_assets.store.storage.uris import new_token

# Tiles that a thread makes before the next thread may have the interpreter's lock.
_BATCH_BYTES = 1024 * 1024


class BlockWriter:
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

    def __init__(self, folder: Path, layout: TileLayout, level: int, threads: int) -> None:
        (self._schema,) = (p.name for p in (folder / "__schema").iterdir() if p.is_file())
        self._folder = folder
        self._layout = layout
        self._encoder = TileEncoder(layout, level)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        moment = time.time_ns() // 1_000_000
        self._name = f"__{moment}_{moment}_{new_token()}_{FORMAT_VERSION}"
        self._data = DATA_FILE.format(self._name)
        self._file = GrowingFile(folder / self._data)
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
        self._file.close()

    def write(self, chunk: Chunk) -> None:
        """Write the next chunk; see `VoxelWriter`."""
        shared = chunk.voxels.view(self._layout.dtype)
        tile_bytes = self._layout.tile_cells * self._layout.itemsize
        together = max(1, _BATCH_BYTES // tile_bytes)
        tiles = list(self._encoder.tiles(shared.shape))
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
        begin = self._file.nbytes
        for tile in tiles:
            self._tiles.append(begin)
            self._lows.append(tile.low)
            self._highs.append(tile.high)
            self._totals.append(tile.total)
            self._offsets += (begin + place for place in tile.begins)
            self._sizes += tile.sizes
            self._checksums += tile.checksums
            begin += len(tile.content)
        self._file.append([tile.content for tile in tiles])

    def finish(self) -> TileIndex:
        """Complete the fragment, on the disk, and let it appear; see `VoxelWriter`."""
        expected = math.prod(self._layout.grid)
        if len(self._tiles) != expected:
            raise ShapeError(f"{len(self._tiles)} tiles were written of an array of {expected}")
        self._file.flush()
        fragment = DenseFragment(
            self._schema,
            self._layout.shape,
            self._layout.tile_cells,
            np.dtype(self._layout.dtype),
            self._file.nbytes,
            self._tiles,
            self._lows,
            self._highs,
            self._totals,
        )
        put_file((self._folder / self._data).with_name(METADATA_FILE), fragment.encode())
        self._file.on_disk()
        put_file(self._folder / "__commits" / f"{self._name}.wrt", b"")
        return TileIndex(
            self._layout,
            (DataFile(self._data, self._file.nbytes, len(self._offsets)),),
            np.array(self._offsets, np.uint64),
            np.array(self._sizes, np.uint32),
            np.array(self._checksums, np.uint64),
        )
