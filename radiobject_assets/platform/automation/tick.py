"""One tick: the dead are ended, what lies there is compared with what was achieved, the rest is asked for.

The sensor calls it, in the daemon's code server and in a pass without a daemon alike. It saves what it learns
as it goes, so that a tick that is killed costs nothing but itself.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest.settings import settings_version
from radiobject_assets.landing.local_zone import LooseFiles
from radiobject_assets.landing.settling import MARKER_GRACE_S
from radiobject_assets.landing.steady_clock import SteadyClock
from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow, ArrivalTable
from radiobject_assets.platform.arrivals.left_behind import LeftBehind, left_behind
from radiobject_assets.platform.arrivals.looking import LandingLook, look_at_landing, remember, remembered
from radiobject_assets.platform.arrivals.reconciling import (
    Request,
    observe,
    reconcile,
    unresolved,
    wanted_version,
    without_moved,
)
from radiobject_assets.platform.arrivals.runs import RunsOfDataSet
from radiobject_assets.platform.arrivals.shared_runs import Sharing, partition_of, partitions_of
from radiobject_assets.platform.assets.collections import waiting_by_arrival
from radiobject_assets.platform.assets.partitions import collection_names
from radiobject_assets.resources import DatasetResource, StorageResource

if TYPE_CHECKING:
    from radiobject_assets.ingest.labels_on_images.waiting import WaitingLabels

# An overrun tick (60 s) emits nothing: stop long before, and go on in the next one.
TICK_BUDGET_S = 20.0
RUNS_AT_ONCE = 64
"""Runs of arrivals that wait or work at one time."""
ASKED_AT_ONCE = 16
"""Requests of one tick: the daemon makes a run of each before the tick ends, in half a second or more."""
_TOLD_AGAIN_S = 24 * 3600.0


@dataclass(frozen=True)
class Ticked:
    """What a tick did and found."""

    requests: tuple[Request, ...]
    new: tuple[str, ...]
    """Partitions that Dagster does not know yet."""
    left: LeftBehind
    left_is_news: bool
    """Whether that is another state than was last told, or was told a day ago."""
    loose: LooseFiles
    loose_is_news: bool
    summary: str


def tick(
    dataset: DatasetResource,
    storage: StorageResource,
    runs: RunsOfDataSet,
    *,
    partitions: Collection[str],
    clock: Callable[[], float] = time.time,
    is_impatient: bool = False,
    budget_s: float = TICK_BUDGET_S,
) -> Ticked:
    """Compare what is there with what was achieved, and say what to ask for.

    Parameters
    ----------
    dataset, storage
        The data set.
    runs
        Its runs.
    partitions
        Partitions of arrivals that Dagster knows.
    clock
        Seconds since the epoch.
    is_impatient
        Try what failed now, and also what was given up: somebody asked for it.
    budget_s
        Seconds for looking into the landing zone.
    """
    config, partitions = dataset.config, frozenset(partitions)
    deadline = time.monotonic() + budget_s
    table = ArrivalTable(dataset.tables(storage))
    before, now_s = table.tick(), clock()
    silences, n_ended = runs.end_dead(
        before.silences, elapsed_s=now_s - before.ticked_s, silence_s=config.arrivals.silence_s
    )
    # kept before anything else can fail: the dead are ended although the landing zone gives no answer
    before = replace(before, ticked_s=now_s, silences=silences)
    table.save_tick(before)
    zone = dataset.landing(storage)
    if problem := zone.problem():
        left = left_behind(table.rows, now_s, config.arrivals.retry_after_s)
        return Ticked((), (), left, False, LooseFiles({}), False, problem)
    settings, out_of_time = settings_version(config), lambda: time.monotonic() > deadline
    # of the time for looking no more than half goes to glances: what they tell of must be looked at as well
    look = partial(
        look_at_landing,
        out_of_time=out_of_time,
        glanced_enough=lambda: time.monotonic() > deadline - budget_s / 2,
        after=before.glanced,
        hurry=not is_impatient,
    )
    quiet_clock = SteadyClock(dataset.work.looks.with_name("clock.json"), wall=clock)
    # what was made of other content than is wanted is walked anew soon: the look before was behind
    rows = table.rows
    last = dict(remembered(dataset.work.looks))
    for key, row in rows.items():
        if row.achieved and not row.is_achieved and key in last:
            last[key] = replace(last[key], walked_s=0.0)
    seen = look(zone, last, now_s=quiet_clock())
    if seen.wait_s is not None and seen.wait_s <= MARKER_GRACE_S and not _is_news(seen, rows, settings):
        time.sleep(seen.wait_s)  # a marker was only just written: that is not worth another tick
        now_s = clock()
        seen = look(zone, seen.seen, now_s=quiet_clock())
    waiting = waiting_by_arrival(dataset.tables(storage), collection_names(config))
    known = observe(
        rows,
        seen,
        settings=settings,
        images=_chances(config, storage, waiting),
        partitions=partitions,
        now_s=now_s,
    )
    table.save(known)
    # of what is gone and forgotten nothing need be remembered
    forgotten = seen.seen.keys() - seen.present - known.keys()
    kept = {key: one for key, one in seen.seen.items() if key not in forgotten} if forgotten else seen.seen
    remember(dataset.work.looks, kept)

    # first who lives and then who ended: a run that ends in between is seen to live, and to end next time
    living, delays_s = runs.living(), config.arrivals.retry_after_s
    room = min(ASKED_AT_ONCE, RUNS_AT_ONCE - len(living))
    keys = unresolved(known, now_s, delays_s, partitions, max(room, 0))
    done = reconcile(
        known,
        living,
        runs.ended({key: known[key] for key in keys}),
        room=room,
        tokens=[secrets.token_hex(8) for _ in range(ASKED_AT_ONCE)],
        now_s=now_s,
        delays_s=delays_s,
        is_impatient=is_impatient,
        looked_up=frozenset(keys),
        partitions=partitions,
        sizes={key: one.n_bytes for key, one in kept.items()},
        # on S3 the arrivals of a run are copied: several runs' copies must find room
        sharing=Sharing(
            config.arrivals.share_run,
            min(config.arrivals.share_run_gb, config.arrivals.copy_limit_gb / 4) * 2**30,
        ),
        day=f"{datetime.fromtimestamp(now_s).astimezone():%Y-%m-%d}",
    )
    done = replace(done, rows=without_moved(done.rows, seen.moved))
    table.save(done.rows)
    left = left_behind(done.rows, now_s, delays_s)
    told = _digest(left)
    left_is_news = told != before.told or abs(now_s - before.told_s) > _TOLD_AGAIN_S
    table.save_tick(
        replace(
            before,
            loose=seen.loose.count,
            glanced=seen.glanced,
            told=told,
            told_s=now_s if left_is_news else before.told_s,
        )
    )
    return Ticked(
        requests=done.requests,
        new=_new_partitions(done.rows, seen, partitions),
        left=left,
        left_is_news=left_is_news,
        loose=seen.loose,
        loose_is_news=seen.loose.count != before.loose,
        summary=_summary(done.requests, living=len(living), n_ended=n_ended, left=left, seen=seen),
    )


def _chances(
    config: DatasetSettings, storage: StorageResource, waiting: Mapping[str, tuple[WaitingLabels, ...]]
) -> dict[str, str]:
    if not waiting:
        return {}
    from radiobject_assets.ingest.labels_on_images.waiting import chance, images_there

    everything = [one for labels in waiting.values() for one in labels]
    found = images_there(config.store_uri, everything, storage.ctx)
    chances = {}
    for key, labels in waiting.items():
        if there := {one: found[one] for one in labels if one in found}:
            chances[key] = chance(there)
    return chances


def _is_news(seen: LandingLook, rows: Mapping[str, ArrivalRow], settings: str) -> bool:
    known = {key: row.wanted for key, row in rows.items()}
    return any(known.get(key) != wanted_version(content, settings) for key, content in seen.settled.items())


def _new_partitions(
    rows: Mapping[str, ArrivalRow], seen: LandingLook, known: Collection[str]
) -> tuple[str, ...]:
    there = seen.present
    missing = {
        key: row
        for key, row in rows.items()
        if partition_of(key, row) not in known and row.wanted and key in there
    }
    return tuple(sorted({*partitions_of(missing, known).values()}))


def _digest(left: LeftBehind) -> str:
    # what is not told anew: how many were taken in, and when the next try is. That the last one came in is:
    # Dagster shows a check as not evaluated from the next materialization on
    state = f"{bool(left.arrivals)} {left.achieved == left.arrivals}"
    lines = [state, *(f"{item.key} {item.kind} {item.error}" for item in left.items)]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def _summary(
    requests: Collection[Request], *, living: int, n_ended: int, left: LeftBehind, seen: LandingLook
) -> str:
    asked = sum(len(request.keys) for request in requests)
    runs = f" in {len(requests)} runs" if asked > len(requests) else ""
    parts = [f"{asked} to take in{runs}", left.sentence()]
    if living:
        parts.append(f"{living} in runs")
    if n_ended:
        parts.append(f"{n_ended} runs ended whose process had died")
    return "; ".join([*parts, *seen.summary()])
