"""The `radiobject-assets` command: a thin face on the packages below.

Every command prints errors as one clear line (a traceback only with `--debug`), shows a progress bar on a
terminal and none in a pipe, and exits 0 when all is fine, 1 when problems were found, 2 when it could not
run (128 + the signal's number when it was stopped by one). `--json` prints exactly one JSON document on
stdout.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

from radiobject_assets.cli_output import SHOWN, JsonFlag, err, out, print_json, progress, store_uri, table_of
from radiobject_assets.cli_start import pyarrow_without_pandas
from radiobject_assets.cli_store import import_old, snapshots
from radiobject_assets.errors import ConfigurationError, RadiObjectError

app = typer.Typer(
    name="radiobject-assets",
    help="Raw DICOM and NIfTI to training batches, over the RadiObject data structure on TileDB.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
) -> None:
    """Read by `main` from the command line itself, since an error may come before any command runs."""


app.command("import-radiobject", epilog="Example: `radiobject-assets import-radiobject old/ new/`")(
    import_old
)
app.add_typer(snapshots, name="snapshot")


@app.command(epilog="Example: `radiobject-assets demo --home demo-home`")
def demo(
    home: Annotated[Path, typer.Option(help="Folder for the demo's data and Dagster instance.")] = Path(
        "demo-home"
    ),
) -> None:
    """Run a phantom cohort through every asset, headless, and show what was made."""
    from radiobject_assets.demo import print_summary, run_demo

    with progress("demo") as report:
        summary = run_demo(home, on_progress=report)
    print_summary(summary, out)
    if summary.has_problems:
        raise typer.Exit(1)


@app.command(
    epilog="Example: `radiobject-assets ingest incoming/ --store s3://bucket/store --dataset dataset.yaml`"
)
def ingest(
    source: Annotated[list[str], typer.Argument(help="Folders or files to take in.", metavar="SOURCE...")],
    store: Annotated[str | None, typer.Option(help="Store to write to: a path, file:// or s3://.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="dataset.yaml; without it, one collection for each modality.")
    ] = None,
    as_json: JsonFlag = False,
    memory_mb: Annotated[int | None, typer.Option(help="Memory budget in MB.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
) -> None:
    """Take DICOM and NIfTI into a store; every file handed in is accounted for."""
    pyarrow_without_pandas()
    from radiobject_assets.compute import Compute
    from radiobject_assets.dataset import DatasetConfig, load_dataset
    from radiobject_assets.ingest import ingest_sources
    from radiobject_assets.memory import MemoryBudget

    config = load_dataset(dataset.expanduser()) if dataset is not None else DatasetConfig()
    if store is not None:
        store = store_uri(store)
    elif dataset is not None:
        store = store_uri(config.store_uri)
    else:
        raise ConfigurationError("say where to: --store URI, or a --dataset file that names its store")
    with progress("series") as report:
        result = ingest_sources(
            [_source_path(item) for item in source],
            store,
            config,
            budget=MemoryBudget() if memory_mb is None else MemoryBudget(memory_mb),
            compute=Compute() if workers is None else Compute(workers=workers),
            on_progress=report,
        )
    if as_json:
        print_json(result.to_json())
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

    description = describe_store(store_uri(store))
    if as_json:
        print_json(description)
        return
    out.print(f"[bold]{escape(store)}[/bold]  format {description['format_version']}")
    out.print(
        f"{description['n_subjects']} subjects, columns: {', '.join(description['subject_columns']) or '-'}"
    )
    table = table_of("collection", "kind", "volumes", "subjects", "shapes", "dtypes", "MB", "MB stored")
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
    out_dir: Annotated[str, typer.Argument(help="Folder to write to.", metavar="OUT")],
    collection: Annotated[list[str] | None, typer.Option(help="Only these collections.")] = None,
    layout: Annotated[str, typer.Option("--format", help="`nifti` or `bids`.")] = "nifti",
    as_json: JsonFlag = False,
) -> None:
    """Write volumes as NIfTI, each with a JSON file of its source."""
    from radiobject_assets.export import export_store

    if not out_dir or "://" in out_dir:
        raise ConfigurationError(f"{out_dir!r}: OUT must be a local folder")
    folder = Path(out_dir).expanduser()
    with progress("volumes") as report:
        written = export_store(
            store_uri(store), folder, collections=collection, layout=layout, on_progress=report
        )
    if as_json:
        print_json({"written": [str(path) for path in written]})
    else:
        out.print(f"{len(written)} volumes written to {escape(out_dir)}")


def _source_path(text: str) -> Path:
    if not text:  # an unset variable in a script would take in the current folder
        raise ConfigurationError("a SOURCE is empty: name a folder or a file")
    return Path(text).expanduser()


def _print_ingest(result: Any, store: str) -> None:
    from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason

    counts = result.counts
    out.print(
        f"[bold]{counts['files']} files, {counts['series']} series, {counts['subjects']} subjects[/bold]"
        f"  ->  {escape(store)}"
    )
    table = table_of("collection", "written", "updated", "unchanged", "MB written")
    held = [o for o in result.outcomes if o.status in ("written", "updated", "unchanged")]
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
    if result.quarantined_by_reason:
        table = table_of("quarantined", "reason", "what it means", "what to do")
        for code, number in result.quarantined_by_reason.items():
            explanation = EXPLANATIONS[Reason(code)]
            table.add_row(str(number), code, explanation.meaning, explanation.action)
        out.print(table)
    if result.unreadable:
        table = table_of("reason", "why", "no image")
        for item in result.unreadable[:SHOWN]:
            table.add_row(str(item.reason), escape(item.detail), escape(str(item.path)))
        out.print(table)
        if len(result.unreadable) > SHOWN:
            out.print(f"... and {len(result.unreadable) - SHOWN} more; --json lists all")
    if result.resolved:
        out.print(f"{len(result.resolved)} label series that came before their image are in as well")
    for problem in result.problems:
        out.print(f"[red]problem:[/red] {escape(problem)}", highlight=False)
    out.print(
        f"{result.seconds:.1f} s, peak memory {result.peak_rss_mb:.0f} MB of a {result.budget_mb} MB budget"
    )


class _StoppedError(BaseException):
    """SIGTERM: what is finished is committed, as after Ctrl-C. No `except Exception` takes it for its own."""


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise _StoppedError


def main() -> None:
    """Entry point: run the command and turn what goes wrong into one line and an exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, who wants to see nothing
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (open to the end)
        # file names may hold bytes that are no text in any encoding
        getattr(sys, name).reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _stop)
    debug = "--debug" in sys.argv[1:]
    try:
        code = app(
            args=[item for item in sys.argv[1:] if item != "--debug"],
            prog_name="radiobject-assets",
            standalone_mode=False,
        )
        sys.stdout.flush()  # here, where a full disk can still be told
    except _StoppedError:
        _fail(f"Stopped. {_GO_ON}", 128 + signal.SIGTERM)
    except BrokenPipeError:  # the reader had enough, as `head` does; typer ends with 1 as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _fail(_in_one_line(error), 2)
    if code == _INTERRUPTED:  # what typer makes of a KeyboardInterrupt
        _fail(f"Interrupted. {_GO_ON}", _INTERRUPTED)
    sys.exit(code)


_INTERRUPTED = 128 + signal.SIGINT
_GO_ON = "What was finished stays; the same command again does the rest."


def _in_one_line(error: Exception) -> str:
    if isinstance(error, RadiObjectError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    if hasattr(error, "format_message"):  # a usage error; typer carries its own click, so no class to import
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "radiobject-assets"
        message = str(error.format_message()).rstrip(".") or "name a command"
        return f"{message}. See: {command} --help"
    return f"{type(error).__name__}: {error} (this is a defect; run again with --debug to see where)"


def _fail(message: str, code: int) -> NoReturn:
    err.print(f"[red]error:[/red] {escape(message)}", highlight=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
