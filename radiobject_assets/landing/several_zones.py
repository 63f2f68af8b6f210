"""Several landing zones as one: each arrival has a key of its own, or it is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from radiobject_assets.dataset.arrival_section import ArrivalsConfig
from radiobject_assets.landing.local_zone import Arrival, ArrivalState, Glance, Landing, Listing, LooseFiles


@dataclass(frozen=True)
class LandingZones(Landing):
    """The landing zones of a data set, by their `number`."""

    settings: ArrivalsConfig
    zones: tuple[Landing, ...]
    walk_at_once: int = Landing.walk_at_once
    glance_at_once: int = Landing.glance_at_once

    def listing(self) -> Listing:
        """See `Landing`. What two zones have under one key is left out, and told."""
        listings = [zone.listing() for zone in self.zones]
        kinds = sum((Counter(listing.loose.kinds) for listing in listings), Counter[str]())
        return Listing.of(
            (arrival for one in listings for arrival in one.arrivals),
            LooseFiles(kinds),
            (key for one in listings for key in one.clashes),
        )

    def states(
        self, arrivals: Iterable[Arrival], out_of_time: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[Arrival, ArrivalState | None]]:
        """See `Landing`; zone by zone."""
        for number, own in groupby(sorted(arrivals, key=lambda a: a.zone), key=lambda a: a.zone):
            yield from self.zones[number].states(list(own), out_of_time)

    def glance(self, arrival: Arrival, inner: tuple[int, ...] | None) -> Glance:
        """As its own zone's."""
        return self.zones[arrival.zone].glance(arrival, inner)

    def problem(self) -> str:
        """Why a landing zone can't be looked at; "" if all can.

        While one can't, none is: its arrivals would seem to be gone.
        """
        return "; ".join(filter(None, (zone.problem() for zone in self.zones)))

    def those_of(self, keys: Collection[str]) -> dict[str, Arrival]:
        """See `Landing`. What two zones have under one key is no arrival, nor what one has twice."""
        found: dict[str, Arrival] = {}
        twice: set[str] = set()
        for zone in self.zones:
            own = zone.those_of(keys)
            twice |= found.keys() & own.keys()
            found |= own
        for zone in self.zones if found else ():
            twice |= found.keys() & {*zone.listing().clashes}
        return {key: arrival for key, arrival in found.items() if key not in twice}

    def fetch(self, one: str | Arrival) -> Arrival:
        """See `Landing`."""
        arrival = one if isinstance(one, Arrival) else self.find(one)
        return self.zones[arrival.zone].fetch(arrival)

    @contextmanager
    def fetched(self, arrival: Arrival) -> Iterator[Arrival]:
        """See `Landing`."""
        with self.zones[arrival.zone].fetched(arrival) as there:
            yield there

    def held(self, one: str | Arrival) -> Arrival:
        """See `Landing`."""
        arrival = one if isinstance(one, Arrival) else self.find(one)
        return self.zones[arrival.zone].held(arrival)
