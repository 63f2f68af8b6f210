"""Drawings of the data-set sheet: small inline SVG that takes its colours from the page, each with a text.

Every function gives HTML. Texts that come from data are escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 320, 110
_LEFT, _BOTTOM = 6, 18


def columns(counts: Sequence[float], low: float, high: float, *, title: str, unit: str = "") -> str:
    """A histogram: equal bins from `low` to `high`."""
    most = max((float(count) for count in counts), default=0.0)
    if most <= 0:
        return ""
    width = (_WIDTH - 2 * _LEFT) / len(counts)
    bars = "".join(
        f'<rect x="{_LEFT + n * width:.1f}" y="{_HEIGHT - _BOTTOM - tall:.1f}" '
        f'width="{max(width - 0.6, 0.4):.1f}" height="{tall:.1f}"/>'
        for n, count in enumerate(counts)
        if (tall := max(1.0, float(count) / most * (_HEIGHT - _BOTTOM - 6)) if count else 0.0)
    )
    said = f"{title}: from {_number(low)} to {_number(high)} {unit}".strip()
    return _figure(title, said, bars, _ends(low, high, unit))


def scatter_of_values(values: Sequence[float], *, title: str, unit: str = "", bins: int = 24) -> str:
    """A histogram of values, one for each volume, between their extremes."""
    fine = [float(v) for v in values if v == v and abs(v) != float("inf")]
    if not fine:
        return ""
    low, high = min(fine), max(fine)
    if high - low <= 1e-3 * max(abs(low), abs(high), 1e-12):
        return f'<p class="same"><b>{escape(title)}</b> {_number(low)} {escape(unit)} for all</p>'
    counts = [0] * bins
    for value in fine:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    return columns(counts, low, high, title=title, unit=unit)


def bars(counts: Mapping[str, float], *, title: str, unit: str = "", most_shown: int = 12) -> str:
    """Horizontal bars by name, the longest first; what is left out is counted."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if not ordered:
        return ""
    shown, rest = ordered[:most_shown], ordered[most_shown:]
    if rest:
        shown = [*shown, (f"{len(rest)} others", sum(value for _, value in rest))]
    most = max(value for _, value in shown) or 1.0
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td class=bar><svg viewBox='0 0 100 8' "
        f"preserveAspectRatio=none aria-hidden=true><rect width='{max(value / most * 100, 0.5):.1f}' "
        f"height=8 rx=1 /></svg></td><td class=n>{_number(value)}</td></tr>"
        for name, value in shown
    )
    caption = escape(title) + (f" <small>{escape(unit)}</small>" if unit else "")
    return f"<figure><figcaption>{caption}</figcaption><table class=bars>{rows}</table></figure>"


def stacked_bars(rows: Mapping[str, Mapping[str, float]], *, title: str, names: Sequence[str]) -> str:
    """A stacked bar for each row, in parts that `names` orders, with the numbers beside them."""
    kept = {name: parts for name, parts in rows.items() if sum(parts.values()) > 0}
    if not kept:
        return ""
    body = ""
    for row, parts in kept.items():
        total, at, drawn = sum(parts.values()), 0.0, ""
        for number, name in enumerate(names):
            wide = parts.get(name, 0) / total * 100
            if wide:
                drawn += f"<rect class='p{number % 6}' x='{at:.2f}' width='{wide:.2f}' height=8 />"
            at += wide
        cells = "".join(f"<td class=n>{_number(parts.get(name, 0))}</td>" for name in names)
        body += (
            f"<tr><th scope=row>{escape(row)}</th><td class=bar><svg viewBox='0 0 100 8' "
            f"preserveAspectRatio=none aria-hidden=true>{drawn}</svg></td>{cells}</tr>"
        )
    heads = "".join(
        f"<th scope=col class=n><i class='key p{number % 6}'></i>{escape(name or 'none')}</th>"
        for number, name in enumerate(names)
    )
    return (
        f"<figure class=wide><figcaption>{escape(title)}</figcaption><div class=scroll><table class=bars>"
        f"<thead><tr><td></td><td class=bar></td>{heads}</tr></thead>{body}</table></div></figure>"
    )


def _figure(title: str, said: str, inner: str, ends: str) -> str:
    return (
        f"<figure><figcaption>{escape(title)}</figcaption><svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img "
        f"aria-label='{escape(said, quote=True)}'>{inner}<line x1={_LEFT} x2={_WIDTH - _LEFT} "
        f"y1={_HEIGHT - _BOTTOM} y2={_HEIGHT - _BOTTOM} />{ends}</svg></figure>"
    )


def _ends(low: float, high: float, unit: str) -> str:
    unit = f" {escape(unit)}" if unit else ""
    return (
        f"<text x={_LEFT} y={_HEIGHT - 4}>{_number(low)}</text>"
        f"<text x={_WIDTH - _LEFT} y={_HEIGHT - 4} text-anchor=end>{_number(high)}{unit}</text>"
    )


def _number(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.3g}"
