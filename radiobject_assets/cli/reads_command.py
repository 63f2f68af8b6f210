"""`radiobject-assets diagnose-reads`, and the commands of the mends that it names."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from radiobject_assets.cli.output import JsonFlag, out, print_json, progress, table_of
from radiobject_assets.cli.store import store_uri
from radiobject_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from radiobject_assets.diagnostics.reads.diagnosis import AppliedMend, ReadDiagnosis
    from radiobject_assets.store import RewriteReport

_Store = Annotated[str, typer.Argument(help="Store: a path, file:// or s3://.")]
_SHOWN_FIGURES = (
    ("pattern", "reads"),
    ("p50 cold", "cold_p50_ms"),
    ("p95", "cold_p95_ms"),
    ("warm", "warm_p50_ms"),
    ("plain file", "plain_ms"),
    ("copy", "copy_ms"),
    ("fetched", "read_for_each_byte"),
    ("decoded", "decoded_for_each_byte"),
    ("hits", "hit_rate"),
    ("requests", "storage_reads"),
    ("in flight", "in_flight"),
    ("waiting", "waiting_share"),
    ("decoding", "decoding_share"),
)


def diagnose_reads_of_store(
    store: _Store,
    collection: Annotated[list[str] | None, typer.Option(help="Only these collections.")] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            help="How the store is read: axial, coronal, sagittal, region, whole, patch or batch. What is "
            "not named is measured and blamed for nothing. Default: patch."
        ),
    ] = None,
    patch: Annotated[str | None, typer.Option(help="Voxels of a patch, as 64x64x64.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="dataset.yaml: its `patches` say what is read, and how large.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="A program of yours that reads the store in this process; it is run once and observed.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that will read at the same time.")] = 0,
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply the first mend that is safe, and measure again.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure how a store reads, and say what makes it slow: the cause, the mend, and its gain.

    Exit code 0: nothing that a mend would make much faster. 1: something is. 2: could not run.
    """
    from radiobject_assets.cli.findings_output import print_findings
    from radiobject_assets.diagnostics.findings_document import exit_code, findings_document
    from radiobject_assets.diagnostics.reads.access_patterns import AccessPattern
    from radiobject_assets.diagnostics.reads.diagnosis import apply_mends, diagnose_reads, figures_of

    uri = store_uri(store)
    try:
        judged = tuple(AccessPattern(one) for one in pattern or ["patch"])
    except ValueError as error:
        raise ConfigurationError(
            f"{error}: --pattern is one of {', '.join(one for one in AccessPattern if one != 'run')}"
        ) from None
    size, named = _size_of(patch), collection
    if dataset is not None:
        from radiobject_assets.dataset.dataset_yaml import load_dataset

        wanted = load_dataset(dataset).patches
        if wanted is not None:
            size = size or wanted.size_voxels
            named = named or [wanted.image, *([wanted.labels] if wanted.labels else [])]
    with progress("reads") as report:
        found = diagnose_reads(
            uri,
            name=store,
            collections=named,
            judged=judged,
            patch_voxels=size or (64, 64, 64),
            run=None if run is None else _function(run),
            workers=workers,
            on_progress=report,
        )
        applied = apply_mends(uri, found, on_progress=report) if apply else ()
    reports = [found.report()]
    if as_json:
        document = findings_document("diagnose-reads", store, reports)
        measured = {one.collection: figures_of(one) for one in found.collections}
        print_json({**document, "measured": measured, "applied": [_mend(one) for one in applied]})
    else:
        _print_figures(found)
        print_findings(reports, out, with_where=False)
        for one in applied:
            out.print(f"[bold]Applied[/] to {escape(one.text)}")
    if exit_code(reports):
        raise typer.Exit(1)


def _mend(applied: AppliedMend) -> dict[str, Any]:
    return {
        "collection": applied.collection,
        "kind": applied.cause.kind.code,
        "setting": applied.cause.setting,
        "predicted_gain": round(applied.cause.gain, 2),
        "measured_gain": round(applied.gain, 2),
        "kept": applied.is_kept,
    }


