"""What is known of each study of a source, beside where it waits: small JSON files, written whole.

They hold tokens, counts and times alone. Losing one costs one more look at its study.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from radiobject_assets.archives.counting import SeriesCount
from radiobject_assets.archives.deliveries import Held, merged, source_folder, uid_token
from radiobject_assets.system.durable_files import write_whole
from radiobject_assets.system.folders import make_folder

_log = logging.getLogger(__name__)
TOLD_AFTER = 3
"""Tries after which a study that stays short is told of."""
TOLD_AFTER_S = 3600.0
"""Seconds after which a study whose sender broke off is told of."""
INCOMING = "incoming"
"""Of the receiver: folder of instances whose end has not come yet."""
_LONGEST_S = 24 * 3600.0
_PASS = "last-pass.json"


@dataclass(frozen=True)
class StudyNote:
    """What is known of one study. Times are seconds since the epoch, by our clock."""

    looked_s: float = 0.0
    """When the archive was last asked for what the study has; of the receiver: when it was last sent of."""
    announced: int | None = None
    """NumberOfStudyRelatedInstances at that time."""
    listed: str = ""
    """Digest of what was listed."""
    since_s: float = 0.0
    """It was listed so since."""
    delivered: str = ""
    """`listed` of what was last delivered; "": nothing was."""
    instances: int = 0
    """How many the arrival has."""
    tries: int = 0
    """How often it stayed short since something last came."""
    next_try_s: float = 0.0
    short: tuple[SeriesCount, ...] = ()
    """The series that are not whole."""
    open_s: float = 0.0
    """Of the receiver: since when an association that sent of it has not ended in order; 0: all have."""
    refused: tuple[str, ...] = ()
    """Of the receiver: instances that were refused and have not come since."""
    undelivered_s: float = 0.0
    """Of the receiver: since when it can't be delivered although it is closed; 0: it can."""
    problem: str = ""
    """Why it can't be delivered, in the system's words."""
    failed: bool = False
    """Whether the archive gave no answer about it when it was last asked, at `looked_s`."""
    left_s: float = 0.0
    """Since when the archive no longer lists it, while something of it waits here; 0: it does."""

    @property
    def is_new(self) -> bool:
        """Whether all that was listed has come, and is not delivered."""
        return bool(self.listed) and self.delivered != self.listed and not self.short and not self.failed

    def settles_s(self, quiet_s: float, now_s: float) -> float:
        """Seconds until it was listed so for a quiet period."""
        return self.since_s + quiet_s - now_s

    def is_told(self, now_s: float) -> bool:
        """Whether somebody should look at it."""
        is_left = bool(self.open_s or self.refused) and now_s - self.looked_s > TOLD_AFTER_S
        # after a day without another try nobody asks any more: it left the query, or no pass is made
        tried_s = max(self.looked_s, self.next_try_s)
        is_given_up = bool(self.short or self.failed) and now_s - tried_s > _LONGEST_S
        is_short = bool(self.short) and self.tries >= TOLD_AFTER
        return is_left or is_short or is_given_up or bool(self.left_s)

    def sentence(self) -> str:
        """What is wrong with it, in words."""
        if self.left_s:
            return "the archive no longer lists it, and what came of it waits here"
        if self.failed and not self.short:
            return "the archive gave no answer about it"
        if self.short:
            return "; ".join(one.sentence() for one in self.short[:2])
        refused = f", {len(self.refused)} instances were refused for want of room" if self.refused else ""
        return f"the sender broke off and has not come back{refused}" if self.open_s else refused[2:]

    def stayed_short(self, short: tuple[SeriesCount, ...], now_s: float, every_s: float) -> StudyNote:
        """After a try that left it short: each wait is twice as long as the one before, a day at most."""
        came = sum(one.received for one in short) > sum(one.received for one in self.short)
        tries = 1 if came and self.short else self.tries + 1
        wait_s = min(_LONGEST_S, every_s * 2 ** (tries - 1))
        return replace(self, short=short, tries=tries, next_try_s=now_s + wait_s)


