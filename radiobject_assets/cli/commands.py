"""The commands of `radiobject-assets` with their arguments and what they print for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from radiobject_assets.cli.archive_commands import fetch_studies, receive_studies
from radiobject_assets.cli.arrivals_command import arrivals
from radiobject_assets.cli.audit_command import audit
from radiobject_assets.cli.curating import card, diff, manifest, match
from radiobject_assets.cli.doctor_command import doctor
from radiobject_assets.cli.forget_command import forget_people
from radiobject_assets.cli.ingest import IngestRequest, print_ingest, take_in
from radiobject_assets.cli.output import JsonFlag, out, print_json, progress, table_of, warn
from radiobject_assets.cli.probe_command import probe
from radiobject_assets.cli.reads_command import (
    consolidate_store,
    diagnose_reads_of_store,
    recompress,
    retile,
)
from radiobject_assets.cli.sheet_command import sheet
from radiobject_assets.cli.store import import_old, snapshots, store_uri
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.system.pyarrow_start import pyarrow_without_pandas

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
app.command("forget", epilog="Example: `radiobject-assets forget patient-7 --dataset dataset.yaml --yes`")(
    forget_people
)
app.command(epilog="Example: `radiobject-assets arrivals 2026-11-30-003 --dataset dataset.yaml`")(arrivals)
app.command(epilog="Example: `radiobject-assets doctor store/ --dataset dataset.yaml --fix`")(doctor)
app.add_typer(snapshots, name="snapshot")
app.command("fetch", epilog="Example: `radiobject-assets fetch --dataset dataset.yaml`")(fetch_studies)
app.command("receive", epilog="Example: `radiobject-assets receive --dataset dataset.yaml --host 0.0.0.0`")(
    receive_studies
)
app.command(epilog="Example: `radiobject-assets manifest store/ --snapshot 2026-study -o 2026.jsonl`")(
    manifest
)
app.command(epilog="Example: `radiobject-assets diff store/@snapshot-0001 store/@snapshot-0002`")(diff)
app.command(epilog="Example: `radiobject-assets match delivery/ 2026.jsonl`")(match)
app.command(epilog="Example: `radiobject-assets card store/ --dataset dataset.yaml -o card/`")(card)
app.command(epilog="Example: `radiobject-assets sheet dataset.yaml -o sheet.html`")(sheet)
app.command(epilog="Example: `radiobject-assets audit /data/incoming --html audit.html`")(audit)
app.command("diagnose-reads", epilog="Example: `radiobject-assets diagnose-reads store/ --pattern patch`")(
    diagnose_reads_of_store
)
app.command(epilog="Example: `radiobject-assets retile store/ ct --tile isotropic`")(retile)
app.command(epilog="Example: `radiobject-assets recompress store/ ct --codec zstd`")(recompress)
app.command("consolidate", epilog="Example: `radiobject-assets consolidate store/`")(consolidate_store)
app.command(epilog="Example: `radiobject-assets probe train.py:make_loaders`")(probe)


@app.command(epilog="Example: `radiobject-assets demo --home demo-home`")
def demo(
    home: Annotated[Path, typer.Option(help="Folder for the demo's data and Dagster instance.")] = Path(
        "demo-home"
    ),
) -> None:
    """Run a phantom cohort through every asset, headless, and show what was made."""
    from radiobject_assets.cli.demo import print_summary, run_demo

    with progress("demo") as report:
        summary = run_demo(home, on_progress=report)
    print_summary(summary, out)
    if summary.has_problems:
        raise typer.Exit(1)


@app.command(epilog="Example: `radiobject-assets up --dataset demo-home/dataset.yaml`")
def up(
    dataset: Annotated[
        Path | None,
        typer.Option(help="dataset.yaml; without it the one here, that of RADIOBJECT_DATASET or the demo's."),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(help="Folder of Dagster's history; without it `dagster` beside dataset.yaml."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. There is no log-in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
) -> None:
    """Watch the landing zone and show the Dagster UI, until it is stopped (Ctrl-C).

    The history is kept, and what was requested goes on after a restart. One run at a time; for a server with
    several users see `docker-compose.yml`.
    """
    from radiobject_assets.cli.up import become_dagster

    become_dagster(dataset, home, host, port)


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
    layout: Annotated[
        str | None,
        typer.Option(
            help="How a public data set lays out its files, in place of a dataset.yaml: bids, nnunet, "
            "decathlon, totalsegmentator, brats, flat or folders."
        ),
    ] = None,
) -> None:
    """Take DICOM and NIfTI into a store; every file handed in is accounted for.

    Exit code 0: every volume is in the store (notes, reports, scouts and series that dataset.yaml does not
    ask for may be left out). 1: something was left out that is a volume or may be one, or nothing was taken
    in. 2: could not run.
    """
    request = IngestRequest(tuple(source), store, dataset, memory_mb, workers, layout)
    with progress("series") as report:
        result, uri = take_in(request, report)
    if as_json:
        print_json(result.to_json())
        for doubt in result.doubts:
            warn(doubt.text)
    else:
        print_ingest(result, uri)
    if result.needs_attention:
        raise typer.Exit(1)


@app.command(epilog="Example: `radiobject-assets describe store/`")
def describe(
    store: Annotated[str, typer.Argument(help="Store to look at: a path, file:// or s3://.")],
    as_json: JsonFlag = False,
) -> None:
    """Show a store's subjects, collections, shapes and snapshots."""
    pyarrow_without_pandas()
    from radiobject_assets.store import store_contents

    description = store_contents(store_uri(store))
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
    layout: Annotated[str, typer.Option("--format", help="`nifti`, `bids` or `nnunet`.")] = "nifti",
    labels: Annotated[
        str | None, typer.Option(help="With `nnunet`: the collection of labels; the others are channels.")
    ] = None,
    name: Annotated[str, typer.Option(help="With `nnunet`: name of the data set.")] = "RadiObject",
    number: Annotated[int, typer.Option(help="With `nnunet`: its number.", min=1, max=999)] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Write volumes as NIfTI, each with a JSON file of its source, or as a data set of nnU-Net v2.

    For nnU-Net the subjects' splits go along: `test` to imagesTs, folds into splits_final.json.
    """
    if not out_dir or "://" in out_dir:
        raise ConfigurationError(f"{out_dir!r}: OUT must be a local folder")
    folder = Path(out_dir).expanduser()
    if layout == "nnunet":
        _export_nnunet(store, folder, collection or [], labels, name, number, as_json)
        return
    from radiobject_assets.export.nifti_files import export_store

    with progress("volumes") as report:
        written = export_store(
            store_uri(store), folder, collections=collection, layout=layout, on_progress=report
        )
    if as_json:
        print_json({"written": [str(path) for path in written]})
    else:
        out.print(f"{len(written)} volumes written to {escape(out_dir)}")


def _export_nnunet(
    store: str, folder: Path, images: list[str], labels: str | None, name: str, number: int, as_json: bool
) -> None:
    from radiobject_assets.curation.manifest_of_state import splits_in
    from radiobject_assets.export.nnunet_layout import export_nnunet
    from radiobject_assets.store import whole_state

    if not images or labels is None:
        raise ConfigurationError(
            "--format nnunet: say --collection IMAGES (once a channel) and --labels LABELS"
        )
    uri = store_uri(store)
    with progress("cases") as report:
        done = export_nnunet(
            uri, folder, images=images, labels=labels, name=name, number=number,
            splits=splits_in(whole_state(uri)), on_progress=report,
        )  # fmt: skip
    if as_json:
        print_json({
            "folder": str(done.folder), "training": done.training, "testing": done.testing,
            "left_out": [{"obs_id": obs_id, "reason": reason} for obs_id, reason in done.left_out],
            "files_written": done.n_written,
        })  # fmt: skip
    else:
        out.print(
            f"{len(done.training)} cases to train on and {len(done.testing)} to test with in "
            f"{escape(str(done.folder))}: {done.n_written} files written"
        )
        for obs_id, reason in done.left_out:
            out.print(f"  left out: {escape(obs_id)}: {escape(reason)}")
    if done.left_out:
        raise typer.Exit(1)
