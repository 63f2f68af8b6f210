"""A codec that crashes on images of 33 rows and hangs on those of 34: in decoder processes only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CRASHES, HANGS = 33, 34
_PROGRAM = f"""
import os, time
from radiobject_assets.imaging.pixels import coded_frames
decode = coded_frames.decode_frame
def decode_or_fail(frame):
    if frame.rows == {CRASHES}:
        os.abort()
    if frame.rows == {HANGS}:
        time.sleep(600)
    return decode(frame)
coded_frames.decode_frame = decode_or_fail
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python processes that start from now on have it."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_PROGRAM)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
