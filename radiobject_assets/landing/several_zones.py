"""Several landing zones as one: each arrival has a key of its own, or it is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from radiobject_assets.dataset.arrival_section import ArrivalsConfig
from radiobject_assets.errors import IngestError
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
        arrivals = sorted((a for listing in listings for a in listing.arrivals), key=lambda a: a.key)
        counts = Counter(arrival.key for arrival in arrivals)
        clashes = tuple(key for key, number in counts.items() if number > 1)
        kinds = sum((Counter(listing.loose.kinds) for listing in listings), Counter[str]())
        kept = tuple(arrival for arrival in arrivals if counts[arrival.key] == 1)
        return Listing(kept, LooseFiles(kinds), clashes)

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

    def find(self, key: str) -> Arrival:
        """See `Landing`.

        Raises
        ------
        IngestError
            It is in several zones.
        """
        if key in self.listing().clashes:
            raise IngestError(
                f"arrival {key!r} is in several landing zones; rename one of them, so that neither takes the "
                "other's place",
                public="an arrival of this name is in several landing zones, so neither is taken in",
                advice="Rename one of them.",
            )
        return super().find(key)

    def those_of(self, keys: Collection[str]) -> dict[str, Arrival]:
        """See `Landing`. What two zones have under one key is no arrival."""
        found: dict[str, Arrival] = {}
        twice: set[str] = set()
        for zone in self.zones:
            own = zone.those_of(keys)
            twice |= found.keys() & own.keys()
            found |= own
        return {key: arrival for key, arrival in found.items() if key not in twice}

    def fetch(self, one: str | Arrival) -> Arrival:
        """See `Landing`."""
        arrival = one if isinstance(one, Arrival) else self.find(one)
        return self.zones[arrival.zone].fetch(arrival)

    def held(self, one: str | Arrival) -> Arrival:
        """See `Landing`."""
        arrival = one if isinstance(one, Arrival) else self.find(one)
        return self.zones[arrival.zone].held(arrival)
