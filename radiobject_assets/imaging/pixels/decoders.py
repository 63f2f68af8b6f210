"""Compressed frames decoded by processes: a codec that crashes or hangs ends one of them, and not us.

1. `Decoders.submit` takes a `CodedFrame`; a thread for each process hands frames over and takes the pixels.
2. Frames of one series are decoded on all cores at once; `dicom_source` puts them in order.
3. A process that dies or takes too long fails its frame and is replaced for the next.
4. A process that is well is kept for the next call (`decoder_keeper`).
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from radiobject_assets.errors import ConfigurationError, ImageReadError
from radiobject_assets.imaging.pixels.coded_frames import CodedFrame
from radiobject_assets.imaging.pixels.decoder_handle import DecoderHandle, EndedError, HangsError
from radiobject_assets.imaging.pixels.decoder_keeper import keeper
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.system.processes import usable_cores

_FRAME_TIMEOUT_S = 600.0


@dataclass(frozen=True, eq=False)
class _Job:
    frame: CodedFrame
    future: Future[NDArray[Any]]


class Decoders:
    """Decodes frames in a few processes; they are taken when first used, and given back by `close`.

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
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._busy: set[DecoderHandle] = set()
        self._closed = False

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the processes now, so that they are there when the first frame comes."""
        keeper().start(self.workers)

    def submit(self, frame: CodedFrame) -> Future[NDArray[Any]]:
        """Decode a frame; the result is that of `coded_frames.decode_frame`.

        Its exceptions are an ImageReadError (also with WORKER_DIED, WORKER_TIMEOUT), or a ConfigurationError
        where no process can be started.
        """
        job = _Job(frame, Future())
        self._waiting.append(job)
        self._threads.submit(self._work)
        return job.future

    def close(self) -> None:
        """Drop the frames that nobody has taken yet, and end the processes that are at work on others."""
        with self._lock:
            self._closed = True
            for handle in self._busy:  # under the lock: one that is given back may be at work for others
                handle.stop()  # the thread that waits for it does the rest
        while self._waiting:
            self._waiting.popleft().future.cancel()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _next(self) -> _Job | None:
        while True:
            try:
                job = self._waiting.popleft()
            except IndexError:
                return None
            if job.future.running() or job.future.set_running_or_notify_cancel():  # running: it comes again
                return job

    def _work(self) -> None:
        """Decode frames until none waits: those that a process has left over are the next one's."""
        while (job := self._next()) is not None:
            try:
                handle = self._process()
            except Exception as error:  # noqa: BLE001  (no frame may be left without a result)
                job.future.set_exception(error)
            else:
                self._decode(handle, job)

    def _process(self) -> DecoderHandle:
        """A process that is ready for a frame."""
        failure = ""
        for _ in range(2):
            with self._lock:
                if self._closed:
                    raise ImageReadError(Reason.WORKER_DIED, "decoding was stopped")
                handle = keeper().take()
                self._busy.add(handle)
            try:
                handle.wait_until_ready()
                return handle
            except EndedError as error:
                failure = str(error)
                self._drop(handle)
            except BaseException:
                self._drop(handle)
                raise
        raise ConfigurationError(
            f"a process that decodes compressed images does not start ({failure}): is there memory for it, "
            f"and can {sys.executable} import this package?"
        )

    def _decode(self, handle: DecoderHandle, first: _Job) -> None:
        """Let a process decode `first` and then what waits, until nothing does or the process fails."""
        under_way: deque[_Job] = deque()
        job: _Job | None = first
        while True:
            while job is not None:
                under_way.append(job)
                try:
                    handle.send(job.frame)
                except EndedError:
                    break  # asking for the answer to the frame before, or to this one, says why
                job = self._next() if len(under_way) < handle.frames_at_once else None
            answered = under_way.popleft()
            error: ImageReadError | None = None
            values: NDArray[Any] | None = None
            try:
                values = handle.receive(self._frame_timeout_s)
            except ImageReadError as refusal:  # the process is well, the frame is not
                error = refusal
            except BaseException as failure:  # noqa: BLE001  (no frame may be left without a result)
                self._drop(handle)
                self._waiting.extendleft(reversed(under_way))
                answered.future.set_exception(_told(failure, answered.frame.number))
                return
            job = self._next()
            done = job is None and not under_way
            if done:  # before the last result lets the caller go on, and close
                self._give_back(handle)
            if values is None:
                answered.future.set_exception(error)
            else:
                answered.future.set_result(values)
            if done:
                return

    def _give_back(self, handle: DecoderHandle) -> None:
        with self._lock:
            stopped = self._closed and handle in self._busy
            self._busy.discard(handle)
        if stopped:
            keeper().drop(handle)
        else:
            keeper().give(handle)

    def _drop(self, handle: DecoderHandle) -> None:
        keeper().drop(handle)
        with self._lock:
            self._busy.discard(handle)


def _told(failure: BaseException, number: int) -> BaseException:
    if isinstance(failure, HangsError):
        return ImageReadError(Reason.WORKER_TIMEOUT, f"frame {number} was not decoded after {failure}")
    if isinstance(failure, EndedError):
        return ImageReadError(Reason.WORKER_DIED, f"the decoder of frame {number} ended with {failure}")
    return failure


_shared: tuple[int, Decoders] | None = None
_shared_lock = threading.Lock()


def shared_decoders() -> Decoders:
    """The decoders of this process for its library calls: one for each core."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared[0] != os.getpid():  # those of a process that forked are not ours
            _shared = os.getpid(), Decoders(usable_cores())
            atexit.register(_shared[1].close)
        return _shared[1]
