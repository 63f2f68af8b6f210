"""Pixel data of one DICOM file: the bytes of each frame, and their decoding to stored values.

Native (uncompressed) pixel data is taken straight from the file at the offset that the scan recorded;
encapsulated frames are found by their fragments (PS3.5 A.4) and decoded one at a time (`coded_frames`).
"""

from __future__ import annotations

import io
import os
import zlib
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.elements import read_elements
from radiobject_assets.imaging.dicom.headers import DEFLATED, EXPLICIT_BIG, reread_elements
from radiobject_assets.imaging.dicom.instance import Instance, header_length
from radiobject_assets.imaging.dicom.lookup_tables import LookupTable, lookup_table
from radiobject_assets.imaging.dicom.suppressed_output import pydicom_quietly
from radiobject_assets.imaging.dicom.values import file_dtype
from radiobject_assets.imaging.pixels.acceptance import COMPRESSED, SUBSAMPLED, native_bits
from radiobject_assets.imaging.pixels.coded_frames import CodedFrame, as_rgb, decode_frame
from radiobject_assets.imaging.pixels.fragments import Fragment, fragments_of_frames
from radiobject_assets.imaging.pixels.packing import expand_422, unpack_12_bits, unpack_bits
from radiobject_assets.imaging.reasons import Reason

_HASH_CHUNK = 4 << 20


