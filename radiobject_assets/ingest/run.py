"""From a plan to committed volumes: images first, then the labels that are drawn on them.

1. `plan` says where each series goes (`ingest.plan`); files that the store knows from another place keep
   their volumes (`recognised`).
2. What the store already holds decides what is new, what may be replaced, and what conflicts (`holdings`).
3. `pool` runs `work.volume_task.ingest_volume` for each volume under the memory budget.
4. Staged volumes are committed in batches; what was not committed was never visible.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from radiobject_assets.dataset.collection_section import TileExtents, TileOrientation
from radiobject_assets.errors import ConfigurationError, StorageError
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.opening.unpacking import unpacked_together
from radiobject_assets.imaging.pixels.coded_frames import NATIVE_CODECS
from radiobject_assets.imaging.pixels.decoders import Decoders, decoder_processes
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.ingest.labels_on_images.image_reason import reason_of_image
from radiobject_assets.ingest.plan import IngestPlan, PlannedSeries
from radiobject_assets.ingest.report import IN_STORE, IngestReport, SeriesOutcome, Status
from radiobject_assets.ingest.stored.holdings import Holdings
from radiobject_assets.ingest.stored.joined import withdraw_parts
from radiobject_assets.ingest.stored.recognised import Holders, recognised
from radiobject_assets.ingest.stored.refresh import RowChange, write_changes
from radiobject_assets.ingest.work.volume_pool import Failure, Task, run_tasks
from radiobject_assets.ingest.work.volume_task import (
    COPIES_OF_A_SLAB,
    FIXED_BYTES,
    VolumeResult,
    VolumeTask,
    digest_of_files,
    ingest_volume,
)
from radiobject_assets.store import (
    Column,
    SliceOrientation,
    StagedVolume,
    TileConfig,
    commit_volumes,
    discard_staged,
    ensure_collection,
    ensure_store,
    free_columns,
    get_radiobject_config,
    get_tiledb_ctx,
)
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MB, MemoryBudget
from radiobject_assets.system.resource_monitor import ResourceMonitor

log = logging.getLogger(__name__)

OnProgress = Callable[[int, int, str], None]

# Rows are committed together: each commit is a segment, and many segments make reading slow.
COMMIT_EVERY = 64
# A power cut costs at most the work of this time, and of the volumes in flight.
COMMIT_AFTER_S = 60.0
# Logs are kept for years with each run: a line now and then shows that it goes on.
TELL_EVERY_S = 60.0
# Below this much decoding in all, starting worker processes costs more than they save.
IN_PROCESS_BYTES = 128 * MB
# Room for what is resident before any voxel: this process (its imports are 108 MB of it, measured), then each
# worker (105 MB).
BASE_BYTES = 310 * MB
WORKER_BYTES = 120 * MB
# With slabs smaller than this, another worker gains less than its memory is worth.
SMALL_SLAB_BYTES = 4 * MB


_LEFT_BEHIND = (
    "{n} label volumes in the store do not lie on their image any more, which has another geometry now: "
    "ingest the files of these labels again"
)


def run_ingest(
    plan: IngestPlan,
    store_uri: str,
    *,
    collections: Collection[str] | None = None,
    present: Collection[str] | None = None,
    holders: Holders = lambda collection: {},
    anew: Collection[tuple[str, str]] = (),
    refuse_forgotten: bool = True,
    budget: MemoryBudget,
    compute: Compute,
    on_progress: OnProgress | None = None,
) -> IngestReport:
    """Take the ingestable series of a plan into a store.

    Parameters
    ----------
    plan
        From `plan_ingest`.
    collections
        Only these; None: all. Series of others are reported as `not_selected`.
    present
        Keys of the arrivals whose files are there still: a volume of any other is that of this arrival, if
        the same image has come with it. None: not known.
    holders
        See `recognised`.
    anew
        Volumes, by collection and id, that are written anew although their files have not changed: what is
        stored of them is damaged. It is replaced in one commit. Where any are named no others are written:
        the rest of the plan says what they lie beside.
    refuse_forgotten
        As `subjects.refuse_forgotten`: who is forgotten while their files are read does not come in.
    budget, compute
        Memory for voxels in flight, and the processes that decode.

    Raises
    ------
    StorageError
        The store can't be written. What was committed stays; the same call again does the rest.
    KeyboardInterrupt
        After Ctrl-C; what was finished is committed first.
    """
    started = time.monotonic()
    ensure_store(store_uri)
    known = recognised(plan, collections, store_uri, digest_of_files, present, get_tiledb_ctx(), holders)
    plan = known.plan
    selected = [one for one in plan.selected(collections) if not anew or (one.collection, one.obs_id) in anew]
    names = sorted({planned.collection or "" for planned in selected})
    uris = {
        name: ensure_collection(store_uri, name, columns=obs_columns_of(selected, name)) for name in names
    }
    for (name, subject, obs_id), arrival in known.handed_on.items():
        if name in uris:
            write_changes(uris[name], [RowChange(subject, obs_id, {"arrival": arrival})], get_tiledb_ctx())
    outcomes: dict[Series, SeriesOutcome] = {}
    left_behind: set[tuple[str, str]] = set()
    with ResourceMonitor() as peak:
        for labels in (False, True):
            batch = [planned for planned in selected if planned.is_labels == labels]
            if not batch:
                continue
            run = _Phase(plan, store_uri, uris, batch, budget, compute, present, anew, refuse_forgotten)
            run.go(outcomes, _Progress(on_progress, len(outcomes), len(selected)))
            if not labels:
                left_behind = run.left_behind(outcomes)
    for series, told in known.copies.items():
        if series in outcomes:
            outcomes[series] = replace(outcomes[series], detail=told)
    left_behind -= {(o.collection or "", o.obs_id or "") for o in outcomes.values() if o.status in IN_STORE}
    rest = plan.outcomes()
    made = IngestReport(
        outcomes=tuple(
            outcomes.get(p.series, default) for p, default in zip(plan.planned, rest, strict=True)
        ),
        unreadable=plan.unreadable,
        problems=(_LEFT_BEHIND.format(n=len(left_behind)),) if left_behind else (),
        seconds=time.monotonic() - started,
        peak_memory_mb=peak.peak_mb,
        budget_mb=budget.total_mb,
    )
    if selected:
        written, updated, unchanged = (made.counts[name] for name in ("written", "updated", "unchanged"))
        log.info(
            "%d series in %.1f s: %d written, %d updated, %d unchanged, %d not taken in; %.0f MB at most",
            *(len(selected), made.seconds, written, updated, unchanged),
            *(len(selected) - written - updated - unchanged, made.peak_memory_mb),
        )
    return made


def obs_columns_of(planned: Iterable[PlannedSeries], collection: str) -> list[Column]:
    """Columns that the rows of the series of a collection will have beside those of the format."""
    return free_columns(
        {**p.series.attributes, "n_instances": len(p.series.files)}
        for p in planned
        if (p.collection or "") == collection
    )


@dataclass
class _Progress:
    """Volumes that are done with, whether committed or still waiting for it."""

    report: OnProgress | None
    done: int
    total: int
    told_at: float = field(default_factory=time.monotonic)

    def step(self, collection: str | None) -> None:
        self.done += 1
        if time.monotonic() - self.told_at > TELL_EVERY_S:
            log.info("%d of %d series are done", self.done, self.total)
            self.told_at = time.monotonic()
        if self.report is not None:
            self.report(self.done, self.total, collection or "")


class _Phase:
    """All images of a plan, or all its labels: from planned series to committed rows."""

    def __init__(
        self,
        plan: IngestPlan,
        store_uri: str,
        uris: dict[str, str],
        batch: Sequence[PlannedSeries],
        budget: MemoryBudget,
        compute: Compute,
        present: Collection[str] | None = None,
        anew: Collection[tuple[str, str]] = (),
        refuse_forgotten: bool = True,
    ) -> None:
        self._anew = anew
        self._refuse_forgotten = refuse_forgotten
        self._plan = plan
        self._store_uri = store_uri
        self._uris = uris
        self._batch = batch
        self._budget = budget
        self._compute = compute
        self._fitting = workers_that_fit(compute.workers, budget)
        self._workers = min(self._fitting, max(1, len(batch)))
        self._holdings = Holdings.read(store_uri, batch, plan.planned, present)
        self._staged: dict[str, list[tuple[PlannedSeries, StagedVolume, SeriesOutcome]]] = {}
        self._changes: dict[str, list[RowChange]] = {}
        self._committed_s = time.monotonic()

    def go(self, outcomes: dict[Series, SeriesOutcome], progress: _Progress) -> None:
        todo: list[PlannedSeries] = []
        for planned in self._batch:
            conflict = self._holdings.conflict(planned)
            if conflict is None:
                todo.append(planned)
            else:
                outcomes[planned.series] = planned.quarantined(*conflict)
                progress.step(planned.collection)
        compute = replace(self._compute, workers=self._workers)
        in_process = self._in_process(todo)
        decoders = Decoders(self._fitting, self._compute.task_timeout_s)
        try:
            decoder_processes.end_idle(
                leave=self._fitting if in_process else 0
            )  # the budget has no room for more
            if in_process and any(needs_native_codec(planned.series) for planned in todo):
                decoders.start()
            function = partial(ingest_volume, decoders=decoders) if in_process else ingest_volume
            with unpacked_together([planned.series for planned in todo]) as local:
                tasks = [self._task(p, series) for p, series in zip(todo, local, strict=True)]
                calls = [Task(task, task.needed_bytes) for task in tasks]
                for index, result in run_tasks(
                    function, calls, compute=compute, budget=self._budget, in_process=in_process
                ):
                    planned = todo[index]
                    self._take(planned, result, outcomes)
                    progress.step(planned.collection)
        except BaseException:
            # what is whole goes in, so that the next run has less to do; what can't go in leaves no array
            try:
                self._commit(outcomes)
            except StorageError:
                log.warning("volumes that were ready could not be committed and are removed")
            finally:
                self._discard()
            raise
        finally:
            decoders.close()
        self._commit(outcomes)
        for name, changes in self._changes.items():
            write_changes(self._uris[name], changes, get_tiledb_ctx())
        self._withdraw_parts(outcomes)

    def _withdraw_parts(self, outcomes: dict[Series, SeriesOutcome]) -> None:
        """Series that are in a joined volume now are not beside it as well."""
        for name in self._uris:
            own = [p for p in self._plan.planned if p.collection == name and p.obs_id is not None]
            there = [p for p in self._batch if p.collection == name and outcomes[p.series].status in IN_STORE]
            placed = {(p.subject_id, p.obs_id or "") for p in own if p.series.verdict == "ingestable"}
            gone = withdraw_parts(self._store_uri, name, there, placed, get_tiledb_ctx())
            for planned in there:
                if count := gone.get((planned.subject_id, planned.obs_id or "")):
                    told = f"{count} volumes of its parts, which the store had, are withdrawn"
                    before = outcomes[planned.series]
                    detail = f"{before.detail}; {told}" if before.detail else told
                    outcomes[planned.series] = replace(before, detail=detail)

    def left_behind(self, outcomes: Mapping[Series, SeriesOutcome]) -> set[tuple[str, str]]:
        """Stored labels that do not lie on their image of this phase any more (`Holdings.left_behind`)."""
        return {
            labels
            for planned in self._batch
            if outcomes[planned.series].status in IN_STORE
            for labels in self._holdings.left_behind(planned)
        }

    def _in_process(self, todo: Sequence[PlannedSeries]) -> bool:
        """Whether to stage the volumes here, one after the other, with frames decoded by `Decoders`.

        Little work is done before worker processes would have started; and frames of a compressed series
        keep all cores busy where there are fewer series than cores.
        """
        compressed = [planned for planned in todo if needs_native_codec(planned.series)]
        if compressed and len(todo) < self._fitting:
            return True
        return self._workers == 1 or sum(p.series.decoded_bytes for p in todo) <= IN_PROCESS_BYTES

    def _task(self, planned: PlannedSeries, series: Series) -> VolumeTask:
        """What a worker gets; `series` is that of `planned`, wherever its files lie now."""
        share = self._budget.tasks_bytes // self._workers
        labels = planned.is_labels
        is_damaged = (planned.collection or "", planned.obs_id or "") in self._anew
        return VolumeTask(
            series=series,
            collection_uri=self._uris[planned.collection or ""],
            obs_id=planned.obs_id or "",
            subject_id=planned.subject_id,
            kind="labels" if labels else "image",
            arrival=planned.arrival,
            slab_bytes=max(MB, (share - FIXED_BYTES) // COPIES_OF_A_SLAB),
            tile=tile_config(planned.settings.tile if planned.settings else TileOrientation.ISOTROPIC),
            stored_digest=None if is_damaged else self._holdings.source_digest(planned),
            images=self._holdings.image_candidates(planned) if labels else (),
            file=planned.file_place if labels else None,
            channels=planned.settings.channels if planned.settings else "quarantine",
            config=get_radiobject_config(),
        )

    def _take(
        self, planned: PlannedSeries, result: VolumeResult | Failure, outcomes: dict[Series, SeriesOutcome]
    ) -> None:
        if isinstance(result, Failure):
            if isinstance(result.error, StorageError | ConfigurationError):
                raise result.error  # every other series would fail as well
            outcomes[planned.series] = planned.quarantined(result.reason, result.detail)
        elif result.reason is not None:
            reason, detail = result.reason, result.detail
            if reason is Reason.REFERENCE_MISSING and planned.is_labels:
                reason, detail = reason_of_image(planned, self._plan.planned, outcomes) or (reason, detail)
            outcomes[planned.series] = planned.quarantined(reason, detail)
        else:
            change = self._holdings.change(planned) if result.unchanged else None
            if change is not None:
                self._changes.setdefault(planned.collection or "", []).append(change)
            unwritten: Status = "unchanged" if change is None else "updated"
            done = replace(
                planned.outcome(unwritten if result.unchanged else "written"),
                shape=result.shape,
                dtype=result.dtype,
                detail=result.detail or planned.series.detail,
            )
            if result.staged is None:
                outcomes[planned.series] = done
                return
            name = planned.collection or ""
            self._staged.setdefault(name, []).append((planned, result.staged, done))
            if len(self._staged[name]) >= COMMIT_EVERY:
                self._commit(outcomes, [name])
            elif time.monotonic() - self._committed_s >= COMMIT_AFTER_S:
                self._commit(outcomes)

    def _commit(self, outcomes: dict[Series, SeriesOutcome], names: Iterable[str] | None = None) -> None:
        self._committed_s = time.monotonic()
        for name in list(self._staged if names is None else names):
            waiting = self._staged.pop(name, [])
            if not waiting:
                continue
            # If this fails the arrays stay, since the rows may be there all the same; those that no row names
            # are vacuumed.
            refused = commit_volumes(
                self._uris[name],
                [staged for _, staged, _ in waiting],
                with_subjects=True,
                refuse_forgotten=self._refuse_forgotten,
            )
            discard_staged(self._uris[name], refused)
            gone = {staged.token for staged in refused}
            for planned, staged, done in waiting:
                outcomes[planned.series] = (
                    planned.quarantined(Reason.SUBJECT_FORGOTTEN, "somebody who was forgotten meanwhile")
                    if staged.token in gone
                    else done
                )

    def _discard(self) -> None:
        for name, waiting in self._staged.items():
            discard_staged(self._uris[name], [staged for _, staged, _ in waiting])
        self._staged.clear()


def start_decoders(instances: Sequence[Instance], budget: MemoryBudget, compute: Compute) -> None:
    """Start decoder processes for what a scan has found: they are ready when it has been planned."""
    fitting = workers_that_fit(compute.workers, budget)
    if len({instance.series_uid for instance in instances}) < fitting and any(
        instance.transfer_syntax in NATIVE_CODECS for instance in instances
    ):
        with suppress(ConfigurationError):  # who needs one will say so
            decoder_processes.start(fitting)


def needs_native_codec(series: Series) -> bool:
    """Whether a C library decodes the series' pixels, which damaged bytes may crash or hang."""
    return any(instance.transfer_syntax in NATIVE_CODECS for instance in series.instances)


def workers_that_fit(wanted: int, budget: MemoryBudget) -> int:
    """How many worker processes, `wanted` at most, leave each other room within a budget.

    The budget is of voxels, but who sets it to a machine's limit means the processes as well. One worker is
    always admitted.
    """
    room = budget.total_bytes - BASE_BYTES
    return max(1, min(wanted, room // (WORKER_BYTES + FIXED_BYTES + COPIES_OF_A_SLAB * SMALL_SLAB_BYTES)))


def tile_config(tile: TileOrientation | TileExtents) -> TileConfig:
    """The store's tiling for what `dataset.yaml` says."""
    if isinstance(tile, TileExtents):
        return TileConfig(x=tile.x, y=tile.y, z=tile.z)
    return TileConfig.model_construct(orientation=SliceOrientation(tile.value))
