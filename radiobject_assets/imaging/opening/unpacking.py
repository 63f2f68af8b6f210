"""Series that share a `.tar.gz`: their members unpacked together, in one pass over the archive.

Such an archive can only be read from its start, so that unpacking it for each of its series would inflate it
as often as it has series. What is unpacked together is bounded; series beyond that are unpacked one by one
(`members.MemberSource`).
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.files.archives import split_member
from radiobject_assets.imaging.files.unpacked_members import kind_of_archive, unpack
from radiobject_assets.imaging.opening.members import moved, needed_files
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.system.temporary import temporary_folder

_MAX_BYTES = 16 << 30
_SHARE_OF_DISK = 0.5


@contextmanager
def unpacked_together(series: Sequence[Series], max_bytes: int = _MAX_BYTES) -> Iterator[list[Series]]:
    """The same series, those that share a `.tar.gz` as copies on disk, which are removed at the end."""
    shared = _shared_archives(series)
    if not shared:
        yield list(series)
        return
    with temporary_folder() as folder:
        local: dict[Path, Path] = {}
        for archive, numbers in shared.items():
            left = min(max_bytes, int(shutil.disk_usage(folder).free * _SHARE_OF_DISK))
            chosen: set[Path] = set()
            for number in numbers:
                size = _bytes_of(series[number])
                if size > left:
                    break
                left -= size
                max_bytes -= size
                chosen.update(needed_files(series[number]))
            try:
                unpack(archive, chosen, Path(folder), local)
            except ImageReadError:
                continue  # what came before the damage is there; of the rest each series tells for itself
        yield [_local(item, local) for item in series]


def _shared_archives(series: Sequence[Series]) -> dict[Path, list[int]]:
    """Archives that can only be read from their start, and the series in each, where those are several."""
    found: dict[Path, list[int]] = defaultdict(list)
    for number, item in enumerate(series):
        archives = {split[0] for path in needed_files(item)[:1] if (split := split_member(path))}
        for archive in archives:
            found[archive].append(number)
    return {
        archive: numbers
        for archive, numbers in found.items()
        if len(numbers) > 1 and _kind(archive) == "tar.gz"
    }


def _kind(archive: Path) -> str | None:
    try:
        return kind_of_archive(archive)
    except OSError:
        return None  # opening its series will say so


def _bytes_of(series: Series) -> int:
    if series.nifti is not None:
        return series.nifti.size_bytes + (series.decoded_bytes if series.nifti.data_file else 0)
    return sum(instance.size_bytes for instance in series.instances)


def _local(series: Series, local: dict[Path, Path]) -> Series:
    if not all(path in local for path in needed_files(series)):
        return series
    return moved(series, lambda path: local.get(path, path))
