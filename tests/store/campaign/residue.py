"""What is left of erased subjects in the files of a store, whatever their format.

Every file is searched as it is, and again after everything in it that can be unpacked was unpacked: Parquet
(each column), zstd frames and gzip or zlib streams wherever they begin, bytes that were shuffled, and arrays
that TileDB opens (voxels and metadata).
"""

from __future__ import annotations

import contextlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tiledb
import zstandard

_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_MOST = 1 << 26


def find(files: Iterable[tuple[str, bytes]], needles: Iterable[bytes]) -> dict[str, list[bytes]]:
    """By file: the needles that are in it, packed or not."""
    wanted = _spelled(needles)
    found: dict[str, list[bytes]] = {}
    for name, content in files:
        for text in _unpacked(content):
            there = [original for spelling, original in wanted.items() if spelling in text]
            if there:
                found.setdefault(name, []).extend(sorted(set(there)))
    return found


def _spelled(needles: Iterable[bytes]) -> dict[bytes, bytes]:
    """Each needle as it is, as JSON escapes it, and in hexadecimal."""
    spelled = {}
    for needle in needles:
        spelled[needle] = needle
        spelled[needle.hex().encode()] = needle
        with contextlib.suppress(UnicodeDecodeError):
            spelled[json.dumps(needle.decode())[1:-1].encode()] = needle
    return spelled


def local_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder; its name counts as content too."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), str(path.relative_to(folder)).encode() + b"\n" + path.read_bytes()


def local_arrays(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What TileDB gives back of every array below a folder that it can open: metadata and cells."""
    for schema in sorted(folder.rglob("__schema")):
        with (
            contextlib.suppress(tiledb.TileDBError, ValueError, KeyError),
            tiledb.open(str(schema.parent)) as array,
        ):
            parts = [repr(dict(array.meta)).encode()]
            if not array.schema.sparse and int(np.prod(array.shape)) < _MOST:
                cells = array[:]
                cells = cells if isinstance(cells, dict) else {"": cells}
                parts += [np.asarray(column).tobytes(order="F") for column in cells.values()]
            elif array.schema.sparse:
                parts += [repr(np.asarray(column).tolist()).encode() for column in array[:].values()]
            yield str(schema.parent), b"\n".join(parts)


def _unpacked(content: bytes) -> Iterator[bytes]:
    yield content
    if content.endswith(b"PAR1"):
        yield from _parquet(content[content.index(b"PAR1") :])
    for start in _places(content, _ZSTD):
        with contextlib.suppress(zstandard.ZstdError, MemoryError):
            yield from _shuffled(zstandard.ZstdDecompressor().decompressobj().decompress(content[start:]))
    for magic in (_GZIP, *_ZLIB):
        for start in _places(content, magic):
            with contextlib.suppress(zlib.error):
                yield from _shuffled(zlib.decompressobj(47).decompress(content[start:], _MOST))


def _places(content: bytes, magic: bytes) -> Iterator[int]:
    start = content.find(magic)
    while start >= 0:
        yield start
        start = content.find(magic, start + 1)


def _shuffled(block: bytes) -> Iterator[bytes]:
    """A block, and as it was before its bytes were shuffled by the usual widths."""
    yield block
    raw = np.frombuffer(block, np.uint8)
    for width in (2, 4, 8):
        whole = len(raw) // width * width
        yield raw[:whole].reshape(width, -1).T.tobytes()


def _parquet(content: bytes) -> Iterator[bytes]:
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        yield repr(file.metadata.metadata).encode()
        for row in file.read().to_pylist():
            yield "\n".join(f"{name}\t{value}" for name, value in row.items()).encode()
            yield b"\n".join(value for value in row.values() if isinstance(value, bytes))
    except Exception:  # noqa: BLE001 - what is no Parquet was searched as bytes
        return
