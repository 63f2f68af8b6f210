"""One pass over an archive: what is new there is fetched, counted, and delivered when it is whole.

1. Studies that fit the query are listed. One that is as it was when it was delivered is passed over, and
   looked into once a day; where the archive does not tell how many instances it has, after `every_s`. One
   that waits here and is no longer listed is asked for by its UID; if the archive has none, that is told.
2. Of the others some are worked on: those that were never looked at first, then who waits longest. What the
   archive lists of each series and is not here yet is fetched, the series at once if nothing of it is here,
   else instance by instance. An instance counts when it lies on the disk, whole, under the token of its UID:
   what is killed goes on from there.
3. A study is delivered when every series is whole (`counting.SeriesCount`) and the archive has listed the
   same for the source's quiet period. One that stays short is asked for again, with longer and longer waits.

What was delivered once and was taken out of the landing zone since is not fetched again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from radiobject_assets.archives.counting import SeriesCount, count_series
from radiobject_assets.archives.deliveries import (
    Delivery,
    Held,
    merged,
    recover_deliveries,
    source_folder,
    uid_token,
)
from radiobject_assets.archives.dicomweb import Archive, ListedSeries, ListedStudy
from radiobject_assets.archives.source_pass import SourcePass
from radiobject_assets.archives.study_notes import (
    TOLD_AFTER,
    StudyNote,
    keep_delivered_once,
    listing_digest,
    read_delivered_once,
    read_note,
    studies_waiting,
    write_last_pass,
    write_note,
)
from radiobject_assets.archives.whole_instances import InstanceTokens, is_cut, study_uid, tokens_of
from radiobject_assets.dataset.source_section import SourceConfig
from radiobject_assets.errors import ArchiveError, LockedError, RadiObjectError
from radiobject_assets.imaging.dicom.suppressed_output import pydicom_quietly
from radiobject_assets.system.folders import make_folder
from radiobject_assets.system.locks import file_lock

if TYPE_CHECKING:
    from pydicom import Dataset

_LOOK_AGAIN_S = 24 * 3600.0
# An archive that has failed so often in a row will not be better in a moment.
_FAILURES = 3


def fetch(
    name: str,
    source: SourceConfig,
    landing: Path,
    *,
    folder: Path = Path(),
    marker: str = "_COMPLETE",
    clock: Callable[[], float] = time.time,
    anew_since_s: float | None = None,
    on_study: Callable[[int, int], None] = lambda done, of: None,
) -> SourcePass:
    """Make one pass over a source.

    Parameters
    ----------
    name, source
        As in `sources` of dataset.yaml.
    landing
        The landing zone that it delivers into; made where it is missing.
    folder
        Where relative paths of the section begin.
    marker
        `arrivals.complete_marker`.
    clock
        Seconds since the epoch.
    anew_since_s
        Ask for what is short, whatever it waits for, unless that was done since (seconds since the epoch).
    on_study
        Progress: called with the number of studies done and of those to do.

    Raises
    ------
    ConfigurationError
        The extra `archives` is not installed, or a variable or file is not there.
    OSError
        The landing zone can't be written.
    """
    own = source_folder(landing, name)
    make_folder(str(own))
    try:
        with file_lock(own / "lock", wait_s=0):
            try:
                archive = Archive(name, source, folder)
                done = _Pass(name, source, landing, marker, archive, clock, anew_since_s).run(on_study)
            except (RadiObjectError, OSError) as error:
                said = error.public_text if isinstance(error, RadiObjectError) else _said(error)
                _leave(landing, SourcePass(name, problem=said), clock())
                raise
            _leave(landing, done, clock())
            return done
    except LockedError:
        return SourcePass(name, problem="another process is fetching from it")


def _said(error: OSError) -> str:
    return error.strerror or type(error).__name__  # its text may hold a path


def _leave(landing: Path, done: SourcePass, now_s: float) -> None:
    told = {"ended_s": now_s, "sentence": done.sentence(), "problem": done.problem}
    write_last_pass(landing, done.source, {**told, "wait_s": done.wait_s, "left": done.left})


@dataclass
class _Pass:
    name: str
    source: SourceConfig
    landing: Path
    marker: str
    archive: Archive
    clock: Callable[[], float]
    anew_since_s: float | None

    def __post_init__(self) -> None:
        self.done = SourcePass(self.name)
        self.failures = 0

    def run(self, on_study: Callable[[int, int], None]) -> SourcePass:
        recover_deliveries(self.landing, self.name)
        try:
            found = self.archive.studies(datetime.fromtimestamp(self.clock()).date())
        except ArchiveError as error:
            return replace(self.done, problem=str(error))
        self.done = replace(self.done, studies=len(found.studies), problem=found.doubt)
        notes = {one: read_note(self.landing, self.name, uid_token(one.uid)) for one in found.studies}
        if not found.doubt:
            notes |= self._no_longer_listed(notes)
        due = [study for study, note in notes.items() if self._is_due(study, note)]
        for study in notes.keys() - set(due):
            self._tell_waiting(notes[study])
        # what has come and been quiet for long enough is not held back by what is new, but what fails is last
        oldest_first = sorted(due, key=lambda study: (notes[study].looked_s, study.uid))
        ready = [study for study in oldest_first if self._is_ready(notes[study])]
        others = [study for study in oldest_first if not self._is_ready(notes[study])]
        work = [*ready, *others[: self.source.studies_at_once]]
        self.done = replace(self.done, left=len(due) - len(work))
        unwritable: OSError | None = None
        for number, study in enumerate(work):
            on_study(number, len(work))
            try:
                self._study(study, notes[study])
                continue
            except ArchiveError as error:
                self.done = replace(self.done, problem=str(error))
            except OSError as error:  # of this study perhaps; the others are tried
                unwritable = unwritable or error
            self._failed(study)
            if self.failures >= _FAILURES:
                self.done = replace(self.done, left=self.done.left + len(work) - number - 1)
                break
        if unwritable is not None:
            raise unwritable
        return self.done

    def _failed(self, study: ListedStudy) -> None:
        self.failures += 1
        token = uid_token(study.uid)
        with suppress(OSError):
            note = read_note(self.landing, self.name, token)
            write_note(self.landing, self.name, token, replace(note, looked_s=self.clock(), failed=True))

    def _no_longer_listed(self, listed: Collection[ListedStudy]) -> Mapping[ListedStudy, StudyNote]:
        """Of the studies that wait here and are not listed: those that the archive has all the same."""
        known, there = {uid_token(one.uid) for one in listed}, {}
        for token in studies_waiting(self.landing, self.name):
            delivery = Delivery(self.landing, self.name, token, self.marker)
            if token in known or not (files := delivery.waiting_files()):
                continue
            note = read_note(self.landing, self.name, token)
            if (note.short or note.left_s) and self._waits(note):
                self._tell_waiting(note)
                continue
            uid = study_uid(files[0])
            try:
                study = self.archive.study(uid) if uid_token(uid) == token else None
            except ArchiveError as error:
                self.done = replace(self.done, problem=str(error))
                self.failures += 1
                if self.failures >= _FAILURES:
                    break
                continue
            if study is not None:
                there[study] = replace(note, left_s=0.0, next_try_s=0.0) if note.left_s else note
                continue
            if note.is_new and note.looked_s - note.since_s >= self.source.quiet_period_s:
                try:
                    note = self._deliver(delivery, note)
                except OSError as error:  # of this study perhaps; the others are tried
                    self.done = replace(self.done, problem=f"study {token}: {_said(error)}")
                    continue
            else:
                now_s = self.clock()
                note = replace(note, left_s=note.left_s or now_s, next_try_s=now_s + _LOOK_AGAIN_S)
                self._tell_waiting(note)
            write_note(self.landing, self.name, token, note)
        return there

    def _waits(self, note: StudyNote) -> bool:
        is_asked_for = self.anew_since_s is not None and note.looked_s < self.anew_since_s
        return not is_asked_for and note.looked_s <= self.clock() < note.next_try_s

    def _is_due(self, study: ListedStudy, note: StudyNote) -> bool:
        if note.short:
            return not self._waits(note)
        if not note.listed or note.failed or note.left_s or self._is_ready(note):
            return True
        if study.announced != note.announced:
            return True
        if note.is_new and study.announced is not None:
            return False  # it is asked for again when it has been quiet for long enough
        again_s = _LOOK_AGAIN_S if study.announced is not None else self.source.every_s
        return not 0 <= self.clock() - note.looked_s < again_s

    def _is_ready(self, note: StudyNote) -> bool:
        quiet_s = self.source.quiet_period_s
        return note.is_new and not 0 < note.settles_s(quiet_s, self.clock()) <= quiet_s

    def _study(self, study: ListedStudy, note: StudyNote) -> None:
        delivery = Delivery(self.landing, self.name, uid_token(study.uid), self.marker)
        every, began_s = self.archive.series(study.uid), self.clock()
        wanted = [series for series in every if series.is_wanted]
        listed = {s: self.archive.instances(study.uid, s.uid) for s in wanted}
        digest = listing_digest(listed.values())
        note = replace(
            note,
            looked_s=began_s,
            announced=study.announced,
            listed=digest,
            since_s=note.since_s if note.listed == digest else began_s,
            failed=False,
            left_s=0.0,
        )
        # what was taken away after it had come is not fetched again
        once = read_delivered_once(self.landing, self.name, delivery.study)
        delivered = merged(delivery.delivered(), once)
        for series in every:
            if not series.is_wanted:  # any more: a part of it would be delivered with the others
                shutil.rmtree(delivery.staged / uid_token(series.uid), ignore_errors=True)
        problem: ArchiveError | None = None
        for series in wanted:
            try:
                self._series(study.uid, series, listed[series], delivery, delivered)
            except ArchiveError as error:
                problem = error
                self.failures += 1
                if self.failures >= _FAILURES:
                    break
        counts = self._counts(study, every, listed, delivery, delivered)
        short = tuple(one for one in counts if not one.is_whole)
        if short:
            note = note.stayed_short(short, self.clock(), self.source.every_s)
            if note.tries >= TOLD_AFTER:
                # what was sent and is not listed may be of a former state of the study: all anew
                for one in short:
                    if one.series and one.unlisted:
                        shutil.rmtree(delivery.staged / one.series, ignore_errors=True)
            self._tell_waiting(note)
        else:
            self.failures = 0
            note = self._whole(delivery, replace(note, short=(), tries=0, next_try_s=0.0), listed)
        write_note(self.landing, self.name, delivery.study, note)
        if problem is not None:
            self.done = replace(self.done, problem=str(problem))

    def _whole(
        self, delivery: Delivery, note: StudyNote, listed: Mapping[ListedSeries, list[str]]
    ) -> StudyNote:
        known = {uid_token(uid) for uids in listed.values() for uid in uids}
        there = delivery.delivered()
        withdrawn = len(set().union(*there.values()) - known) if there else 0
        self.done = replace(self.done, withdrawn=self.done.withdrawn + withdrawn)
        keep_delivered_once(self.landing, self.name, delivery.study, there)
        if not delivery.waiting_files():
            if delivery.lacks_marker:  # killed at the last step
                delivery.deliver()
            return replace(note, delivered=note.listed)
        if not self._is_ready(note):
            self._tell_waiting(note)
            return note
        # what is killed from here on is known to be whole, also when the archive no longer lists it
        write_note(self.landing, self.name, delivery.study, note)
        return self._deliver(delivery, note)

    def _deliver(self, delivery: Delivery, note: StudyNote) -> StudyNote:
        instances = delivery.deliver()
        keep_delivered_once(self.landing, self.name, delivery.study, delivery.delivered())
        self.done = replace(self.done, delivered=self.done.delivered + 1)
        return replace(note, delivered=note.listed, instances=instances, left_s=0.0, next_try_s=0.0)

    def _counts(
        self,
        study: ListedStudy,
        every: Sequence[ListedSeries],
        listed: dict[ListedSeries, list[str]],
        delivery: Delivery,
        delivered: Held,
    ) -> list[SeriesCount]:
        waiting = delivery.waiting()
        counts = []
        for series, uids in listed.items():
            name = uid_token(series.uid)
            counts.append(
                count_series(
                    name,
                    series.announced if self.source.numbers == "hold" else None,
                    [uid_token(uid) for uid in uids],
                    delivered=delivered.get(name, ()),
                    waiting=waiting.get(name, ()),
                )
            )
        # a series that the archive has no more may have come in part
        for name in sorted(waiting.keys() - {uid_token(series.uid) for series in listed}):
            counts.append(SeriesCount(name, None, 0, 0, len(waiting[name])))
        others = [series.announced for series in every if not series.is_wanted]
        if self.source.numbers == "hold" and study.announced is not None and None not in others:
            # a list of series that was cut short would look whole
            there = sum(one.listed for one in counts) + sum(number or 0 for number in others)
            if there != study.announced:
                counts.append(SeriesCount("", study.announced, there, there))
        return counts

    def _series(
        self, study: str, series: ListedSeries, listed: Collection[str], delivery: Delivery, delivered: Held
    ) -> None:
        name = uid_token(series.uid)
        here = delivery.waiting().get(name, set()) | delivered.get(name, set())
        missing = {uid_token(uid): uid for uid in listed if uid_token(uid) not in here}
        problem: ArchiveError | None = None
        if not here:
            try:
                for dataset in self.archive.retrieve_series(study, series.uid):
                    self._take(dataset, study, series.uid, delivery, here)
            except ArchiveError as error:
                problem = error
        failed = 0
        for one in [uid for instance, uid in missing.items() if instance not in here]:
            try:
                dataset = self.archive.retrieve_instance(study, series.uid, one)
                self._take(dataset, study, series.uid, delivery, here)
                failed = 0
            except ArchiveError as error:
                problem, failed = error, failed + 1
                if failed >= _FAILURES:
                    break
        if problem is not None and not missing.keys() <= here:
            raise problem
        self.failures = 0

    def _take(self, dataset: Dataset, study: str, series: str, delivery: Delivery, here: set[str]) -> None:
        with pydicom_quietly():
            instance = str(dataset.get("SOPInstanceUID", ""))
            cut = is_cut(dataset)
        wanted = InstanceTokens(uid_token(study), uid_token(series), uid_token(instance))
        if wanted.instance in here:
            self.done = replace(self.done, duplicates=self.done.duplicates + 1)
            return

        def write(path: Path) -> None:
            with pydicom_quietly():
                dataset.save_as(path, enforce_file_format=True)
            if cut or tokens_of(path) != wanted:
                raise ArchiveError(f"source {self.name}: an instance came cut, or is not one of its series")

        try:
            delivery.write(wanted.series, wanted.instance, write)
        except (OSError, ArchiveError):
            raise
        except Exception as error:  # noqa: BLE001 - an instance that can't be written again is not received
            kind = type(error).__name__
            raise ArchiveError(f"source {self.name}: an instance can't be read ({kind})") from None
        here.add(wanted.instance)
        self.done = replace(self.done, fetched=self.done.fetched + 1)

    def _tell_waiting(self, note: StudyNote) -> None:
        if note.left_s:
            self.done = replace(self.done, left_query=self.done.left_query + 1)
        elif note.short:
            examples = (*self.done.examples, note.short[0].sentence())
            self.done = replace(self.done, short=self.done.short + 1, examples=examples[:3])
        elif note.is_new:
            waits_s = max(note.settles_s(self.source.quiet_period_s, self.clock()), 0.0)
            first_s = waits_s if self.done.wait_s is None else min(waits_s, self.done.wait_s)
            self.done = replace(self.done, settling=self.done.settling + 1, wait_s=first_s)