def _print_figures(found: ReadDiagnosis) -> None:
    from radiobject_assets.diagnostics.reads.diagnosis import figures_of

    for reads in found.collections:
        layout = reads.layouts[0]
        tiles = " x ".join(map(str, layout.tile))
        out.print(
            f"[bold]{escape(reads.collection)}[/]: {reads.n_volumes} volumes, {len(reads.layouts)} of them "
            f"read; tiles {tiles}, {layout.codec or 'read by TileDB'}"
        )
        table = table_of(*(heading for heading, _ in _SHOWN_FIGURES))
        for row in figures_of(reads):
            mark = " *" if row["pattern"] in reads.judged else ""
            table.add_row(f"{row['pattern']}{mark}", *(f"{row[name]:g}" for _, name in _SHOWN_FIGURES[1:]))
        out.print(table)
    out.print(
        "Milliseconds; bytes fetched and decoded for each byte asked for; requests for each read. "
        "* is what is judged.",
        style="dim",
    )


def _size_of(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigurationError(f"{text!r}: give three numbers of voxels, as 64x64x32")
    x, y, z = map(int, parts)
    return x, y, z


def _function(text: str) -> Callable[[], object]:
    module, _, name = text.partition(":")
    if not module or not name:
        raise ConfigurationError(f"--run {text!r}: give MODULE:FUNCTION, as training:read_all")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"--run {text}: {error}") from error
    return function  # type: ignore[no-any-return]  # whatever it is, it is called


# -- mends --------------------------------------------------------------------------------------------------


def retile(
    store: _Store,
    collection: Annotated[str, typer.Argument(help="Collection to lay out anew.")],
    tile: Annotated[
        str | None,
        typer.Option(
            help="isotropic (for patches), axial, sagittal or coronal (for planes), or voxels as 64x64x32. "
            "Without it the tiles stay, and each volume becomes one file with an index."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Lay out a collection's volumes in other tiles; voxels, rows and snapshots stay.

    Each volume is written beside the old one, which stays until `vacuum`: until then both take space. What
    is interrupted goes on with the next call.
    """
    from radiobject_assets.store import SliceOrientation, TileConfig, rewrite_volumes

    wanted: TileConfig | None = None
    if tile is not None and tile in set(SliceOrientation):
        wanted = TileConfig(orientation=SliceOrientation(tile))
    elif tile is not None:
        size = _size_of(tile)
        assert size is not None
        wanted = TileConfig(x=size[0], y=size[1], z=size[2])
    with progress("volumes") as report:
        done = rewrite_volumes(store_uri(store), collection, tile=wanted, on_progress=report)
    _print_rewritten(done, as_json)


def recompress(
    store: _Store,
    collection: Annotated[str, typer.Argument(help="Collection to store with another codec.")],
    codec: Annotated[str, typer.Option(help="zstd, lz4, gzip or none.")] = "zstd",
    level: Annotated[int, typer.Option(help="Of the codec.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Store a collection's volumes with another codec; voxels, rows and snapshots stay. See `retile`."""
    from radiobject_assets.store import CompressionConfig, Compressor, rewrite_volumes

    if codec not in set(Compressor):
        raise ConfigurationError(f"--codec {codec!r}: one of {', '.join(Compressor)}")
    wanted = CompressionConfig(algorithm=Compressor(codec), level=level)
    with progress("volumes") as report:
        done = rewrite_volumes(store_uri(store), collection, compression=wanted, on_progress=report)
    _print_rewritten(done, as_json)


def consolidate_store(store: _Store, as_json: JsonFlag = False) -> None:
    """Merge the small files that a store's rows are in; every snapshot stays readable."""
    from radiobject_assets.store import consolidate

    merged = consolidate(store_uri(store))
    if as_json:
        print_json({"merged": {uri.rpartition("/")[0].rpartition("/")[2]: n for uri, n in merged.items()}})
        return
    out.print(f"{sum(merged.values())} files of rows merged, in {len(merged)} tables")


def _print_rewritten(done: RewriteReport, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "rewritten": done.rewritten,
                "as_wanted": done.as_wanted,
                "changed_meanwhile": done.changed_meanwhile,
                "bytes_before": done.bytes_before,
                "bytes_after": done.bytes_after,
            }
        )
    else:
        sizes = f", {done.bytes_before / 1e6:.1f} MB before and {done.bytes_after / 1e6:.1f} MB now"
        out.print(
            f"{done.rewritten} volumes laid out anew{sizes if done.rewritten else ''}; {done.as_wanted} were "
            "so already"
        )
        if done.changed_meanwhile:
            out.print(f"{done.changed_meanwhile} were replaced meanwhile and are left as they are")
    if done.changed_meanwhile:
        raise typer.Exit(1)
