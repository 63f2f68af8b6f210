"""A scan that is kept, so that the next one of the same arrival reads the headers of what has changed only.

Beside each DICOM file's record the table keeps its stamp: size, times of modification and of the last inode
change, and inode number. Tools that keep modification times can't keep the time of the inode's change. A file
that was changed while it was scanned gets none. Images in files of their own (NIfTI...) and what is in
archives is always read: it is little, and what is said of them depends on other files too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.release.deidentification import Release
from radiobject_assets.imaging.scanning.scan import ScanResult, find_files, scan

if TYPE_CHECKING:
    import pyarrow as pa

_STAMP = "stamp"
_VERSION = b"scan_version"
# Within one tick of a file system's clock a file can change twice.
_TOO_FRESH_NS = 2_000_000_000


def scan_again(
    place: Path, release: Release, kept: pa.Table | None, version: str
) -> tuple[ScanResult, Mapping[str, str]]:
    """What an arrival holds, as it may be known outside, and the stamp of each file.

    Parameters
    ----------
    kept
        The table of the last scan (`to_keep`), if there is one.
    version
        Of what a scan lets out, and of this package. Another one, or pseudonyms, whose numbers depend on all
        series of a scan, make everything be read.
    """
    stamps = {path_text(path): stamp for path in find_files(place) if (stamp := _stamp(path))}
    known = {} if kept is None or release.key is not None else _still_known(kept, stamps, version)
    found = scan([place], known=known)
    new = tuple(instance for instance in found.instances if instance.path not in known)
    released = release.scan(replace(found, instances=new))
    there = tuple(instance for instance in found.instances if instance.path in known)
    instances = sorted((*released.instances, *there), key=lambda instance: instance.path.parts)
    return replace(released, instances=tuple(instances)), stamps


def to_keep(found: ScanResult, stamps: Mapping[str, str], version: str) -> pa.Table:
    """The scan as a table with the stamps."""
    import pyarrow as pa

    table = found.to_table()
    told = [stamps.get(path) for path in table.column("path").to_pylist()]
    table = table.append_column(_STAMP, pa.array(told, pa.string()))
    return table.replace_schema_metadata({_VERSION: version.encode()})


def _still_known(kept: pa.Table, stamps: Mapping[str, str], version: str) -> dict[Path, Instance]:
    import pyarrow as pa

    if (kept.schema.metadata or {}).get(_VERSION) != version.encode() or _STAMP not in kept.column_names:
        return {}
    rows = zip(*(kept.column(name).to_pylist() for name in ("kind", "path", _STAMP)), strict=True)
    same = [kind == "dicom" and stamp is not None and stamps.get(path) == stamp for kind, path, stamp in rows]
    return {one.path: one for one in ScanResult.from_table(kept.filter(pa.array(same))).instances}


def _stamp(path: Path) -> str:
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    if time.time_ns() - stat.st_ctime_ns < _TOO_FRESH_NS:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_dev} {stat.st_ino}"
