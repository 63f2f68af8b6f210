"""Arrivals to take in once more, because the image that their labels wait for has come.

No Dagster here. An arrival is asked for once for each state of the images that its labels could lie on:
labels that can't be placed although an image is there are tried once, and again when another image comes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radiobject_assets.platform.automation.sweep import Cursor

if TYPE_CHECKING:
    from radiobject_assets.ingest.labels_on_images.waiting import WaitingLabels


@dataclass(frozen=True)
class RetryRequest:
    """One arrival whose labels have a chance now."""

    key: str
    chance: str

    @property
    def run_key(self) -> str:
        """What Dagster deduplicates by: another image makes another key."""
        return f"{self.key}:images:{self.chance}"


@dataclass(frozen=True)
class Retries:
    """What one look at the waiting labels found."""

    requests: tuple[RetryRequest, ...]
    n_waiting: int
    """Label series that wait."""
    n_without_image: int
    """Those of them whose image is not in the store."""
    gone: tuple[str, ...]
    """Arrivals whose labels wait and whose files are no longer in the landing zone."""
    cursor: str

    def summary(self) -> str:
        """One line for the sensor's tick."""
        parts = [f"{self.n_waiting} label series wait, {self.n_without_image} of them for an image to come"]
        if self.requests:
            parts.append(f"{len(self.requests)} arrivals are taken in again")
        if self.gone:
            parts.append(f"{len(self.gone)} arrivals with labels are no longer in the landing zone")
        return "; ".join(parts)


def find_retries(
    cursor_text: str | None,
    waiting: Mapping[str, Sequence[WaitingLabels]],
    found: Mapping[WaitingLabels, frozenset[str]],
    present: Collection[str],
) -> Retries:
    """Which arrivals to take in again.

    Parameters
    ----------
    cursor_text
        What the last look returned; None at first.
    waiting
        Labels that wait, by the key of their arrival.
    found
        Image volumes that they could lie on.
    present
        Keys of the arrivals that are in the landing zone.
    """
    from radiobject_assets.ingest.labels_on_images.waiting import chance

    cursor, _ = Cursor.parse(cursor_text)
    tried = {key: digest for key, digest in cursor.done.items() if key in waiting}
    requests = []
    for key, labels in sorted(waiting.items()):
        there = {one: found[one] for one in labels if one in found}
        digest = chance(there)
        if there and key in present and tried.get(key) != digest:
            requests.append(RetryRequest(key, digest))
            tried[key] = digest
    everything = [one for labels in waiting.values() for one in labels]
    return Retries(
        requests=tuple(requests),
        n_waiting=len(everything),
        n_without_image=sum(one not in found for one in everything),
        gone=tuple(sorted(set(waiting) - set(present))),
        cursor=Cursor(done=tried).text(),
    )
