"""What worker processes do: a volume taken in anew, profiles, patch caches; one that dies fails alone.

Each task declares the bytes that it takes. What is lost (it died, hung or took more) is tried once more, with
nothing beside it, and then told with what the pool saw of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.diagnostics.integrity_rules import geometry_is_sound, labels_on_their_images
from radiobject_assets.diagnostics.inventory import INVENTORY_COLUMNS, read_inventory
from radiobject_assets.diagnostics.row_rules import ROW_COLUMNS, fields_are_valid, sequences_are_whole
from radiobject_assets.doctor.mend_journal import Mended
from radiobject_assets.doctor.setting_aside import delete_as_judged, keep_in_snapshot
from radiobject_assets.doctor.voxel_rounds import volume_findings
from radiobject_assets.errors import AlignmentError
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.ingest.plan import IngestPlan
from radiobject_assets.ingest.report import IN_STORE, SeriesOutcome
from radiobject_assets.ingest.run import run_ingest
from radiobject_assets.ingest.stored.refresh import WITHDRAWABLE
from radiobject_assets.ingest.work.volume_pool import Failure, Task, run_tasks
from radiobject_assets.ingest.work.volume_task import COPIES_OF_A_SLAB, FIXED_BYTES
from radiobject_assets.profiling.kept_profiles import keep_profiles
from radiobject_assets.store import (
    SUBJECT,
    RadiObject,
    RadiObjectConfig,
    Storage,
    TileDBContext,
    delete_snapshot,
    get_tiledb_ctx,
    relink_volumes,
    set_radiobject_config,
    update_obs,
)
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MB, MemoryBudget
from radiobject_assets.training.cache.build import build_patch_cache
from radiobject_assets.training.cache.eviction import evict_caches

# What a worker imports for a task and TileDB holds of its own, beside the voxels.
_BESIDE_BYTES = 256 * MB
_SLAB_BYTES = 16 * MB


@dataclass(frozen=True)
class Attempt:
    """What came of a task."""

    is_mended: bool
    told: str = ""
    """In words, without identifiers."""
    is_error: bool = False
    """It could not be tried to its end, by a full disk, say: that tells nothing of what it was about."""
    token: str = ""
    """Of the array that was made and is unsound as well."""


# Of the machine, or of files that can't be read now: not of what the files hold.
_NOT_OF_FILES = frozenset(
    {
        Reason.NOT_READABLE, Reason.FILE_CHANGED, Reason.TOO_LARGE, Reason.WORKER_DIED, Reason.WORKER_TIMEOUT,
        Reason.MEMORY_EXCEEDED,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Remake:
    """A volume to be taken in anew from its files."""

    store_uri: str
    plan: IngestPlan
    """All series of its subject: what is beside the volume, which alone is written."""
    collection: str
    obs_id: str
    subject_id: str
    """Whose it is, by the plan."""
    may_move: bool
    """Whether what is wrong with the row may be its subject."""
    token: str
    """Of the array that it has now; "" where it has no row."""
    series_token: str
    note: Mended
    notes: Storage
    config: RadiObjectConfig
    decoded_bytes: int
    refuse_forgotten: bool
    """As `subjects.refuse_forgotten`: nobody who is forgotten meanwhile is brought back."""

    @property
    def needed_bytes(self) -> int:
        """Bytes that it takes at most."""
        return min(_SLAB_BYTES, max(1, self.decoded_bytes)) * COPIES_OF_A_SLAB + FIXED_BYTES + _BESIDE_BYTES

    def perform(self) -> Attempt:
        """Put the volume in the place of what is there, by one commit, and look at it again."""
        set_radiobject_config(self.config)
        ctx = get_tiledb_ctx()
        before = _row(self.store_uri, self.collection, self.obs_id)
        outcome, is_clash = self._ingested()
        aside = ""
        if self.token and is_clash and self.may_move and before.get(SUBJECT) != self.subject_id:
            volume = {(self.collection, self.obs_id): self.token}
            aside, kept = keep_in_snapshot(self.store_uri, volume, ctx)
            if kept:
                self.note.to(self.notes, "withdrawn")
                delete_as_judged(self.store_uri, kept, ctx)
                outcome, is_clash = self._ingested()
        if outcome is None or outcome.status not in IN_STORE:
            absent = "its row is another subject's" if is_clash else "its series is not in the plan"
            reason = absent if outcome is None else str(outcome.reason)
            where = f"; the snapshot {aside} has it" if aside else ""
            is_error = outcome is not None and outcome.reason in _NOT_OF_FILES
            return Attempt(False, f"its files can't be taken in: {reason}{where}", is_error)
        if aside:
            self.note.to(self.notes, "begun")
        left, token = still_wrong(self.store_uri, self.collection, self.obs_id, ctx)
        if left:
            return Attempt(False, f"taken in anew, and still: {left}", token=token)
        _carry_over(self.store_uri, self.collection, self.obs_id, before)
        if self.token and token != self.token:
            relink_volumes(self.store_uri, self.collection, {self.token: token}, ctx)
        if aside:
            delete_snapshot(self.store_uri, aside, ctx)
        return Attempt(True, "taken in anew from its files")

    def _ingested(self) -> tuple[SeriesOutcome | None, bool]:
        """What came of it, and whether another subject has the id or the series."""
        try:
            outcome = self._ingest()
        except AlignmentError:
            return None, True
        return outcome, outcome is not None and outcome.reason == Reason.SUBJECT_CONFLICT

    def _ingest(self) -> SeriesOutcome | None:
        budget = MemoryBudget(max(64, 2 * (self.needed_bytes - _BESIDE_BYTES) // MB))
        report = run_ingest(
            self.plan,
            self.store_uri,
            collections=[self.collection],
            anew={(self.collection, self.obs_id)},
            refuse_forgotten=self.refuse_forgotten,
            budget=budget,
            compute=Compute(workers=1),
        )
        mine = [one for one in report.outcomes if one.series_token == self.series_token]
        return mine[0] if mine else None


def _row(store_uri: str, collection: str, obs_id: str) -> dict[str, Any]:
    store = RadiObject(store_uri)
    if collection not in store.collection_names or obs_id not in store.collection(collection).obs_ids:
        return {}
    row = store.collection(collection).get_obs_row_by_obs_id(obs_id).reset_index().iloc[0]
    return {str(name): value for name, value in row.items() if not pd.isna(value)}


def _carry_over(store_uri: str, collection: str, obs_id: str, before: Mapping[str, Any]) -> None:
    """Give a row that was written anew the columns that people had added to the old one."""
    now = _row(store_uri, collection, obs_id)
    lost = {
        name: value
        for name, value in before.items()
        if name not in now and name not in INVENTORY_COLUMNS and name not in WITHDRAWABLE
    }
    if lost and now:
        uri = RadiObject(store_uri).collection(collection).uri
        update_obs(uri, {(str(now["obs_subject_id"]), obs_id): lost})


def still_wrong(store_uri: str, collection: str, obs_id: str, ctx: TileDBContext | None) -> tuple[str, str]:
    """What the rules that find unsound volumes say of one, in words ("" for nothing), and its token."""
    rows = read_inventory(store_uri, collections=[collection], obs_ids=[obs_id], columns=ROW_COLUMNS, ctx=ctx)
    if rows.empty:
        return "it is not in the store", ""
    found = [
        *fields_are_valid(rows).findings,
        *geometry_is_sound(rows),
        *labels_on_their_images(store_uri, rows, ctx),
        *sequences_are_whole(rows).findings,
    ]
    if not found:
        found = list(volume_findings(RadiObject(store_uri, ctx=ctx), rows, ctx))
    return "; ".join(dict.fromkeys(one.problem for one in found)), str(rows["volume"].iloc[0])


@dataclass(frozen=True)
class Reprofile:
    """Profiles that are missing, of an older volume, of nothing, or can't be read."""

    store_uri: str
    storage: Storage
    snapshot: str | None
    unreadable: tuple[str, ...]
    """Files that go first."""
    config: RadiObjectConfig

    @property
    def needed_bytes(self) -> int:
        """Bytes that it takes at most: a slab and its figures."""
        return 4 * _SLAB_BYTES + _BESIDE_BYTES

    def perform(self) -> Attempt:
        """Profile what has no profile of now; what else is kept stays."""
        set_radiobject_config(self.config)
        for name in self.unreadable:
            self.storage.remove(name)
        rows = read_inventory(self.store_uri, snapshot=self.snapshot)
        done = keep_profiles(self.storage, self.store_uri, rows, snapshot=self.snapshot)
        return Attempt(not done.unreadable, f"{done.new} profiles made, {done.known} kept")


