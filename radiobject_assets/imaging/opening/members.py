"""Series whose files lie in archives: their headers read in place, their voxels from a short-lived copy.

Decoding unpacks the
members of one series into a temporary folder and removes them when the last slab was read, so the disk holds
at most one series for each worker, never the whole archive (but see `unpacking`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.files.archives import split_member
from radiobject_assets.imaging.files.unpacked_members import inflate, unpack
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.source import AttributeValue, ImageSource, Slab
from radiobject_assets.system.temporary import temporary_folder


def in_archive(series: Series) -> bool:
    """Whether any file of a series is a member of an archive, or gzipped by itself."""
    if any(instance.gzipped for instance in series.instances):
        return True
    return any(split_member(path) is not None for path in needed_files(series)[:1])


@contextmanager
def local_copy(series: Series) -> Iterator[Series]:
    """The series with its members unpacked to a temporary folder, which is removed at the end.

    Raises
    ------
    ImageReadError
        FILE_CHANGED where a member is gone, NOT_READABLE where the disk has no room for the copies.
    """
    wanted: dict[Path, set[Path]] = defaultdict(set)
    for path in needed_files(series):
        found = split_member(path)
        if found is not None:
            wanted[found[0]].add(path)
    gzipped = [instance.path for instance in series.instances if instance.gzipped]
    if not wanted and not gzipped:
        yield series
        return
    with temporary_folder() as folder:
        local: dict[Path, Path] = {}
        for archive, paths in wanted.items():
            unpack(archive, paths, Path(folder), local)
        missing = {path for paths in wanted.values() for path in paths} - local.keys()
        if missing:
            raise ImageReadError(Reason.FILE_CHANGED, f"{len(missing)} members are no longer in the archive")
        for number, path in enumerate(gzipped):
            packed, local[path] = local.get(path, path), Path(folder, f"inflated{number}")
            try:
                inflate(packed, local[path])
            except OSError as error:
                raise ImageReadError(
                    Reason.FILE_CHANGED, f"cannot be opened again ({error.strerror})", path
                ) from error
        copy = moved(series, lambda path: local.get(path, path))
        yield replace(copy, instances=tuple(replace(i, gzipped=False) for i in copy.instances))


def needed_files(series: Series) -> list[Path]:
    """The files that decoding a series opens."""
    if series.nifti is not None:
        return list(dict.fromkeys((series.nifti.path, series.nifti.data_file or series.nifti.path)))
    return [instance.path for instance in series.instances]


def moved(series: Series, place: Callable[[Path], Path]) -> Series:
    """The series with each file that decoding opens where `place` says."""
    nifti = series.nifti
    if nifti is not None:
        data = None if nifti.data_file is None else place(nifti.data_file)
        nifti = replace(nifti, path=place(nifti.path), data_file=data)
    instances = tuple(replace(instance, path=place(instance.path)) for instance in series.instances)
    return replace(series, nifti=nifti, instances=instances)


class MemberSource:
    """Voxels of a series in an archive (`source.ImageSource`): unpacked when `slabs` begins, removed after.

    Where the attributes need the file (`NiftiFile.keep_extensions`, contours), it is unpacked for them and
    kept until the voxels are read, so that the archive is gone through once.

    Parameters
    ----------
    reopen
        Opens a series whose files lie on disk.
    """

    def __init__(self, series: Series, reopen: Callable[[Series], ImageSource]) -> None:
        described = reopen(series)  # nothing is read yet
        self._series = series
        self._reopen = reopen
        self.shape: tuple[int, ...] = described.shape
        self.dtype: np.dtype[Any] = described.dtype
        self.affine: NDArray[np.float64] = described.affine
        self.slope = described.slope
        self.intercept = described.intercept
        nifti = series.nifti
        in_file = nifti is not None and nifti.keep_extensions and nifti.extension_bytes > 0
        in_file |= any(segment.contours for segment in series.segments)
        self._attributes = None if in_file else described.attributes
        self._digest = ""
        self._held: tuple[ExitStack, ImageSource] | None = None

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """See `ImageSource.attributes`."""
        if self._attributes is None:
            self._held = self._unpacked()
            self._attributes = self._held[1].attributes
        return self._attributes

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`."""
        (copies, source), self._held = self._held or self._unpacked(), None
        with copies:
            self._attributes = source.attributes
            yield from source.slabs(depth)
            self._digest = source.source_digest()

    def _unpacked(self) -> tuple[ExitStack, ImageSource]:
        with ExitStack() as copies:
            source = self._reopen(copies.enter_context(local_copy(self._series)))
            return copies.pop_all(), source

    def source_digest(self) -> str:
        """See `ImageSource.source_digest`."""
        if not self._digest:
            raise ImageReadError(Reason.FILE_CHANGED, "not every file has been read: exhaust slabs() first")
        return self._digest
