"""The file with an array's tile index, made from the array's files when they are written."""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from radiobject_assets.store.tile_index import (
    DATA_FILE,
    INDEX_NAME,
    Layout,
    NotIndexableError,
    ReadBytes,
    TileIndex,
    build_index,
    checksum_of,
)

_log = logging.getLogger(__name__)


def index_of(folder: Path, layout: Layout, names: Sequence[str]) -> TileIndex:
    """The index of the array in `folder`, made from its data files.

    Parameters
    ----------
    names
        Data files, relative to the folder, in the order of tiles.

    Raises
    ------
    NotIndexableError
        If the files are laid out in another way than those of this program.
    """
    with ExitStack() as stack:
        files: list[tuple[str, int, ReadBytes]] = []
        for name in names:
            try:
                file = stack.enter_context((folder / name).open("rb", buffering=0))
            except FileNotFoundError as error:
                raise NotIndexableError(f"there is no {name}") from error
            nbytes = os.fstat(file.fileno()).st_size
            if not nbytes:
                raise NotIndexableError(f"{name} is empty")
            mapped = stack.enter_context(mmap.mmap(file.fileno(), nbytes, prot=mmap.PROT_READ))
            view = stack.enter_context(memoryview(mapped))
            files.append((name, nbytes, _part(view)))
        return build_index(layout, files, _others(folder, {*names, INDEX_NAME}))


def _others(folder: Path, known: set[str]) -> dict[str, str]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: checksum_of(path.read_bytes()) for name, path in files.items() if name not in known}


def _part(view: memoryview) -> ReadBytes:
    return lambda offset, nbytes: view[offset : offset + nbytes]


def write_index(folder: Path, layout: Layout, fragments: Sequence[str]) -> None:
    """Put an index beside a finished array; nothing where the array cannot have one.

    Parameters
    ----------
    fragments
        Names of the array's fragments in the order in which they were written, which is that of tiles.
    """
    try:
        index = index_of(folder, layout, [DATA_FILE.format(name) for name in fragments])
    except NotIndexableError as error:
        _log.debug("no tile index: %s", error)
        return
    (folder / INDEX_NAME).write_bytes(index.encode())
