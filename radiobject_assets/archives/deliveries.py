"""One study on its way into a landing zone: staged in a hidden folder, delivered whole, as one arrival.

    <landing>/.archives/<source>/<study>/<series>/<instance>.dcm     what has come so far
    <landing>/.archives/<source>/<study>.next, .last                 while it is delivered
    <landing>/<source>-<study>/<series>/<instance>.dcm, _COMPLETE    the arrival

Names are tokens of UIDs: a landing zone that we write names neither patients nor studies. A file that is
there is whole. Whatever is killed, and whenever: the arrival is what it was or what it is to be, never
between.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from radiobject_assets.system.durable_files import whole_file, write_whole
from radiobject_assets.system.folders import make_folder, sync_path

HIDDEN = ".archives"
"""Folder of a landing zone in which studies wait; its looker leaves alone what begins with a dot."""
_SUFFIX = ".dcm"

Held = dict[str, set[str]]
"""Tokens of instances, by token of their series."""


def merged(one: Held, other: Held) -> Held:
    """What either has."""
    return {series: one.get(series, set()) | other.get(series, set()) for series in {*one, *other}}


def uid_token(uid: str) -> str:
    """What a study, series or instance goes by: a digest of its UID."""
    return hashlib.blake2b(uid.strip(" \0").encode(), digest_size=12).hexdigest()


def source_folder(landing: Path, source: str) -> Path:
    """Where studies of one source wait, and what is known of them."""
    return landing / HIDDEN / source


@dataclass(frozen=True)
class Delivery:
    """One study of one source."""

    landing: Path
    source: str
    study: str
    """Its token."""
    marker: str = "_COMPLETE"
    """`arrivals.complete_marker` of dataset.yaml."""

    @property
    def staged(self) -> Path:
        """Where it waits."""
        return source_folder(self.landing, self.source) / self.study

    @property
    def visible(self) -> Path:
        """The arrival."""
        return self.landing / f"{self.source}-{self.study}"

    @property
    def _next(self) -> Path:
        return self.staged.with_name(f"{self.study}.next")

    @property
    def _last(self) -> Path:
        return self.staged.with_name(f"{self.study}.last")

    def delivered(self) -> Held:
        """What the arrival has."""
        self._recover()
        return _held(self.visible)

    def waiting(self) -> Held:
        """What is here and not delivered."""
        return _held(self.staged)

    def waiting_files(self) -> list[Path]:
        """The files of that."""
        return [file for _, file in _files(self.staged)]

    @property
    def lacks_marker(self) -> bool:
        """Whether there is an arrival that is not marked as whole."""
        return self.visible.is_dir() and not (self.visible / self.marker).exists()

    def path(self, series: str, instance: str) -> Path:
        """Where an instance waits."""
        return self.staged / series / f"{instance}{_SUFFIX}"

    def delivered_path(self, series: str, instance: str) -> Path:
        """Where an instance is in the arrival."""
        return self.visible / series / f"{instance}{_SUFFIX}"

    def write(self, series: str, instance: str, write: Callable[[Path], None]) -> None:
        """Stage an instance; `write` writes the file that it is given. It is on the disk when this returns.

        Raises
        ------
        OSError
            The disk is full or cannot be written. Whatever `write` raises: then there is no file.
        """
        path = self.path(series, instance)
        make_folder(os.fspath(path.parent))
        with whole_file(path) as staged:
            write(staged)

    def move_in(self, series: str, instance: str, file: Path) -> None:
        """Stage an instance that is a file on the same disk already; it is on the disk when this returns."""
        path = self.path(series, instance)
        make_folder(os.fspath(path.parent))
        sync_path(file)
        os.replace(file, path)
        sync_path(path.parent)

    def deliver(self) -> int:
        """Make all that waits a part of the arrival; returns how many instances are in it.

        Doing it again finishes what was interrupted.

        Raises
        ------
        OSError
            The disk is full or cannot be written, or something else has the arrival's name.
        """
        self._recover()
        if self.visible.is_symlink() or (self.visible.exists() and not self.visible.is_dir()):
            raise FileExistsError(errno.EEXIST, "what has the name of its arrival is no folder")
        if self.staged.is_dir():
            shutil.rmtree(self._next, ignore_errors=True)
            make_folder(os.fspath(self._next))
            # whatever lies in the arrival, also what others put there
            for file in self.visible.rglob("*"):
                if file.is_file() and file != self.visible / self.marker:
                    _link(file, self._next / file.relative_to(self.visible))
            for series, file in _files(self.staged):
                _link(file, self._next / series / file.name)
            for folder in {self._next, *(path for path in self._next.rglob("*") if path.is_dir())}:
                sync_path(folder)
            if self.visible.exists():
                os.rename(self.visible, self._last)
            os.rename(self._next, self.visible)
            sync_path(self.landing)
            shutil.rmtree(self.staged)
        self._recover()
        # last: by its time the arrival is known to be whole, and links that go change times of their files
        write_whole(self.visible / self.marker, b"")
        return sum(map(len, _held(self.visible).values()))

    def _recover(self) -> None:
        # the two renames of `deliver` have a moment between them
        if self._last.exists() and not self.visible.exists():
            os.rename(self._next if self._next.exists() else self._last, self.visible)
            sync_path(self.landing)
        if self._last.exists():
            shutil.rmtree(self._last)


def recover_deliveries(landing: Path, source: str) -> None:
    """Finish what was killed between two renames, whichever study it was of."""
    for left in source_folder(landing, source).glob("*.last"):
        Delivery(landing, source, left.stem).delivered()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    with suppress(FileNotFoundError):
        for series in sorted(folder.iterdir()):
            if series.is_dir():
                for file in sorted(series.iterdir()):
                    if file.suffix == _SUFFIX and not file.name.startswith("."):
                        yield series.name, file


def _held(folder: Path) -> Held:
    held: Held = {}
    for series, file in _files(folder):
        held.setdefault(series, set()).add(file.stem)
    return held


def _link(file: Path, target: Path) -> None:
    make_folder(os.fspath(target.parent))
    target.unlink(missing_ok=True)  # what came later takes the place of what was there
    try:
        os.link(file, target)
    except OSError:  # a disk without links
        shutil.copy2(file, target)
        sync_path(target)
