"""What a decoder process does: compressed frames in on stdin, pixels out on stdout, until stdin ends.

A message is a header of two sizes, a JSON document and bytes. Nothing that comes from here is unpickled: a
codestream that takes over this process gains no more than wrong pixels.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import Any, BinaryIO

import numpy as np

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.coded_frames import CodedFrame, decode_frame

_SIZES = struct.Struct("<IQ")
# Beside its pixels a codec keeps wavelet coefficients of 4 bytes, tables and the codestream.
_BYTES_A_SAMPLE = 32
_SPARE_BYTES = 1 << 30


def write_message(stream: BinaryIO, document: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Send one message."""
    text = json.dumps(document).encode()
    stream.write(_SIZES.pack(len(text), len(body)) + text)
    stream.write(body)
    stream.flush()


def read_header(stream: BinaryIO) -> tuple[dict[str, Any], int]:
    """The document of the next message and the number of bytes that follow it.

    Raises
    ------
    EOFError
        The other end is gone.
    """
    sizes = stream.read(_SIZES.size)
    if len(sizes) < _SIZES.size:
        raise EOFError("no more messages")
    length, body = _SIZES.unpack(sizes)
    text = stream.read(length)
    if len(text) < length:
        raise EOFError("a message is cut short")
    return json.loads(text), body


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Decode frames until there are no more requests."""
    write_message(answers, {"ready": os.getpid()})
    while True:
        try:
            document, length = read_header(requests)
        except EOFError:
            return
        frame = CodedFrame(data=requests.read(length), **document)
        _limit_memory(frame)
        try:
            values = np.ascontiguousarray(decode_frame(frame))
        except ImageReadError as error:
            write_message(answers, {"code": str(error.code), "detail": error.detail})
        except MemoryError:
            detail = f"frame {frame.number} takes more memory than its size explains"
            write_message(answers, {"code": "memory_exceeded", "detail": detail})
        else:
            pixels = values.reshape(-1).view(np.uint8).data
            write_message(answers, {"dtype": values.dtype.str, "shape": values.shape}, pixels)


def _limit_memory(frame: CodedFrame) -> None:
    """Let a codec have what such a frame may need and no more: what it asks for beyond is refused to it."""
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    samples = frame.rows * frame.columns * frame.samples
    limit = held + samples * _BYTES_A_SAMPLE + 4 * len(frame.data) + _SPARE_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def main() -> None:
    """Serve the process that started this one."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    serve(sys.stdin.buffer, answers)
