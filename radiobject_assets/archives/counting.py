"""Complete means counted: what an archive announces of a series, lists, and has sent."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class SeriesCount:
    """The numbers of one series, or of the list of a study's series."""

    series: str
    """Its token; "" for the study as a whole."""
    announced: int | None
    """NumberOfSeriesRelatedInstances; None: the archive does not say."""
    listed: int
    """SOPInstanceUIDs that the archive lists."""
    received: int
    """Of these, how many are here, whole and readable."""
    unlisted: int = 0
    """How many are here that it sent without listing them."""

    @property
    def is_whole(self) -> bool:
        """Whether the archive's own numbers agree, and everything is here."""
        agrees = self.announced is None or self.announced == self.listed
        return 0 < self.listed == self.received and agrees and not self.unlisted

    def sentence(self) -> str:
        """The numbers in words."""
        said = "announces no number" if self.announced is None else f"announces {self.announced}"
        more = f" and {self.unlisted} that are not listed" if self.unlisted else ""
        about = f"series {self.series}" if self.series else "all its series"
        return f"{about}: {said}, lists {self.listed}, {self.received} received{more}"


def count_series(
    series: str,
    announced: int | None,
    listed: Collection[str],
    *,
    delivered: Collection[str],
    waiting: Collection[str],
) -> SeriesCount:
    """Count one series by tokens of instances.

    Parameters
    ----------
    listed
        Those that the archive lists now.
    delivered, waiting
        Those that are part of an arrival, and those that have come and wait. What was delivered and is no
        longer listed was withdrawn since, and stays; what waits was sent now, so it should be listed.
    """
    wanted, came = set(listed), set(waiting)
    received = len(wanted & (came | set(delivered)))
    return SeriesCount(series, announced, len(wanted), received, len(came - wanted))
