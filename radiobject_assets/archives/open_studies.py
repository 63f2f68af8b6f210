"""Which studies are not whole, over all sources and the receiver of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from radiobject_assets.archives.study_notes import (
    notes_folder,
    read_last_pass,
    read_note,
    studies_waiting,
    told_notes,
)
from radiobject_assets.dataset.dataset_yaml import RECEIVED, DatasetSettings

_PASSES, _SILENT_S = 3, 3600.0
"""A source that was not asked for so many of its times, and for an hour, is told of."""
_TRIES_S, _NOBODY_S = 60.0, 600.0
"""What was received is told of when it could not be delivered for a minute, or nobody did it for ten."""


@dataclass(frozen=True)
class OpenStudy:
    """A study that is held back; names nobody."""

    source: str
    study: str
    """Its token; "" for the source as a whole."""
    said: str
    """What is wrong with it."""
    has_left: bool = False
    """Whether the archive no longer lists it."""
    is_undelivered: bool = False
    """Whether it is whole, and not in the landing zone."""

    @property
    def is_received(self) -> bool:
        """Whether somebody sent it, and no archive was asked."""
        return self.source == RECEIVED


@dataclass(frozen=True)
class OpenStudies:
    """What was found."""

    looked_at: int
    """How many studies are known."""
    found: tuple[OpenStudy, ...]


def open_studies(settings: DatasetSettings, now_s: float) -> OpenStudies:
    """The studies that stay short or left the query, those whose sender broke off and has not come back
    for an hour, those that were received and can't be delivered, and the sources that gave no answer or were
    not asked."""
    places = {name: settings.delivery_place(one.into) for name, one in settings.sources.items()}
    if settings.receiver is not None:
        places[RECEIVED] = settings.delivery_place(settings.receiver.into)
    looked_at = sum(len(list(notes_folder(place, name).glob("*/*.json"))) for name, place in places.items())
    found = [
        OpenStudy(name, study, note.sentence(), bool(note.left_s))
        for name, place in places.items()
        for study, note in told_notes(place, name, now_s).items()
    ]
    silent = [
        OpenStudy(name, "", said)
        for name, one in settings.sources.items()
        if (said := _silence(places[name], name, one.every_s, now_s))
    ]
    if settings.receiver is not None:
        found += _undelivered(places[RECEIVED], settings.receiver.quiet_period_s, now_s)
    return OpenStudies(looked_at, (*silent, *found))


def _undelivered(place: Path, quiet_s: float, now_s: float) -> list[OpenStudy]:
    """Studies of senders that are whole and wait; also where nobody could note why."""
    found = []
    for study in studies_waiting(place, RECEIVED):
        note = read_note(place, RECEIVED, study)
        if note.open_s or note.refused:
            continue
        said = f"it can't be delivered: {note.problem}" if note.problem else "no receiver delivers it"
        tried = bool(note.undelivered_s) and now_s - note.undelivered_s > _TRIES_S
        if tried or now_s - note.looked_s > quiet_s + _NOBODY_S:
            found.append(OpenStudy(RECEIVED, study, said, is_undelivered=True))
    return found


def _silence(place: Path, name: str, every_s: float, now_s: float) -> str:
    """Why a source may have more than anybody knows; "" if nothing says so."""
    last = read_last_pass(place, name)
    if last.get("problem"):
        return f"its last pass ended so: {last['problem']}"
    waited_s = now_s - float(last.get("ended_s", now_s))
    if waited_s > max(_PASSES * every_s, _SILENT_S):
        return f"no pass over it has ended for {waited_s / 3600:.0f} h"
    return ""