class PixelFile:
    """An open DICOM file whose frames can be read in any order; closed by `close`.

    Parameters
    ----------
    hashing
        Compute the digest of the whole file on opening.

    Raises
    ------
    ImageReadError
        With FILE_CHANGED if the file is gone or has another size or header than at the scan.
    """

    def __init__(self, instance: Instance, *, hashing: bool = True) -> None:
        self.instance = instance
        self.digest = b""
        try:
            self._descriptor = os.open(instance.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise ImageReadError(
                Reason.FILE_CHANGED, f"cannot be opened again ({error.strerror})", instance.path
            ) from error
        try:
            self._open(hashing)
        except BaseException:
            self.close()
            raise

    def _open(self, hashing: bool) -> None:
        instance = self.instance
        self._opened = os.fstat(self._descriptor)
        if self._opened.st_size != instance.size_bytes:
            raise ImageReadError(
                Reason.FILE_CHANGED, "has another size than when it was scanned", instance.path
            )
        syntax = instance.transfer_syntax
        # A file of one frame is read in one go; larger ones are hashed in chunks and read frame by frame.
        whole = instance.n_frames == 1 or syntax == DEFLATED or instance.pixel_offset < 0
        self._data: bytes | None = None
        if whole:
            self._data = self._read(0, instance.size_bytes)
            if hashing:
                self.digest = blake3(self._data).digest()
        elif hashing:
            self.digest = self._hash()
        if instance.header_digest:
            head = self._read(0, header_length(instance.size_bytes, instance.pixel_offset))
            if blake3(head).hexdigest() != instance.header_digest:
                raise ImageReadError(
                    Reason.FILE_CHANGED, "has another header than when it was scanned", instance.path
                )
        self._start = instance.pixel_offset
        self._table = self._lookup_table() if instance.table else None
        # In big endian order, pixels of 8 bits in elements of words (OW) are swapped in pairs (PS3.5 8.1.1).
        self._swapped = (
            syntax == EXPLICIT_BIG
            and instance.bits_allocated == 8
            and instance.pixel_offset >= 8
            and self._read(instance.pixel_offset - 8, 2) == b"OW"
        )
        if syntax == DEFLATED:
            self._data = self._inflate(self._data or b"")
        elif instance.pixel_offset < 0:
            self._data = self._pydicom_pixels(self._data or b"")
            self._start = 0
        self._fragments = self._index_fragments() if syntax in COMPRESSED else []

    def _lookup_table(self) -> LookupTable:
        i = self.instance
        header = self._data if self._data is not None else self._read(0, i.pixel_offset)
        try:
            table = lookup_table(reread_elements(i.path, header), signed=i.signed)
        except ValueError as error:
            raise ImageReadError(Reason.FILE_CHANGED, f"the instance {error}", i.path) from error
        if table is None or (table.kind, table.values.dtype.itemsize * 8) != (i.table, i.table_bits):
            raise ImageReadError(Reason.FILE_CHANGED, "has another lookup table than at the scan", i.path)
        return table

    def check_unchanged(self) -> None:
        """Raise ImageReadError with FILE_CHANGED if the file was written to since it was opened."""
        now = os.fstat(self._descriptor)
        if (now.st_size, now.st_mtime_ns) != (self._opened.st_size, self._opened.st_mtime_ns):
            raise ImageReadError(Reason.FILE_CHANGED, "was written to while it was read", self.instance.path)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._data = None

    def _read(self, offset: int, size: int) -> bytes:
        if getattr(self, "_data", None) is not None:
            return (self._data or b"")[offset : offset + size]
        try:
            data = os.pread(self._descriptor, size, offset)
            while len(data) < size:  # one call returns at most 2 GiB
                more = os.pread(self._descriptor, size - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise ImageReadError(
                Reason.NOT_READABLE, f"cannot be read ({error.strerror})", self.instance.path
            ) from error
        return data

    def _hash(self) -> bytes:
        hasher = blake3()
        for offset in range(0, self.instance.size_bytes, _HASH_CHUNK):
            hasher.update(self._read(offset, min(_HASH_CHUNK, self.instance.size_bytes - offset)))
        return hasher.digest()

    def _inflate(self, data: bytes) -> bytes:
        start = 132 if data[128:132] == b"DICM" else 0
        _, start = read_elements(
            lambda offset, size: data[offset : offset + size],
            start, len(data), {}, explicit=True, big=False, only_group=2,
        )  # fmt: skip
        needed = max(0, self.instance.pixel_offset) + self._frame_bytes() * self.instance.n_frames
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], needed)
        except zlib.error as error:
            raise ImageReadError(
                Reason.DECODER_FAILED, f"deflated data: {error}", self.instance.path
            ) from error

    def _pydicom_pixels(self, data: bytes) -> bytes:
        import pydicom

        try:
            with pydicom_quietly():
                dataset = pydicom.dcmread(io.BytesIO(data), force=True)
                value = dataset[self.instance.pixel_keyword].value
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # pydicom raises whatever the bytes lead it to
            raise ImageReadError(
                Reason.DAMAGED_HEADER,
                f"pixel data cannot be reached ({type(error).__name__})",
                self.instance.path,
            ) from error
        return bytes(value or b"")  # of an element without a value: too short, as is told where it is read

    def _frame_bytes(self) -> int:
        return (native_bits(self.instance) + 7) // 8

    def native_bytes(self, offset: int, size: int) -> bytes:
        """`size` bytes of uncompressed pixel data from `offset` after its start."""
        if self._swapped:
            return self._swapped_bytes(offset, size)
        data = self._read(self._start + offset, size)
        if len(data) < size:
            raise ImageReadError(
                Reason.TRUNCATED, "the file ends before its pixel data does", self.instance.path
            )
        return data

    def _swapped_bytes(self, offset: int, size: int) -> bytes:
        skip = offset % 2
        whole = skip + size + (skip + size) % 2
        words = np.frombuffer(self._read(self._start + offset - skip, whole), np.uint8)
        if len(words) < whole:
            raise ImageReadError(
                Reason.TRUNCATED, "the file ends before its pixel data does", self.instance.path
            )
        return words.reshape(-1, 2)[:, ::-1].tobytes()[skip : skip + size]

    def frame(self, index: int, decoded: NDArray[Any] | None = None) -> NDArray[Any]:
        """Stored values of a frame, (rows, columns), as in the file: not masked, maybe not native order.

        Colour frames are (rows, columns, 3): red, green, blue. Where the header has a lookup table, the
        values are what that gives. `decoded` is what a decoder has made of `coded(index)`, if one has.
        """
        values = self._frame(index) if decoded is None else decoded
        if self._table is None:
            return values
        values = values.astype(file_dtype(self.instance))
        _keep_stored_bits(values, self.instance)
        return self._table.apply(values)

    def _frame(self, index: int) -> NDArray[Any]:
        i = self.instance
        if i.transfer_syntax in COMPRESSED:
            return self._decode(index)
        if i.bits_allocated in (1, 12):
            return self._packed(index)
        dtype = file_dtype(i).newbyteorder(">" if i.transfer_syntax == EXPLICIT_BIG else "<")
        size = self._frame_bytes()
        values = np.frombuffer(self.native_bytes(index * size, size), dtype)
        if i.samples == 1:
            return values.reshape(i.rows, i.columns)
        return self._native_colours(values)

    def _packed(self, index: int) -> NDArray[Any]:
        i = self.instance
        count = i.rows * i.columns
        first = index * count * i.bits_allocated  # frames follow each other without padding
        skip = first % 8
        data = self.native_bytes(first // 8, (skip + count * i.bits_allocated + 7) // 8)
        if i.bits_allocated == 1:
            return unpack_bits(data, skip, count).reshape(i.rows, i.columns)
        return unpack_12_bits(data, skip, count).view(file_dtype(i)).reshape(i.rows, i.columns)

    def _native_colours(self, values: NDArray[Any]) -> NDArray[Any]:
        i = self.instance
        if i.photometric == SUBSAMPLED:
            colours = expand_422(values, i.rows, i.columns)
        elif i.planar:
            colours = np.moveaxis(values.reshape(i.samples, i.rows, i.columns), 0, 2)
        else:
            colours = values.reshape(i.rows, i.columns, i.samples)
        return self._as_rgb(colours)

    # Encapsulated frames

    def _index_fragments(self) -> list[list[Fragment]]:
        size = (len(self._data) if self._data is not None else self.instance.size_bytes) - self._start

        def read(at: int, count: int) -> bytes:
            return self._read(self._start + at, count)

        try:
            return fragments_of_frames(read, size, self.instance.n_frames)
        except ValueError as error:
            raise ImageReadError(Reason.DECODER_FAILED, str(error), self.instance.path) from error

    def coded(self, index: int) -> CodedFrame:
        """A compressed frame as it is in the file, for a decoder anywhere."""
        i = self.instance
        return CodedFrame(
            data=b"".join(self._read(self._start + at, length) for at, length in self._fragments[index]),
            number=index + 1,
            transfer_syntax=i.transfer_syntax,
            rows=i.rows,
            columns=i.columns,
            samples=i.samples,
            planar=i.planar,
            photometric=i.photometric,
            bits_allocated=i.bits_allocated,
            bits_stored=i.bits_stored,
            signed=i.signed,
        )

    def _decode(self, index: int) -> NDArray[Any]:
        try:
            return decode_frame(self.coded(index))
        except ImageReadError as error:
            raise ImageReadError(error.code, error.detail, self.instance.path) from error

    def _as_rgb(self, colours: NDArray[Any]) -> NDArray[Any]:
        return as_rgb(colours, self.instance.photometric)


def clear_overflow_bits(values: NDArray[Any], instance: Instance) -> None:
    """Keep the BitsStored bits below HighBit, in place: mask unsigned values, extend the sign of others."""
    if not instance.table:  # what a table gives has no bits to clear
        _keep_stored_bits(values, instance)


def _check_high_bit(values: NDArray[Any], instance: Instance) -> None:
    """Refuse values that lie in the lowest bits where HighBit says that they lie further up."""
    unused = instance.high_bit + 1 - instance.bits_stored
    if unused <= 0:
        return
    together = int(np.bitwise_or.reduce(values, axis=None))
    if together & ((1 << unused) - 1) and 0 <= together < 1 << instance.bits_stored:
        raise ImageReadError(
            Reason.UNSUPPORTED_PIXELS,
            f"HighBit {instance.high_bit} says that the lowest {unused} bits are not part of the "
            f"{instance.bits_stored} stored ones, but those are the bits that are used",
            instance.path,
        )


def _keep_stored_bits(values: NDArray[Any], instance: Instance) -> None:
    stored, high, width = instance.bits_stored, instance.high_bit, values.dtype.itemsize * 8
    if stored >= width or values.dtype.kind == "f":
        return
    _check_high_bit(values, instance)
    if values.dtype.kind == "i":
        if high + 1 < width:
            np.left_shift(values, width - 1 - high, out=values)
        np.right_shift(values, width - stored, out=values)
        return
    if high + 1 > stored:
        np.right_shift(values, high + 1 - stored, out=values)
    np.bitwise_and(values, values.dtype.type((1 << stored) - 1), out=values)
