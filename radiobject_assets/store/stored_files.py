"""The bytes of an array's files: read where a tile index says that the blocks are."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from radiobject_assets.store.s3_objects import S3Objects
from radiobject_assets.store.tile_index import DamagedError, DataFile
from radiobject_assets.store.uris import join


@dataclass(frozen=True)
class ByteCounts:
    """What was read past TileDB so far, by this process."""

    reads: int = 0
    """Reads of files, or requests."""
    stored_bytes: int = 0
    decoded_bytes: int = 0


class _Counter:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = ByteCounts()

    def add(self, reads: int = 0, stored_bytes: int = 0, decoded_bytes: int = 0) -> None:
        with self._lock:
            now = self._counts
            self._counts = ByteCounts(
                now.reads + reads, now.stored_bytes + stored_bytes, now.decoded_bytes + decoded_bytes
            )

    @property
    def counts(self) -> ByteCounts:
        return self._counts

    def after_fork(self) -> None:
        self._lock = threading.Lock()


COUNTER = _Counter()

# Descriptors that one array holds. Large volumes written with little memory have dozens of files, and a
# process may often open no more than 1024.
MAX_KEPT_OPEN = 2

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=COUNTER.after_fork)


class LocalFiles:
    """Data files on a disk; the first that are read stay open as long as this object. Thread-safe."""

    def __init__(self, folder: Path, files: Sequence[DataFile]) -> None:
        self._folder = folder
        self._files = files
        self._lock = threading.Lock()
        self._open: dict[int, int] = {}

    def read(self, file: int, offset: int, nbytes: int) -> memoryview:
        """Bytes [offset, offset + nbytes) of a file.

        Raises
        ------
        DamagedError
            If the file ends before.
        """
        descriptor = self._open.get(file)
        if descriptor is None:
            descriptor = self._kept_open(file)
        if descriptor is None:
            descriptor = self._opened(file)
            try:
                content = os.pread(descriptor, nbytes, offset)
            finally:
                os.close(descriptor)
        else:
            content = os.pread(descriptor, nbytes, offset)
        COUNTER.add(reads=1, stored_bytes=len(content))
        if len(content) != nbytes:
            raise DamagedError(
                f"{self._files[file].name} is shorter than it was written (checksum impossible)"
            )
        return memoryview(content)

    def _kept_open(self, file: int) -> int | None:
        with self._lock:
            if file not in self._open and len(self._open) < MAX_KEPT_OPEN:
                self._open[file] = self._opened(file)
            return self._open.get(file)

    def _opened(self, file: int) -> int:
        return os.open(self._folder / self._files[file].name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)


class S3Files:
    """Data files on S3, read by ranges. Thread-safe."""

    def __init__(self, uri: str, files: Sequence[DataFile], objects: S3Objects) -> None:
        self._uri = uri
        self._files = files
        self._objects = objects
        self.parallel = objects.parallel
        """Reads that may be under way together."""

    def read(self, file: int, offset: int, nbytes: int) -> memoryview:
        """Bytes [offset, offset + nbytes) of a file.

        Raises
        ------
        DamagedError
            If the file ends before.
        OSError
            If S3 does not give it.
        """
        content = self._objects.read(join(self._uri, self._files[file].name), offset, nbytes)
        COUNTER.add(reads=1, stored_bytes=len(content))
        if len(content) != nbytes:
            raise DamagedError(f"{self._files[file].name} is shorter than it was written")
        return memoryview(content)
