"""One decoder process as its parent has it: start, frames out, pixels in, end.

The process is a program of its own, not a fork: it holds nothing of ours, starts in 0.1 s, and needs no
`if __name__ == "__main__"` in the user's script.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import subprocess
import sys
import time
from collections import deque
from dataclasses import fields
from io import FileIO
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ConfigurationError, ImageReadError
from radiobject_assets.imaging.pixels.coded_frames import CodedFrame
from radiobject_assets.imaging.pixels.decoder_process import Channel
from radiobject_assets.imaging.reasons import Reason

_START_TIMEOUT_S = 120.0
_DESCRIPTION = tuple(field.name for field in fields(CodedFrame) if field.name != "data")
# A frame is with a process before it has answered the last one, so that it never waits for this process.
_FRAMES_AHEAD = 2


class EndedError(Exception):
    """The process is gone, or answers what it was not asked."""


class HangsError(Exception):
    """The process does not answer."""


class DecoderHandle:
    """One decoder process and what leads to it; used by one thread at a time."""

    def __init__(self) -> None:
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from radiobject_assets.imaging.pixels.decoder_process import main; main()"
        )
        self._memory: list[int] = []
        try:
            self._memory += _files_in_memory(_FRAMES_AHEAD)
            self._process = subprocess.Popen(
                [sys.executable, "-c", program, *map(str, self._memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                pass_fds=self._memory,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # numpy would start threads, for nothing
                start_new_session=True,  # Ctrl-C is for the parent, who decides what to finish
            )
        except OSError as error:
            self._close_memory()
            raise ConfigurationError(
                f"a process that decodes compressed images cannot be started: {error.strerror}"
            ) from error
        self._pipes = cast("tuple[FileIO, FileIO]", (self._process.stdin, self._process.stdout))
        self._channel = Channel(self._pipes[1].fileno(), self._pipes[0].fileno(), self._memory)
        self._ready = False
        self._sent = 0
        self._unsent = ""
        self._under_way: deque[tuple[int, CodedFrame]] = deque()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    @property
    def frames_at_once(self) -> int:
        """Frames that may be with the process before the first of them is received."""
        return max(1, len(self._memory))

    def wait_until_ready(self) -> None:
        """Wait until the process can take a frame; EndedError if it does not start."""
        if self._ready:
            return
        try:
            self._answer(_START_TIMEOUT_S)
        except HangsError as error:
            raise EndedError(f"no answer after {error}") from error
        self._ready = True

    def send(self, frame: CodedFrame) -> None:
        """Give the process a frame, before `frames_at_once` wait to be received; EndedError if it is gone.

        Where one frame could not be sent no other is, so that no answer can be taken for that of another.
        """
        if self._unsent:
            raise EndedError(self._unsent)
        document = {name: getattr(frame, name) for name in _DESCRIPTION}
        slot = self._sent % self.frames_at_once
        try:
            self._channel.send({"request": self._sent, **document}, memoryview(frame.data), slot)
        except OSError as error:
            gone = isinstance(error, BrokenPipeError)
            self._unsent = self._ending() if gone else f"a frame that cannot be sent: {error.strerror}"
            raise EndedError(self._unsent) from error
        self._under_way.append((self._sent, frame))
        self._sent += 1

    def receive(self, timeout_s: float) -> NDArray[Any]:
        """The pixels of the earliest frame that was sent and not received.

        Raises
        ------
        ImageReadError
            The process refuses the frame, and is well.
        EndedError, HangsError
            The process is of no use any more.
        """
        if not self._under_way:
            raise EndedError(self._unsent or "nothing to answer")
        document, length, slot = self._answer(timeout_s)
        request, frame = self._under_way.popleft()
        if document.get("request") != request or slot != request % self.frames_at_once:
            raise EndedError("an answer to another frame")
        if "code" in document:
            raise ImageReadError(Reason(document["code"]), str(document["detail"]))
        dtype, shape = np.dtype(str(document["dtype"])), tuple(document["shape"])
        colours = (frame.samples,) if frame.samples > 1 else ()
        if shape != (frame.rows, frame.columns, *colours) or dtype.kind not in "iuf":
            raise EndedError("an answer of another shape")
        values = np.empty(shape, dtype)
        target = values.reshape(-1).view(np.uint8).data
        if length != len(target):
            raise EndedError("an answer of another size")
        try:
            self._channel.read_into(target, slot)
        except (EOFError, OSError) as error:
            raise EndedError(self._ending()) from error
        return values

    def _answer(self, timeout_s: float) -> tuple[dict[str, Any], int, int]:
        if not _readable(self._pipes[1].fileno(), timeout_s):
            raise HangsError(f"{timeout_s:g} s")
        try:
            return self._channel.receive()
        except (EOFError, OSError) as error:
            raise EndedError(self._ending()) from error

    def _ending(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"exit code {self._process.wait(5)}"
        return "its pipes closed"

    def stop(self) -> None:
        """End the process: from any thread; the one that uses it finds it gone."""
        self._process.kill()

    def kill(self) -> None:
        """End the process, wait for it, and close what leads to it; a second call does nothing."""
        self._process.kill()
        self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Close what leads to the process: in a fork of the parent, to whom the process belongs."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        self._close_memory()

    def _close_memory(self) -> None:
        for descriptor in self._memory:
            os.close(descriptor)
        self._memory = []


def _files_in_memory(count: int) -> list[int]:
    if not hasattr(os, "memfd_create"):  # not Linux
        return []
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        return []  # it holds for these files too, and frames may be larger
    return [os.memfd_create("frame") for _ in range(count)]


def _readable(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    until = time.monotonic() + timeout_s
    while (left := until - time.monotonic()) > 0:
        if poll.poll(min(left, 60.0) * 1000):
            return True
    return False
