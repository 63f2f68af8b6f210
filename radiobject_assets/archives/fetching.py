"""One pass over an archive: what is new there is fetched, counted, and delivered when it is whole.

1. Studies that fit the query are listed. One that is as it was when it was delivered is passed over, and
   looked into once a day.
2. Of the others some are worked on: those that were never looked at first, then who waits longest. What the
   archive lists of each series and is not here yet is fetched, the series at once if nothing of it is here,
   else instance by instance. An instance counts when it lies on the disk, whole, under the token of its UID:
   what is killed goes on from there.
3. A study is delivered when every series is whole (`counting.SeriesCount`) and the archive has listed the
   same for the source's quiet period. One that stays short is asked for again, with longer and longer waits.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from radiobject_assets.archives.counting import SeriesCount, count_series
from radiobject_assets.archives.deliveries import Delivery, Held, source_folder, uid_token
from radiobject_assets.archives.dicomweb import Archive, ListedSeries, ListedStudy
from radiobject_assets.archives.study_notes import (
    TOLD_AFTER,
    StudyNote,
    read_note,
    write_last_pass,
    write_note,
)
from radiobject_assets.archives.whole_instances import InstanceTokens, is_cut, tokens_of
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


@dataclass(frozen=True)
class SourcePass:
    """What one pass over a source did and found; names nobody."""

    source: str
    studies: int = 0
    """That fit the query."""
    delivered: int = 0
    """That became an arrival in this pass, or a larger one."""
    fetched: int = 0
    """Instances that came."""
    duplicates: int = 0
    """Instances that came a second time."""
    settling: int = 0
    """Studies that are whole here, and may still grow there."""
    short: int = 0
    """Studies of which the archive announces more than it sent."""
    left: int = 0
    """Studies that the next pass works on."""
    withdrawn: int = 0
    """Instances that were delivered and that the archive no longer lists, of the studies looked into."""
    examples: tuple[str, ...] = ()
    """Of the short ones: the numbers of some series."""
    problem: str = ""
    """What ended the pass early, or puts its result in doubt."""
    wait_s: float | None = None
    """Seconds until the first of the settling can be delivered."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is short, and nothing went wrong."""
        return not self.short and not self.problem

    def sentence(self) -> str:
        """All of it in one sentence."""
        parts = [f"source {self.source}: {self.studies} studies, {self.delivered} delivered"]
        parts += [f"{self.fetched} instances fetched"] if self.fetched else []
        parts += [f"{self.duplicates} came twice"] if self.duplicates else []
        parts += [f"{self.settling} may still grow"] if self.settling else []
        parts += [f"{self.short} short ({'; '.join(self.examples)})"] if self.short else []
        parts += [f"{self.withdrawn} instances withdrawn by the archive, kept here"] if self.withdrawn else []
        parts += [f"{self.left} left for the next pass"] if self.left else []
        return ", ".join([*parts, *filter(None, [self.problem])])


