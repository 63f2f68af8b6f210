"""A store as a command line names it, and the commands that act on one as a whole: snapshots, imports."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from radiobject_assets.cli.output import SHOWN, JsonFlag, out, print_json, table_of
from radiobject_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from radiobject_assets.store import ImportReport, Snapshot

snapshots = typer.Typer(
    name="snapshot", help="Name the present state of a store, and list the names.", no_args_is_help=True
)


def store_uri(text: str) -> str:
    """A store as the user wrote it: `~` becomes the home folder (no shell does that in `--store=~/x`)."""
    from radiobject_assets.dataset.dataset_yaml import check_store_uri

    try:
        check_store_uri(text)
    except ValueError as error:
        raise ConfigurationError(f"{text}: {error}" if text else str(error)) from None
    if text.startswith("s3://"):
        _use_s3_variables()
    return text if "://" in text else str(Path(text).expanduser())


def _use_s3_variables() -> None:
    """Take endpoint and region from the usual AWS variables, as the Dagster resources do."""
    from radiobject_assets.store import S3Config, configure

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    # servers other than Amazon's seldom answer to bucket names in the host
    addressing = S3Config(endpoint=endpoint, use_virtual_addressing=endpoint is None)
    configure(s3=addressing.model_copy(update={"region": region}) if region else addressing)


@snapshots.command("list", epilog="Example: `radiobject-assets snapshot list store/`")
def list_names(
    store: Annotated[str, typer.Argument(help="Store to look at: a path, file:// or s3://.")],
    as_json: JsonFlag = False,
) -> None:
    """List a store's snapshots, oldest first."""
    from radiobject_assets.store import list_snapshots

    found = list_snapshots(store_uri(store))
    if as_json:
        print_json({"snapshots": [_document(snapshot) for snapshot in found]})
        return
    if not found:
        out.print(f"no snapshots in {escape(store)}")
        return
    table = table_of("snapshot", "made", "volumes and subjects", "digest")
    for snapshot in found:
        document = _document(snapshot)
        counts = ", ".join(f"{name} {count}" for name, count in snapshot.counts.items())
        table.add_row(escape(snapshot.name), document["created_at"], counts, snapshot.digest[:23])
    out.print(table)


@snapshots.command("create", epilog="Example: `radiobject-assets snapshot create store/ 2026-study`")
def create(
    store: Annotated[str, typer.Argument(help="Store to name a state of: a path, file:// or s3://.")],
    name: Annotated[str, typer.Argument(help="Name of the snapshot, which training pins.")],
    as_json: JsonFlag = False,
) -> None:
    """Name the present state of a store: stable while others write, and kept from vacuum."""
    from radiobject_assets.store import create_snapshot

    snapshot = create_snapshot(store_uri(store), name)
    if as_json:
        print_json(_document(snapshot))
        return
    counts = ", ".join(f"{label} {count}" for label, count in snapshot.counts.items())
    out.print(f"snapshot [bold]{escape(snapshot.name)}[/bold]: {counts}")


def _document(snapshot: Snapshot) -> dict[str, Any]:
    moment = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
    return {
        "name": snapshot.name,
        "timestamp_ms": snapshot.timestamp_ms,
        "created_at": moment.isoformat(timespec="milliseconds"),
        "counts": dict(snapshot.counts),
        "digest": snapshot.digest,
    }


def import_old(
    old: Annotated[str, typer.Argument(help="Store written by the RadiObject package; it is only read.")],
    new: Annotated[str, typer.Argument(help="Where the new store goes: a path, file:// or s3://.")],
    as_json: JsonFlag = False,
) -> None:
    """Copy a store of the RadiObject package, each volume by the id that its own array carries.

    Reports the ids for which RadiObject would have returned another id's voxels, and ends with 1 if rows
    had no array or arrays no row.
    """
    from radiobject_assets.store import import_radiobject

    report = import_radiobject(store_uri(old), store_uri(new))
    if as_json:
        print_json(
            {
                "subjects": report.subjects,
                "volumes": report.volumes,
                "mixed_up": report.mixed_up,
                "without_array": report.without_array,
                "without_row": report.without_row,
            }
        )
    else:
        _print_import(report, new)
    if any(report.without_array.values()) or any(report.without_row.values()):
        raise typer.Exit(1)


def _print_import(report: ImportReport, new: str) -> None:
    out.print(f"[bold]{report.subjects} subjects[/bold]  ->  {escape(new)}")
    table = table_of(
        "collection", "volumes", "mixed up in RadiObject", "rows without array", "arrays without row"
    )
    for name, count in report.volumes.items():
        table.add_row(
            escape(name),
            str(count),
            str(len(report.mixed_up[name])),
            str(len(report.without_array[name])),
            str(report.without_row[name]),
        )
    out.print(table)
    for meaning, found in (
        ("RadiObject would have returned another volume for", report.mixed_up),
        ("no voxels were found for", report.without_array),
    ):
        for name, ids in found.items():
            if ids:
                more = f" and {len(ids) - SHOWN} more; --json lists all" if len(ids) > SHOWN else ""
                out.print(
                    f"{escape(name)}: {meaning} {escape(', '.join(ids[:SHOWN]))}{more}", highlight=False
                )
