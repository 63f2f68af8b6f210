"""One compressed frame and its decoding: bytes and what the header says of them in, stored values out.

A `CodedFrame` needs no file, so any process can decode it (`decoders`). RLE and grey images go to
`codecs`; colours and HTJ2K through pydicom, which takes 0.2 s to import. A decoder process imports this
module, so it imports little itself.
pylibjpeg-libjpeg is never used, its licence is the GPL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.suppressed_output import pydicom_quietly
from radiobject_assets.imaging.pixels.codecs import (
    decode_jpeg12,
    decode_jpeg_ls,
    decode_rle,
    decode_with_gdcm,
    decode_with_openjpeg,
)
from radiobject_assets.imaging.pixels.codestream import FrameSize, declared_size, precision_of, sample_format
from radiobject_assets.imaging.reasons import Reason

RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
_JPEG2000 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
NATIVE_CODECS = frozenset((*_JPEG, *_JPEG_LS, *_JPEG2000))
"""Transfer syntaxes that a C library decodes, which may crash or hang on damaged bytes."""


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """A frame's codestream with the header's description of it; `number` counts from 1, for messages."""

    data: bytes
    number: int
    transfer_syntax: str
    rows: int
    columns: int
    samples: int
    planar: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    signed: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values that the header announces."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bits_allocated // 8}")


def decode_frame(frame: CodedFrame) -> NDArray[Any]:
    """Stored values of a frame: (rows, columns), or (rows, columns, 3) as red, green, blue.

    Raises
    ------
    ImageReadError
        With DECODER_FAILED, or SIZE_MISMATCH where the codestream has another size than the header says.
    """
    _check_size(frame)
    try:
        if frame.transfer_syntax == RLE:
            return _decode_rle(frame)
        if frame.transfer_syntax == _JPEG_EXTENDED and frame.bits_stored > 8:
            f = frame
            values = decode_jpeg12(f.data, f.rows, f.columns, f.transfer_syntax, signed=f.signed)
            return values.view(f.dtype)
        if frame.samples == 1 and frame.transfer_syntax in _JPEG_LS:
            return _decode_jpeg_ls(frame)
        if frame.samples == 1 and frame.transfer_syntax in _JPEG:
            return _decode_jpeg(frame)
        if frame.samples == 1 and frame.transfer_syntax in _JPEG2000[:2]:
            return _decode_jpeg2000(frame)
    except ValueError as error:
        raise ImageReadError(
            Reason.DECODER_FAILED, f"frame {frame.number} cannot be decoded: {error}"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # codecs raise anything; the verdict is the same
        raise ImageReadError(
            Reason.DECODER_FAILED, f"frame {frame.number} cannot be decoded ({type(error).__name__})"
        ) from error
    return _decode_with_pydicom(frame)


def _check_size(frame: CodedFrame) -> None:
    if frame.transfer_syntax == RLE:
        return
    size = declared_size(frame.data)
    if size is None:
        raise ImageReadError(
            Reason.DECODER_FAILED, f"frame {frame.number} is no compressed image of its kind"
        )
    if size != FrameSize(frame.columns, frame.rows, frame.samples):
        raise ImageReadError(
            Reason.SIZE_MISMATCH,
            f"a compressed frame is {size.columns}x{size.rows} with {size.components} components, "
            f"the header says {frame.columns}x{frame.rows} with {frame.samples}",
        )


def _decode_rle(frame: CodedFrame) -> NDArray[Any]:
    unsigned = decode_rle(frame.data, frame.rows, frame.columns, frame.samples, frame.dtype.itemsize)
    values = unsigned.view(frame.dtype)
    return values[..., 0] if frame.samples == 1 else as_rgb(values, frame.photometric)


def _decode_jpeg_ls(frame: CodedFrame) -> NDArray[Any]:
    """JPEG-LS of one component. It does not know signs: those of the header are extended."""
    precision = precision_of(frame.data) or frame.bits_stored
    bits = 8 if precision <= 8 else 16
    values = decode_jpeg_ls(frame.data, frame.rows, frame.columns, bits=bits, signed=frame.signed)
    if frame.signed:
        _extend_signs(values, bits - precision)
    return values


def _decode_jpeg(frame: CodedFrame) -> NDArray[Any]:
    """JPEG of one component. It leaves the bits above BitsStored undefined."""
    bits, stored = frame.bits_allocated, frame.bits_stored
    values = decode_with_gdcm(
        frame.data, frame.rows, frame.columns, frame.transfer_syntax, frame.photometric,
        bits=bits, stored=stored, signed=frame.signed,
    )  # fmt: skip
    _extend_signs(values, bits - stored)
    return values


def _extend_signs(values: NDArray[Any], spare: int) -> None:
    """Make the `spare` upper bits of each value, in place, those that its type gives to the rest."""
    if spare > 0:
        np.left_shift(values, spare, out=values)
        np.right_shift(values, spare, out=values)


def _decode_jpeg2000(frame: CodedFrame) -> NDArray[Any]:
    """JPEG 2000 of one component, corrected as pydicom corrects it (and without importing it)."""
    precision, signed = sample_format(frame.data)
    precision = precision or frame.bits_stored
    bits = next(size for size in (8, 16, 32) if precision <= size)
    values = decode_with_openjpeg(frame.data, frame.rows, frame.columns, bits=bits, signed=frame.signed)
    if signed != frame.signed:  # the header is right (PS3.5 8.2.4)
        _extend_signs(values, bits - precision)
    return values


def _decode_with_pydicom(frame: CodedFrame) -> NDArray[Any]:
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    layout: Any = {
        "rows": frame.rows,
        "columns": frame.columns,
        "number_of_frames": 1,
        "samples_per_pixel": frame.samples,
        "planar_configuration": frame.planar,
        "photometric_interpretation": frame.photometric,
        "bits_allocated": frame.bits_allocated,
        "bits_stored": frame.bits_stored,
        "pixel_representation": int(frame.signed),
        "pixel_keyword": "PixelData",
    }
    # GDCM's JPEG 2000 is not asked where OpenJPEG fails: it aborts the process on many a damaged frame.
    plugin = "pylibjpeg" if frame.transfer_syntax in _JPEG2000 else "gdcm"
    try:
        with pydicom_quietly():
            array, _ = get_decoder(UID(frame.transfer_syntax)).as_array(
                encapsulate([frame.data]), raw=frame.samples == 1, decoding_plugin=plugin, **layout
            )
        colours = [frame.samples] if frame.samples > 1 else []
        return np.asarray(array).reshape(frame.rows, frame.columns, *colours)
    except (MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # codecs raise anything (Rust's panics are no Exception)
        raise ImageReadError(
            Reason.DECODER_FAILED,
            f"frame {frame.number} cannot be decoded ({plugin}: {type(error).__name__})",
        ) from error


def as_rgb(colours: NDArray[Any], photometric: str) -> NDArray[Any]:
    """Colours (rows, columns, 3) of a photometric interpretation as red, green, blue."""
    if photometric == "RGB":
        return colours
    from pydicom.pixels.processing import convert_color_space

    converted: NDArray[Any] = convert_color_space(colours, photometric, "RGB")
    return converted
