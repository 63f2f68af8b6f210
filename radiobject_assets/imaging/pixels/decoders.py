"""Compressed frames decoded by processes: a codec that crashes or hangs ends one of them, and not us.

Frames of one series are decoded on all cores at once; `dicom_source` puts them in order.
Nothing that comes from a decoder process is unpickled: a codestream that takes one over gains no more than
wrong pixels.
"""

from __future__ import annotations

import atexit
import os
import pickle
import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.pixels.coded_frames import CodedFrame
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.system.processes import usable_cores
from radiobject_assets.workers.idle_processes import Processes
from radiobject_assets.workers.pool import Refusal, Work, WorkerPool
from radiobject_assets.workers.process import Fill, Limits, LostError

_FRAME_TIMEOUT_S = 600.0
# Beside its pixels a codec keeps wavelet coefficients of 4 bytes, tables and the codestream.
_BYTES_A_SAMPLE = 32

decoder_processes = Processes("radiobject_assets.imaging.pixels.decoder_program:answer")
"""The decoder processes of this process, for all its `Decoders`."""


_REASONS = {
    "died": (Reason.WORKER_DIED, "the decoder of frame {n} ended with {error}"),
    "hangs": (Reason.WORKER_TIMEOUT, "frame {n} was not decoded after {error}"),
    "memory": (Reason.MEMORY_EXCEEDED, "the decoder of frame {n} {error}"),
}


def _read(frame: CodedFrame, document: dict[str, Any], size: int, fill: Fill) -> NDArray[Any] | Refusal:
    if "code" in document:
        return Refusal(ImageReadError(Reason(document["code"]), str(document["detail"])))
    dtype, shape = np.dtype(str(document["dtype"])), tuple(document["shape"])
    colours = (frame.samples,) if frame.samples > 1 else ()
    if shape != (frame.rows, frame.columns, *colours) or dtype.kind not in "iuf":
        raise LostError("died", "an answer of another shape")
    values = np.empty(shape, dtype)
    target = values.reshape(-1).view(np.uint8).data
    if size != len(target):
        raise LostError("died", "an answer of another size")
    fill(target)
    return values


def _lost(frame: CodedFrame, error: LostError) -> ImageReadError:
    reason, detail = _REASONS[error.why]
    return ImageReadError(reason, detail.format(n=frame.number, error=error))


_DECODING: Work[CodedFrame, NDArray[Any]] = Work(pickle.dumps, _read, _lost)


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
        self._pool = WorkerPool(_DECODING, decoder_processes, workers, ahead=True)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the processes now, so that they are there when the first frame comes."""
        decoder_processes.start(self.workers)

    def submit(self, frame: CodedFrame) -> Future[NDArray[Any]]:
        """Decode a frame; the result is that of `coded_frames.decode_frame`.

        Its exceptions are an ImageReadError (also with WORKER_DIED, WORKER_TIMEOUT, MEMORY_EXCEEDED), or a
        ConfigurationError where no process can be started.
        """
        samples = frame.rows * frame.columns * frame.samples
        needed = samples * _BYTES_A_SAMPLE + 4 * len(frame.data)
        return self._pool.submit(frame, Limits(needed, self._frame_timeout_s, refuses_memory=True))

    def close(self) -> None:
        """Drop the frames that nobody has taken yet, and end the processes that are at work on others."""
        self._pool.close()


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
