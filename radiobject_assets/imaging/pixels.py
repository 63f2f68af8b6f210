"""Pixel data of one DICOM file: the bytes of each frame, and their decoding to stored values.

Native (uncompressed) pixel data is taken straight from the file at the offset that the scan recorded;
encapsulated frames are found by their fragments (PS3.5 A.4) and given one at a time to a codec through
pydicom (RLE and 12-bit JPEG: through `codecs`). JPEG goes to GDCM, JPEG 2000 to OpenJPEG: pylibjpeg-libjpeg
is never used, its licence is the GPL.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.acceptance import COMPRESSED
from radiobject_assets.imaging.codecs import decode_jpeg12, decode_rle
from radiobject_assets.imaging.codestream import FrameSize, declared_size
from radiobject_assets.imaging.elements import read_elements
from radiobject_assets.imaging.headers import DEFLATED, EXPLICIT_BIG
from radiobject_assets.imaging.instance import Instance
from radiobject_assets.imaging.quiet import pydicom_quietly
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.values import stored_dtype

_HASH_CHUNK = 4 << 20
_JPEG2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_HTJ2K = tuple(f"1.2.840.10008.1.2.4.20{n}" for n in (1, 2, 3))
_RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


def _plugins(syntax: str) -> tuple[str, ...]:
    # GDCM's JPEG 2000 is not asked where OpenJPEG fails: it aborts the process on many a damaged frame.
    return ("pylibjpeg",) if syntax in _JPEG2000 or syntax in _HTJ2K else ("gdcm",)


class PixelFile:
    """An open DICOM file whose frames can be read in any order; closed by `close`.

    Parameters
    ----------
    hashing
        Compute the digest of the whole file on opening.

    Raises
    ------
    ImageReadError
        With FILE_CHANGED if the file is gone or has another size than at the scan.
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
        if os.fstat(self._descriptor).st_size != instance.size_bytes:
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
        self._start = instance.pixel_offset
        if syntax == DEFLATED:
            self._data = self._inflate(self._data or b"")
        elif instance.pixel_offset < 0:
            self._data = self._pydicom_pixels(self._data or b"")
            self._start = 0
        self._fragments = self._index_fragments() if syntax in COMPRESSED else []

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
        return bytes(value)

    def _frame_bytes(self) -> int:
        i = self.instance
        return (i.rows * i.columns * i.samples * i.bits_allocated + 7) // 8

    def native_bytes(self, offset: int, size: int) -> bytes:
        """`size` bytes of uncompressed pixel data from `offset` after its start."""
        data = self._read(self._start + offset, size)
        if len(data) < size:
            raise ImageReadError(
                Reason.TRUNCATED, "the file ends before its pixel data does", self.instance.path
            )
        return data

    def frame(self, index: int) -> NDArray[Any]:
        """Stored values of a frame, (rows, columns), as in the file: not masked, maybe not native order.

        Colour frames are (rows, columns, 3): red, green, blue.
        """
        i = self.instance
        if i.transfer_syntax in COMPRESSED:
            return self._decode(index)
        dtype = stored_dtype(i).newbyteorder(">" if i.transfer_syntax == EXPLICIT_BIG else "<")
        size = self._frame_bytes()
        values = np.frombuffer(self.native_bytes(index * size, size), dtype)
        if i.samples == 1:
            return values.reshape(i.rows, i.columns)
        return self._native_colours(values)

    def _native_colours(self, values: NDArray[Any]) -> NDArray[Any]:
        i = self.instance
        if i.planar:
            colours = np.moveaxis(values.reshape(i.samples, i.rows, i.columns), 0, 2)
        else:
            colours = values.reshape(i.rows, i.columns, i.samples)
        return self._as_rgb(colours)

    # Encapsulated frames

    def _index_fragments(self) -> list[list[tuple[int, int]]]:
        """(offset, length) of the fragments of each frame, offsets from the start of the pixel data."""
        fragments: list[tuple[int, int]] = []
        offsets: tuple[int, ...] = ()
        at, first = 0, True
        end = (len(self._data) if self._data is not None else self.instance.size_bytes) - self._start
        while at + 8 <= end:
            group, element, length = struct.unpack("<HHI", self._read(self._start + at, 8))
            at += 8
            if (group, element) != (0xFFFE, 0xE000) or at + length > end:
                break
            if first:
                offsets = struct.unpack(f"<{length // 4}I", self._read(self._start + at, length // 4 * 4))
                first = False
                base = at + length
            else:
                fragments.append((at, length))
            at += length
        frames = self.instance.n_frames
        if len(fragments) == frames:
            return [[fragment] for fragment in fragments]
        if frames == 1 and fragments:
            return [fragments]
        if len(offsets) == frames and len(fragments) > frames:
            starts = [base + offset for offset in offsets]
            grouped: list[list[tuple[int, int]]] = [[] for _ in starts]
            for fragment in fragments:
                number = int(np.searchsorted(starts, fragment[0] - 8, side="right")) - 1
                grouped[number].append(fragment)
            if all(grouped):
                return grouped
        raise ImageReadError(
            Reason.DECODER_FAILED,
            f"{len(fragments)} fragments cannot be divided into {frames} frames",
            self.instance.path,
        )

    def _decode(self, index: int) -> NDArray[Any]:
        from pydicom.encaps import encapsulate
        from pydicom.pixels.decoders.base import get_decoder
        from pydicom.uid import UID

        i = self.instance
        data = b"".join(self._read(self._start + at, length) for at, length in self._fragments[index])
        if i.transfer_syntax != _RLE:
            size = declared_size(data)
            if size is None:
                raise ImageReadError(
                    Reason.DECODER_FAILED, f"frame {index + 1} is no compressed image of its kind", i.path
                )
            if size != FrameSize(i.columns, i.rows, i.samples):
                raise ImageReadError(
                    Reason.SIZE_MISMATCH,
                    f"a compressed frame is {size.columns}x{size.rows} with {size.components} components, "
                    f"the header says {i.columns}x{i.rows} with {i.samples}",
                    i.path,
                )
        if i.transfer_syntax == _RLE or (i.transfer_syntax == _JPEG_EXTENDED and i.bits_stored > 8):
            return self._decode_ourselves(data, index)
        layout: Any = {
            "rows": i.rows,
            "columns": i.columns,
            "number_of_frames": 1,
            "samples_per_pixel": i.samples,
            "planar_configuration": i.planar,
            "photometric_interpretation": i.photometric,
            "bits_allocated": i.bits_allocated,
            "bits_stored": i.bits_stored,
            "pixel_representation": int(i.signed),
            "pixel_keyword": "PixelData",
        }
        decoder = get_decoder(UID(i.transfer_syntax))
        errors = []
        for plugin in _plugins(i.transfer_syntax):
            try:
                with pydicom_quietly():
                    array, _ = decoder.as_array(
                        encapsulate([data]), raw=i.samples == 1, decoding_plugin=plugin, **layout
                    )
                return np.asarray(array).reshape(i.rows, i.columns, *([i.samples] if i.samples > 1 else []))
            except (MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - codecs raise anything (Rust's panics are no Exception)
                errors.append(f"{plugin}: {type(error).__name__}")
        raise ImageReadError(
            Reason.DECODER_FAILED, f"frame {index + 1} cannot be decoded ({', '.join(errors)})", i.path
        )

    def _decode_ourselves(self, data: bytes, index: int) -> NDArray[Any]:
        i = self.instance
        dtype = stored_dtype(i).newbyteorder("<")
        try:
            if i.transfer_syntax != _RLE:
                values = decode_jpeg12(data, i.rows, i.columns, i.transfer_syntax, signed=i.signed)
                return values.view(dtype)
            planes = decode_rle(data, i.rows, i.columns, i.samples, dtype.itemsize)
        except ValueError as error:
            raise ImageReadError(
                Reason.DECODER_FAILED, f"frame {index + 1} cannot be decoded: {error}", i.path
            ) from error
        values = planes.view(dtype)[..., 0]
        return values[..., 0] if i.samples == 1 else self._as_rgb(values)

    def _as_rgb(self, colours: NDArray[Any]) -> NDArray[Any]:
        from pydicom.pixels.processing import convert_color_space

        photometric = self.instance.photometric
        if photometric == "RGB":
            return colours
        converted: NDArray[Any] = convert_color_space(colours, photometric, "RGB")
        return converted


def clear_overflow_bits(values: NDArray[Any], instance: Instance) -> None:
    """Keep the BitsStored bits below HighBit, in place: mask unsigned values, extend the sign of others."""
    allocated, stored, high = instance.bits_allocated, instance.bits_stored, instance.high_bit
    if stored >= allocated or values.dtype.kind == "f":
        return
    if values.dtype.kind == "i":
        if high + 1 < allocated:
            np.left_shift(values, allocated - 1 - high, out=values)
        np.right_shift(values, allocated - stored, out=values)
        return
    if high + 1 > stored:
        np.right_shift(values, high + 1 - stored, out=values)
    np.bitwise_and(values, values.dtype.type((1 << stored) - 1), out=values)
