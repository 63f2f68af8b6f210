"""`radiobject-assets forget`: whom, what would go, and doing it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radiobject_assets.cli.output import JsonFlag, out, print_json, table_of, warn
from radiobject_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings
    from radiobject_assets.forgetting.forget import Forgotten
    from radiobject_assets.store import TileDBContext

_FROM_STDIN = "-"


def forget_people(
    subject: Annotated[
        list[str],
        typer.Argument(
            help="Ids of subjects, as they came or as the store has them, or their marks; `-` reads ids from "
            "the standard input, one a line, so that none is in the list of processes.",
            metavar="SUBJECT...",
        ),
    ],
    dataset: Annotated[Path, typer.Option(help="dataset.yaml of the data set.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only say what would go.")] = False,
    landing: Annotated[
        bool,
        typer.Option(
            "--landing", help="Remove their files from the landing zone, and their lines of split.by_hand."
        ),
    ] = False,
    allow: Annotated[
        bool, typer.Option("--allow", help="Forget nobody; let people who were forgotten come in again.")
    ] = False,
    dagster_home: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the Dagster instance; else DAGSTER_HOME, else `dagster` beside the file."
        ),
    ] = None,
    without_dagster: Annotated[
        bool, typer.Option("--without-dagster", help="The data set is used without Dagster.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove everything of people: voxels, rows, snapshots' rows, tables, pictures, patches, history.

    Without --yes it tells how much would go, and the mark of each person, by which the Dagster job `forget`
    knows them. What was interrupted goes on with the same command. Exit code 1: something is left to be done
    by hand, or somebody is not there. 2: could not run.
    """
    from radiobject_assets.dataset.dataset_yaml import load_dataset
    from radiobject_assets.definitions import build_resources
    from radiobject_assets.forgetting.forget import House, forget_person, unfinished, would_go
    from radiobject_assets.platform.assets import build_assets
    from radiobject_assets.platform.checks import build_checks
    from radiobject_assets.store import allow_again

    config = load_dataset(dataset.expanduser())
    resources = build_resources(config)
    storage = resources["storage"]
    marks = _marks(config, storage.ctx, _ids(subject))
    if allow:
        allow_again(config.store_uri, marks, storage.ctx)
        out.print(f"{len(marks)} people may come in again, when their arrivals are taken in next")
        return
    with ExitStack() as held:
        instance = None
        if not without_dagster:
            import dagster as dg

            home = _home(config, dagster_home)
            instance = held.enter_context(dg.DagsterInstance.from_config(str(home)))
        assets, checks = build_assets(config), build_checks(config)
        house = House.of(resources["dataset"], storage, instance, assets, checks)
        found = [
            forget_person(house, mark, landing=landing) if yes else would_go(house, mark) for mark in marks
        ]
        others = [mark for mark in unfinished(house) if mark not in marks]
    if as_json:
        print_json({"done": yes, "people": [asdict(one) for one in found]})
    else:
        _print(found, done=yes, landing=landing, by_hand=config.split.by_hand)
    if others:
        warn(
            f"forgetting {len(others)} other people was interrupted; forget them once more: "
            f"{', '.join(others)}"
        )
    if any(one.is_nobody or one.by_hand or one.not_read for one in found):
        raise typer.Exit(1)


def _ids(given: Sequence[str]) -> Iterator[str]:
    for one in given:
        if one == _FROM_STDIN:
            yield from filter(None, map(str.strip, sys.stdin))
        elif one.strip():
            yield one
        else:
            raise ConfigurationError("a SUBJECT is empty: give an id")


def _marks(config: DatasetSettings, ctx: TileDBContext, ids: Iterator[str]) -> list[str]:
    """The mark of each person, by an id as it came, as the store has it, or by the mark itself."""
    from radiobject_assets.imaging.release.deidentification import PSEUDONYM
    from radiobject_assets.ingest.dataset_release import release_of
    from radiobject_assets.store import FORGOTTEN_MARK, ensure_store, forgetting_key

    ensure_store(config.store_uri, ctx=ctx)
    marks, release = forgetting_key(config.store_uri, ctx), release_of(config)
    found = dict.fromkeys(
        one
        if FORGOTTEN_MARK.fullmatch(one)
        else marks.mark(one if PSEUDONYM.fullmatch(one) else release.subject(one))
        for one in ids
    )
    if not found:
        raise ConfigurationError("nobody is named: give the ids of subjects")
    return list(found)


def _home(config: DatasetSettings, given: Path | None) -> Path:
    named = os.environ.get("DAGSTER_HOME")
    home = given or (Path(named) if named else config.folder / "dagster")
    if not home.expanduser().is_dir():
        raise ConfigurationError(
            f"{home}: no such folder; name the Dagster instance of this data set with --dagster-home, or say "
            "--without-dagster if there is none"
        )
    return home.expanduser().resolve()


def _print(found: Sequence[Forgotten], *, done: bool, landing: bool, by_hand: str | None) -> None:
    heading = "forgotten" if done else "would go"
    table = table_of(
        heading, "volumes", "arrivals", "runs", "patch caches", "documents",
        f"landing files{'' if landing else ' (stay)'}",
    )  # fmt: skip
    for one in found:
        numbers = (one.volumes, one.arrivals, one.runs, one.patch_caches, one.documents, one.landing_files)
        table.add_row(one.mark, *map(str, numbers))
    out.print(table)
    for one in found:
        if one.is_nobody:
            out.print(f"{one.mark}: nothing of such a person is here", highlight=False)
        if one.staged_files and not (done and landing):
            out.print(
                f"{one.mark}: {one.staged_files} of their files wait in the landing zone, in studies that "
                "are not delivered yet; --landing removes these too, else they are refused when they come in",
                highlight=False,
            )
        if one.split_lines and not (done and landing):
            out.print(
                f"{one.mark}: {one.split_lines} lines of {by_hand} (split.by_hand) name them; --landing "
                "removes these too, or do it by hand",
                highlight=False,
            )
        if one.not_read:
            out.print(
                f"{one.mark}: these arrivals are not taken in and can't be read, so they may hold the person "
                f"(who is refused when they are taken in): {', '.join(one.not_read)}",
                highlight=False,
            )
        if one.by_hand:
            out.print(
                f"{one.mark}: {one.by_hand} files of the landing zone hold other people as well, or could "
                "not be named; take the person out of them by hand",
                highlight=False,
            )
    if not done:
        out.print("Nothing was removed: add --yes to do it.")
