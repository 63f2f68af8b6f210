"""The arrivals that a run works on, one after the other: what fails in one leaves the others their turn.

A run is of one partition. It works on the arrivals that it was asked for; a run that a person started, on all
of its partition that are there. All that is kept (scans, verdicts, outcomes) is kept for each arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import dagster as dg

from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow, rows_of_partition
from radiobject_assets.platform.arrivals.runs import (
    FAILED_METADATA,
    FAULT_METADATA,
    REQUEST_TAG,
    arrivals_of_run,
)
from radiobject_assets.platform.arrivals.shared_runs import arrivals_in
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.resources import DatasetResource, WorkingTables

_NAMED = 5
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class ArrivalsOfRun:
    """What a run is to work on."""

    partition: str
    keys: tuple[str, ...]
    """The arrivals that it works on."""
    others: tuple[str, ...] = ()
    """Those of the same partition that it leaves as they are."""
    rows: Mapping[str, ArrivalRow] = field(default_factory=dict)
    """What is known of all of them."""
    is_asked: bool = False
    """Whether a tick asked for the run; else a person started it."""

    @property
    def all_keys(self) -> tuple[str, ...]:
        """All arrivals of the partition, by key."""
        return tuple(sorted({*self.keys, *self.others}))

    @property
    def is_shared(self) -> bool:
        """Whether the partition is, or may be, that of several arrivals."""
        return self.all_keys != (self.partition,)

    def wanted(self, key: str) -> str:
        """Version of the content that is asked for; "": whatever there is."""
        return self.rows[key].wanted.partition(":")[0] if self.is_asked and key in self.rows else ""

    def taken_in(self, key: str) -> str:
        """Version of the content that was taken in of an arrival before; "": none."""
        return self.rows[key].achieved.partition(":")[0] if key in self.rows else ""


def arrivals_of(partition: str, tags: Mapping[str, str], tables: WorkingTables) -> ArrivalsOfRun:
    """The arrivals of a partition that a run with these tags works on."""
    rows = rows_of_partition(tables, partition, arrivals_of_run(tags))
    everyone = arrivals_in(rows, partition)
    there = tuple(key for key in everyone if key not in rows or not rows[key].vanished_since_s)
    keys = arrivals_of_run(tags) or there or everyone
    others = tuple(key for key in everyone if key not in keys)
    known = {key: rows[key] for key in (*keys, *others) if key in rows}
    return ArrivalsOfRun(partition, keys, others, known, REQUEST_TAG in tags)


def how_many(run: ArrivalsOfRun) -> dict[str, int]:
    """Of a shared partition, how many arrivals the other numbers are about."""
    return {"arrivals_of_this_run": len(run.keys), "all_arrivals": len(run.all_keys)} if run.is_shared else {}


def of_each(
    dataset: DatasetResource,
    keys: Iterable[str],
    make: Callable[[str], _Made],
    unfit: Mapping[str, str] | None = None,
) -> dict[str, _Made]:
    """Call for each arrival. Those that fail, fail together, when all have had their turn.

    What is no arrival's fault (storage without an answer, no memory) ends it at once.

    Parameters
    ----------
    make
        Called with the arrival's key.
    unfit
        Arrivals that are not to be worked on now, though the fault is not theirs, and why.

    Raises
    ------
    dagster.Failure
        Without identifiers; where there are several arrivals it says which of them failed.
    """
    keys = tuple(keys)
    made: dict[str, _Made] = {}
    failed: dict[str, dict[str, str]] = {
        key: {"error": text, "fault": "machine"} for key, text in (unfit or {}).items()
    }
    for key in keys:
        if key in failed:
            continue
        try:
            with shielded(dataset.work.arrival(key)):
                made[key] = make(key)
        except dg.Failure as failure:
            fault = failure.metadata[FAULT_METADATA].value
            if len(keys) == 1 or fault == "machine":
                raise
            failed[key] = {"error": failure.description or "", "fault": "item"}
    if failed:
        raise _failure(failed, len(keys))
    return made


def _failure(failed: Mapping[str, Mapping[str, str]], n: int) -> dg.Failure:
    told = "; ".join(f"{key}: {one['error']}" for key, one in list(failed.items())[:_NAMED])
    faults = {one["fault"] for one in failed.values()}
    if n == 1:
        return dg.Failure(description=told.partition(": ")[2], metadata={FAULT_METADATA: faults.pop()})
    return dg.Failure(
        description=f"{len(failed)} of {n} arrivals can't be taken in now; the others are taken in without "
        f"them. {told}{' ...' if len(failed) > _NAMED else ''}",
        metadata={
            FAULT_METADATA: "item" if "item" in faults else "machine",
            FAILED_METADATA: dg.MetadataValue.json({key: dict(one) for key, one in failed.items()}),
        },
    )
