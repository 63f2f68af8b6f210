"""The commands that say what a data set is, and what is different: manifests, differences, matches, cards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from radiobject_assets.cli.output import SHOWN, JsonFlag, out, print_json, progress, table_of
from radiobject_assets.cli.store import store_uri
from radiobject_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from radiobject_assets.curation.manifest import Manifest
    from radiobject_assets.curation.tokens import TokenKey
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings

DatasetOption = Annotated[
    Path | None, typer.Option("--dataset", help="dataset.yaml: settings and descriptions that it notes.")
]


def manifest(
    store: Annotated[str, typer.Argument(help="Store: a path, file:// or s3://.")],
    snapshot: Annotated[
        str | None, typer.Option(help="Name of the snapshot; without it, the newest one.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; without it, standard output.")
    ] = None,
    dataset: DatasetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the manifest of a snapshot: digests of every volume, splits of subjects, no identifier.

    `--json` (with `-o`) prints what the manifest is of, and its digests.
    """
    from radiobject_assets.curation.manifest_of_state import write_manifest
    from radiobject_assets.store import whole_state
    from radiobject_assets.system.temporary import temporary_folder

    if as_json and output is None:
        raise ConfigurationError("--json needs -o FILE: the manifest itself has one JSON object a line")
    state = whole_state(store_uri(store), snapshot or _newest_snapshot(store))
    with temporary_folder() as folder:
        path = folder / "manifest" if output is None else output.expanduser()
        header, digests = write_manifest(
            state, path, splits=_present_splits(store), settings=_settings(dataset)
        )
        if output is None:
            with path.open("r", encoding="utf-8") as lines:
                for line in lines:
                    typer.echo(line, nl=False)
            return
    if as_json:
        document = {"file": str(output), "snapshot": header.snapshot, "counts": dict(header.counts)}
        print_json({**document, **vars(digests)})
        return
    counts = ", ".join(f"{name} {count}" for name, count in header.counts.items())
    out.print(f"{escape(str(output))}: snapshot [bold]{escape(str(header.snapshot))}[/bold], {counts}")
    out.print(digests.digest, highlight=False)


def diff(
    before: Annotated[
        str, typer.Argument(help="A manifest's file, a store, or `STORE@SNAPSHOT`.", metavar="A")
    ],
    after: Annotated[str, typer.Argument(help="What it is compared with, named likewise.", metavar="B")],
    as_json: JsonFlag = False,
) -> None:
    """Say what is different: volumes and subjects added, removed and changed, and who moved between splits.

    Exit code 0: the data are the same. 1: they differ. 2: could not run.
    """
    from radiobject_assets.curation.difference import compare_manifests

    with _two_manifests(before, after) as (old, new):
        found = compare_manifests(old, new)
    if as_json:
        print_json(found.to_json())
    else:
        if found.by_content:
            out.print("of different stores: volumes are compared by voxels and place, subjects not at all")
        for name, count in found.counts.items():
            what, _, change = name.partition("_")
            out.print(f"{count} {what} {change}")
        _print_rows(
            ("volume or subject", "collection", "change", "what"),
            [
                (one.token, one.collection or "-", one.change, _told(one.change, one.what))
                for one in (*found.volumes, *found.subjects)
            ],
        )
        if found.settings:
            out.print(f"settings that differ: {', '.join(found.settings)}")
        if found.is_same_data:
            out.print("the data are the same")
    if not found.is_same_data:
        raise typer.Exit(1)


