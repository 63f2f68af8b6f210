"""A person's files in the landing zone, removed where that is asked for, and their row of its table."""

from __future__ import annotations

import csv
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Collection
from pathlib import Path

from radiobject_assets.dataset.dataset_yaml import SubjectsConfig
from radiobject_assets.errors import IngestError
from radiobject_assets.imaging.files.archives import file_on_disk
from radiobject_assets.imaging.scanning.scan import ScanResult
from radiobject_assets.ingest.naming.subject_table import find_subject_tables
from radiobject_assets.landing.local_zone import Landing
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
        return by_hand + _clear_objects(zone, key, on_disk - kept)
    for path in sorted(on_disk - kept):
        path.unlink(missing_ok=True)
    if arrival.place.is_dir():
        for table in find_subject_tables(arrival.place, subjects):
            _clear_table(table, subjects.id_column, is_theirs)
        folders = [path for path in arrival.place.rglob("*") if path.is_dir()]
        for folder in sorted(folders, reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        if not any(arrival.place.iterdir()):
            arrival.place.rmdir()
    return by_hand


def _clear_objects(zone: S3LandingZone, key: str, copies: Collection[Path]) -> int:
    held = zone.held(key)
    root = held.place.parent if held.place.is_file() else held.place
    prefix = "" if held.place.is_file() else held.source
    there = {found.key for found in zone.objects.beginning_with(held.source)}
    by_hand = 0
    for path in copies:
        name = prefix + path.relative_to(root).as_posix()
        if name in there:
            zone.objects.remove(name)
        else:
            by_hand += 1  # its key could be no path, so the copy has another name
    return by_hand


def _clear_table(path: Path, id_column: str, is_theirs: Callable[[str], bool]) -> None:
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig"
    try:
        lines = content.decode(encoding).splitlines(keepends=True)
    except UnicodeDecodeError:
        return  # nobody could have read it
    if not lines:
        return
    separator = "\t" if path.suffix.lower() != ".csv" else max(",;", key=lines[0].count)
    headings = [cell.strip() for cell in _cells(lines[0], separator)]
    if id_column not in headings:
        return
    at = headings.index(id_column)

    def theirs(line: str) -> bool:
        cells = _cells(line, separator)
        return len(cells) > at and is_theirs(cells[at].strip())

    kept = [lines[0], *(line for line in lines[1:] if not theirs(line))]
    if len(kept) < len(lines):
        bom = encoding == "utf-8-sig" and not content.startswith(b"\xef\xbb\xbf")
        write_whole(path, "".join(kept).encode("utf-8" if bom else encoding))


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter=separator), [])