def listing_digest(listed: Collection[Collection[str]]) -> str:
    """`StudyNote.listed` of the SOPInstanceUIDs of each series."""
    uids = sorted({uid_token(uid) for one in listed for uid in one})
    return hashlib.blake2b("\n".join(uids).encode(), digest_size=12).hexdigest()


def notes_folder(landing: Path, source: str) -> Path:
    """Where the notes of a source lie."""
    return source_folder(landing, source) / "notes"


def read_note(landing: Path, source: str, study: str) -> StudyNote:
    """The note of a study; an empty one where there is none."""
    content = _read(_note(landing, source, study))
    known = {field.name for field in fields(StudyNote)}
    try:
        told = {name: value for name, value in content.items() if name in known}
        told["short"] = tuple(SeriesCount(**one) for one in told.get("short", ()))
        told["refused"] = tuple(str(one) for one in told.get("refused", ()))
        return StudyNote(**told)
    except (TypeError, ValueError):
        _log.warning("what is known of a study is damaged; it is looked at anew")
        return StudyNote()


def write_note(landing: Path, source: str, study: str, note: StudyNote) -> None:
    """Keep the note of a study."""
    path = _note(landing, source, study)
    make_folder(str(path.parent))
    default = asdict(StudyNote())
    told = {name: value for name, value in asdict(note).items() if value != default[name]}
    write_whole(path, json.dumps(told, separators=(",", ":")))


def remove_note(landing: Path, source: str, study: str) -> None:
    """Know nothing of a study any more."""
    _note(landing, source, study).unlink(missing_ok=True)


def told_notes(landing: Path, source: str, now_s: float) -> Mapping[str, StudyNote]:
    """Of all studies of a source those that somebody should look at, by token."""
    words = ('"short"', '"open_s"', '"refused"', '"failed"', '"left_s"')
    found = {}
    for path in sorted(notes_folder(landing, source).glob("*/*.json")):
        # most are whole, and hold none of the words
        text = path.read_text(encoding="utf-8")
        if any(word in text for word in words):
            note = read_note(landing, source, path.stem)
            if note.is_told(now_s):
                found[path.stem] = note
    return found


def read_delivered_once(landing: Path, source: str, study: str) -> Held:
    """Tokens of all instances of a study that were ever delivered, also where they were taken away since."""
    return {series: set(instances) for series, instances in _read(_once(landing, source, study)).items()}


def keep_delivered_once(landing: Path, source: str, study: str, delivered: Held) -> None:
    """Keep that these were delivered. Beside the note: it is read with its study alone, and may be long."""
    before = read_delivered_once(landing, source, study)
    after = merged(before, delivered)
    if after != before:
        told = {series: sorted(instances) for series, instances in sorted(after.items())}
        write_whole(_once(landing, source, study), json.dumps(told, separators=(",", ":")))


def studies_waiting(landing: Path, source: str) -> list[str]:
    """Tokens of the studies of which something has come and is not delivered."""
    named = (path for path in source_folder(landing, source).glob("*") if path.is_dir() and not path.suffix)
    not_studies = (notes_folder(landing, source).name, INCOMING)
    return sorted(path.name for path in named if path.name not in not_studies)


def read_last_pass(landing: Path, source: str) -> Mapping[str, Any]:
    """What the last pass over a source left to be told; empty where there was none."""
    return _read(source_folder(landing, source) / _PASS)


def write_last_pass(landing: Path, source: str, told: Mapping[str, Any]) -> None:
    """Keep that."""
    folder = source_folder(landing, source)
    make_folder(str(folder))
    write_whole(folder / _PASS, json.dumps(told))


def _note(landing: Path, source: str, study: str) -> Path:
    return notes_folder(landing, source) / study[:2] / f"{study}.json"


def _once(landing: Path, source: str, study: str) -> Path:
    return _note(landing, source, study).with_suffix(".once")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        _log.warning("what is known of an archive's studies is damaged; they are looked at anew")
        return {}
