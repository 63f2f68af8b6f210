"""What lies in a folder itself: names are read at each look, what they are only where something changed.

With 100,000 arrivals a tick would spend its time on asking for each whether it is a folder. Names come and go
with the folder's own time and are compared besides, since some network drives keep no such time. A link may
lead elsewhere at any time: where one lies, nothing is kept.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

_MOST = 16
_GRAIN_S = 2.0
_lock = Lock()


@dataclass(frozen=True)
class FolderNames:
    """Names in a folder, without those that begin with a dot; the same object while nothing changes."""

    folders: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class _Kept:
    changed_ns: int
    seen_s: float
    """When the folder was first seen with this time, by a clock that never jumps."""
    read_s: float
    names: list[str]
    found: FolderNames

    @property
    def is_sure(self) -> bool:
        """Whether a change after the reading would have given another time: these are ms apart, or 1 s."""
        return self.read_s - self.seen_s > _GRAIN_S


_kept: dict[str, _Kept] = {}


def folder_names(folder: Path) -> FolderNames:
    """The names in a folder now.

    Raises
    ------
    OSError
        It can't be listed.
    """
    root = os.fspath(folder)
    # before the names: what changes in between gives another time than the one that is kept
    changed_ns, read_s = os.stat(root).st_mtime_ns, time.monotonic()
    kept = _kept.get(root)
    is_same = kept is not None and kept.changed_ns == changed_ns
    if kept is not None and is_same and kept.is_sure and kept.names == os.listdir(root):
        return kept.found
    names: list[str] = []
    folders: list[str] = []
    files: list[str] = []
    has_links = False
    with os.scandir(root) as entries:
        for entry in entries:
            names.append(entry.name)
            if entry.name.startswith("."):
                continue
            has_links = has_links or entry.is_symlink()
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file():
                files.append(entry.name)
    found = FolderNames(tuple(folders), tuple(files))
    if kept is not None and kept.found == found:
        found = kept.found
    with _lock:
        _kept.pop(root, None)
        if not has_links:
            seen_s = kept.seen_s if kept is not None and is_same else read_s
            _kept[root] = _Kept(changed_ns, seen_s, read_s, names, found)
        while len(_kept) > _MOST:
            del _kept[next(iter(_kept))]
    return found
