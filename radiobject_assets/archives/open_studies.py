"""Which studies are not whole, over all sources and the receiver of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from radiobject_assets.archives.study_notes import notes_folder, told_notes
from radiobject_assets.dataset.dataset_yaml import RECEIVED, DatasetSettings


@dataclass(frozen=True)
class OpenStudy:
    """A study that is held back; names nobody."""

    source: str
    study: str
    """Its token."""
    said: str
    """What is wrong with it."""

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
    """The studies that stay short, and those whose sender broke off and has not come back for an hour."""
    places = {name: settings.delivery_place(one.into) for name, one in settings.sources.items()}
    if settings.receiver is not None:
        places[RECEIVED] = settings.delivery_place(settings.receiver.into)
    looked_at = sum(len(list(notes_folder(place, name).glob("*/*.json"))) for name, place in places.items())
    found = [
        OpenStudy(name, study, note.sentence())
        for name, place in places.items()
        for study, note in told_notes(place, name, now_s).items()
    ]
    return OpenStudies(looked_at, tuple(found))
