"""`radiobject-assets arrivals`: which folder of the landing zone a partition is, and how far it is."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from radiobject_assets.cli.output import JsonFlag, out, print_json, table_of
from radiobject_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from radiobject_assets.landing.local_zone import Arrival
    from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow


@dataclass(frozen=True)
class ArrivalLine:
    """One arrival, with its name: for who may see the landing zone."""

    partition: str
    """"" where no run was asked for yet."""
    arrival: str
    folder: str
    """"" where it is no longer in the landing zone."""
    state: str
    error: str = ""


def arrivals(
    partition: Annotated[
        list[str] | None,
        typer.Argument(
            help="Only these partitions, or arrivals by their keys; none: all.", metavar="PARTITION"
        ),
    ] = None,
    dataset: Annotated[Path, typer.Option(help="dataset.yaml of the data set.")] = Path("dataset.yaml"),
    as_json: JsonFlag = False,
) -> None:
    """Say which folders the partitions of the arrivals are, and what became of them.

    Dagster shows partitions by the day and a number, and arrivals by tokens, since a folder may be named
    after a patient. This command reads the names where they are: in the landing zone. It changes nothing.
    """
    from radiobject_assets.dataset.dataset_yaml import load_dataset
    from radiobject_assets.definitions import build_resources
    from radiobject_assets.platform.arrivals.arrival_table import ArrivalTable
    from radiobject_assets.platform.arrivals.left_behind import left_behind
    from radiobject_assets.platform.arrivals.shared_runs import partitions_of

    config = load_dataset(dataset.expanduser())
    resources = build_resources(config)
    resource, storage = resources["dataset"], resources["storage"]
    zone = resource.landing(storage)
    if problem := zone.problem():
        raise ConfigurationError(problem)
    rows = ArrivalTable(resource.tables(storage)).rows
    there = {arrival.key: arrival for arrival in zone.arrivals()}
    own = partitions_of(rows, [key for key, row in rows.items() if row.run_id])
    left = {item.key: item for item in left_behind(rows, time.time(), config.arrivals.retry_after_s).items}
    wanted = set(partition or ())
    lines = []
    for key in sorted({*rows, *there}, key=lambda key: (own.get(key, ""), key)):
        if wanted and not wanted & {key, own.get(key, "")}:
            continue
        behind = left.get(key)
        lines.append(
            ArrivalLine(
                own.get(key, ""),
                key,
                _name(there.get(key)),
                behind.kind if behind is not None else _state(rows.get(key)),
                behind.error if behind is not None else "",
            )
        )
    if as_json:
        print_json({"arrivals": [asdict(line) for line in lines]})
    else:
        _print(lines)
    if wanted and not lines:
        raise typer.Exit(1)


def _name(arrival: Arrival | None) -> str:
    if arrival is None:
        return ""
    return arrival.source or str(arrival.place)


def _state(row: ArrivalRow | None) -> str:
    if row is None or not row.wanted:
        return "arriving"
    if row.unsettled_since_s:
        return "changing"
    if row.asked:
        return "in a run"
    return "taken in" if row.is_achieved else "waiting"


def _print(lines: list[ArrivalLine]) -> None:
    has_errors = any(line.error for line in lines)
    table = table_of("partition", "arrival", "folder", "state", *(["error"] if has_errors else []))
    for line in lines:
        cells = [line.partition or "-", line.arrival, line.folder or "-", line.state]
        table.add_row(*(escape(cell) for cell in (*cells, *([line.error] if has_errors else []))))
    out.print(table if lines else "no arrivals")
