"""A few rows of a table as the files of one TileDB fragment (format 22), byte for byte as TileDB makes them.

TileDB spends most of a small commit on handing 60-byte tables from one of its threads to another: 20 ms for a
row of 55 columns. Only rows that fill one tile and one block of each buffer are made here, for tables whose
schema is as `create_table` makes it; whatever else is left to TileDB. The layout is that of TileDB's
published format specification ("Fragment", "Tile", "Generic Tile").
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import tiledb
from zstandard import ZstdCompressor

from radiobject_assets.store.blocks.fragment import (
    FANOUT,
    METADATA_FILE,
    counted,
    generic_tile,
    sized,
)
from radiobject_assets.store.blocks.layout import FORMAT_VERSION
from radiobject_assets.store.checksums import note_checksum
from radiobject_assets.store.columns import Column, ColumnType
from radiobject_assets.store.disk import write_all
from radiobject_assets.store.scratch import scratch
from radiobject_assets.store.table_cells import Cells, cells_of, text_cells
from radiobject_assets.store.uris import new_token

# TileDB cuts a buffer of more than 65,536 bytes into several blocks.
_MOST_BYTES = 60_000
_MOST_ROWS = 1_000
# Threads that wait for the disk.
_WAITING = 4
# Files that are open at once: some systems allow a process 256.
_MOST_OPEN = 128
_TEXT = "text"
_NONE = counted(np.zeros(1, np.uint64))
_EMPTY = counted(np.empty(0, np.uint64))
_COORDINATES = struct.pack("<QBQBQQ", 1, 0, 1, 0, 0, 0)


@dataclass(frozen=True)
class TableSchema:
    """A schema whose fragments can be made here."""

    keys: tuple[str, ...]
    attributes: tuple[tuple[str, str, bool], ...]
    """Name, type on the disk, and whether values may be missing; in the schema's order."""
    level: int
    """Of the compressor, for every buffer."""


_known: dict[bytes, TableSchema | None] = {}


def schema_of(content: bytes, name: str, ctx: tiledb.Ctx) -> TableSchema | None:
    """What a schema file with this content says; None where it is not as `create_table` makes it."""
    if content not in _known:
        if len(_known) > 1_000:
            _known.clear()
        _known[content] = _read(content, name, ctx)
    return _known[content]


def _read(content: bytes, name: str, ctx: tiledb.Ctx) -> TableSchema | None:
    with scratch() as folder:
        Path(folder, "__schema").mkdir()
        Path(folder, "__schema", name).write_bytes(content)
        schema = tiledb.ArraySchema.load(str(folder), ctx=ctx)
    domain = schema.domain
    dims = [domain.dim(i) for i in range(domain.ndim)]
    attributes = [schema.attr(i) for i in range(schema.nattr)]
    filters = [schema.offsets_filters, schema.validity_filters]
    filters += [field.filters for field in (*dims, *attributes)]
    levels = {_level(each) for each in filters}
    usual = (
        schema.sparse
        and schema.version == FORMAT_VERSION
        and not schema.allows_duplicates
        and schema.cell_order == "row-major"
        and schema.capacity >= _MOST_ROWS
        and all(dim.dtype == np.dtype(np.bytes_) for dim in dims)
        and all(attribute.enum_label is None for attribute in attributes)
    )
    (level, *others) = levels
    if not usual or others or level is None:
        return None
    told = tuple((each.name, _type_of(each), bool(each.isnullable)) for each in attributes)
    return TableSchema(tuple(dim.name for dim in dims), told, level)


def _type_of(attribute: tiledb.Attr) -> str:
    if attribute.isvar:
        return _TEXT if attribute.dtype.kind == "U" else "other values of any size"
    return str(attribute.dtype.name) if attribute.ncells == 1 else "several values"


def _level(filters: tiledb.FilterList) -> int | None:
    """The level of zstd where a pipeline is that and SHA-256."""
    if [type(each) for each in filters] != [tiledb.ZstdFilter, tiledb.ChecksumSHA256Filter]:
        return None
    return int(filters[0].level)