def match(
    have: Annotated[
        str, typer.Argument(help="Folder of DICOM or NIfTI, a store, or `STORE@SNAPSHOT`.", metavar="HAVE")
    ],
    manifest_file: Annotated[Path, typer.Argument(help="The manifest.", metavar="MANIFEST")],
    dataset: DatasetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say whether what you have is what a manifest says: volumes are known by voxels and place.

    Files are taken into a store in a temporary folder for it, with the settings that the manifest notes.
    Exit code 0: each volume is there, and no other. 1: some are missing, different or extra. 2: could not
    run.
    """
    from radiobject_assets.curation.manifest import Manifest
    from radiobject_assets.curation.what_is_there import match_folder, match_store
    from radiobject_assets.store import is_store
    from radiobject_assets.system.compute import Compute
    from radiobject_assets.system.memory import MemoryBudget

    wanted = Manifest(manifest_file.expanduser())
    where, snapshot = _place(have)
    if snapshot is not None or "://" in where or is_store(where, None):
        found = match_store(wanted, where, snapshot)
    else:
        with progress("series") as report:
            found = match_folder(
                wanted,
                Path(where),
                dataset=_settings(dataset),
                budget=MemoryBudget(),
                compute=Compute(),
                on_progress=report,
            )
    if as_json:
        print_json(found.to_json())
    else:
        numbers = ", ".join(f"{found.count(s)} {s}" for s in ("missing", "different", "extra"))
        out.print(f"{found.equal} volumes are as the manifest says; {numbers}")
        rows = [(one.token, one.collection, one.state, ", ".join(one.what)) for one in found.mismatches]
        _print_rows(("volume", "collection", "state", "what"), rows)
    if not found.is_complete:
        raise typer.Exit(1)


def card(
    store: Annotated[str, typer.Argument(help="Store: a path, file:// or s3://.")],
    snapshot: Annotated[
        str | None, typer.Option(help="Name of the snapshot; without it, the newest one.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder to write README.md, croissant.json and manifest.jsonl to."
        ),
    ] = None,
    dataset: DatasetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the data card of a snapshot: who and what is in it, splits, licence; no identifier.

    Prints it as Markdown, or with `--json` as Croissant, where no folder is given.
    """
    from radiobject_assets.curation.cards import write_cards
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings
    from radiobject_assets.store import whole_state
    from radiobject_assets.system.temporary import temporary_folder

    state = whole_state(store_uri(store), snapshot or _newest_snapshot(store))
    settings = _settings(dataset) or DatasetSettings()
    with temporary_folder() as temporary:
        folder = temporary if output is None else output.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        cards = write_cards(state, folder, settings, splits=_present_splits(store))
    if as_json:
        print_json(cards.croissant)
    elif output is None:
        typer.echo(cards.markdown, nl=False)
    else:
        out.print(f"README.md, croissant.json and manifest.jsonl written to {escape(str(output))}")


def _told(change: str, what: Sequence[str]) -> str:
    if change == "moved":
        return " to ".join(split or "no split" for split in what)
    return ", ".join(what)


def _print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = table_of(*headings)
    for row in rows[:SHOWN]:
        table.add_row(*map(escape, row))
    out.print(table)
    if len(rows) > SHOWN:
        out.print(f"... {len(rows)} in all; --json lists them")


def _place(text: str) -> tuple[str, str | None]:
    """A store or folder, and the snapshot that is named after its `@`."""
    store, mark, snapshot = text.rpartition("@")
    if mark and store and "/" not in snapshot and not Path(text).expanduser().exists():
        return store_uri(store), snapshot
    return store_uri(text), None


@contextmanager
def _two_manifests(before: str, after: str) -> Iterator[tuple[Manifest, Manifest]]:
    """Manifests of what was named: stores get theirs in a temporary folder, with comparable tokens."""
    from radiobject_assets.curation.manifest import Manifest
    from radiobject_assets.curation.manifest_of_state import write_manifest
    from radiobject_assets.curation.tokens import TokenKey
    from radiobject_assets.store import whole_state
    from radiobject_assets.system.temporary import temporary_folder

    key: TokenKey | None = None
    found: list[Manifest] = []
    with temporary_folder() as folder:
        for number, text in enumerate((before, after)):
            if Path(text).expanduser().is_file():
                found.append(Manifest(Path(text).expanduser()))
                continue
            where, snapshot = _place(text)
            state = whole_state(where, snapshot)
            # a copy has a key of its own: of two stores the first one's serves both
            key = key or TokenKey.of(state)
            path = folder / f"manifest-{number}"
            splits = _present_splits(where) if snapshot is not None else None
            write_manifest(state, path, splits=splits, key=key)
            found.append(Manifest(path))
        yield found[0], found[1]


def _present_splits(store: str) -> dict[str, str] | None:
    """Splits by subject: subjects are divided after a snapshot was made, so it is asked of the present."""
    from radiobject_assets.curation.manifest_of_state import splits_in
    from radiobject_assets.store import whole_state

    return splits_in(whole_state(store_uri(store)))


def _newest_snapshot(store: str) -> str:
    from radiobject_assets.store import list_snapshots

    found = list_snapshots(store_uri(store))
    if not found:
        raise ConfigurationError(
            f"{store} has no snapshot; name its present state first: radiobject-assets snapshot create"
        )
    return found[-1].name


def _settings(path: Path | None) -> DatasetSettings | None:
    from radiobject_assets.dataset.dataset_yaml import load_dataset

    return None if path is None else load_dataset(path.expanduser())