@dataclass(frozen=True)
class Recut:
    """A patch cache to be built from the pinned snapshot."""

    store_uri: str
    snapshot: str
    subjects: tuple[str, ...]
    patches: PatchesConfig
    folder: Path
    damaged: tuple[Path, ...]
    """Caches that go first, since their patches would be taken over."""
    config: RadiObjectConfig
    budget_mb: int = 512

    @property
    def needed_bytes(self) -> int:
        """Bytes that it takes at most."""
        return self.budget_mb // 2 * MB + _BESIDE_BYTES

    def perform(self) -> Attempt:
        """Build it; patches of sound caches beside it are taken over."""
        set_radiobject_config(self.config)
        evict_caches([path for path in self.damaged if path.is_dir()])
        made = build_patch_cache(
            self.store_uri,
            snapshot=self.snapshot,
            subjects=self.subjects,
            patches=self.patches,
            out_dir=self.folder,
            budget=MemoryBudget(self.budget_mb),
            allow_empty=True,
        )
        return Attempt(True, f"{made.n_patches} patches, {made.n_volumes_cut} volumes cut")


MendTask = Remake | Reprofile | Recut


def perform(task: MendTask) -> Attempt:
    """In the worker: do a task."""
    return task.perform()


def attempts(
    tasks: Sequence[MendTask], budget: MemoryBudget, compute: Compute, done: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, Attempt]]:
    """Do tasks side by side as the budget allows; the index of each with what came of it."""
    lost: list[tuple[int, Failure]] = []
    for index, result in _run(tasks, budget, compute):
        if isinstance(result, Failure) and result.error is None:
            lost.append((index, result))
            continue
        done()
        yield index, _attempt(result)
    for index, first in lost:
        for _, result in _run([tasks[index]], budget, replace(compute, workers=1)):
            if isinstance(result, Failure) and result.error is None:
                told = f"tried twice, the second time alone: {first.detail}; then {result.detail}"
                declared = tasks[index].needed_bytes // MB
                result = Attempt(False, f"{told} (declared {declared} MB)", is_error=True)
            done()
            yield index, _attempt(result)


def _run(
    tasks: Sequence[MendTask], budget: MemoryBudget, compute: Compute
) -> Iterator[tuple[int, Attempt | Failure]]:
    calls: list[Task[Any]] = [Task(task, task.needed_bytes) for task in tasks]
    return run_tasks(perform, calls, compute=compute, budget=budget)


def _attempt(result: Attempt | Failure) -> Attempt:
    if isinstance(result, Attempt):
        return result
    # the text of an unexpected error may quote a header or a file
    kind = type(result.error).__name__ if result.error is not None else result.reason
    return Attempt(False, f"it could not be done ({kind})", is_error=True)