def encode_rows(
    rows: pa.Table, written: Sequence[Column], physical: Sequence[Column], schema: TableSchema, name: str
) -> dict[str, bytes] | None:
    """The files of a fragment with these rows, the metadata last; None where TileDB must make it.

    Parameters
    ----------
    written
        Columns of `rows` beside the keys; of `physical` (the schema's) all others are null.
    name
        Of the schema's file.

    Raises
    ------
    SchemaError
        If a value is missing that must not be.
    """
    if not 0 < rows.num_rows <= _MOST_ROWS:
        return None
    keys = list(zip(*(_as_bytes(rows.column(key)) for key in schema.keys), strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    if len(set(keys)) < len(keys):
        return None  # TileDB says what is wrong with it
    if not all(part.isascii() for key in keys for part in key):
        return None  # TileDB's order of other bytes is that of signed numbers, and not everywhere
    if order != list(range(len(keys))):
        rows = rows.take(pa.array(order))
        keys = [keys[row] for row in order]
    given = {column.attribute for column in written}
    fields = [
        cells_of(column, rows.column(column.name) if column.attribute in given else None, rows.num_rows)
        for column in physical
    ]
    dims = [text_cells(key, rows.column(key), nullable=False) for key in schema.keys]
    for cells in (*fields, *dims):
        if max(cells.nbytes, 8 * rows.num_rows) > _MOST_BYTES:
            return None
        if not _summable(cells):
            return None
    corners = [(min(part), max(part)) for part in zip(*keys, strict=True)]
    return _files(fields, dims, corners, rows.num_rows, schema.level, name)


def _summable(cells: Cells) -> bool:
    """Whether smallest, largest and sum are plain numbers: TileDB has rules of its own for others."""
    if cells.offsets is not None:
        return True
    # Twice as much as is needed, since also what stands where there is no value is added.
    return bool(
        np.abs(cells.data.astype(np.float64)).sum() < (2.0**62 if cells.data.dtype.kind != "f" else np.inf)
    )


def _as_bytes(column: pa.ChunkedArray) -> list[bytes]:
    found: list[bytes] = column.cast(pa.large_binary()).to_pylist()
    return found


def _files(
    fields: Sequence[Cells],
    dims: Sequence[Cells],
    corners: Sequence[tuple[bytes, bytes]],
    count: int,
    level: int,
    schema: str,
) -> dict[str, bytes]:
    compressor = ZstdCompressor(level=level)
    files: dict[str, bytes] = {}
    sizes: list[list[int]] = [[], [], []]  # of data (or offsets), of variable data, of validity
    named: list[tuple[str, Cells | None]] = [(f"a{i}", cells) for i, cells in enumerate(fields)]
    named += [("", None), *((f"d{i}", cells) for i, cells in enumerate(dims))]  # between them, coordinates
    for field, cells in named:
        parts = ("", None), ("_var", None), ("_validity", None)
        if cells is not None:
            text = cells.offsets is not None
            parts = (
                ("", cells.offsets if text else cells.data),
                ("_var", cells.data[: cells.nbytes] if text else None),
                ("_validity", cells.valid),
            )
        for (suffix, values), kind in zip(parts, sizes, strict=True):
            content = b"" if values is None else _tile(values.tobytes(), compressor)
            kind.append(len(content))
            if values is not None:
                files[f"{field}{suffix}.tdb"] = content
    files[METADATA_FILE] = _metadata(fields, dims, corners, count, sizes, schema)
    return files


def _tile(plain: bytes, compressor: ZstdCompressor) -> bytes:
    """A tile of one block: compressed, with the checksums of what was made."""
    packed = compressor.compress(plain)
    parts = struct.pack("<IIII", 0, 1, len(plain), len(packed))
    sums = struct.pack("<IIQ", 1, 1, len(parts)) + hashlib.sha256(parts).digest()
    sums += struct.pack("<Q", len(packed)) + hashlib.sha256(packed).digest()
    notes = sums + parts
    return struct.pack("<QIII", 1, len(plain), len(packed), len(notes)) + notes + packed


def _metadata(
    fields: Sequence[Cells],
    dims: Sequence[Cells],
    corners: Sequence[tuple[bytes, bytes]],
    count: int,
    sizes: Sequence[Sequence[int]],
    schema: str,
) -> bytes:
    others = len(dims) + 1  # coordinates, and each dimension
    domain = b"".join(
        struct.pack("<QQ", len(low) + len(high), len(low)) + low + high for low, high in corners
    )
    told = [_Statistics.of(cells) for cells in fields]
    no_coordinates = sized(bytes(len(dims)))
    unused = [sized(b"")] * len(dims)
    lengths = [struct.pack("<QQ", 1, 0 if c.offsets is None else c.nbytes) for c in fields]
    lengths += [_NONE, *(struct.pack("<QQ", 1, cells.nbytes) for cells in dims)]
    nulls = [
        _EMPTY if cells.valid is None else struct.pack("<QQ", 1, each.nulls)
        for cells, each in zip(fields, told, strict=True)
    ]
    tables = [
        struct.pack("<IIQ", FANOUT, 1, 1) + domain,
        *[_NONE] * (2 * (len(fields) + others)),  # where tiles begin: all at 0
        *lengths,
        *[_NONE] * (len(fields) + others),
        *(sized(each.low) for each in told), no_coordinates, *unused,
        *(sized(each.high) for each in told), no_coordinates, *unused,
        *(_EMPTY if each.total is None else struct.pack("<Q", 1) + each.total for each in told),
        *[_EMPTY] * others,
        *nulls,
        *[_EMPTY] * others,
        b"".join(each.whole() for each in told) + _COORDINATES + bytes(32) * len(dims),
        _EMPTY,  # conditions that were applied
    ]  # fmt: skip
    content, places = bytearray(), []
    made: dict[bytes, bytes] = {}
    for table in tables:
        places.append(len(content))
        if table not in made:
            made[table] = generic_tile(table)
        content += made[table]
    flat = [size for kind in sizes for size in kind]
    footer = b"".join(
        (
            struct.pack("<IQ", FORMAT_VERSION, len(schema)),
            schema.encode(),
            struct.pack("<BB", 0, 0),  # sparse, and not empty
            domain,
            struct.pack("<QQBB", 1, count, 0, 0),
            struct.pack(f"<{len(flat)}Q", *flat),
            struct.pack(f"<{len(places)}Q", *places),
        )
    )
    return bytes(content) + footer + struct.pack("<Q", len(footer))


@dataclass(frozen=True)
class _Statistics:
    """What TileDB answers aggregates from: of numbers alone."""

    low: bytes
    high: bytes
    total: bytes | None
    nulls: int
    extremes: tuple[bytes, bytes]
    """Smallest and largest of the whole fragment: those of its tile, but where it has no value."""

    @classmethod
    def of(cls, cells: Cells) -> _Statistics:
        if cells.offsets is not None:
            return cls(b"", b"", None, 0, (b"", b""))
        dtype = cells.data.dtype
        values = cells.data if cells.valid is None else cells.data[cells.valid != 0]
        nulls = cells.data.size - values.size
        if not values.size:
            limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
            none = dtype.type(limits.max).tobytes(), dtype.type(limits.min).tobytes()
            return cls(bytes(dtype.itemsize), bytes(dtype.itemsize), bytes(8), nulls, none)
        if dtype.kind == "f":
            total = struct.pack("<d", float(np.add.accumulate(values, dtype=np.float64)[-1]))
        elif dtype.kind == "u":
            total = struct.pack("<Q", min(sum(values.tolist()), 2**64 - 1))
        else:
            total = struct.pack("<q", max(-(2**63), min(sum(values.tolist()), 2**63 - 1)))
        low, high = values.min().tobytes(), values.max().tobytes()
        return cls(low, high, total, nulls, (low, high))

    def whole(self) -> bytes:
        """Smallest, largest, sum and number of nulls of the fragment, which is one tile."""
        size, (low, high) = struct.pack("<Q", len(self.low)), self.extremes
        return size + low + size + high + (self.total or bytes(8)) + struct.pack("<Q", self.nulls)


def write_fragment(folder: Path, files: Mapping[str, bytes], stamp: int) -> None:
    """Put a fragment into the table `folder`: it appears with its commit file, after all else is on the disk.

    Raises
    ------
    OSError
        If the disk does not take it; nothing of it remains.
    """
    name = f"__{stamp}_{stamp}_{new_token()}_{FORMAT_VERSION}"
    place, commit = folder / "__fragments" / name, folder / "__commits" / f"{name}.wrt"
    place.mkdir(parents=True)
    try:
        each = list(files.items())
        for first in range(0, len(each), _MOST_OPEN):
            with ExitStack() as opened:
                handles = []
                for file, content in each[first : first + _MOST_OPEN]:
                    made = opened.enter_context(open(place / file, "wb", buffering=0))
                    write_all(made.fileno(), [content])
                    handles.append(made.fileno())
                _to_disk(handles)
        note_checksum(folder, f"__fragments/{name}/{METADATA_FILE}", files[METADATA_FILE])
        with open(commit, "wb") as last:
            os.fsync(last.fileno())
    except BaseException:
        # A commit without its fragment makes the whole table unreadable: it goes first, or both stay.
        with contextlib.suppress(OSError):
            commit.unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
        raise


def _to_disk(files: Sequence[int]) -> None:
    """Wait until files are on the disk.

    Each is a wait of its own, behind the writes of others a long one. So all are on their way before one is
    waited for (half the time on an idle disk), and several are waited for at once (half on a busy one).
    """
    if hasattr(os, "posix_fadvise"):
        for file in files:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    threads = min(_WAITING, len(files) // 8)
    if threads < 2:
        _wait(files)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="fsync") as pool:
        for _ in pool.map(_wait, [files[start::threads] for start in range(threads)]):
            pass  # an error of any of them is raised


def _wait(files: Sequence[int]) -> None:
    for file in files:
        os.fsync(file)


def columns_alike(schema: TableSchema, physical: Sequence[Column]) -> bool:
    """Whether columns are those that a schema has, of these types and nullable where it says so."""
    return schema.attributes == tuple(
        (c.attribute, _TEXT if c.type is ColumnType.UTF8 else c.type.disk_dtype.name, c.nullable)
        for c in physical
    )
