"""The table of `split.by_hand` names subjects: a person's lines in it, counted, and removed where asked."""

from __future__ import annotations

import csv
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest.dataset_release import release_of
from radiobject_assets.system.durable_files import write_whole
from radiobject_assets.training.split_by_hand import ID_COLUMNS


def lines_by_hand(settings: DatasetSettings, is_theirs: Callable[[str], bool]) -> int:
    """How many lines of the table are a person's; 0 where there is no table, or none that can be read."""
    lines, kept = _divided(settings, is_theirs)
    return len(lines) - len(kept)


def clear_by_hand(settings: DatasetSettings, is_theirs: Callable[[str], bool]) -> int:
    """Take a person's lines out of the table; returns how many there were."""
    lines, kept = _divided(settings, is_theirs)
    if len(kept) < len(lines):
        file = _file(settings)
        mark = BOM_UTF8 if file.read_bytes().startswith(BOM_UTF8) else b""
        write_whole(file, mark + "".join(kept).encode("utf-8"), mode=file.stat().st_mode & 0o777)
    return len(lines) - len(kept)


def _file(settings: DatasetSettings) -> Path:
    return settings.folder / (settings.split.by_hand or "")


def _divided(settings: DatasetSettings, is_theirs: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """All lines, and those without the person; by either name of a subject, as splits are."""
    if settings.split.by_hand is None:
        return [], []
    try:
        lines = _file(settings).read_bytes().decode("utf-8-sig").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return [], []
    separator = max("\t;,", key=lines[0].count) if lines else ","
    headings = [name.strip().lower() for name in _cells(lines[0], separator)] if lines else []
    at = next((headings.index(name) for name in ID_COLUMNS if name in headings), None)
    if at is None:
        return [], []
    release = release_of(settings)

    def theirs(line: str) -> bool:
        cells = _cells(line, separator)
        name = cells[at].strip() if len(cells) > at else ""
        return bool(name) and (is_theirs(name) or is_theirs(release.subject(name)))

    return lines, [lines[0], *(line for line in lines[1:] if not theirs(line))]


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter=separator), [])
