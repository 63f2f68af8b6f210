"""Studies on their way in from senders: which instances are here, and when a study is closed and delivered.

A sender does not say how many instances a study has. So a study is closed when every association that sent
of it has ended in order (released), nothing that was refused is missing, and it has been quiet since. A study
whose sender broke off, or that was coming in when the receiver was killed, stays open until an association
that began later has sent of it and ended in order: senders send again what they got no answer for. What is
open for longer than an hour is told of, and `close_study` closes it by hand.

What comes after a study was delivered makes its arrival a larger one.
"""

from __future__ import annotations

import errno
import filecmp
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from radiobject_assets.archives.deliveries import Delivery, recover_deliveries, uid_token
from radiobject_assets.archives.study_notes import StudyNote, read_note, studies_waiting, write_note
from radiobject_assets.archives.whole_instances import tokens_of
from radiobject_assets.dataset.dataset_yaml import RECEIVED

_log = logging.getLogger(__name__)

SUCCESS = 0x0000
"""Statuses of C-STORE (PS3.4, table B.2-1; PS3.7, annex C): stored; processing failure; out of resources; the
data set does not match its command; it cannot be understood."""
PROCESSING_FAILURE, OUT_OF_RESOURCES, DOES_NOT_MATCH, NOT_UNDERSTOOD = 0x0110, 0xA700, 0xA900, 0xC000
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class _Sending:
    """An association, and what it has sent."""

    began_s: float
    studies: set[str] = field(default_factory=set)


