"""The image source of a NIfTI file: voxels streamed in slabs, stored values and their scaling kept."""

from __future__ import annotations

import bz2
import io
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from blake3 import blake3
from isal import igzip_lib
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.nifti.extensions import MAX_EXTENSION_BYTES, extensions_of
from radiobject_assets.imaging.nifti.header import NiftiFile, header_digest_of
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue, Slab

_CHUNK = 1 << 20
_MAX_TRAILING = 64 << 20
_HEADER_BYTES = 544
# isal's stubs declare the class as an instance of Exception.
_InflateError: type[Exception] = cast("type[Exception]", igzip_lib.IsalError)


class NiftiVoxels:
    """Voxels of one NIfTI image (`source.ImageSource`)."""

    def __init__(self, nifti: NiftiFile, attributes: Mapping[str, AttributeValue]) -> None:
        self._nifti = nifti
        components = nifti.n_components if nifti.component_dtype is not None else 1
        self.shape: tuple[int, ...] = nifti.shape if components == 1 else (*nifti.shape, components)
        if nifti.channel is not None:
            self.shape = nifti.shape[:3]
        if nifti.interleaved:
            components = nifti.shape[3]
        self._components = components
        self.dtype: np.dtype[Any] = nifti.dtype
        self.affine: NDArray[np.float64] = nifti.matrix
        self.slope = nifti.slope
        self.intercept = nifti.intercept
        self._attributes = dict(attributes)
        self._digest = ""
        self._described = False
        self._started: _Reader | None = None

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """See `ImageSource.attributes`. Where header extensions are kept, the file is opened for them."""
        n = self._nifti
        if n.keep_extensions and n.extension_bytes and not self._described:
            self._described = True
            self._started = self._start()
            found = extensions_of(self._started.header, n)
            if found:
                self._attributes["nifti_extensions"] = found
        return self._attributes

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`. A compressed file is inflated as it is read, in bounded memory."""
        if depth < 1:
            raise ValueError(f"depth is {depth}, use 1 or more")
        channel = self._nifti.channel
        if channel is not None and self._nifti.interleaved:
            yield from self._pass(depth, channel, 0)
            return
        for component in range(self._components):  # interleaved in the file: one pass for each
            yield from self._pass(depth, component, component)

    def _pass(self, depth: int, component: int, at: int) -> Iterator[Slab]:
        """The slabs of one of the values that lie together, the first of them at `at` on the fourth axis."""
        columns, rows, n_slices = self.shape[:3]
        together = self._nifti.interleaved or len(self._nifti.shape) < 4
        n_times = 1 if together else self._nifti.shape[3]
        channel = None if self._nifti.interleaved else self._nifti.channel
        order = self.dtype.newbyteorder(">" if self._nifti.order == ">" else "<")
        reader, self._started = self._started or self._start(), None
        try:
            for t in range(n_times):
                if channel not in (None, t):
                    reader.pass_over(columns * rows * n_slices * self.dtype.itemsize)
                    continue
                for z in range(0, n_slices, depth):
                    thick = min(depth, n_slices - z)
                    stored = self._values(reader, columns * rows * thick, component, order)
                    voxels = stored.reshape((columns, rows, thick), order="F")
                    yield Slab(z, at if channel is None else 0, voxels.astype(self.dtype, copy=False))
                at += 1
            nifti = self._nifti.format == "nifti"
            self._digest = reader.finish(Reason.NIFTI_INVALID if nifti else Reason.SIZE_MISMATCH)
        except OSError as error:
            raise ImageReadError(
                Reason.NOT_READABLE, f"cannot be read ({error.strerror})", reader.path
            ) from error
        finally:
            reader.close()

    def _values(self, reader: _Reader, count: int, component: int, order: np.dtype[Any]) -> NDArray[Any]:
        """The next `count` voxels; of values that lie together, one of each, without holding the others."""
        together = self._components
        if together == 1:
            return np.frombuffer(reader.take(count * order.itemsize), order)
        values = np.empty(count, order)
        step = max(1, _CHUNK // (together * order.itemsize))
        for start in range(0, count, step):
            some = min(step, count - start)
            taken = np.frombuffer(reader.take(some * together * order.itemsize), order)
            values[start : start + some] = taken[component::together]
        return values

    def _start(self) -> _Reader:
        """The data file, open at its first voxel; the header's bytes are kept."""
        data = self._nifti.data_file or self._nifti.path
        hasher = blake3()
        try:
            header = b""
            if data != self._nifti.path:
                header = self._nifti.path.read_bytes()
                hasher.update(header)
            raw = open(data, "rb", buffering=0)  # noqa: SIM115 - closed by the reader
        except OSError as error:
            raise ImageReadError(
                Reason.FILE_CHANGED, f"cannot be opened again ({error.strerror})", data
            ) from error
        reader = _Reader(raw, hasher, data)
        try:
            if os.fstat(raw.fileno()).st_size != self._expected_size(data):
                raise ImageReadError(Reason.FILE_CHANGED, "has another size than when it was scanned", data)
            reader.start(whole=self._nifti.format in ("nifti", "mgh"))
            if header:
                reader.header = _inflated(header)
                reader.skip(self._nifti.data_offset)
            else:
                reader.header = reader.skip(self._nifti.data_offset)
            if self._nifti.packing:
                reader.unpack(self._nifti.packing)
            known = self._nifti.header_digest
            if known and header_digest_of(reader.header) != known:
                raise ImageReadError(Reason.FILE_CHANGED, "has another header than when it was scanned", data)
        except OSError as error:
            reader.close()
            raise ImageReadError(Reason.NOT_READABLE, f"cannot be read ({error.strerror})", data) from error
        except BaseException:
            reader.close()
            raise
        return reader

    def _expected_size(self, data: Path) -> int:
        return self._nifti.size_bytes if data == self._nifti.path else os.stat(data).st_size

    def source_digest(self) -> str:
        """blake3 over the files' bytes (header file first); valid once `slabs` was exhausted."""
        if not self._digest:
            raise ImageReadError(
                Reason.FILE_CHANGED, "not every byte has been read yet: exhaust slabs() first"
            )
        return self._digest


class _Reader:
    """Hands out consecutive bytes of a plain or gzip file, hashing the file's own bytes on the way."""

    def __init__(self, raw: io.FileIO, hasher: Any, path: Path) -> None:
        self._raw = raw
        self._hasher = hasher
        self.path = path
        self.header = b""
        self._pending = b""
        self._inflater: Any = None
        self._new_inflater: Callable[[], Any] = partial(
            igzip_lib.IgzipDecompressor, flag=igzip_lib.DECOMP_GZIP
        )
        self._next = b"\x1f\x8b"  # what another member begins with
        self._spare = _MAX_TRAILING

    def start(self, *, whole: bool = True) -> None:
        """Read the first bytes: they tell whether the file is compressed as a `whole`, where it may be."""
        self._pending = self._refill()
        self._inflater = self._new_inflater() if whole and self._pending[:2] == b"\x1f\x8b" else None

    def unpack(self, packing: str) -> None:
        """From here on, what follows is compressed."""
        self._spare = 0
        if packing == "bzip2":
            self._next = b"BZ"
            self._new_inflater = bz2.BZ2Decompressor
        elif packing == "zlib":
            self._next = b""
            self._new_inflater = partial(igzip_lib.IgzipDecompressor, flag=igzip_lib.DECOMP_ZLIB)
        self._inflater = self._new_inflater()

    def pass_over(self, size: int) -> None:
        """Step over `size` bytes of voxels."""
        while size > 0:
            size -= len(self.take(min(size, _CHUNK)))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._raw.close()

    def _refill(self) -> bytes:
        data = self._raw.read(_CHUNK) or b""
        self._hasher.update(data)
        return data

    def take(self, size: int) -> bytearray:
        """Exactly `size` bytes."""
        out = bytearray(size)
        view = memoryview(out)
        done = 0
        while done < size:
            piece = self._piece(size - done)
            if not piece:
                raise ImageReadError(Reason.TRUNCATED, "the file ends before its voxels do", self.path)
            view[done : done + len(piece)] = piece
            done += len(piece)
        return out

    def skip(self, size: int) -> bytes:
        """Step over `size` bytes; returns the first of them, as far as header extensions are kept."""
        first = bytes(self.take(min(size, _HEADER_BYTES + MAX_EXTENSION_BYTES)))
        size -= len(first)
        while size > 0:
            size -= len(self.take(min(size, _CHUNK)))
        return first

    def _piece(self, limit: int) -> bytes:
        if self._inflater is None:
            if not self._pending:
                self._pending = self._refill()
            piece, self._pending = self._pending[:limit], self._pending[limit:]
            return piece
        limit = min(limit, 4 * _CHUNK)
        while True:
            try:
                if self._inflater.eof:  # a gzip file may have several members
                    rest = self._inflater.unused_data + self._pending
                    if len(rest) < 2:
                        rest += self._refill()
                    if not self._next or rest[:2] != self._next:
                        return b""
                    self._inflater, self._pending = self._new_inflater(), rest
                feed = b""
                if self._inflater.needs_input:
                    feed, self._pending = self._pending or self._refill(), b""
                    if not feed:
                        return b""
                inflated: bytes = self._inflater.decompress(feed, limit)
            except (_InflateError, EOFError, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # the disk's, not the decompressor's
                raise ImageReadError(
                    Reason.DECODER_FAILED, f"compressed data is damaged ({error})", self.path
                ) from error
            if inflated:
                return inflated

    def finish(self, too_much: Reason) -> str:
        """Read what follows the voxels, since gzip ends with a CRC; returns the digest of all bytes.

        `too_much` is the reason where far more follows.
        """
        spare = self._spare
        while self._inflater is not None and (piece := self._piece(_CHUNK)):
            spare -= len(piece)
            if spare < 0:
                raise ImageReadError(too_much, "holds far more data than its voxels", self.path)
        if self._inflater is not None and not self._inflater.eof:
            raise ImageReadError(Reason.TRUNCATED, "the compressed data ends too early", self.path)
        while self._refill():
            continue
        return str(self._hasher.hexdigest())


def _inflated(header: bytes) -> bytes:
    if header[:2] != b"\x1f\x8b":
        return header
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(header, _HEADER_BYTES + MAX_EXTENSION_BYTES)
    except zlib.error:
        return b""
