"""What a state holds, as counts and one digest: equal digests mean equal data."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from radiobject_assets.store.log.state import State
from radiobject_assets.store.log.table_reading import read_table
from radiobject_assets.store.names import ASSIGNED_DIVISION, ASSIGNED_SPLIT, COLLECTIONS, OBS, OBS_META
from radiobject_assets.store.storage import Storage

# Of a copy these differ.
_LEFT_OUT = frozenset({"volume", "index_digest", "stored_bytes", "written_at", "writer_version", "arrival"})


def counts_and_digest(storage: Storage, state: State) -> tuple[dict[str, int], str]:
    """Counts (volumes by collection, and `subjects`) and digest of a store in one state.

    The digest covers, for each collection by name, every row's subject, id, voxel digest, affine, rescale and
    free columns, and the subjects' table; not tokens, times or compression, so that a copy has the same, and
    not how the subjects are divided, which is decided after a snapshot.
    """
    digest = blake3()
    people = state.table(OBS_META)
    divided = (ASSIGNED_SPLIT, ASSIGNED_DIVISION)
    columns = [column.name for column in people.columns if column.name not in divided]
    subjects = read_table(storage, OBS_META, people, columns)
    _hash_table(digest, "subjects", subjects)
    counts = {"subjects": subjects.num_rows}
    for directory, entry in sorted(state.collections.items(), key=lambda item: item[1].name):
        name = f"{COLLECTIONS}/{directory}/{OBS}"
        table = state.table(name)
        rows = read_table(storage, name, table, [c.name for c in table.columns if c.name not in _LEFT_OUT])
        counts[entry.name] = rows.num_rows
        _hash_table(digest, f"collection {entry.name}", rows)
    return counts, f"blake3:{digest.hexdigest()}"


def _hash_table(digest: blake3, title: str, rows: pa.Table) -> None:
    """Of each column by name: its type, which rows have a value (a bit each, the first lowest), and values.

    Numbers, and booleans as bytes, are little-endian, 0 where there is none; text is its lengths in bytes
    (uint32), then all of it, as UTF-8.
    """
    digest.update(f"{title}\n{rows.num_rows}\n".encode())
    for name in sorted(rows.column_names):
        column = rows.column(name).combine_chunks()
        if column.null_count == len(column):
            continue  # a column without any value is as good as none
        text = pa.types.is_large_string(column.type)
        digest.update(f"{name}\n{'text' if text else column.type}\n".encode())
        digest.update(
            np.packbits(column.is_valid().to_numpy(zero_copy_only=False), bitorder="little").tobytes()
        )
        if text:
            filled = column.fill_null("").cast(pa.large_binary())
            lengths = pc.binary_length(filled).to_numpy(zero_copy_only=False)
            digest.update(lengths.astype("<u4").tobytes())
            digest.update(b"".join(filled.to_pylist()))
        else:
            plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            plain = plain.cast(pa.uint8()) if pa.types.is_boolean(plain.type) else plain
            values = plain.fill_null(0).to_numpy(zero_copy_only=False)
            digest.update(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes())
