"""What a decoder process does with a frame. It imports little, so that it starts in 0.1 s."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.pixels.coded_frames import CodedFrame, decode_frame
from radiobject_assets.imaging.reasons import Reason


def answer(data: bytearray) -> tuple[dict[str, Any], bytes | memoryview]:
    """In the decoder process: the pixels of a pickled frame, or the code and detail of its refusal."""
    frame: CodedFrame = pickle.loads(data)
    try:
        values = np.ascontiguousarray(decode_frame(frame))
    except ImageReadError as error:
        return {"code": str(error.code), "detail": error.detail}, b""
    except MemoryError:
        detail = f"frame {frame.number} takes more memory than its size explains"
        return {"code": str(Reason.MEMORY_EXCEEDED), "detail": detail}, b""
    return {"dtype": values.dtype.str, "shape": values.shape}, values.reshape(-1).view(np.uint8).data
