"""The `radiobject-assets` command: a thin face on the packages below.

Every command prints errors as one clear line (a traceback only with `--debug`), shows a progress bar on a
terminal and none in a pipe, and exits 0 when all is fine, 1 when problems were found, 2 when it could not
run. `--json` prints exactly one JSON document on stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from radiobject_assets.errors import ConfigurationError, RadiObjectError

app = typer.Typer(
    name="radiobject-assets",
    help="Raw DICOM and NIfTI to training batches, over the RadiObject data structure on TileDB.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
err = Console(stderr=True, soft_wrap=True)
out = Console(width=None if sys.stdout.isatty() else 140)

INTERRUPTED = 130
Report = Callable[[int, int, str], None]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
) -> None:
    """Read by `main` from the command line itself, since an error may come before any command runs."""


@app.command(epilog="Example: `radiobject-assets demo --home demo-home`")
def demo(
    home: Annotated[Path, typer.Option(help="Folder for the demo's data and Dagster instance.")] = Path(
        "demo-home"
    ),
) -> None:
    """Run a phantom cohort through every asset, headless, and show what was made."""
    from radiobject_assets.demo import print_summary, run_demo

    with _progress("demo") as report:
        summary = run_demo(home, on_progress=report)
    print_summary(summary, out)
    if summary.has_problems:
        raise typer.Exit(1)


@app.command(
    epilog="Example: `radiobject-assets ingest incoming/ --store s3://bucket/store --dataset dataset.yaml`"
)
def ingest(
    source: Annotated[list[Path], typer.Argument(help="Folders or files to take in.", metavar="SOURCE...")],
    store: Annotated[str | None, typer.Option(help="Store to write to: a path, file:// or s3://.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="dataset.yaml; without it, one collection for each modality.")
    ] = None,
    as_json: JsonFlag = False,
    memory_mb: Annotated[int | None, typer.Option(help="Memory budget in MB.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
) -> None:
    """Take DICOM and NIfTI into a store; every file handed in is accounted for."""
    from radiobject_assets.compute import Compute
    from radiobject_assets.dataset import DatasetConfig, load_dataset
    from radiobject_assets.ingest import ingest_sources
    from radiobject_assets.memory import MemoryBudget

    config = load_dataset(dataset) if dataset is not None else DatasetConfig()
    if store is None:
        if dataset is None:
            raise ConfigurationError("say where to: --store URI, or a --dataset file that names its store")
        store = config.store_uri
    with _progress("series") as report:
        result = ingest_sources(
            source,
            store,
            config,
            budget=MemoryBudget() if memory_mb is None else MemoryBudget(memory_mb),
            compute=Compute() if workers is None else Compute(workers=workers),
            on_progress=report,
        )
    if as_json:
        _print_json(result.to_json())
    else:
        _print_ingest(result, store)
    if result.needs_attention:
        raise typer.Exit(1)


@app.command(epilog="Example: `radiobject-assets describe store/`")
def describe(
    store: Annotated[str, typer.Argument(help="Store to look at: a path, file:// or s3://.")],
    as_json: JsonFlag = False,
) -> None:
    """Show a store's subjects, collections, shapes and snapshots."""
    from radiobject_assets.export import describe_store

    description = describe_store(store)
    if as_json:
        _print_json(description)
        return
    out.print(f"[bold]{escape(store)}[/bold]  format {description['format_version']}")
    out.print(
        f"{description['n_subjects']} subjects, columns: {', '.join(description['subject_columns']) or '-'}"
    )
    table = _table("collection", "kind", "volumes", "subjects", "shapes", "dtypes", "MB", "MB stored")
    for item in description["collections"]:
        shapes = ["x".join(map(str, shape)) for shape in item["shapes"][:3]]
        more = len(item["shapes"]) - len(shapes)
        table.add_row(
            item["name"],
            ", ".join(item["kinds"]),
            str(item["n_volumes"]),
            str(item["n_subjects"]),
            ", ".join(shapes) + (f" and {more} more" if more > 0 else ""),
            ", ".join(item["dtypes"]),
            f"{item['voxel_bytes'] / 1e6:.1f}",
            f"{item['stored_bytes'] / 1e6:.1f}",
        )
    out.print(table)
    for snapshot in description["snapshots"]:
        counts = ", ".join(f"{name} {count}" for name, count in snapshot["counts"].items())
        out.print(f"snapshot [bold]{escape(snapshot['name'])}[/bold]  {snapshot['created_at']}  {counts}")


