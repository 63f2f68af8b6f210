"""Rules over arrivals: how much was held back or given up, and whether what was taken in is still there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from radiobject_assets.archives.open_studies import OpenStudies, OpenStudy
from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Kind, Report
from radiobject_assets.imaging.reasons import Reason

# One series in five, as a rule of thumb: localizers and scouts that an archive sends along are fewer.
HIGHEST_QUARANTINE_SHARE = 0.2

CIRCUMSTANCES = (
    Reason.WORKER_DIED,
    Reason.WORKER_TIMEOUT,
    Reason.MEMORY_EXCEEDED,
    Reason.FILE_CHANGED,
    Reason.NOT_READABLE,
)
"""Reasons that are the machine's and not the image's."""


@dataclass(frozen=True)
class FileCount:
    """Where the files of one arrival went."""

    arrival: str
    files: int
    """That are in the landing zone."""
    in_series: int
    unreadable: int
    subject_tables: int
    counted_twice: int
    on_disk: int
    """Files on disk among those that were counted."""


def every_file_accounted_for(counts: Sequence[FileCount]) -> Report:
    """The files of each arrival are those of its series, the unreadable ones and its tables."""
    findings = tuple(
        Finding(
            kinds.UNACCOUNTED,
            f"arrival {count.arrival}",
            f"{count.files} files, {count.on_disk} accounted for, {count.counted_twice} twice",
            arrival=count.arrival,
        )
        for count in counts
        if count.counted_twice or count.on_disk != count.files
    )
    names = ("in_series", "unreadable", "subject_tables", "counted_twice")
    numbers = {name: sum(getattr(count, name) for count in counts) for name in names}
    return Report(sum(count.files for count in counts), "files", findings, numbers)


def quarantine_share(outcomes: pd.DataFrame, collection: str) -> Report:
    """How many of a collection's series are held back, over all arrivals.

    Parameters
    ----------
    outcomes
        What became of the series that were meant for the collection: `arrival`, `status`, `reason`.
    """
    held = outcomes[outcomes["status"] == "quarantined"]
    share = len(held) / len(outcomes) if len(outcomes) else 0.0
    findings: tuple[Finding, ...] = ()
    if share > HIGHEST_QUARANTINE_SHARE:
        reasons = held["reason"].astype(str).value_counts()
        listed = ", ".join(f"{reason} ({n})" for reason, n in reasons.head(4).items())
        findings = (
            Finding(
                kinds.MOSTLY_QUARANTINED,
                "its series",
                f"{len(held)} of {len(outcomes)} series: {listed}",
                collection=collection,
            ),
        )
    said = f"{len(held)} quarantined" if len(held) else ""
    numbers = {"quarantined": len(held), "quarantine_share": round(share, 4)}
    return Report(len(outcomes), "series", findings, numbers, said)


def given_up(outcomes: pd.DataFrame, collection: str) -> Report:
    """No series was given up because of the machine: a dead worker, too little memory, a changed file."""
    lost = outcomes[outcomes["reason"].isin([str(reason) for reason in CIRCUMSTANCES])]
    findings = tuple(
        Finding(
            kinds.GIVEN_UP,
            "its series",
            ", ".join(f"{reason} ({n})" for reason, n in group["reason"].value_counts().items()),
            collection=collection,
            arrival=str(arrival),
        )
        for arrival, group in lost.groupby("arrival", sort=True)
    )
    return Report(len(outcomes), "series", findings, {"given_up": len(lost)})


def stored_in_doubt(outcomes: pd.DataFrame, rows: pd.DataFrame, collection: str) -> Report:
    """No volume is in the store whose series was quarantined when its arrival was last looked at."""
    held = outcomes[(outcomes["status"] == "quarantined") & outcomes["series_uid"].astype(bool)]
    stored = set(zip(rows["arrival"], rows["series_uid"], strict=True))
    findings = []
    for arrival, group in held.groupby("arrival", sort=True):
        doubtful = [uid for uid in group["series_uid"] if (arrival, uid) in stored]
        if doubtful:
            reasons = ", ".join(
                sorted(set(group.loc[group["series_uid"].isin(doubtful), "reason"].astype(str)))
            )
            findings.append(
                Finding(
                    kinds.STORED_IN_DOUBT,
                    "its series",
                    f"{len(doubtful)} ({reasons})",
                    collection=collection,
                    arrival=str(arrival),
                )
            )
    return Report(len(rows), "volumes", tuple(findings), {"quarantined_but_stored": len(findings)})


def sources_still_there(
    rows: pd.DataFrame, there: Collection[str], changed: Mapping[str, str] | None = None
) -> Report:
    """The files that volumes were made from are still in the landing zone, as they were.

    Parameters
    ----------
    rows
        Inventory rows.
    there
        Keys of the arrivals that are in the landing zone.
    changed
        Of arrivals that are there and not what they were: what is different, without names.
    """
    arrivals = rows.loc[rows["arrival"].notna() & (rows["arrival"] != ""), "arrival"].value_counts()
    findings = [
        Finding(kinds.SOURCE_GONE, f"arrival {key}", f"{n} volumes", arrival=str(key))
        for key, n in sorted(arrivals.items())
        if key not in there
    ]
    findings += [
        Finding(kinds.SOURCE_CHANGED, f"arrival {key}", what, arrival=key)
        for key, what in sorted((changed or {}).items())
        if key in arrivals.index
    ]
    return Report(
        len(arrivals), "arrivals", tuple(findings), {"vanished": sum(k not in there for k in arrivals.index)}
    )


def archives_sent_all(studies: OpenStudies) -> Report:
    """Every study that archives announced, or that senders began to send, has come whole."""
    findings = tuple(
        Finding(_kind(one), f"study {one.study} of {one.source}" if one.study else one.source, one.said)
        for one in studies.found
    )
    short = sum(1 for one in studies.found if one.study)
    return Report(studies.looked_at, "studies", findings, {"short_studies": short})


def _kind(one: OpenStudy) -> Kind:
    if not one.study:
        return kinds.ARCHIVE_SILENT
    if one.is_undelivered:
        return kinds.NOT_DELIVERED
    if one.is_received:
        return kinds.SENDER_LEFT
    return kinds.STUDY_LEFT_QUERY if one.has_left else kinds.ARCHIVE_SHORT
