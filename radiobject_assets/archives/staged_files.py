"""What waits in a landing zone and is no arrival yet: found, and removed where a person is forgotten."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from radiobject_assets.archives.deliveries import HIDDEN, Delivery
from radiobject_assets.archives.study_notes import INCOMING, notes_folder, read_note, remove_note, write_note


def staged_studies(landing: Path) -> Iterator[Path]:
    """Folders of studies that wait, whatever source they are of and however far their delivery is; so is the
    folder of instances whose end has not come yet."""
    for source in sorted((landing / HIDDEN).glob("*")):
        for folder in sorted(source.glob("*")):
            if folder.is_dir() and folder != notes_folder(landing, source.name):
                yield folder


def remove_staged(landing: Path, files: Collection[Path]) -> None:
    """Remove files that wait; a study of which nothing is left is as one that never came.

    A source that still lists it is asked for it again, and a sender may send it again.
    """
    for path in files:
        path.unlink(missing_ok=True)
    for study in sorted({landing.joinpath(*path.relative_to(landing).parts[:3]) for path in files}):
        if study.name == INCOMING:
            continue
        with suppress(OSError):  # what came in meanwhile keeps its folders
            for folder in sorted((path for path in study.rglob("*") if path.is_dir()), reverse=True):
                if not any(folder.iterdir()):
                    folder.rmdir()
            if not any(study.iterdir()):
                study.rmdir()
        if not list(study.parent.glob(f"{study.stem}*")):
            _close(landing, study.parent.name, study.stem)


def _close(landing: Path, source: str, study: str) -> None:
    note = read_note(landing, source, study)
    if note.delivered or note.instances or Delivery(landing, source, study).visible.exists():
        # what was delivered and taken away is not fetched again; of the rest nothing is awaited
        write_note(landing, source, study, replace(note, short=(), tries=0, open_s=0.0, refused=()))
    else:
        remove_note(landing, source, study)
