"""Mending: for each kind of finding the mend that is safe, or the one that was asked for by name.

1. *Volumes* are taken in anew from their files, images before labels; one commit puts the new array in the
   place of the old one, and snapshots that name the old one get it too. Where the files are gone, or are no
   better, the volume is set aside: a snapshot keeps it, the present state does not show it.
2. *The store*: snapshots, what training pins, many small files, what nobody names after the grace time.
3. *What is derived*, looked at anew, since volumes have changed: only what is stale, missing or wrong.

Every mend is noted before and after (`mend_journal`), may be interrupted, and is looked at again by the rule
that found it. Nothing that can't be made again is deleted, unless its KIND:ID is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from radiobject_assets.diagnostics import damage_kinds, kinds
from radiobject_assets.diagnostics.findings import Finding, Severity
from radiobject_assets.diagnostics.integrity_rules import OF_ANOTHER_SUBJECT
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.diagnostics.row_digests import ROW_DIGEST, row_digest
from radiobject_assets.doctor.deletions import delete_by_name
from radiobject_assets.doctor.derived_mends import mend_derived
from radiobject_assets.doctor.examination import EXAMINATION
from radiobject_assets.doctor.examined import TAKEN_IN_ANEW, Examined
from radiobject_assets.doctor.mend_journal import DOCTOR_LOCK, Mended, read_journal
from radiobject_assets.doctor.mend_tasks import Remake, attempts
from radiobject_assets.doctor.setting_aside import delete_as_judged, keep_in_snapshot
from radiobject_assets.doctor.snapshot_mends import mend_pin, mend_snapshots
from radiobject_assets.doctor.source_plans import (
    FilesAwayError,
    FolderPlans,
    LandingPlans,
    SourcePlans,
)
from radiobject_assets.errors import ConfigurationError, LockedError, RadiObjectError
from radiobject_assets.imaging.files.archives import file_on_disk
from radiobject_assets.ingest.plan import IngestPlan, PlannedSeries
from radiobject_assets.ingest.work.volume_task import digest_of_files
from radiobject_assets.store import (
    RadiObjectConfig,
    consolidate,
    get_radiobject_config,
    vacuum,
    whole_state,
)
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

_BUDGET_MB = 2048
_VACUUMED = (kinds.ORPHAN_ARRAY.code, damage_kinds.LEFT_OVERS.code)


@dataclass(frozen=True)
class MendOptions:
    """What may be done, and with how much of the machine."""

    agrees: Callable[[str, Sequence[Finding]], bool] = lambda kind, found: True
    """Asked once for each kind whose mend is safe, with what was found of it."""
    delete: frozenset[str] = frozenset()
    """`KIND:ID` of findings whose mend loses something."""
    voxels_read: bool = True
    """Whether what was found is of the voxels, too: copies are deleted only then."""
    sources: tuple[Path, ...] = ()
    """Where volumes were made from, without a dataset.yaml."""
    memory_mb: int | None = None
    workers: int | None = None

    @property
    def budget(self) -> MemoryBudget:
        """Of all workers together."""
        return MemoryBudget(self.memory_mb or _BUDGET_MB)

    @property
    def compute(self) -> Compute:
        """How many there are."""
        return Compute() if self.workers is None else Compute(workers=self.workers)


@dataclass
class MendsDone:
    """What was mended, and what was left."""

    notes: list[Mended] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def to_json(self) -> list[dict[str, Any]]:
        """For other programs, without identifiers."""
        return [asdict(note) for note in self.notes]


def mend(
    of: Examined,
    findings: Sequence[Finding],
    options: MendOptions = MendOptions(),
    *,
    on_progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> MendsDone:
    """Mend what was found, as far as that is safe and agreed to, and what was asked for by name.

    Raises
    ------
    ConfigurationError
        Another process is mending the same store; a KIND:ID is none of the findings'.
    StorageError
        The store can't be written. What is mended stays; the same call again does the rest.
    """
    done = MendsDone()
    _known(options.delete, findings)
    try:
        with of.notes.lock(DOCTOR_LOCK, wait_s=0):
            _close_notes(of, findings)
            named = [one for one in findings if f"{one.kind.code}:{one.id}" in options.delete]
            for finding in named:
                note = delete_by_name(of, finding, findings, voxels_read=options.voxels_read)
                done.notes.append(note)
            rest = [one for one in findings if one not in named]
            _mend_store(of, rest, options, done, on_progress)
            if of.beside is not None:
                _mend_beside(of, options, done)
            _back_again(of, done)
    except LockedError:
        raise ConfigurationError(f"{of.store_uri}: another doctor is mending it; wait for it") from None
    return done


def _close_notes(of: Examined, findings: Sequence[Finding]) -> None:
    """Mends that a call was killed at after they were done: no rule finds anything there any more."""
    there = {one.id for one in findings}
    for note in list(read_journal(of.notes)):
        if note.stage == "begun" and note.id not in there:
            note.to(of.notes, "mended", "found no more when the next call looked")


def _back_again(of: Examined, done: MendsDone) -> None:
    """What an earlier call withdrew and this one brought in is not missed any more."""
    back = {note.series_token for note in done.notes if note.stage == "mended" and note.series_token}
    for note in list(read_journal(of.notes)):
        if note.stage == "withdrawn" and note.series_token in back:
            note.to(of.notes, "mended", "taken in anew by a later call")


def _known(delete: Collection[str], findings: Sequence[Finding]) -> None:
    there = {f"{one.kind.code}:{one.id}" for one in findings}
    if unknown := sorted(set(delete) - there):
        raise ConfigurationError(
            f"--delete {unknown[0]}: nothing that was found has this KIND:ID; --format json lists kind and id"
        )


def _agreed(findings: Sequence[Finding], options: MendOptions) -> list[Finding]:
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind.code, []).append(finding)
    return [one for code, found in by_kind.items() if options.agrees(code, found) for one in found]


_OF_STORE = (
    *TAKEN_IN_ANEW, *_VACUUMED, damage_kinds.SNAPSHOT_DAMAGED.code, damage_kinds.PIN_BROKEN.code,
    damage_kinds.FRAGMENTS.code,
)  # fmt: skip


def _mend_store(
    of: Examined,
    findings: Sequence[Finding],
    options: MendOptions,
    done: MendsDone,
    on_progress: Callable[[int, int, str], None],
) -> None:
    agreed = _agreed([one for one in findings if one.kind.code in _OF_STORE], options)
    by_code: dict[str, list[Finding]] = {}
    for finding in agreed:
        by_code.setdefault(finding.kind.code, []).append(finding)
    volumes = [one for code in TAKEN_IN_ANEW for one in by_code.get(code, ())]
    done.notes += _mend_volumes(of, volumes, options, done, on_progress)
    done.notes += mend_snapshots(of, by_code.get(damage_kinds.SNAPSHOT_DAMAGED.code, ()))
    done.notes += mend_pin(of, by_code.get(damage_kinds.PIN_BROKEN.code, ()))
    if merged := by_code.get(damage_kinds.FRAGMENTS.code):
        notes = [Mended.begin(of.notes, one) for one in merged]
        count = sum(consolidate(of.store_uri, of.ctx).values())
        done.notes += [note.to(of.notes, "mended", f"{count} files merged") for note in notes]
    if unnamed := [one for code in _VACUUMED for one in by_code.get(code, ())]:
        notes = [Mended.begin(of.notes, one) for one in unnamed]
        removed = vacuum(of.store_uri, of.ctx, grace_s=of.grace_s)
        if of.beside is not None:
            for entry in of.beside.tables.leftovers(max(of.grace_s, 3600.0)):
                of.beside.tables.remove(entry.path)
        told = f"{removed.arrays} arrays removed, {removed.bytes / 1e6:.1f} MB"
        done.notes += [note.to(of.notes, "mended", told) for note in notes]


def _mend_volumes(
    of: Examined,
    findings: Sequence[Finding],
    options: MendOptions,
    done: MendsDone,
    on_progress: Callable[[int, int, str], None],
) -> list[Mended]:
    notes: list[Mended] = []
    hopeless: list[Finding] = []
    if not findings:
        return notes
    if of.beside is None and whole_state(of.store_uri, ctx=of.ctx).is_pseudonymous:
        raise ConfigurationError(
            f"{of.store_uri}: subjects have pseudonyms, whose key dataset.yaml names; mend it with --dataset"
        )
    plans: SourcePlans = (
        LandingPlans(of.beside) if of.beside is not None else FolderPlans(of.store_uri, options.sources)
    )
    there = {(row.collection, str(row.obs_id)): row for row in of.rows.itertuples(index=False)}
    remakes: dict[bool, list[tuple[Finding, Remake]]] = {False: [], True: []}
    config = get_radiobject_config() if of.beside is None else of.beside.storage.config
    by_arrival: dict[str, list[Finding]] = {}
    for finding in {one.id: one for one in findings}.values():
        by_arrival.setdefault(finding.arrival, []).append(finding)
    for arrival, mine in by_arrival.items():
        try:
            plan = plans.plan(arrival)
        except (RadiObjectError, OSError) as error:
            # other errors may quote a file
            is_away = isinstance(error, FilesAwayError)
            told = str(error) if is_away else f"its files can't be read ({type(error).__name__})"
            notes += [Mended.begin(of.notes, one).to(of.notes, "left", told) for one in mine]
            continue
        for finding in mine:
            row = there.get((finding.collection, finding.obs_id))
            planned = None if plan is None else _planned(plan, finding, row)
            if plan is None or planned is None or not _has_files(planned):
                hopeless.append(finding)
                continue
            row = there.get((finding.collection, planned.obs_id or ""))
            token = "" if row is None else str(row.volume)
            remakes[planned.is_labels].append((finding, _remake(of, plan, planned, finding, token, config)))
    total, at = sum(map(len, remakes.values())), 0

    def step() -> None:
        nonlocal at
        at += 1
        on_progress(at, total, "taking in anew")

    judged = {one.id: str(there[place].volume) for one in hopeless if (place := _place(one)) in there}
    mended: list[Finding] = []
    for labels in (False, True):
        batch = remakes[labels]
        for index, attempt in attempts([one for _, one in batch], options.budget, options.compute, step):
            finding, remake = batch[index]
            if attempt.is_mended:
                mended.append(finding)
                notes.append(remake.note.to(of.notes, "mended", attempt.told))
                continue
            notes.append(_left(of, remake.note, attempt.told))
            if not attempt.is_error:
                hopeless.append(finding)
                judged[finding.id] = attempt.token or remake.token
    _note_rows(of, mended)
    notes += _set_aside(of, hopeless, judged, {note.id: note for note in notes}, done)
    return notes


def _place(finding: Finding) -> tuple[str, str]:
    return finding.collection, finding.obs_id


def _note_rows(of: Examined, mended: Sequence[Finding]) -> None:
    """Keep the digests of rows that were written anew, as the run of an arrival does at its end."""
    from radiobject_assets.platform.assets.partitions import ALL_VOLUMES

    if of.beside is None:
        return
    tables = of.beside.dataset.tables(of.beside.storage)
    groups: dict[tuple[str, str], set[str]] = {}
    for one in mended:
        asset = one.collection if one.collection in of.settings.collections else ALL_VOLUMES
        if one.arrival and one.obs_id and tables.has(tables.outcomes(one.arrival, asset)):
            groups.setdefault((one.arrival, asset), set()).add(one.obs_id)
    for (arrival, asset), ids in groups.items():
        rows = read_inventory(of.store_uri, arrivals=[arrival], obs_ids=ids, ctx=of.ctx)
        digests = {
            str(row["obs_id"]): row_digest({str(k): v for k, v in row.items()})
            for row in rows.to_dict("records")
        }

        def noted(kept: pd.DataFrame | None, digests: dict[str, str] = digests) -> pd.DataFrame:
            table = pd.DataFrame() if kept is None else kept
            if "obs_id" not in table or ROW_DIGEST not in table:
                return table
            new = table["obs_id"].map(digests)
            return table.assign(**{ROW_DIGEST: new.where(new.notna(), table[ROW_DIGEST])})

        with suppress(ValueError, OSError):  # a table that can't be read is told and mended as such
            tables.change_frame(tables.outcomes(arrival, asset), noted)


def _left(of: Examined, note: Mended, told: str) -> Mended:
    """What an interrupted or failed mend withdrew stays noted as such: it is found by its note alone."""
    now = next((one for one in read_journal(of.notes) if one.id == note.id), note)
    return now.to(of.notes, "withdrawn" if now.stage == "withdrawn" else "left", told)


def _planned(plan: IngestPlan, finding: Finding, row: Any) -> PlannedSeries | None:
    for one in plan.selected(None):
        if finding.obs_id and (one.collection, one.obs_id) == _place(finding):
            return one
        if finding.about == f"series {one.series_token}":
            return one
    # an image in a file of its own is called after its place, and its folder may have moved since; the row
    # says whose it is
    digest = "" if row is None or not isinstance(row.source_digest, str) else row.source_digest
    for one in plan.selected([finding.collection]) if digest else ():
        if one.series.nifti is not None and digest_of_files(one.series) == digest:
            return replace(one, obs_id=finding.obs_id, subject_id=str(row.obs_subject_id))
    return None


def _has_files(planned: PlannedSeries) -> bool:
    return all(file_on_disk(path).is_file() for path in planned.series.files)


def _remake(
    of: Examined,
    plan: IngestPlan,
    planned: PlannedSeries,
    finding: Finding,
    token: str,
    config: RadiObjectConfig,
) -> Remake:
    # labels in files of their own are found beside their image, whose file tells its place; parts of a joined
    # volume that the plan has stay
    beside = (one for one in plan.planned if one.subject_id == planned.subject_id)
    beside = (one for one in beside if one.series is not planned.series)
    return Remake(
        of.store_uri,
        replace(plan, planned=(*beside, planned), unreadable=()),
        planned.collection or "",
        planned.obs_id or "",
        planned.subject_id,
        finding.kind == kinds.ROW_CHANGED and OF_ANOTHER_SUBJECT in finding.evidence,
        token,
        planned.series_token,
        Mended.begin(of.notes, finding, planned.series_token),
        of.notes,
        config,
        planned.series.decoded_bytes,
        of.settings.subjects.refuse_forgotten,
    )


def _set_aside(
    of: Examined,
    findings: Sequence[Finding],
    judged: Mapping[str, str],
    noted: Mapping[str, Mended],
    done: MendsDone,
) -> Iterator[Mended]:
    """Take volumes that can't be mended out of the present state; a snapshot of their own keeps them."""
    volumes = {
        _place(one): judged[one.id]
        for one in findings
        if one.kind.severity is Severity.ERROR and one.obs_id and judged.get(one.id)
    }
    name, gone = "", dict[tuple[str, str], str]()
    if volumes:
        name, kept = keep_in_snapshot(of.store_uri, volumes, of.ctx)
        gone = delete_as_judged(of.store_uri, kept, of.ctx)
    for finding in findings:
        note = noted.get(finding.id)
        is_gone = _place(finding) in gone
        if is_gone or note is None:
            before = f"{note.result}; " if note is not None and note.result else ""
            changed = "its row has changed since: look again" if _place(finding) in volumes else ""
            told = f"set aside in the snapshot {name}" if is_gone else changed or "its files are not there"
            note = Mended.begin(of.notes, finding) if note is None else note
            yield note.to(of.notes, "left", before + told)
    if gone:
        done.said.append(
            f"{len(gone)} volumes that can't be made again are set aside in the snapshot {name}; the present "
            "state does not show them"
        )


def _mend_beside(of: Examined, options: MendOptions, done: MendsDone) -> None:
    """Look at what is derived again, and make anew what is not as it should be."""
    fresh = Examined(of.store_uri, of.beside, grace_s=of.grace_s)
    found = [
        finding for rule in EXAMINATION if rule.needs == "dataset" for finding in rule.look(fresh).findings
    ]
    leaks = any(
        one.kind in (kinds.SUBJECT_TWICE, kinds.ONE_PERSON_TWICE, kinds.GROUP_DIVIDED) for one in found
    )
    agreed = _agreed([one for one in found if one.kind.code not in _OF_STORE], options)
    done.notes += mend_derived(fresh, agreed, options.budget, options.compute, leaks=leaks)
