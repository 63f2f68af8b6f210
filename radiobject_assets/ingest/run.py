"""From a plan to committed volumes: images first, then the labels that are drawn on them.

1. `plan` says where each series goes (`ingest.plan`).
2. What the store already holds decides what is new, what may be replaced, and what conflicts (`holdings`).
3. `pool` runs `work.ingest_volume` for each volume under the memory budget.
4. Staged volumes are committed in batches; what was not committed was never visible.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from radiobject_assets.compute import Compute
from radiobject_assets.dataset import DatasetConfig, TileExtents, TileOrientation
from radiobject_assets.errors import IngestError, StorageError
from radiobject_assets.imaging.scan import scan
from radiobject_assets.ingest.holdings import Holdings, referenced_images
from radiobject_assets.ingest.plan import IngestPlan, PlannedSeries, plan_ingest
from radiobject_assets.ingest.pool import Failure, Task, run_tasks
from radiobject_assets.ingest.release import release_of
from radiobject_assets.ingest.report import IngestReport, SeriesOutcome
from radiobject_assets.ingest.subjects import find_subject_tables, read_subject_tables
from radiobject_assets.ingest.work import (
    COPIES_OF_A_SLAB,
    FIXED_BYTES,
    VolumeResult,
    VolumeTask,
    ingest_volume,
)
from radiobject_assets.memory import MB, MemoryBudget, PeakMemory
from radiobject_assets.store.config import SliceOrientation, TileConfig, get_radiobject_config
from radiobject_assets.store.context import get_tiledb_ctx
from radiobject_assets.store.layout import ensure_collection, ensure_store
from radiobject_assets.store.staging import StagedVolume, commit_volumes, discard_staged
from radiobject_assets.store.subjects import ensure_subjects, upsert_subjects

log = logging.getLogger(__name__)

OnProgress = Callable[[int, int, str], None]

# Rows are committed together: each commit is a fragment, and fragments make reading slow.
COMMIT_EVERY = 64
# Below this much decoding in all, starting worker processes costs more than they save.
IN_PROCESS_BYTES = 128 * MB


def ingest_sources(
    sources: Sequence[Path],
    store_uri: str,
    dataset: DatasetConfig,
    *,
    budget: MemoryBudget,
    compute: Compute,
    on_progress: OnProgress | None = None,
) -> IngestReport:
    """Scan folders or files and take everything into a store: what `radiobject-assets ingest` does.

    Raises
    ------
    IngestError
        A source is absent, or the sources hold no file at all.
    ConfigurationError
        Pseudonyms are asked for without a secret.
    StorageError
        The store can't be opened or written.
    """
    started = time.monotonic()
    for source in sources:
        if not Path(source).exists():
            raise IngestError(f"{source}: no such file or folder")
    release = release_of(dataset)
    ensure_store(store_uri)  # a wrong URI is said before hours of scanning
    with PeakMemory() as peak:
        found = release.scan(scan([Path(source) for source in sources]))
        if not (found.instances or found.niftis or found.unreadable):
            raise IngestError(
                f"{', '.join(map(str, sources))}: holds no files; name a folder with DICOM or NIfTI"
            )
        plan = plan_ingest(found, dataset, known_images=referenced_images(store_uri, found))
        report = run_ingest(plan, store_uri, budget=budget, compute=compute, on_progress=on_progress)
        folders = [Path(source) for source in sources if Path(source).is_dir()]
        tables = [path for folder in folders for path in find_subject_tables(folder, dataset.subjects)]
        known = {o.subject_id for o in report.outcomes if o.status in ("written", "unchanged")}
        if tables and known:
            rows = read_subject_tables(tables, dataset.subjects, release)
            upsert_subjects(store_uri, rows[rows["obs_subject_id"].isin(known)])
    return replace(report, seconds=time.monotonic() - started, peak_rss_mb=peak.peak_rss_mb)


def run_ingest(
    plan: IngestPlan,
    store_uri: str,
    *,
    collections: Collection[str] | None = None,
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
    selected = plan.selected(collections)
    uris = {
        name: ensure_collection(store_uri, name) for name in sorted({p.collection or "" for p in selected})
    }
    outcomes: dict[int, SeriesOutcome] = {}
    with PeakMemory() as peak:
        for labels in (False, True):
            batch = [planned for planned in selected if planned.is_labels == labels]
            if not batch:
                continue
            run = _Phase(plan, store_uri, uris, batch, budget, compute)
            run.go(outcomes, len(selected), on_progress)
    rest = plan.outcomes()
    return IngestReport(
        outcomes=tuple(outcomes.get(id(p), default) for p, default in zip(plan.planned, rest, strict=True)),
        unreadable=plan.unreadable,
        seconds=time.monotonic() - started,
        peak_rss_mb=peak.peak_rss_mb,
        budget_mb=budget.total_mb,
    )


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
    ) -> None:
        self._plan = plan
        self._store_uri = store_uri
        self._uris = uris
        self._batch = batch
        self._budget = budget
        self._compute = compute
        self._holdings = Holdings.read(store_uri, batch)
        self._staged: dict[str, list[tuple[PlannedSeries, StagedVolume, SeriesOutcome]]] = {}

    def go(self, outcomes: dict[int, SeriesOutcome], total: int, on_progress: OnProgress | None) -> None:
        todo: list[PlannedSeries] = []
        for planned in self._batch:
            conflict = self._holdings.conflict(planned, self._plan.arrival)
            if conflict is None:
                todo.append(planned)
            else:
                outcomes[id(planned)] = planned.quarantined(*conflict)
        tasks = [self._task(planned) for planned in todo]
        in_process = not any(p.series.native_codec for p in todo) and (
            len(todo) == 1 or sum(p.series.decoded_bytes for p in todo) <= IN_PROCESS_BYTES
        )
        calls = [Task(task, task.needed_bytes) for task in tasks]
        try:
            for index, result in run_tasks(
                ingest_volume, calls, compute=self._compute, budget=self._budget, in_process=in_process
            ):
                planned = todo[index]
                self._take(planned, result, outcomes)
                if on_progress is not None:
                    on_progress(len(outcomes), total, planned.collection or "")
        except BaseException:
            # what is whole goes in, so that the next run has less to do; what can't go in leaves no array
            try:
                self._commit(outcomes)
            except StorageError:
                log.warning("volumes that were ready could not be committed and are removed")
            finally:
                self._discard()
            raise
        self._commit(outcomes)

    def _task(self, planned: PlannedSeries) -> VolumeTask:
        slots = min(self._compute.workers, max(1, len(self._batch)))
        share = self._budget.tasks_bytes // slots
        labels = planned.is_labels
        return VolumeTask(
            series=planned.series,
            collection_uri=self._uris[planned.collection or ""],
            obs_id=planned.obs_id or "",
            subject_id=planned.subject_id,
            kind="labels" if labels else "image",
            arrival=self._plan.arrival,
            slab_bytes=max(MB, (share - FIXED_BYTES) // COPIES_OF_A_SLAB),
            tile=tile_config(planned.settings.tile if planned.settings else TileOrientation.ISOTROPIC),
            stored_digest=self._holdings.source_digest(planned),
            images=self._holdings.image_candidates(planned) if labels else (),
            config=get_radiobject_config(),
        )

    def _take(
        self, planned: PlannedSeries, result: VolumeResult | Failure, outcomes: dict[int, SeriesOutcome]
    ) -> None:
        if isinstance(result, Failure):
            if isinstance(result.error, StorageError):
                raise result.error
            outcomes[id(planned)] = planned.quarantined(result.reason, result.detail)
        elif result.reason is not None:
            outcomes[id(planned)] = planned.quarantined(result.reason, result.detail)
        else:
            done = replace(
                planned.outcome("unchanged" if result.unchanged else "written"),
                shape=result.shape,
                dtype=result.dtype,
            )
            if result.staged is None:
                outcomes[id(planned)] = done
                return
            name = planned.collection or ""
            self._staged.setdefault(name, []).append((planned, result.staged, done))
            if len(self._staged[name]) >= COMMIT_EVERY:
                self._commit(outcomes, [name])

    def _commit(self, outcomes: dict[int, SeriesOutcome], names: Iterable[str] | None = None) -> None:
        for name in list(self._staged if names is None else names):
            waiting = self._staged.pop(name, [])
            if not waiting:
                continue
            # Subjects first: a volume whose subject has no row would not be seen from the root. If this fails
            # the arrays stay, since the rows may be there all the same; those that no row names are vacuumed.
            ensure_subjects(self._store_uri, sorted({p.subject_id for p, _, _ in waiting}), get_tiledb_ctx())
            commit_volumes(self._uris[name], [staged for _, staged, _ in waiting])
            for planned, _, done in waiting:
                outcomes[id(planned)] = done

    def _discard(self) -> None:
        for name, waiting in self._staged.items():
            discard_staged(self._uris[name], [staged for _, staged, _ in waiting])
        self._staged.clear()


def tile_config(tile: TileOrientation | TileExtents) -> TileConfig:
    """The store's tiling for what `dataset.yaml` says."""
    if isinstance(tile, TileExtents):
        return TileConfig(x=tile.x, y=tile.y, z=tile.z)
    return TileConfig(orientation=SliceOrientation(tile.value))
