"""What became of every file that was handed in: outcomes, counts, and their JSON form."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.files.unreadable import Unreadable
from radiobject_assets.ingest.left_out import file_left_out, nothing_taken_in, series_left_out
from radiobject_assets.ingest.naming.doubtful_subjects import SubjectDoubt

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["written", "updated", "unchanged", "quarantined", "not_selected"]
IN_STORE: Final[frozenset[Status]] = frozenset({"written", "updated", "unchanged"})
"""Statuses of series whose volume is in the store."""


@dataclass(frozen=True)
class SeriesOutcome:
    """What became of one series.

    `verdict` speaks of the images (`ingestable`, or `quarantined` with a `reason` code); `status` of what was
    done: written now, only its row updated (the voxels are the same, what is said of them is not), found
    unchanged in the store, quarantined, or not selected for this run.
    """

    series_uid: str
    subject_id: str
    collection: str | None
    obs_id: str | None
    verdict: Literal["ingestable", "quarantined"]
    reason: str | None
    detail: str
    n_instances: int
    shape: tuple[int, ...] | None
    dtype: str | None
    source: str
    status: Status
    modality: str = ""
    series_token: str = ""
    """Digest of the series' key: names a series where identifiers must not be shown."""
    voxel_bytes: int = 0
    spacing_mm: tuple[float, ...] | None = None
    also: tuple[tuple[str, str], ...] = ()
    """What else is wrong with a quarantined series: (reason code, detail) each."""
    flat: bool = False
    """Whether the series is one image of two dimensions."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every reason code, `reason` first; empty unless quarantined."""
        return tuple(dict.fromkeys(([self.reason] if self.reason else []) + [code for code, _ in self.also]))

    def to_json(self) -> dict[str, Any]:
        """The entry of this series in `ingest --json`."""
        return {
            "series_uid": self.series_uid,
            "subject_id": self.subject_id,
            "collection": self.collection,
            "obs_id": self.obs_id,
            "verdict": self.verdict,
            "reason": self.reason,
            "reasons": list(self.reasons),
            "detail": "; ".join([self.detail, *(detail for _, detail in self.also)]),
            "n_instances": self.n_instances,
            "shape": list(self.shape) if self.shape else None,
            "dtype": self.dtype,
            "source": self.source,
            "status": self.status,
        }


@dataclass(frozen=True)
class IngestReport:
    """Every file handed in, accounted for: in exactly one of `outcomes` or `unreadable`."""

    outcomes: tuple[SeriesOutcome, ...]
    unreadable: tuple[Unreadable, ...]
    seconds: float
    peak_memory_mb: float
    budget_mb: int
    problems: tuple[str, ...] = ()
    """What went wrong beside the images, in words for the user: a subjects' table that can't be read."""
    notes: tuple[str, ...] = ()
    """What is no fault and is to be known: columns of a subjects' table that were left out."""
    doubts: tuple[SubjectDoubt, ...] = ()
    """Subjects that look wrong; their volumes are in all the same."""
    resolved: tuple[SeriesOutcome, ...] = ()
    """Labels of earlier calls that are in the store now, because their image has come. Not handed in now."""

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of series by status and verdict, of files, and of voxel bytes written."""
        by_status = Counter(outcome.status for outcome in self.outcomes)
        return {
            "series": len(self.outcomes),
            "ingestable": sum(outcome.verdict == "ingestable" for outcome in self.outcomes),
            "quarantined": by_status["quarantined"],
            "written": by_status["written"],
            "updated": by_status["updated"],
            "unchanged": by_status["unchanged"],
            "files": sum(outcome.n_instances for outcome in self.outcomes) + len(self.unreadable),
            "unreadable": len(self.unreadable),
            "left_out": len(self.left_out),
            "resolved": len(self.resolved),
            "subjects": len({o.subject_id for o in self.outcomes if o.status in IN_STORE}),
            "bytes_written": sum(o.voxel_bytes for o in self.outcomes if o.status == "written"),
        }

    @property
    def quarantined_by_reason(self) -> dict[str, int]:
        """How many series each reason code holds back, most first."""
        reasons = Counter(reason for o in self.outcomes if o.status == "quarantined" for reason in o.reasons)
        return dict(reasons.most_common())

    @property
    def left_out(self) -> tuple[SeriesOutcome | Unreadable, ...]:
        """Series and files that are volumes, or may be, and are not in the store (`ingest.left_out`)."""
        return (*filter(series_left_out, self.outcomes), *filter(file_left_out, self.unreadable))

    @property
    def nothing_taken_in(self) -> bool:
        """Whether no volume of what was handed in is in the store, where one was to be expected."""
        return nothing_taken_in(self.outcomes, self.unreadable, self.resolved)

    @property
    def needs_attention(self) -> bool:
        """Whether a run with this report ends with 1: a volume was left out, or nothing was taken in."""
        return bool(self.left_out) or self.nothing_taken_in or bool(self.problems)

    def to_json(self) -> dict[str, Any]:
        """The document that `ingest --json` prints."""
        return {
            "series": [outcome.to_json() for outcome in self.outcomes],
            "unreadable": [
                # the path as it is: JSON escapes what is no text, so that the file can be found again
                {"path": str(item.path), "reason": str(item.reason), "detail": item.detail}
                for item in self.unreadable
            ],
            "problems": list(self.problems),
            "notes": list(self.notes),
            "warnings": [doubt.to_json() for doubt in self.doubts],
            "resolved": [outcome.to_json() for outcome in self.resolved],
            "counts": self.counts,
            "peak_memory_mb": self.peak_memory_mb,
            "budget_mb": self.budget_mb,
            "seconds": round(self.seconds, 3),
        }


def outcomes_table(
    outcomes: Sequence[SeriesOutcome], *, identifiers: bool, sources: bool = False
) -> pd.DataFrame:
    """Outcomes as a table; without `identifiers` it is fit for a log or a web page.

    Parameters
    ----------
    identifiers
        False leaves out subject, obs id and UID, and names each series by its token.
    sources
        Whether to say where each series lies: the names of folders and files may name a patient.
    """
    import pandas as pd  # 0.2 s, which `ingest` does without

    shown = ["series_token", "modality", "collection", "verdict", "reason", "detail", "n_instances", "status"]
    if identifiers:
        shown = ["series_uid", "subject_id", "obs_id", *shown]
    if sources:
        shown = ["source", *shown]
    rows = [
        {
            **{name: getattr(outcome, name) for name in shown},
            "also": "; ".join(f"{code}: {detail}" for code, detail in outcome.also) or None,
            "shape": "x".join(map(str, outcome.shape)) if outcome.shape else None,
            "dtype": outcome.dtype,
            "spacing_mm": " x ".join(f"{s:.3g}" for s in outcome.spacing_mm) if outcome.spacing_mm else None,
        }
        for outcome in outcomes
    ]
    return pd.DataFrame(rows, columns=[*shown, "also", "shape", "dtype", "spacing_mm"])


def source_of(files: Sequence[Path]) -> str:
    """Where a series lies: its file, or the folder that holds all its files."""
    if len(files) == 1:
        return path_text(files[0])
    folders = {path.parent for path in files}
    if len(folders) == 1:
        return path_text(files[0].parent)
    return path_text(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
