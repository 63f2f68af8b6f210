"""The resources of a trial over time as one small SVG: it opens in any browser and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from radiobject_assets.system.resource_monitor import ResourceSample

_WIDTH, _ROW, _LEFT, _RIGHT = 720, 74, 150, 16
_FIGURES = (
    ("memory_mb", "memory, MB"),
    ("processes", "processes"),
    ("open_files", "open files of one process"),
    ("shared_memory_mb", "/dev/shm, MB"),
    ("cpu_s", "cores in use"),
    ("disk_read_mb", "read from disk, MB"),
    ("gpu_mb", "GPU, MB"),
)


def resource_plot(title: str, samples: Sequence[ResourceSample]) -> str:
    """Every figure of the samples as a line over seconds; each row has its own scale, from 0 to its most."""
    last = max((one.at_s for one in samples), default=0.0) or 1.0
    rows: list[str] = []
    for name, label in _FIGURES:
        values = _rates(samples) if name == "cpu_s" else [getattr(one, name) for one in samples]
        if any(value is not None for value in values):
            rows.append(_row(len(rows), label, [one.at_s / last for one in samples], values))
    height = 34 + _ROW * len(rows) + 22
    end = f'<text x="{_WIDTH - _RIGHT}" y="{height - 6}" text-anchor="end">{last:.1f} s</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="#333">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
        f'<text x="10" y="20" font-weight="bold">{escape(title)}</text>'
        f'{"".join(rows)}<text x="{_LEFT}" y="{height - 6}">0 s</text>{end}</svg>\n'
    )


def _row(number: int, label: str, places: Sequence[float], values: Sequence[float | None]) -> str:
    top = 34 + number * _ROW
    most = max(value for value in values if value is not None)
    width, height = _WIDTH - _LEFT - _RIGHT, _ROW - 16
    points = " ".join(
        f"{_LEFT + place * width:.1f},{top + height - (value / most if most else 0) * (height - 4):.1f}"
        for place, value in zip(places, values, strict=True)
        if value is not None
    )
    return (
        f'<rect x="{_LEFT}" y="{top}" width="{width}" height="{height}" fill="#f4f6f8"/>'
        f'<text x="10" y="{top + 16}">{escape(label)}</text>'
        f'<text x="10" y="{top + 34}" fill="#777">most {most:,.4g}</text>'
        f'<polyline points="{points}" fill="none" stroke="#2864a0" stroke-width="1.5"/>'
    )


def _rates(samples: Sequence[ResourceSample]) -> list[float | None]:
    """Cores in use between one sample and the next."""
    rates: list[float | None] = [0.0] if samples else []
    for before, after in pairwise(samples):
        passed = max(after.at_s - before.at_s, 1e-3)
        rates.append(max(0.0, after.cpu_s - before.cpu_s) / passed)
    return rates
