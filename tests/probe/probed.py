"""What tests of the probe share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from radiobject_assets.probe.probing import ProbeResult

LOADERS = Path(__file__).with_name("faulty_loaders.py")
Probe = Callable[..., ProbeResult]


def codes(result: ProbeResult) -> list[str]:
    """Kinds of what was found, the likeliest cause first."""
    return [one.kind.code.removeprefix("loader_") for one in result.report.findings]
