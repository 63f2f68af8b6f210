"""A probe of one of the faulty loaders, with limits of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from probed import LOADERS, Probe

from radiobject_assets.probe.probing import ProbeResult, probe_loader
from radiobject_assets.probe.steps import ProbeLimits

pytest.importorskip("torch", reason="loaders are PyTorch's")


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """A function that probes the loader of a name."""
    monkeypatch.setenv("PROBE_FOLDER", str(tmp_path))

    def run(name: str, *, silent_s: float = 6, module: Path = LOADERS, **limits: object) -> ProbeResult:
        limits.setdefault("start_methods", ("fork",))
        return probe_loader(
            f"{module}:{name}",
            tmp_path / "report",
            ProbeLimits(silent_s=silent_s, limit_s=120, **limits),  # type: ignore[arg-type]
        )

    return run