@app.command(epilog="Example: `radiobject-assets export store/ exported/ --collection ct`")
def export(
    store: Annotated[str, typer.Argument(help="Store to read: a path, file:// or s3://.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder to write to.", metavar="OUT")],
    collection: Annotated[list[str] | None, typer.Option(help="Only these collections.")] = None,
    layout: Annotated[str, typer.Option("--format", help="`nifti` or `bids`.")] = "nifti",
    as_json: JsonFlag = False,
) -> None:
    """Write volumes as NIfTI, each with a JSON file of its source."""
    from radiobject_assets.export import export_store

    with _progress("volumes") as report:
        written = export_store(store, out_dir, collections=collection, layout=layout, on_progress=report)
    if as_json:
        _print_json({"written": [str(path) for path in written]})
    else:
        out.print(f"{len(written)} volumes written to {escape(str(out_dir))}")


def _print_ingest(result: Any, store: str) -> None:
    from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason

    counts = result.counts
    out.print(
        f"[bold]{counts['files']} files, {counts['series']} series, {counts['subjects']} subjects[/bold]"
        f"  ->  {escape(store)}"
    )
    table = _table("collection", "written", "unchanged", "MB written")
    for name in sorted({o.collection for o in result.outcomes if o.collection}):
        mine = [o for o in result.outcomes if o.collection == name]
        table.add_row(
            name,
            str(sum(o.status == "written" for o in mine)),
            str(sum(o.status == "unchanged" for o in mine)),
            f"{sum(o.voxel_bytes for o in mine if o.status == 'written') / 1e6:.1f}",
        )
    out.print(table)
    if result.quarantined_by_reason:
        table = _table("quarantined", "reason", "what it means", "what to do")
        for code, number in result.quarantined_by_reason.items():
            explanation = EXPLANATIONS[Reason(code)]
            table.add_row(str(number), code, explanation.meaning, explanation.action)
        out.print(table)
    if result.unreadable:
        table = _table("not taken in", "reason", "why")
        for item in result.unreadable[:10]:
            table.add_row(escape(str(item.path)), str(item.reason), escape(item.detail))
        out.print(table)
        if len(result.unreadable) > 10:
            out.print(f"... and {len(result.unreadable) - 10} more; --json lists all")
    out.print(
        f"{result.seconds:.1f} s, peak memory {result.peak_rss_mb:.0f} MB of a {result.budget_mb} MB budget"
    )


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0, overflow="fold")
    return table


def _print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def _progress(what: str) -> Iterator[Report]:
    """A function (done, total, text) that draws a bar on a terminal and is silent in a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, text: bar.update(
            task, completed=done, total=total or None, description=escape(text) or what
        )


def main() -> None:
    """Entry point: run the command and turn what goes wrong into one line and an exit code."""
    debug = "--debug" in sys.argv[1:]
    try:
        app(args=[item for item in sys.argv[1:] if item != "--debug"])
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt
            _fail("Interrupted. What was finished stays; the same command again does the rest.", INTERRUPTED)
        raise
    except RadiObjectError as error:
        if debug:
            raise
        _fail(str(error), 2)
    except OSError as error:
        if debug:
            raise
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 2)
    except Exception as error:
        if debug:
            raise
        _fail(f"{type(error).__name__}: {error} (this is a defect; run again with --debug to see where)", 2)


def _fail(message: str, code: int) -> None:
    err.print(f"[red]error:[/red] {escape(message)}", highlight=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
