"""Decoders of compressed frames: RLE by its segments; grey JPEG by GDCM, JPEG-LS by CharLS, 2000 by OpenJPEG.

They are called without pydicom: its import takes longer than many a series, it refuses to ask GDCM for JPEG
of 12 bits, and pylibjpeg's RLE frame decoder panics where a segment decodes to more than its share (a panic
of Rust prints a backtrace); its segment decoder does not. pylibjpeg-libjpeg is never used: its licence is
the GPL.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.dicom.suppressed_output import native_stderr_silenced

_RLE_HEADER_BYTES = 64
_MAX_SEGMENTS = 15
_END_OF_IMAGE = b"\xff\xd9"


def decode_rle(data: bytes, rows: int, columns: int, samples: int, sample_bytes: int) -> NDArray[Any]:
    """Decode one RLE frame (PS3.5 annex G).

    Returns
    -------
    NDArray[Any]
        Shape (rows, columns, samples): unsigned integers of `sample_bytes`, in little endian order.

    Raises
    ------
    ValueError
        The frame's segments are not those of such an image, or one is damaged.
    """
    from rle.rle import decode_segment

    if len(data) < _RLE_HEADER_BYTES:
        raise ValueError("the frame is shorter than its header")
    count, *offsets = struct.unpack_from("<16I", data)
    if count != samples * sample_bytes or count > _MAX_SEGMENTS:
        raise ValueError(f"{count} segments for {samples} samples of {sample_bytes} bytes")
    bounds = [*offsets[:count], len(data)]
    if bounds[0] < _RLE_HEADER_BYTES or any(a >= b for a, b in pairwise(bounds)):
        raise ValueError("segments overlap or lie outside of the frame")
    pixels = rows * columns
    out = np.empty((samples, pixels), f"<u{sample_bytes}")
    for number, (start, end) in enumerate(pairwise(bounds)):
        # A byte never needs more than two in the frame: what lies beyond is padding, not to be inflated.
        segment = decode_segment(data[start : min(end, start + 2 * pixels + 2)])
        if len(segment) < pixels:
            raise ValueError(f"segment {number + 1} holds {len(segment)} of {pixels} bytes")
        sample, less_significant = divmod(number, sample_bytes)
        values, plane = out[sample], np.frombuffer(segment, np.uint8, pixels)
        if less_significant:
            np.left_shift(values, 8, out=values)
            np.bitwise_or(values, plane, out=values)
        else:
            values[:] = plane
    return np.moveaxis(out.reshape(samples, rows, columns), 0, 2)


def decode_jpeg12(data: bytes, rows: int, columns: int, syntax: str, *, signed: bool) -> NDArray[np.uint16]:
    """Decode one grey JPEG frame (process 2 and 4) of 12 bits, shape (rows, columns).

    Raises
    ------
    ValueError
        GDCM cannot decode it.
    """
    with native_stderr_silenced():  # GDCM first asks its 8-bit decoder, which complains
        values = decode_with_gdcm(
            data, rows, columns, syntax, "MONOCHROME2", bits=16, stored=12, signed=signed
        )
    return values.view("<u2")


def decode_with_gdcm(
    data: bytes,
    rows: int,
    columns: int,
    syntax: str,
    photometric: str,
    *,
    bits: int,
    stored: int,
    signed: bool,
) -> NDArray[Any]:
    """Decode one grey JPEG frame, shape (rows, columns), to integers of `bits` bits.

    Raises
    ------
    ValueError
        GDCM cannot decode it.
    """
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image: Any = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType(photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(1, bits, stored, stored - 1, int(signed)))
    text = image.GetBuffer()
    if text is None:
        raise ValueError("GDCM cannot decode the frame")
    buffer = text.encode("utf-8", "surrogateescape")  # GDCM gives bytes as text
    return _as_image(bytearray(buffer), rows, columns, bits, signed, "GDCM")


def decode_jpeg_ls(data: bytes, rows: int, columns: int, *, bits: int, signed: bool) -> NDArray[Any]:
    """Decode one grey JPEG-LS frame, shape (rows, columns), to integers of `bits` bits.

    Not by GDCM: its CharLS is an older one, which takes half as long again and refuses 6 and 7 bits.

    Raises
    ------
    ValueError
        CharLS cannot decode it.
    """
    from jpeg_ls import decode_pixel_data

    if not data.endswith((_END_OF_IMAGE, _END_OF_IMAGE + b"\0")):
        data += _END_OF_IMAGE  # without it CharLS looks for the rest of a frame that is cut for 15 s and more
    try:
        buffer, _ = decode_pixel_data(data)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return _as_image(buffer, rows, columns, bits, signed, "CharLS")


def decode_with_openjpeg(data: bytes, rows: int, columns: int, *, bits: int, signed: bool) -> NDArray[Any]:
    """Decode one grey JPEG 2000 frame, shape (rows, columns), to integers of `bits` bits.

    Raises
    ------
    ValueError
        OpenJPEG cannot decode it.
    """
    from openjpeg.utils import decode_pixel_data

    try:
        buffer = decode_pixel_data(data, version=2)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return _as_image(buffer, rows, columns, bits, signed, "OpenJPEG")


def _as_image(
    buffer: bytearray | NDArray[Any], rows: int, columns: int, bits: int, signed: bool, library: str
) -> NDArray[Any]:
    """Little-endian values of a library's buffer, which they share; ValueError where it has another size."""
    if len(buffer) != rows * columns * bits // 8:
        raise ValueError(f"{library} gave {len(buffer)} bytes for {columns}x{rows} pixels")
    return np.frombuffer(buffer, f"<{'i' if signed else 'u'}{bits // 8}").reshape(rows, columns)
