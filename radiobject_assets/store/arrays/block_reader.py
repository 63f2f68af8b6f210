"""Regions read past TileDB: which blocks, their bytes, each compared with its checksum, decoded and placed.

    plan_region -> parts of the plan -> ArrayFiles.range -> check_block -> fill

The caller's thread and helpers share the parts of a region, since decoding holds no lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import StorageError
from radiobject_assets.store.arrays.array_files import ArrayFiles
from radiobject_assets.store.arrays.sharing import share
from radiobject_assets.store.blocks.decoding import TOGETHER, check_block, fill
from radiobject_assets.store.blocks.index import TileIndex
from radiobject_assets.store.blocks.regions import Plan, Region, plan_region
from radiobject_assets.store.blocks.tile_layout import DamagedBlockError
from radiobject_assets.store.storage.config import MB
from radiobject_assets.store.storage.errors import storage_errors
from radiobject_assets.store.storage.read_meter import METER

# On a disk a second read costs less than 16 KB more.
_LOCAL_GAP = 16 * 1024
# From S3, several parts of this size travel together faster than a longer one does.
_FAR_MOST = 16 * MB
# Boxes for which another thread is worth its waking up, about 50 us.
_LEAST = 4


@dataclass(frozen=True)
class Run:
    """Blocks whose stored bytes are read at once."""

    file: str
    offset: int
    nbytes: int
    boxes: range
    """Their boxes, as places in the plan."""


Visit = Callable[[range, Sequence[memoryview]], None]
"""Boxes of a plan, and the stored bytes of all blocks that they need."""


class BlockReader:
    """Reads an array that has a tile index. Thread-safe."""

    def __init__(self, index: TileIndex, files: ArrayFiles) -> None:
        self.index = index
        self.shape = index.layout.shape
        self.tile = index.layout.tile
        self.dtype = np.dtype(index.layout.dtype)
        self._bounds = np.cumsum([file.blocks for file in index.files])
        self._files = files
        settings: tiledb.Config = files.ctx.config()
        self._verify = settings["sm.skip_checksum_validation"] != "true"
        self._threads = int(settings["sm.compute_concurrency_level"])
        self._gap = int(settings["vfs.min_batch_gap"])
        self._small = int(settings["vfs.min_batch_size"])
        self._most = max(MB, min(_FAR_MOST, int(settings["sm.mem.total_budget"]) // 4 // files.parallel))

    def read(self, region: Region, out: NDArray[Any]) -> None:
        """Put the voxels of a region into `out`; see `VoxelReader`."""
        plan = self._plan(region)

        def decode(boxes: range, contents: Sequence[memoryview]) -> None:
            began = time.thread_time()
            fill(plan, out, boxes, contents)
            METER.add(decode_cpu_s=time.thread_time() - began)

        self._visit(plan, decode, self._verify)
        METER.add(decoded_bytes=sum(plan.sizes))

    def check(self, region: Region) -> None:
        """Compare the stored bytes of all blocks of a region with their checksums.

        Raises
        ------
        StorageError
            If storage fails, or what is stored was damaged.
        """
        self._visit(self._plan(region), lambda boxes, contents: None, verify=True)

    def sample(self, most: int) -> tuple[list[memoryview], list[int]]:
        """Stored bytes and plain sizes of up to so many blocks from the middle of the array.

        Raises
        ------
        StorageError, DamagedBlockError
            If storage fails, or a file ends before.
        """
        layout, index = self.index.layout, self.index
        count = min(most, len(index.offsets))
        first = (len(index.offsets) - count) // 2
        contents: list[memoryview] = []
        for block in range(first, first + count):
            name = index.files[int(np.searchsorted(self._bounds, block, side="right"))].name
            with storage_errors("read voxels of", self._files.uri, self._files.ctx):
                contents.append(self._files.range(name, int(index.offsets[block]), int(index.sizes[block])))
        cells = [layout.cells_of(block % layout.blocks_per_tile) for block in range(first, first + count)]
        return contents, [n * layout.itemsize for n in cells]

    def _plan(self, region: Region) -> Plan:
        if not region.within(self.shape):
            raise StorageError(
                f"cannot read voxels of {self._files.uri}: the array has the shape {self.shape}, "
                "which is not what was said of it"
            )
        return plan_region(self.index.layout, region)

    def _visit(self, plan: Plan, visit: Visit, verify: bool) -> None:
        """Hand all boxes of a plan to `visit`, part by part, on several threads."""
        files = self._files
        reading = self._from_disk if files.local else self._from_afar
        try:
            with storage_errors("read voxels of", files.uri, files.ctx):
                reading(plan, visit, verify)
        except DamagedBlockError as error:
            raise StorageError(f"cannot read voxels of {files.uri}: {error}") from error

    def _from_disk(self, plan: Plan, visit: Visit, verify: bool) -> None:
        """Each thread reads and decodes parts of the region."""

        def work(boxes: range) -> None:
            contents: list[memoryview] = []
            for run in self._runs(plan, boxes, _LOCAL_GAP, 0, self._most):
                stored = self._files.range(run.file, run.offset, run.nbytes)
                contents += self._blocks(plan, run.boxes, run, stored, verify)
            visit(boxes, contents)

        share(work, parts_of(plan, range(len(plan)), self._threads), self._threads)

    def _from_afar(self, plan: Plan, visit: Visit, verify: bool) -> None:
        """Few long reads, several under way together, at most a quarter of the budget in memory."""
        runs = list(self._runs(plan, range(len(plan)), self._gap, self._small, self._most))
        for first in range(0, len(runs), self._files.parallel):
            for name, group in groupby(runs[first : first + self._files.parallel], lambda run: run.file):
                together = list(group)
                contents = self._files.ranges(name, [(run.offset, run.nbytes) for run in together])
                for run, stored in zip(together, contents, strict=True):

                    def work(boxes: range, run: Run = run, stored: memoryview = stored) -> None:
                        visit(boxes, self._blocks(plan, boxes, run, stored, verify))

                    share(work, parts_of(plan, run.boxes, self._threads), self._threads)

    def _runs(self, plan: Plan, boxes: range, gap: int, small: int, most: int) -> Iterator[Run]:
        """Boxes joined into reads: over gaps of up to `gap` bytes, or while a read has up to `small` in all.

        No read of several boxes is longer than `most` bytes.
        """
        index = self.index
        firsts = np.array(plan.firsts[boxes.start : boxes.stop], np.int64)
        lasts = firsts + np.array(plan.counts[boxes.start : boxes.stop], np.int64) - 1
        files = np.searchsorted(self._bounds, firsts, side="right").tolist()
        begins = index.offsets[firsts].tolist()
        ends = (index.offsets[lasts] + index.sizes[lasts]).tolist()
        since = 0
        for i in range(1, len(begins) + 1):
            if i < len(begins) and files[i] == files[since]:
                reach = ends[i] - begins[since]
                if reach <= most and (begins[i] - ends[i - 1] <= gap or reach <= small):
                    continue
            of = range(boxes.start + since, boxes.start + i)
            yield Run(index.files[files[since]].name, begins[since], ends[i - 1] - begins[since], of)
            since = i

    def _blocks(
        self, plan: Plan, boxes: range, run: Run, stored: memoryview, verify: bool
    ) -> list[memoryview]:
        """The stored bytes of the blocks of some boxes of a run, compared with their checksums."""
        numbers = plan.firsts[boxes.start : boxes.stop]
        if plan.layout.blocks_per_box > 1:
            counts = plan.counts[boxes.start : boxes.stop]
            numbers = [first + i for first, n in zip(numbers, counts, strict=True) for i in range(n)]
        chosen = np.array(numbers, np.int64)
        offsets = (self.index.offsets[chosen] - np.uint64(run.offset)).tolist()
        sizes = self.index.sizes[chosen].tolist()
        blocks = [stored[at : at + size] for at, size in zip(offsets, sizes, strict=True)]
        if verify:
            began = time.thread_time()
            checksums = self.index.checksums[chosen].tolist()
            for number, block, checksum in zip(numbers, blocks, checksums, strict=True):
                check_block(number, block, checksum)
            METER.add(check_cpu_s=time.thread_time() - began)
        return blocks


def parts_of(plan: Plan, boxes: range, threads: int) -> list[range]:
    """Boxes in parts of `TOGETHER` blocks at most (a box has at least one part), equal for all threads."""
    each = max(1, TOGETHER // max(1, max(plan.counts[boxes.start : boxes.stop], default=1)))
    if len(boxes) < threads * _LEAST:
        threads = max(1, len(boxes) // _LEAST)
    count = -(-len(boxes) // each)
    count = -(-count // threads) * threads
    each = -(-len(boxes) // max(1, count))
    return [boxes[first : first + each] for first in range(0, len(boxes), each)]
