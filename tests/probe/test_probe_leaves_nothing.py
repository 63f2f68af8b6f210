"""What is there after a trial: nothing of its workers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from probed import LOADERS

from radiobject_assets.probe.running import run_trial
from radiobject_assets.probe.trial import Ended, Mode, Trial

pytest.importorskip("torch", reason="loaders are PyTorch's")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="who used what is read from /proc")
@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_workers_leave_neither_semaphores_nor_sockets(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        trial = Trial(
            f"{LOADERS}:says_its_semaphores", Mode.WORKERS, workers=1, start_method=method, most_batches=3
        )
        outcome = run_trial(
            trial, tmp_path / "trial", environment={"PROBE_FOLDER": str(tmp_path), "TMPDIR": temporary}
        )
        assert outcome.ended == Ended.PASSED, outcome.stderr
        assert os.listdir(temporary) == []
    used = {name for file in tmp_path.glob("semaphores-*") for name in file.read_text().split()}
    assert used
    assert [name for name in used if os.path.exists(name)] == []
    assert "resource_tracker" not in outcome.stderr
