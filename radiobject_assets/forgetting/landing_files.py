"""A person's files in the landing zone, removed where that is asked for, and their row of its table."""

from __future__ import annotations

import csv
import fnmatch
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

from radiobject_assets.dataset.subject_section import SubjectsConfig
from radiobject_assets.errors import IngestError
from radiobject_assets.imaging.files.archives import file_on_disk
from radiobject_assets.imaging.scanning.scan import ScanResult
from radiobject_assets.ingest.naming.subject_table import find_subject_tables
from radiobject_assets.landing.local_zone import Arrival, Landing, is_archive
from radiobject_assets.landing.s3_zone import S3LandingZone
from radiobject_assets.landing.several_zones import LandingZones
from radiobject_assets.system.durable_files import write_whole


def clear_landing(
    landing: Landing,
    key: str,
    files: Collection[Path],
    scan: ScanResult,
    subjects: SubjectsConfig,
    is_theirs: Callable[[str], bool],
) -> int:
    """Remove a person's files from an arrival; returns how many files are left to be cleared by hand.

    Parameters
    ----------
    files
        From `ingest.refused.files_of_subjects`.
    scan
        What the arrival held, so that an archive that holds others as well is not removed with them.
    is_theirs
        Whether an id in a subjects' table is the person's.
    """
    try:
        arrival = landing.find(key)
    except IngestError:
        return 0  # it was taken away
    on_disk = {file_on_disk(path) for path in files}
    images = [*(i.path for i in scan.instances), *(n.path for n in scan.niftis)]
    kept = {file_on_disk(path) for path in images if path not in files}
    by_hand = len(on_disk & kept)
    zone = landing.zones[arrival.zone] if isinstance(landing, LandingZones) else landing
    if isinstance(zone, S3LandingZone):
        return by_hand + _clear_objects(zone, arrival, on_disk - kept, subjects, is_theirs)
    for path in sorted(on_disk - kept):
        path.unlink(missing_ok=True)
    if arrival.place.is_dir():
        for table in find_subject_tables(arrival.place, subjects):
            before = table.read_bytes()
            after = _without_rows(before, table.suffix, subjects.id_column, is_theirs)
            if after != before:
                write_whole(table, after)
        folders = [path for path in arrival.place.rglob("*") if path.is_dir()]
        for folder in sorted(folders, reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        if not any(arrival.place.iterdir()):
            arrival.place.rmdir()
    return by_hand


def _clear_objects(
    zone: S3LandingZone,
    arrival: Arrival,
    copies: Collection[Path],
    subjects: SubjectsConfig,
    is_theirs: Callable[[str], bool],
) -> int:
    """As `clear_landing`: the objects that were copied to these files."""
    there = {found.key for found in zone.objects.beginning_with(arrival.source)}
    by_hand = 0
    for path in copies:
        name = zone.object_of(arrival, path)
        if name in there:
            zone.objects.remove(name)
            there.discard(name)
        else:
            by_hand += 1  # its key can be no path, so the copy has another name; or it is gone
    for name in there:
        table = PurePosixPath(name)
        if fnmatch.fnmatchcase(table.name, subjects.table) and not is_archive(arrival.source):
            before = zone.objects.read(name)
            after = _without_rows(before, table.suffix, subjects.id_column, is_theirs)
            if after != before:
                zone.objects.write(name, after)
    return by_hand


def _without_rows(content: bytes, suffix: str, id_column: str, is_theirs: Callable[[str], bool]) -> bytes:
    """A subjects' table without the rows of a person; as it is where it can't be read."""
    encoding = "utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig"
    try:
        lines = content.decode(encoding).splitlines(keepends=True)
    except UnicodeDecodeError:
        return content
    if not lines:
        return content
    separator = "\t" if suffix.lower() != ".csv" else max(",;", key=lines[0].count)
    headings = [cell.strip() for cell in _cells(lines[0], separator)]
    if id_column not in headings:
        return content
    at = headings.index(id_column)

    def theirs(line: str) -> bool:
        cells = _cells(line, separator)
        return len(cells) > at and is_theirs(cells[at].strip())

    kept = [lines[0], *(line for line in lines[1:] if not theirs(line))]
    if len(kept) == len(lines):
        return content
    plain = encoding == "utf-8-sig" and not content.startswith(BOM_UTF8)
    return "".join(kept).encode("utf-8" if plain else encoding)


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter=separator), [])