def fetch(
    name: str,
    source: SourceConfig,
    landing: Path,
    *,
    folder: Path = Path(),
    marker: str = "_COMPLETE",
    clock: Callable[[], float] = time.time,
    is_impatient: bool = False,
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
    is_impatient
        Ask for what is short now, whatever it waits for.
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
                done = _Pass(name, source, landing, marker, archive, clock).run(is_impatient, on_study)
            except (RadiObjectError, OSError) as error:
                said = error.public_text if isinstance(error, RadiObjectError) else f"{error.strerror}"
                _leave(landing, SourcePass(name, problem=said), clock())
                raise
            _leave(landing, done, clock())
            return done
    except LockedError:
        return SourcePass(name, problem="another process is fetching from it")


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

    def __post_init__(self) -> None:
        self.done = SourcePass(self.name)
        self.failures = 0

    def run(self, is_impatient: bool, on_study: Callable[[int, int], None]) -> SourcePass:
        now_s = self.clock()
        try:
            found = self.archive.studies(datetime.fromtimestamp(now_s).date())
        except ArchiveError as error:
            return replace(self.done, problem=str(error))
        self.done = replace(self.done, studies=len(found.studies), problem=found.doubt)
        notes = {one: read_note(self.landing, self.name, uid_token(one.uid)) for one in found.studies}
        due = [study for study, note in notes.items() if self._is_due(study, note, is_impatient)]
        for study in notes.keys() - set(due):
            self._tell_short(notes[study].short)
        # what has come and been quiet for long enough is not held back by what is new
        ready = [study for study in due if self._is_ready(notes[study])]
        others = sorted((notes[s].looked_s, s.uid, s) for s in set(due) - set(ready))
        work = [*ready, *(study for _, _, study in others[: self.source.studies_at_once])]
        self.done = replace(self.done, left=len(due) - len(work))
        for number, study in enumerate(work):
            on_study(number, len(work))
            try:
                self._study(study, notes[study])
            except ArchiveError as error:
                self.failures += 1
                self.done = replace(self.done, problem=str(error))
                if self.failures >= _FAILURES:
                    self.done = replace(self.done, left=self.done.left + len(work) - number - 1)
                    break
        return self.done

    def _is_due(self, study: ListedStudy, note: StudyNote, is_impatient: bool) -> bool:
        now_s = self.clock()
        waits = note.looked_s <= now_s < note.next_try_s
        if note.short:
            return is_impatient or not waits
        is_old = note.delivered and note.delivered == note.listed and study.announced is not None
        if is_old and study.announced == note.announced:
            return not 0 <= now_s - note.looked_s < _LOOK_AGAIN_S
        return True

    def _is_ready(self, note: StudyNote) -> bool:
        is_new = bool(note.listed) and note.delivered != note.listed and not note.short
        return is_new and self.clock() - note.since_s >= self.source.quiet_period_s

    def _study(self, study: ListedStudy, note: StudyNote) -> None:
        delivery = Delivery(self.landing, self.name, uid_token(study.uid), self.marker)
        every, began_s = self.archive.series(study.uid), self.clock()
        wanted = [series for series in every if series.is_wanted]
        listed = {s: self.archive.instances(study.uid, s.uid) for s in wanted}
        digest = _digest(listed.values())
        note = replace(
            note,
            looked_s=began_s,
            announced=study.announced,
            listed=digest,
            since_s=note.since_s if note.listed == digest else began_s,
        )
        delivered = delivery.delivered()
        # an arrival that was taken away after it had come is not fetched again while the archive has no more
        if not delivered and note.delivered == digest:
            write_note(self.landing, self.name, delivery.study, note)
            return
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
            self._tell_short(short)
        else:
            self.failures = 0
            note = self._whole(delivery, replace(note, short=(), tries=0, next_try_s=0.0), delivered, listed)
        write_note(self.landing, self.name, delivery.study, note)
        if problem is not None:
            self.done = replace(self.done, problem=str(problem))

    def _whole(
        self, delivery: Delivery, note: StudyNote, delivered: Held, listed: dict[ListedSeries, list[str]]
    ) -> StudyNote:
        known = {uid_token(uid) for uids in listed.values() for uid in uids}
        withdrawn = len(set().union(*delivered.values()) - known) if delivered else 0
        self.done = replace(self.done, withdrawn=self.done.withdrawn + withdrawn)
        if not delivery.staged.exists():
            return replace(note, delivered=note.listed) if delivered or not known else note
        waits_s = note.since_s + self.source.quiet_period_s - self.clock()
        if 0 < waits_s <= self.source.quiet_period_s:
            first_s = waits_s if self.done.wait_s is None else min(waits_s, self.done.wait_s)
            self.done = replace(self.done, settling=self.done.settling + 1, wait_s=first_s)
            return note
        instances = delivery.deliver()
        self.done = replace(self.done, delivered=self.done.delivered + 1)
        return replace(note, delivered=note.listed, instances=instances)

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

    def _tell_short(self, short: Sequence[SeriesCount]) -> None:
        if not short:
            return
        examples = (*self.done.examples, *(one.sentence() for one in short[:1]))
        self.done = replace(self.done, short=self.done.short + 1, examples=examples[:3])


def _digest(listed: Collection[Collection[str]]) -> str:
    uids = sorted({uid_token(uid) for one in listed for uid in one})
    return hashlib.blake2b("\n".join(uids).encode(), digest_size=12).hexdigest()
