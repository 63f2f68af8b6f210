"""Segments: immutable Parquet files of rows, written once and checked whole whenever they are read.

Rows are sorted by key, each key once. A boolean column `_deleted` is there where a commit deleted rows: such
a row has its keys alone. Columns without any value are left out.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from radiobject_assets.errors import StorageError
from radiobject_assets.store.log.state import DamagedError, RowSegment, blake3_of
from radiobject_assets.store.storage import MissingError, Storage
from radiobject_assets.store.storage.uris import new_token
from radiobject_assets.system.processes import after_fork

DELETED = "_deleted"
SUFFIX = ".parquet"
_NAME = "radiobject_segment"
# Rows of the largest segment that is made of others: bounds the memory of who reads or merges them.
LARGEST = 65_536
_FEW = 200
_CACHE_BYTES = 64 * 1024 * 1024


class RemovedError(StorageError):
    """What a state names is gone since the state was read: erased from, or vacuumed; or it was lost."""


def segment_name(base: int) -> str:
    """A name for a new segment of a writer that began from the state `base`."""
    return f"{base:012d}-{new_token()}{SUFFIX}"


def is_segment(name: str) -> bool:
    """Whether a file of a table's folder is a segment."""
    base, _, token = name.removesuffix(SUFFIX).partition("-")
    return name.endswith(SUFFIX) and base.isdigit() and len(token) == 32


def write_segment(storage: Storage, table: str, rows: pa.Table, base: int) -> RowSegment:
    """Write rows, sorted by key, as a new segment in the folder of a table; nothing names it yet.

    Parameters
    ----------
    rows
        Keys, other columns, and `_deleted` where some rows are deletions.
    """
    empty = [name for name in rows.column_names if rows.column(name).null_count == rows.num_rows]
    rows = rows.drop_columns([name for name in empty if rows.num_rows])
    deletions = 0
    if DELETED in rows.column_names:
        deletions = int(rows.column(DELETED).to_numpy().sum())
        if not deletions:
            rows = rows.drop_columns([DELETED])
    name = segment_name(base)
    many = rows.num_rows > _FEW  # compressors and dictionaries for 60 columns take longer than their bytes
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, rows.schema, compression="zstd" if many else "none", store_schema=False, write_statistics=many,
        use_dictionary=many, write_page_checksum=True,
    ) as writer:  # fmt: skip
        writer.write_table(rows)
        writer.add_key_value_metadata({_NAME: name})
    content = sink.getvalue().to_pybytes()
    if not storage.publish(f"{table}/{name}", content):
        raise StorageError(f"{storage.uri}/{table}/{name} was there already, by a chance of one in 2**128")
    segment = RowSegment(name, rows.num_rows, deletions, len(content), blake3_of(content))
    for column in rows.column_names:
        _cache.keep(segment.digest, column, _in_memory(rows.column(column)))
    return segment


def read_segment(
    storage: Storage, table: str, segment: RowSegment, columns: Sequence[str]
) -> dict[str, pa.Array]:
    """Columns of a segment by name; those that it does not have are left out.

    Raises
    ------
    RemovedError
        It is not there.
    StorageError
        It is not the file that was written.
    """
    found: dict[str, pa.Array] = {}
    missing = []
    for name in columns:
        known, values = _cache.look_up(segment.digest, name)
        if not known:
            missing.append(name)
        elif values is not None:
            found[name] = values
    if missing:
        file = _opened(storage, table, segment)
        there = set(file.schema_arrow.names)
        wanted = [name for name in missing if name in there]
        read = file.read(columns=wanted, use_threads=False) if wanted else None
        for name in missing:
            values = _in_memory(read.column(name)) if read is not None and name in there else None
            _cache.keep(segment.digest, name, values)
            if values is not None:
                found[name] = values
    return found


def column_names(storage: Storage, table: str, segment: RowSegment) -> list[str]:
    """Names of all columns that a segment has, keys first."""
    return list(_opened(storage, table, segment).schema_arrow.names)


def _opened(storage: Storage, table: str, segment: RowSegment) -> pq.ParquetFile:
    where = f"{table}/{segment.name}"
    try:
        content = storage.read(where)
    except MissingError:
        raise RemovedError(
            f"{storage.uri}/{where} is not there: rows were erased or vacuumed since this state was read "
            "(refresh() shows the present), or the file was lost (restore it from a backup)"
        ) from None
    if len(content) != segment.nbytes or blake3_of(content) != segment.digest:
        raise DamagedError(
            f"{storage.uri}/{where} is damaged: it is not the file that was written; restore it from a backup"
        )
    return pq.ParquetFile(pa.BufferReader(content))


def unchecked(storage: Storage, table: str, name: str, keys: Sequence[str]) -> pa.Table:
    """All rows of a file whose checksum nobody may know; those of its pages and its own name are compared.

    Raises
    ------
    DamagedError
        It is no segment, or not the one of that name.
    StorageError
        Storage fails.
    """
    content = storage.read(f"{table}/{name}")
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        read = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"{storage.uri}/{table}/{name} is damaged: {error}") from None
    own = (file.metadata.metadata or {}).get(_NAME.encode())
    if own is None or own.decode() != name or any(key not in read.column_names for key in keys):
        raise DamagedError(f"{storage.uri}/{table}/{name} is damaged: it is not the file of that name")
    return pa.table({column: _in_memory(read.column(column)) for column in read.column_names})


def _in_memory(values: pa.ChunkedArray) -> pa.Array:
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):  # of no chunk
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_string(array.type):
        return array.cast(pa.large_string())
    if pa.types.is_timestamp(array.type) and array.type != _TIME:
        return array.cast(_TIME)
    return array


_TIME = pa.timestamp("ms", tz="UTC")


class _ColumnCache:
    """Columns of segments that were read lately: segments never change, so neither do these."""

    def __init__(self, nbytes: int) -> None:
        self._limit, self._held = nbytes, 0
        self._columns: OrderedDict[tuple[str, str], pa.Array | None] = OrderedDict()
        self.renew_lock()

    def renew_lock(self) -> None:
        self._lock = threading.Lock()

    def look_up(self, digest: str, column: str) -> tuple[bool, pa.Array | None]:
        with self._lock:
            if (digest, column) not in self._columns:
                return False, None
            self._columns.move_to_end((digest, column))
            return True, self._columns[digest, column]

    def keep(self, digest: str, column: str, values: pa.Array | None) -> None:
        size = 200 + (0 if values is None else values.nbytes)
        if size > self._limit // 4:
            return
        with self._lock:
            if (digest, column) in self._columns:
                return
            self._columns[digest, column] = values
            self._held += size
            while self._held > self._limit:
                _, dropped = self._columns.popitem(last=False)
                self._held -= 200 + (0 if dropped is None else dropped.nbytes)


_cache = _ColumnCache(_CACHE_BYTES)

after_fork(_cache.renew_lock)
