"""TileDB works on local files alone: what lies on S3 is copied here first, and put there afterwards.

TileDB's own calls to S3 have no end that could be set: it repeats a 503 a hundred times, some functions keep
the interpreter's lock meanwhile, and a call that was given up crashes the process at its end. Copies are made
by `Storage`, whose calls end in time; of an array whose description alone is wanted, without its voxels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.storage import Entry, Storage, open_storage
from radiobject_assets.store.storage.config import MB
from radiobject_assets.store.storage.errors import disk_errors
from radiobject_assets.store.storage.uris import local_path
from radiobject_assets.system.temporary import temporary_folder

_GROUP_MARK = "__tiledb_group.tdb"
# In a fragment's folder everything but its metadata holds cells.
_CELLS = re.compile(r"__fragments/[^/]+/(?!__fragment_metadata\.tdb$)")
# Held in memory while it is copied.
_TOGETHER_BYTES = 32 * MB
_PIECE_BYTES = 4 * MB
_COPYING = "copy to a temporary folder (TMPDIR)"


@contextmanager
def local_array(uri: str, ctx: tiledb.Ctx, *, voxels: bool) -> Iterator[str]:
    """A path at which TileDB finds the array at `uri` for the length of the block: its own on a disk.

    Parameters
    ----------
    voxels
        Also what the cells hold; without, the array can be opened and its metadata read.

    Raises
    ------
    StorageError
        If storage fails, or the temporary folder is full.
    """
    folder = local_path(uri)
    if folder is not None:
        yield str(folder)
        return
    storage = open_storage(uri, ctx)
    entries = storage.list(recursive=True)
    with _copy(storage, [e for e in entries if voxels or not _CELLS.match(e.path)]) as copied:
        yield str(copied)


@contextmanager
def local_group(uri: str, ctx: tiledb.Ctx) -> Iterator[str]:
    """The same for a TileDB group: its metadata and the names of its members, without these."""
    folder = local_path(uri)
    if folder is not None:
        yield str(folder)
        return
    storage = open_storage(uri, ctx)
    entries = [entry for entry in storage.list() if entry.path == _GROUP_MARK]
    for part in ("__group", "__meta"):
        entries += storage.list(part, recursive=True)
    with _copy(storage, entries) as copied:
        yield str(copied)


@contextmanager
def edited_array(uri: str, ctx: tiledb.Ctx) -> Iterator[str]:
    """A path at which TileDB makes the array at `uri`, or changes its metadata.

    For S3 the files that the block added are put there when it ends, the schema last: without it nobody
    takes the rest for an array.
    """
    folder = local_path(uri)
    if folder is not None:
        yield str(folder)
        return
    with local_array(uri, ctx, voxels=False) as place:
        before = set(_files(Path(place)))
        yield place
        storage = open_storage(uri, ctx)
        for path in sorted(set(_files(Path(place))) - before, key=lambda path: "__schema" in path.parts):
            storage.write(path.relative_to(place).as_posix(), path.read_bytes())


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@contextmanager
def _copy(storage: Storage, entries: Sequence[Entry]) -> Iterator[Path]:
    with temporary_folder() as place:
        folder = place / "copy"
        with disk_errors(_COPYING, storage.uri):
            folder.mkdir()
            for entry in entries:
                (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
        small: list[Entry] = []
        for entry in entries:
            if entry.size > _PIECE_BYTES:
                _copy_in_pieces(storage, entry, folder)
                continue
            small.append(entry)
            if sum(e.size for e in small) > _TOGETHER_BYTES:
                _copy_together(storage, small, folder)
                small = []
        _copy_together(storage, small, folder)
        yield folder


def _copy_together(storage: Storage, entries: Sequence[Entry], folder: Path) -> None:
    # An empty file says by its name what it has to say.
    wanted = [entry for entry in entries if entry.size]
    contents = storage.read_many([entry.path for entry in wanted])
    with disk_errors(_COPYING, storage.uri):
        for entry in entries:
            (folder / entry.path).touch()
        for entry, content in zip(wanted, contents, strict=True):
            _check_size(storage, entry, len(content))
            (folder / entry.path).write_bytes(content)


def _copy_in_pieces(storage: Storage, entry: Entry, folder: Path) -> None:
    together = max(1, min(storage.parallel, _TOGETHER_BYTES // _PIECE_BYTES)) * _PIECE_BYTES
    with (
        disk_errors(_COPYING, storage.uri),
        open(folder / entry.path, "wb") as file,
    ):
        for first in range(0, entry.size, together):
            end = min(entry.size, first + together)
            spans = [(at, min(_PIECE_BYTES, end - at)) for at in range(first, end, _PIECE_BYTES)]
            for content in storage.ranges(entry.path, spans):
                file.write(content)
        _check_size(storage, entry, file.tell())


def _check_size(storage: Storage, entry: Entry, nbytes: int) -> None:
    if nbytes != entry.size:
        raise StorageError(
            f"cannot read {storage.uri}/{entry.path}: it has {nbytes} bytes, and a moment before {entry.size}"
        )


def copied_bytes(path: str) -> int:
    """Bytes that a copy takes on this machine's disk."""
    return sum(os.path.getsize(file) for file in _files(Path(path)))
