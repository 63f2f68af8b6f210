"""`radiobject-assets ingest`: what is asked for, doing it, and the summary that a person reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from radiobject_assets.cli.output import SHOWN, Report, out, table_of
from radiobject_assets.cli.store import store_uri
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.system.pyarrow_start import pyarrow_without_pandas

if TYPE_CHECKING:
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings
    from radiobject_assets.ingest import IngestReport
    from radiobject_assets.ingest.report import SeriesOutcome


@dataclass(frozen=True)
class IngestRequest:
    """The arguments of `ingest` as they were given; None for what was not."""

    source: tuple[str, ...]
    store: str | None = None
    dataset: Path | None = None
    memory_mb: int | None = None
    workers: int | None = None
    layout: str | None = None


def take_in(request: IngestRequest, on_progress: Report) -> tuple[IngestReport, str]:
    """Take what is asked for into the store; the report, and the store's URI.

    Raises
    ------
    RadiObjectError
        As `ingest_sources` does, or the request names no store or an empty source.
    """
    pyarrow_without_pandas()
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
    from radiobject_assets.ingest import ingest_sources
    from radiobject_assets.system.compute import Compute
    from radiobject_assets.system.memory import MemoryBudget

    if request.layout is not None:
        config = _laid_out(request)
    elif request.dataset is None:
        config = DatasetSettings.model_construct()  # defaults need no validators, which take 30 ms to make
    else:
        config = load_dataset(request.dataset.expanduser())
    if request.store is not None:
        store = store_uri(request.store)
    elif request.dataset is not None:
        store = store_uri(config.store_uri)
    else:
        raise ConfigurationError("say where to: --store URI, or a --dataset file that names its store")
    report = ingest_sources(
        [_source_path(item) for item in request.source],
        store,
        config,
        budget=MemoryBudget() if request.memory_mb is None else MemoryBudget(request.memory_mb),
        compute=Compute() if request.workers is None else Compute(workers=request.workers),
        on_progress=on_progress,
    )
    return report, store


def _laid_out(request: IngestRequest) -> DatasetSettings:
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings
    from radiobject_assets.dataset.layouts import LAYOUTS

    if request.dataset is not None:
        raise ConfigurationError(
            f"--layout goes without --dataset: write `layout: {request.layout}` into {request.dataset}"
        )
    if request.layout not in LAYOUTS:
        raise ConfigurationError(f"--layout {request.layout}: there are {', '.join(LAYOUTS)}")
    return DatasetSettings.model_validate({"layout": request.layout})


def _source_path(text: str) -> Path:
    if not text:  # an unset variable in a script would take in the current folder
        raise ConfigurationError("a SOURCE is empty: name a folder or a file")
    if text.startswith("s3://"):
        raise ConfigurationError(
            f"{text}: a SOURCE is a folder or file of this machine; images on S3 come from the landing zone "
            "that dataset.yaml names (`landing: s3://bucket/incoming`)"
        )
    return Path(text).expanduser()


def print_ingest(report: IngestReport, store: str) -> None:
    """Print the summary of one run."""
    counts = report.counts
    out.print(
        f"[bold]{counts['files']} files, {counts['series']} series, {counts['subjects']} subjects[/bold]"
        f"  ->  {escape(store)}"
    )
    _print_stored(report)
    _print_quarantined(report)
    _print_unreadable(report)
    if report.resolved:
        out.print(f"{len(report.resolved)} label series that came before their image are in as well")
    for doubt in report.doubts:
        out.print(f"[yellow]warning:[/yellow] {escape(doubt.told)}", highlight=False, soft_wrap=True)
    if report.doubts:
        out.print(f"         {escape(report.doubts[-1].mend)}", highlight=False, soft_wrap=True)
    for note in report.notes:
        out.print(f"note: {escape(note)}", highlight=False)
    for problem in report.problems:
        out.print(f"[red]problem:[/red] {escape(problem)}", highlight=False)
    out.print(_verdict(report), highlight=False)
    out.print(
        f"{report.seconds:.1f} s, peak memory {report.peak_memory_mb:.0f} MB "
        f"of a {report.budget_mb} MB budget"
    )


def _print_stored(report: IngestReport) -> None:
    table = table_of("collection", "written", "updated", "unchanged", "MB written")
    held = [o for o in report.outcomes if o.status in ("written", "updated", "unchanged")]
    for name in sorted({o.collection or "" for o in held}):
        mine = [o for o in held if o.collection == name]
        table.add_row(
            name,
            str(sum(o.status == "written" for o in mine)),
            str(sum(o.status == "updated" for o in mine)),
            str(sum(o.status == "unchanged" for o in mine)),
            f"{sum(o.voxel_bytes for o in mine if o.status == 'written') / 1e6:.1f}",
        )
    if held:
        out.print(table)


def _print_quarantined(report: IngestReport) -> None:
    """Each reason with the detail of the first series that has it: numbers say more than the meaning."""
    from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason

    if not report.quarantined_by_reason:
        return
    table = table_of("quarantined", "reason", "what it means", "what to do")
    for code, number in report.quarantined_by_reason.items():
        explanation = EXPLANATIONS[Reason(code)]
        first = next(o for o in report.outcomes if o.status == "quarantined" and code in o.reasons)
        detail = _detail(first, code)
        here = f" Here{', first' if number > 1 else ''}: {detail}." if detail else ""
        table.add_row(str(number), code, escape(explanation.meaning + here), explanation.action)
    out.print(table)


def _detail(outcome: SeriesOutcome, code: str) -> str:
    return outcome.detail if outcome.reason == code else dict(outcome.also).get(code, "")


def _print_unreadable(report: IngestReport) -> None:
    """Files that hold no image, those first that may be volumes; of the others only how many there are."""
    if not report.unreadable:
        return
    left_out = [item for item in report.left_out if item in report.unreadable]
    others = Counter(str(item.reason) for item in report.unreadable) - Counter(
        str(item.reason) for item in left_out
    )
    shown = [*left_out, *(item for item in report.unreadable if item not in left_out)][:SHOWN]
    table = table_of("reason", "why", "no image")
    for item in shown:
        table.add_row(str(item.reason), escape(item.detail), escape(str(item.path)))
    out.print(table)
    if len(report.unreadable) > len(shown):
        told = ", ".join(f"{number} {reason}" for reason, number in others.most_common())
        out.print(
            f"... {len(report.unreadable)} in all, {len(left_out)} of them may be volumes"
            f"{f' (the others: {told})' if told else ''}; --json lists them"
        )


def _verdict(report: IngestReport) -> str:
    """One line that says what the exit code is about."""
    if report.left_out:
        number = len(report.left_out)
        what = "1 series or file that is or may be a volume is"
        if number > 1:
            what = f"{number} series or files that are or may be volumes are"
        return f"[red]{what} not in the store[/red] (exit code 1)"
    if report.nothing_taken_in:
        return (
            "[red]nothing was taken in[/red]: no volume was found here; check that this is the right folder "
            "(exit code 1)"
        )
    if report.problems:
        return "[red]the volumes are in, but there is a problem[/red] (exit code 1)"
    if not report.counts["subjects"] and not report.resolved:
        return "nothing was taken in, and nothing could be: these objects hold no volume"
    return "every volume is in the store"
