"""The file with an array's tile index, written beside a finished array."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from radiobject_assets.store.disk import write_through
from radiobject_assets.store.tile_index import INDEX_NAME, TileIndex, checksum_of


def write_index(folder: Path, index: TileIndex) -> None:
    """Put `index` beside the array in `folder`, with checksums of the array's other files."""
    known = {INDEX_NAME, *(file.name for file in index.files)}
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    others = {name: checksum_of(path.read_bytes()) for name, path in files.items() if name not in known}
    write_through(folder / INDEX_NAME, replace(index, others=others).encode())
