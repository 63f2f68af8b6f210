"""Processes that decode compressed frames: a codec that crashes or hangs ends one of them, and not us.

1. `Decoders.submit` takes a `CodedFrame`; a thread for each process hands it over and waits for the pixels.
2. Frames of one series are decoded on all cores at once; `dicom_source` puts them in order.
3. A process that dies or takes too long fails its frame and is replaced for the next.

The processes are programs of their own, not forks: they hold nothing of ours, start in 0.1 s, and need no
`if __name__ == "__main__"` in the user's script.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from queue import Empty, LifoQueue
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ConfigurationError, ImageReadError
from radiobject_assets.imaging.coded_frames import CodedFrame, decode_frame
from radiobject_assets.imaging.decoder_process import read_header, write_message
from radiobject_assets.imaging.reasons import Reason

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 120.0
_FRAME_TIMEOUT_S = 600.0
_DESCRIPTION = tuple(field.name for field in fields(CodedFrame) if field.name != "data")


class Decoders:
    """A few processes that decode frames; started when first used or by `start`, ended by `close`.

    Parameters
    ----------
    workers
        Processes at most.
    frame_timeout_s
        Seconds after which a frame counts as hung: its process is ended, and the frame fails.
    """

    def __init__(self, workers: int, frame_timeout_s: float = _FRAME_TIMEOUT_S) -> None:
        self.workers = workers
        self._frame_timeout_s = frame_timeout_s
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="frame-decoder")
        self._idle: LifoQueue[_Process] = LifoQueue()
        self._lock = threading.Lock()
        self._all: set[_Process] = set()
        self._closed = False

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Start all processes now, so that they are there when the first frame comes."""
        for _ in range(self.workers - len(self._all)):
            self._idle.put(self._new_process())

    @property
    def pids(self) -> list[int]:
        """Ids of the processes that there are now."""
        with self._lock:
            return [process.pid for process in self._all]

    def submit(self, frame: CodedFrame) -> Future[NDArray[Any]]:
        """Decode a frame; the result is that of `coded_frames.decode_frame`.

        Its exceptions are an ImageReadError (also with WORKER_DIED, WORKER_TIMEOUT), or a ConfigurationError
        where no process can be started.
        """
        if not frame.needs_native_codec:
            return self._threads.submit(decode_frame, frame)
        return self._threads.submit(self._decode, frame)

    def close(self) -> None:
        """End the processes; frames that nobody has taken yet are dropped."""
        with self._lock:
            self._closed = True
            processes = list(self._all)
        for process in processes:
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _new_process(self) -> _Process:
        with self._lock:
            if self._closed:
                raise ImageReadError(Reason.WORKER_DIED, "decoding was stopped")
            process = _Process()
            self._all.add(process)
        return process

    def _drop(self, process: _Process) -> None:
        process.kill()
        with self._lock:
            self._all.discard(process)

    @contextlib.contextmanager
    def _process(self) -> Iterator[_Process]:
        """A process that is ready for a frame; it is not used again if the block raises."""
        for attempt in (1, 2):
            try:
                process = self._idle.get_nowait()
            except Empty:
                process = self._new_process()
            try:
                process.wait_until_ready()
                break
            except _EndedError as error:
                self._drop(process)
                if attempt == 2:
                    raise ConfigurationError(
                        f"a process that decodes compressed images does not start ({error}): is there memory "
                        f"for it, and can {sys.executable} import this package and gdcm?"
                    ) from error
        try:
            yield process
        except BaseException:
            self._drop(process)
            raise
        self._idle.put(process)

    def _decode(self, frame: CodedFrame) -> NDArray[Any]:
        failed: ImageReadError | None = None
        with self._process() as process:
            try:
                return process.decode(frame, self._frame_timeout_s)
            except _HangsError as error:
                raise ImageReadError(
                    Reason.WORKER_TIMEOUT, f"frame {frame.number} was not decoded after {error}"
                ) from error
            except _EndedError as error:
                raise ImageReadError(
                    Reason.WORKER_DIED, f"the decoder of frame {frame.number} ended with {error}"
                ) from error
            except ImageReadError as error:  # the process is well, the frame is not
                failed = error
        raise failed


class _EndedError(Exception):
    """The process is gone."""


class _HangsError(Exception):
    """The process does not answer."""


class _Process:
    """One decoder process and the pipes to it; used by one thread at a time."""

    def __init__(self) -> None:
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from radiobject_assets.imaging.decoder_process import main; main()"
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the parent, who decides what to finish
            )
        except OSError as error:
            raise ConfigurationError(
                f"a process that decodes compressed images cannot be started: {error.strerror}"
            ) from error
        self._requests = cast(BinaryIO, self._process.stdin)
        self._answers = cast(BinaryIO, self._process.stdout)
        self._ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        if self._ready:
            if self._process.poll() is not None:
                raise _EndedError(self._ending())
            return
        try:
            self._answer(_START_TIMEOUT_S)
        except _HangsError as error:
            raise _EndedError(f"no answer after {error}") from error
        self._ready = True

    def decode(self, frame: CodedFrame, timeout_s: float) -> NDArray[Any]:
        try:
            write_message(
                self._requests, {name: getattr(frame, name) for name in _DESCRIPTION}, memoryview(frame.data)
            )
        except OSError as error:
            raise _EndedError(self._ending()) from error
        document, length = self._answer(timeout_s)
        if "code" in document:
            raise ImageReadError(Reason(document["code"]), str(document["detail"]))
        dtype, shape = np.dtype(str(document["dtype"])), tuple(document["shape"])
        colours = (frame.samples,) if frame.samples > 1 else ()
        if shape != (frame.rows, frame.columns, *colours) or dtype.kind not in "iuf":
            raise _EndedError("an answer of another shape")
        values = np.empty(shape, dtype)
        target = values.reshape(-1).view(np.uint8).data
        if length != len(target):
            raise _EndedError("an answer of another size")
        done = 0
        while done < length:
            got = self._answers.readinto(target[done:])  # type: ignore[attr-defined]  # a buffered pipe has it
            if not got:
                raise _EndedError(self._ending())
            done += got
        return values

    def _answer(self, timeout_s: float) -> tuple[dict[str, Any], int]:
        if not _readable(self._answers, timeout_s):
            raise _HangsError(f"{timeout_s:g} s")
        try:
            return read_header(self._answers)
        except (EOFError, OSError) as error:
            raise _EndedError(self._ending()) from error

    def _ending(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"exit code {self._process.wait(5)}"
        return "its pipes closed"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._requests, self._answers):
            with contextlib.suppress(OSError):  # what is still in the buffer has no reader
                stream.close()


def _readable(stream: BinaryIO, timeout_s: float) -> bool:
    if not hasattr(select, "poll"):  # Windows can't wait for a pipe: there a frame may take for ever
        return True
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    until = time.monotonic() + timeout_s
    while (left := until - time.monotonic()) > 0:
        if poll.poll(min(left, 60.0) * 1000):
            return True
    return False


_shared: tuple[int, Decoders] | None = None
_shared_lock = threading.Lock()


def shared_decoders() -> Decoders:
    """The decoders of this process for its library calls: one for each core, started by their first frame."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared[0] != os.getpid():  # those of a process that forked are not ours
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            _shared = os.getpid(), Decoders(cores)
            atexit.register(_shared[1].close)
        return _shared[1]
