"""Whether an array's files are those that were written: its index, and by that all others.

The index is the last file of an array that is written, and covers all of them: blocks of voxels one by one,
the schema, metadata and commit, which TileDB parses without a checksum, as a whole. Where a volume's row pins
the index, an array cannot be exchanged for another.
"""

from __future__ import annotations

from pathlib import Path

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.arrays.array_files import ArrayFiles
from radiobject_assets.store.blocks.index import (
    INDEX_NAME,
    IndexDamagedError,
    TileIndex,
    checksum_of,
    index_digest_of,
)


def load_index(files: ArrayFiles, digest: str | None) -> TileIndex | None:
    """The tile index of an array; None where it has none, or none that holds.

    Parameters
    ----------
    digest
        Of the index, as the volume's row names it (`index_digest_of`); "" where the row names none; None for
        an array that stands alone, to which another program may have written since.

    Raises
    ------
    StorageError
        If storage fails, or the index is not the one that is expected.
    IndexDamagedError
        If nobody says which one is expected, and it is not what was written.
    """
    content = files.read(INDEX_NAME)
    if digest:
        if content is None:
            raise StorageError(
                f"cannot open the volume {files.uri}: its index is gone. The volume was deleted "
                "or vacuumed since its row was read (refresh() shows what is there now), or it is damaged"
            )
        if index_digest_of(content) != digest:
            raise StorageError(
                f"cannot open the volume {files.uri}: the array's index is not the one that its row names: "
                "damaged or exchanged"
            )
    if content is None:
        return None
    index = TileIndex.decode(content)
    if digest is None and not has_fragments(files, index):
        return None  # another program wrote to it since
    return index


def has_fragments(files: ArrayFiles, index: TileIndex) -> bool:
    """Whether the array has the fragments that the index names and no others."""
    return files.fragments() == sorted(file.name for file in index.files)


def damaged_file(files: ArrayFiles, index: TileIndex) -> str | None:
    """The first of an array's files without voxels that is gone or not what was written; None if all are."""
    for name, checksum in index.others.items():
        content = files.read(name)
        if content is None or checksum_of(content) != checksum:
            return name
    return None


def check_files(uri: str, ctx: tiledb.Ctx, digest: str | None, folder: Path | None = None) -> None:
    """Compare all that TileDB parses of an array with its index, before it does: it can end the process.

    Parameters
    ----------
    folder
        Of a copy of the array at `uri`, which is compared in its place.

    Raises
    ------
    StorageError
        If storage fails, or a file is not what was written.
    """
    files = ArrayFiles(uri, ctx, folder)
    try:
        index = load_index(files, digest)
    except IndexDamagedError:
        return  # nothing can be said
    if index is None:
        return
    if not has_fragments(files, index):
        raise StorageError(f"cannot open the volume {uri}: it has other fragments than were written")
    damaged = damaged_file(files, index)
    if damaged is not None:
        raise StorageError(f"cannot open the volume {uri}: {damaged} is not what was written")
