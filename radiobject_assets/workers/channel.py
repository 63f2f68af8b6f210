"""What a process and its worker say to each other: a small document, and bytes through memory of both."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from typing import Any

_HEAD = struct.Struct("<IQB")
_LONGEST_DOCUMENT = 1 << 16
# What a file in memory keeps for the next message; a larger one gives its memory back.
_KEPT_BYTES = 8 << 20


class Channel:
    """Messages between two processes over two pipes: a small document and bytes.

    With `memory` the bytes go through files in memory that both processes have open: a pipe holds 64 KB, so
    that each end would wait for the other eight times a frame. A message names the file that its bytes are
    in by its `slot`, and neither end writes into one whose message was not read.

    Nothing is unpickled here: a worker that bad data has taken over can say no more than its reader takes.

    Parameters
    ----------
    reading, writing
        File descriptors of the pipes.
    memory
        File descriptors of the files in memory; none: the bytes follow their document through the pipe.
    """

    def __init__(self, reading: int, writing: int, memory: Sequence[int]) -> None:
        self._reading = reading
        self._writing = writing
        self._memory = memory

    def send(self, document: dict[str, Any], body: bytes | memoryview = b"", slot: int = 0) -> None:
        """Send one message; OSError if the other end is gone."""
        text = json.dumps(document).encode()
        head = _HEAD.pack(len(text), len(body), slot) + text
        if not self._memory:
            _write(self._writing, head)
            _write(self._writing, body)
            return
        done = 0
        while done < len(body):
            done += os.pwrite(self._memory[slot], memoryview(body)[done:], done)
        _write(self._writing, head)

    def receive(self) -> tuple[dict[str, Any], int, int]:
        """The document of the next message, the number of its bytes, and its slot.

        `read_into` or `read_bytes` reads the bytes.

        Raises
        ------
        EOFError
            The other end is gone, or what it sends is no message.
        """
        length, size, slot = _HEAD.unpack(self._read(_HEAD.size))
        if length > _LONGEST_DOCUMENT or slot >= max(1, len(self._memory)):
            raise EOFError("no message of this program")
        try:
            document = json.loads(self._read(length))
        except ValueError as error:
            raise EOFError("a message without a document") from error
        return document, size, slot

    def read_bytes(self, size: int, slot: int) -> bytearray:
        """The bytes of the message that was received last; EOFError if they end early."""
        data = bytearray(size)
        self.read_into(memoryview(data), slot)
        return data

    def read_into(self, target: memoryview, slot: int) -> None:
        """Fill `target` with the bytes of the message that was received last; EOFError if they end early."""
        done = 0
        while done < len(target):
            if self._memory:
                got = os.preadv(self._memory[slot], [target[done:]], done)
            else:
                got = os.readv(self._reading, [target[done:]])
            if not got:
                raise EOFError("a message is cut short")
            done += got
        if self._memory and len(target) > _KEPT_BYTES:
            os.ftruncate(self._memory[slot], 0)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = os.read(self._reading, size - len(data))
            if not more:
                raise EOFError("no more messages")
            data += more
        return data


def _write(descriptor: int, data: bytes | memoryview) -> None:
    done = 0
    while done < len(data):
        done += os.write(descriptor, memoryview(data)[done:])
