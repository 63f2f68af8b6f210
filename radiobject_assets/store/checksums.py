"""Checksums of the small files that TileDB parses without one: on local disks, checked before it does.

Schemas, fragment metadata, delete conditions and group metadata have no checksum of TileDB's. A flipped byte
in one of them can end the process that reads it, or corrupt its memory. So whoever publishes one notes its
BLAKE3 beside it. A file without a note, or with an empty one, is read as it is: the writer died between the
two, the power went before the note was on the disk, or the writer was another program. Objects on S3 are
guarded by S3 itself.
"""

from __future__ import annotations

import os
from pathlib import Path

from blake3 import blake3

from radiobject_assets.errors import StorageError
from radiobject_assets.store.uris import local_path, new_token

SUMS = "__sums"
FRAGMENT_METADATA = "__fragment_metadata.tdb"
_SEPARATOR = "@"


def note_checksum(folder: Path, path: str, content: bytes | None = None) -> None:
    """Note the checksum of the file at `path` (relative, `/` between parts) in the table or group `folder`.

    `content` is that of a file that is about to be put there.
    """
    if content is None:
        try:
            content = (folder / path).read_bytes()
        except FileNotFoundError:
            return  # merged and removed by another process already
    sums = folder / SUMS
    sums.mkdir(exist_ok=True)
    aside = sums / f".{new_token()}"
    aside.write_text(blake3(content).hexdigest())
    os.replace(aside, sums / path.replace("/", _SEPARATOR))


def note_fragments(uri: str, names: set[str]) -> None:
    """Note the checksums of the metadata of fragments."""
    folder = local_path(uri)
    if folder is not None:
        for name in names:
            note_checksum(folder, f"__fragments/{name}/{FRAGMENT_METADATA}")


def drop_old_notes(uri: str) -> None:
    """Drop the notes on fragments that are gone."""
    folder = local_path(uri)
    if folder is None:
        return
    for sums in (folder / SUMS).glob("__fragments*"):
        if not (folder / sums.name.replace(_SEPARATOR, "/")).exists():
            sums.unlink(missing_ok=True)


def check_small_files(uri: str, kind: str = "__") -> None:
    """Compare the small files of a local table or group with what was noted of them.

    Those whose path begins with `kind`: a writer parses nothing but schemas.

    Raises
    ------
    StorageError
        If one of them isn't what was written.
    """
    folder = local_path(uri)
    if folder is None:
        return
    try:
        names = [entry.name for entry in os.scandir(folder / SUMS) if entry.name.startswith(kind)]
    except OSError:
        return
    for name in names:
        path = folder / name.replace(_SEPARATOR, "/")
        try:
            content = path.read_bytes()
            noted = (folder / SUMS / name).read_text()
        except FileNotFoundError:
            continue  # merged and removed meanwhile
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot read {path}: {error}") from error
        if noted and blake3(content).hexdigest() != noted:
            raise StorageError(f"{path} is damaged: its checksum is not the one noted when it was written")
