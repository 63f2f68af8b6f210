"""JPEG-LS of every precision that it has, with and without signs and losses, is decoded rightly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from jpeg_ls import encode_buffer
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.pixels.coded_frames import CodedFrame, decode_frame
from radiobject_assets.imaging.reasons import Reason

ROWS, COLUMNS = 12, 13
LOSSLESS, NEAR_LOSSLESS = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"


def _values(bits: int, *, signed: bool) -> NDArray[np.int64]:
    low = -(1 << bits - 1) if signed else 0
    values = np.random.default_rng(bits).integers(low, low + (1 << bits), (ROWS, COLUMNS))
    values.flat[:2] = low, low + (1 << bits) - 1
    return values


def _frame(values: NDArray[np.int64], bits: int, *, signed: bool, error: int = 0) -> CodedFrame:
    """A codestream of `bits` bits a sample: JPEG-LS knows no signs, so those of two's complement."""
    raw = (values & ((1 << bits) - 1)).astype("<u1" if bits <= 8 else "<u2")
    return CodedFrame(
        data=bytes(encode_buffer(raw.tobytes(), ROWS, COLUMNS, 1, bits, error)),
        number=1,
        transfer_syntax=NEAR_LOSSLESS if error else LOSSLESS,
        rows=ROWS,
        columns=COLUMNS,
        samples=1,
        planar=0,
        photometric="MONOCHROME2",
        bits_allocated=16,
        bits_stored=bits,
        signed=signed,
    )


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(2, 17))
def test_lossless_frames_give_the_values_that_went_in(bits: int, signed: bool) -> None:
    values = _values(bits, signed=signed)
    np.testing.assert_array_equal(decode_frame(_frame(values, bits, signed=signed)), values)


@pytest.mark.parametrize("bits", [6, 8, 12, 16])
def test_near_lossless_frames_are_off_by_no_more_than_they_say(bits: int) -> None:
    values = _values(bits, signed=False)
    decoded = decode_frame(_frame(values, bits, signed=False, error=2))
    assert 0 < np.abs(decoded.astype(int) - values).max() <= 2


@pytest.mark.timeout(20)
@pytest.mark.parametrize("bits", [8, 12])
def test_a_frame_that_is_cut_anywhere_is_refused_at_once(bits: int) -> None:
    values = _values(bits, signed=False)
    frame = _frame(values, bits, signed=False)
    scan_starts = frame.data.index(b"\xff\xda")
    for length in range(scan_starts, len(frame.data) - 2):
        with pytest.raises(ImageReadError) as caught:
            decode_frame(replace(frame, data=frame.data[:length]))
        assert caught.value.code == Reason.DECODER_FAILED


@pytest.mark.parametrize("tail", [b"", b"\xff\xd9", b"\xff\xd9\0", b"\xff\xd9\0\0"])
def test_a_whole_frame_may_lack_its_end_or_be_padded(tail: bytes) -> None:
    values = _values(12, signed=True)
    frame = _frame(values, 12, signed=True)
    assert frame.data.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(decode_frame(replace(frame, data=frame.data[:-2] + tail)), values)