class Reception:
    """The studies that come in; safe for several threads, of one process.

    Parameters
    ----------
    landing
        The landing zone.
    marker
        `arrivals.complete_marker`.
    quiet_period_s
        Seconds after the last association that sent of a study, after which it is delivered.
    keep_free_bytes
        Room on the landing zone's disk below which instances are refused.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        landing: Path,
        *,
        marker: str = "_COMPLETE",
        quiet_period_s: float = 60.0,
        keep_free_bytes: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._landing, self._marker, self._clock = landing, marker, clock
        self._quiet_s, self._keep_free = quiet_period_s, keep_free_bytes
        self._lock = threading.RLock()
        self._sending: dict[int, _Sending] = {}
        self._broken_s: dict[str, float] = {}
        self._began_s = clock()

    def begin(self, association: int) -> None:
        """An association was accepted; its number is the caller's."""
        with self._lock:
            self._sending[association] = _Sending(self._clock())

    def take(self, association: int, file: Path, instance_uid: str) -> int:
        """Take one instance in; on success it is on the disk, whole, when this returns its status.

        Parameters
        ----------
        file
            On the landing zone's disk; it is moved away.
        instance_uid
            Affected SOP Instance UID of the request.
        """
        tokens = tokens_of(file)
        if tokens is None:
            return NOT_UNDERSTOOD
        if tokens.instance != uid_token(instance_uid):
            return DOES_NOT_MATCH
        delivery = self._delivery(tokens.study)
        try:
            self._open(association, tokens.study)
            if shutil.disk_usage(self._landing).free < self._keep_free:
                raise OSError(errno.ENOSPC, "less than `keep_free_gb` is left")
            with self._lock:
                if not self._is_here(delivery, tokens.series, tokens.instance, file):
                    delivery.move_in(tokens.series, tokens.instance, file)
                self._no_longer_refused(tokens.study, tokens.instance)
        except OSError as error:
            _log.error("an instance of study %s was refused: %s", tokens.study, error.strerror)
            self._refused(tokens.study, tokens.instance)
            return OUT_OF_RESOURCES if error.errno in _FULL else PROCESSING_FAILURE
        return SUCCESS

    def end(self, association: int, *, in_order: bool) -> None:
        """An association has ended; further calls for it change nothing."""
        with self._lock:
            ended = self._sending.pop(association, None)
            if ended is None:
                return
            now_s = self._clock()
            for study in ended.studies:
                if not in_order:
                    self._broken_s[study] = now_s
                note = read_note(self._landing, RECEIVED, study)
                still = any(study in other.studies for other in self._sending.values())
                broken_s = self._broken_s.get(study, self._began_s if note.open_s < self._began_s else 0.0)
                is_over = in_order and not still and broken_s <= ended.began_s
                write_note(
                    self._landing,
                    RECEIVED,
                    study,
                    replace(note, looked_s=now_s, open_s=0.0 if is_over else note.open_s),
                )

    def deliver_closed(self) -> Iterator[str]:
        """Deliver the studies that are closed; tokens of those that were delivered.

        Raises
        ------
        OSError
            One could not be delivered; the others were.
        """
        problem: OSError | None = None
        for study in waiting_studies(self._landing):
            with self._lock:
                note = read_note(self._landing, RECEIVED, study)
                quiet_s = self._clock() - note.looked_s
                if note.open_s or note.refused or 0 <= quiet_s < self._quiet_s:
                    continue
                try:
                    instances = self._delivery(study).deliver()
                    done = replace(note, instances=instances, undelivered_s=0.0, problem="")
                    write_note(self._landing, RECEIVED, study, done)
                except OSError as error:
                    self._not_delivered(study, note, str(error.strerror))
                    problem = problem or error
                    continue
            _log.info("study %s was delivered: %d instances", study, instances)
            yield study
        if problem is not None:
            raise problem

    def _not_delivered(self, study: str, note: StudyNote, problem: str) -> None:
        if note.problem == problem:
            return  # it is known, and tried every few seconds
        _log.error("study %s can't be delivered: %s; it is tried again", study, problem)
        told = replace(note, undelivered_s=note.undelivered_s or self._clock(), problem=problem)
        with suppress(OSError):  # no room even for that: that it waits tells by itself
            write_note(self._landing, RECEIVED, study, told)

    def recover(self) -> None:
        """Finish what a killed receiver left between two steps."""
        recover_deliveries(self._landing, RECEIVED)

    def _delivery(self, study: str) -> Delivery:
        return Delivery(self._landing, RECEIVED, study, self._marker)

    def _open(self, association: int, study: str) -> None:
        with self._lock:
            sending = self._sending.setdefault(association, _Sending(self._clock()))
            if study in sending.studies:
                return
            note = read_note(self._landing, RECEIVED, study)
            if note.open_s:
                # since before this process: whatever sent then has not ended in order
                if note.open_s < self._began_s:
                    self._broken_s.setdefault(study, self._began_s)
            else:
                self._broken_s.pop(study, None)
            now_s = self._clock()
            write_note(
                self._landing, RECEIVED, study, replace(note, looked_s=now_s, open_s=note.open_s or now_s)
            )
            sending.studies.add(study)

    def _is_here(self, delivery: Delivery, series: str, instance: str, file: Path) -> bool:
        waiting, delivered = delivery.path(series, instance), delivery.delivered_path(series, instance)
        for path in (waiting, delivered):
            if path.exists():
                # one with other content is a correction: it takes the place of what was there
                return filecmp.cmp(path, file, shallow=False)
        return False

    def _refused(self, study: str, instance: str) -> None:
        with self._lock:
            try:
                note = read_note(self._landing, RECEIVED, study)
                if instance not in note.refused:
                    write_note(
                        self._landing, RECEIVED, study, replace(note, refused=(*note.refused, instance))
                    )
            except OSError:
                # no room even for that: the study counts as broken off
                self._broken_s[study] = self._clock()

    def _no_longer_refused(self, study: str, instance: str) -> None:
        note = read_note(self._landing, RECEIVED, study)
        if instance in note.refused:
            left = tuple(one for one in note.refused if one != instance)
            write_note(self._landing, RECEIVED, study, replace(note, refused=left))


def waiting_studies(landing: Path) -> list[str]:
    """Tokens of the studies that came from senders and are not delivered."""
    return studies_waiting(landing, RECEIVED)


def close_study(landing: Path, study: str) -> bool:
    """Close a study whose sender does not come back: it is delivered as it is; whether there is one.

    A receiver that runs delivers it; else the next one does.
    """
    note = read_note(landing, RECEIVED, study)
    if not note.open_s and not note.refused:
        return False
    write_note(landing, RECEIVED, study, replace(note, open_s=0.0, refused=()))
    return True
