"""Findings as a person reads them on a terminal: ten of each kind, why it matters, what mends it, totals."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from radiobject_assets.cli.output import SHOWN, table_of
from radiobject_assets.diagnostics.findings import Finding, Kind, Report, Severity

_COLOUR = {Severity.ERROR: "red", Severity.WARN: "yellow"}


def print_findings(reports: Sequence[Report], console: Console, *, with_where: bool = True) -> None:
    """Show what was found, gravest first; of nothing found say what was looked at."""
    by_kind: dict[Kind, list[Finding]] = {}
    for report in reports:
        for finding in report.findings:
            by_kind.setdefault(finding.kind, []).append(finding)
    for kind in sorted(by_kind, key=lambda one: (one.severity != Severity.ERROR, -len(by_kind[one]))):
        _print_kind(kind, by_kind[kind], console, with_where)
    looked = ", ".join(dict.fromkeys(f"{one.looked_at:,} {one.what}" for one in reports))
    n_found = sum(map(len, by_kind.values()))
    if n_found:
        grave = sum(len(found) for kind, found in by_kind.items() if kind.severity == Severity.ERROR)
        console.print(
            f"\n[bold]{n_found:,} findings[/] of {len(by_kind)} kinds, {grave:,} of them errors; "
            f"looked at: {looked}"
        )
    else:
        console.print(f"[green]Nothing found[/] among {looked}")
    for report in reports:
        if report.said:
            console.print(escape(report.said))


def _print_kind(kind: Kind, found: list[Finding], console: Console, with_where: bool) -> None:
    colour = _COLOUR[kind.severity]
    console.print(
        f"\n[{colour}]{kind.severity}[/] [bold]{escape(kind.problem)}[/] ({len(found):,}, {kind.code})"
    )
    console.print(escape(kind.why))
    table = table_of("about", "evidence", *(["where"] if with_where else []))
    for one in found[:SHOWN]:
        place = [escape(one.where or one.obs_id)] if with_where else []
        table.add_row(escape(one.about), escape(one.evidence), *place)
    console.print(table)
    if len(found) > SHOWN:
        console.print(f"  and {len(found) - SHOWN:,} more")
    for mend in list(dict.fromkeys(one.what_to_do for one in found))[:3]:
        console.print(f"  [bold]To do:[/] {escape(mend)}")
    care = "" if kind.mend.is_safe else "  (can't be undone)"
    for command in list(dict.fromkeys(one.how_to for one in found if one.how_to))[:3]:
        console.print(f"  [bold]{escape(command)}[/]{care}", soft_wrap=True)  # to be copied as it is
