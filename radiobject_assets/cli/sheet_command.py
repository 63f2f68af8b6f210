"""`radiobject-assets sheet`: the data-set sheet, for somebody who has a store or a dataset.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from radiobject_assets.cli.output import out, progress
from radiobject_assets.cli.store import store_uri
from radiobject_assets.system.durable_files import write_whole
from radiobject_assets.system.temporary import temporary_folder

if TYPE_CHECKING:
    import pandas as pd

_PROFILED = 200


def sheet(
    source: Annotated[
        str,
        typer.Argument(help="A store (a path, file:// or s3://), or a dataset.yaml.", metavar="STORE"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path("sheet.html"),
    snapshot: Annotated[
        str | None, typer.Option(help="Name of the snapshot; without it, the newest, or the present state.")
    ] = None,
) -> None:
    """Write the data-set sheet: one HTML file that says who and what is in a data set; no identifier.

    With a dataset.yaml what was profiled is kept for the next time. Of a store alone up to 200 volumes are
    profiled, evenly chosen.
    """
    from radiobject_assets.curation.sheet_of_state import make_sheet
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
    from radiobject_assets.diagnostics.inventory import read_inventory
    from radiobject_assets.profiling.kept_profiles import keep_profiles
    from radiobject_assets.store import list_snapshots, open_storage

    splits: dict[str, str] | None = None
    path = Path(source).expanduser()
    is_file = path.suffix in (".yaml", ".yml") and path.is_file()
    with temporary_folder() as folder, progress("collections") as report:
        if is_file:
            from radiobject_assets.definitions import build_resources

            settings = load_dataset(path)
            from radiobject_assets.platform.assets.splits import current_splits

            resources = build_resources(settings)
            ctx = resources["storage"].ctx
            kept = resources["dataset"].tables(resources["storage"])
            uri, tables = settings.store_uri, kept.storage
            if kept.has(kept.splits):  # as the asset: the store notes only those whom training uses
                divided = current_splits(kept)
                splits = dict(zip(divided["obs_subject_id"], divided["split"], strict=True))
        else:
            settings, uri, ctx = DatasetSettings(), store_uri(source), None
            tables = open_storage(str(folder), ctx)
        made = [one.name for one in list_snapshots(uri, ctx)]
        snapshot = snapshot or (made[-1] if made else None)
        rows = read_inventory(uri, snapshot=snapshot, ctx=ctx)
        names = list(rows["collection"].unique())
        keep_profiles(
            tables,
            uri,
            rows if is_file else _some(rows),
            snapshot=snapshot,
            adds_only=True,  # the snapshot may be an old one: what is kept of newer volumes stays
            on_collection=lambda name: report(names.index(name), len(names), name),
            ctx=ctx,
        )
        page = make_sheet(uri, settings, snapshot=snapshot, profiles=tables, splits=splits, ctx=ctx)
    write_whole(output.expanduser(), page)
    out.print(f"{escape(str(output))}: {len(page.encode()) / 1e6:.1f} MB")


def _some(rows: pd.DataFrame) -> pd.DataFrame:
    ordered = rows.sort_values("volume")
    step = -(-len(ordered) // _PROFILED) or 1
    return ordered.iloc[::step].sort_index()
