"""What a state holds, as counts and one digest: equal digests mean equal data."""

from __future__ import annotations

import pyarrow as pa
from blake3 import blake3

from radiobject_assets.store.log.reading import read_table
from radiobject_assets.store.log.state import State
from radiobject_assets.store.names import COLLECTIONS, OBS, OBS_META
from radiobject_assets.store.storage import Storage

# Of a copy these differ.
_LEFT_OUT = frozenset({"volume", "index_digest", "stored_bytes", "written_at", "writer_version", "arrival"})


def describe(storage: Storage, state: State) -> tuple[dict[str, int], str]:
    """Counts (volumes by collection, and `subjects`) and digest of a store in one state.

    The digest covers, for each collection by name, every row's subject, id, voxel digest, affine, rescale and
    free columns, and the subjects' table; not tokens, times or compression, so that a copy has the same.
    """
    digest = blake3()
    subjects = read_table(storage, OBS_META, state.table(OBS_META))
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
    digest.update(f"{title}\n{rows.num_rows}\n".encode())
    for name in sorted(rows.column_names):
        column = rows.column(name).combine_chunks()
        if column.null_count == len(column):
            continue  # a column without any value is as good as none
        text = "\x1f".join("\x00" if v is None else f"{type(v).__name__}:{v!r}" for v in column.to_pylist())
        digest.update(f"{name}\n{text}\n".encode())
