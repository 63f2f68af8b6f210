"""Rows that name a lost array name one with the same voxels instead, in every state and snapshot.

Segments never change: each that names such an array is written anew, and the commit says which is to be read
in place of which (`State.replaced`), as when somebody is erased. A row is only changed where its digest of
the voxels is that of the new array, so that no snapshot says anything else than it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from radiobject_assets.store.log.commit_log import Log
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.erasing import Search, replace_segments
from radiobject_assets.store.log.segments import column_names, read_segment
from radiobject_assets.store.log.state import RowSegment

TOKEN, DIGEST = "volume", "voxel_digest"
OF_ARRAY = (TOKEN, "index_digest", "stored_bytes", "writer_version", "written_at")
"""Columns that say something of the array, not of the image."""


def relink_rows(log: Log, table: str, moved: Mapping[str, Mapping[str, Any]]) -> int:
    """Let rows of a table name other arrays; how many files of rows were written anew.

    Parameters
    ----------
    table
        Its folder under the root.
    moved
        For the token of each lost array a row that names one with the same voxels: `OF_ARRAY` and `DIGEST`.

    Raises
    ------
    StorageError
        A file of rows that a snapshot needs can't be read.
    """
    search, written = Search(log, ()), [0]

    def relink(draft: Draft) -> None:
        anew: dict[str, RowSegment] = {}
        for (folder, name), segment in search.needed(draft.base).items():
            if folder != table or name in draft.base.replaced.get(folder, {}):
                continue
            tokens = read_segment(log.storage, folder, segment, [TOKEN]).get(TOKEN)
            if tokens is None or not pc.any(pc.is_in(tokens, value_set=pa.array(sorted(moved)))).as_py():
                continue
            rows = partial(_relinked, log, folder, segment, moved)
            if not rows().equals(_whole(log, folder, segment)):
                anew[name] = draft.write(folder, ("relink", name), rows)
        written[0] = len(anew)
        replace_segments(draft, {table: anew})

    log.commit("relink", relink)
    return written[0]


def _whole(log: Log, folder: str, segment: RowSegment) -> pa.Table:
    names = column_names(log.storage, folder, segment)
    read = read_segment(log.storage, folder, segment, names)
    return pa.table({name: read[name] for name in names})


def _relinked(log: Log, folder: str, segment: RowSegment, moved: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    rows = _whole(log, folder, segment)
    if DIGEST not in rows.column_names:
        return rows
    tokens, digests = rows.column(TOKEN).to_pylist(), rows.column(DIGEST).to_pylist()
    places = {
        place: moved[token]
        for place, (token, digest) in enumerate(zip(tokens, digests, strict=True))
        if token in moved and moved[token][DIGEST] == digest
    }
    for name in OF_ARRAY:
        if not places or name not in rows.column_names:
            continue
        field = rows.schema.field(name)
        values = rows.column(name).to_pylist()
        for place, row in places.items():
            values[place] = row[name]
        column = pa.array(values, field.type)
        rows = rows.set_column(rows.schema.get_field_index(name), field, column)
    return rows
