"""Pairs of images that were compared for near twins, kept beside the store: each pair is fitted once.

A row says by their states (`volume_profile.state_of`) which two images, by the tokens of their arrays whose
they are (so that a forgotten person's rows are found), and what came of it. An image that changes has
another state and is compared anew; rows of images that are gone go with the next ones that are added.
Once all pairs of a search are compared, rows say of which images it was: of the same ones none is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from radiobject_assets.profiling.twin_search import Verdict

PAIRS = "twins/compared.parquet"
SEARCH_VERSION = "2"
"""Another one, and every pair is compared anew: raise it when twins are told otherwise."""
Pair = tuple[str, str]
"""States of two images, sorted."""


@dataclass(frozen=True)
class KeptPairs:
    """The table of pairs, wherever it lies."""

    read: Callable[[], pd.DataFrame | None]
    """None: there is none."""
    change: Callable[[Callable[[pd.DataFrame | None], pd.DataFrame]], None]
    """Puts what is made of the table into its place, and undoes nothing that others write meanwhile."""

    def verdicts(self) -> dict[Pair, Verdict]:
        """What came of each pair that was compared."""
        kept = self.read()
        if kept is None or "is_certain" not in kept:
            return {}
        kept = kept[kept["version"] == SEARCH_VERSION]
        columns = (kept[name].tolist() for name in ("state_a", "state_b", "likeness", "is_certain"))
        return {(a, b): Verdict(likeness, sure) for a, b, likeness, sure in zip(*columns, strict=True)}

    def searched(self) -> str:
        """Digest of the images of which all pairs that may be twins are kept; empty: of none."""
        kept = self.read()
        if kept is None or "searched" not in kept:
            return ""
        told = set(kept.loc[kept["version"] == SEARCH_VERSION, "searched"])
        return str(told.pop()) if len(told) == 1 else ""

    def add(self, compared: Mapping[Pair, Verdict], tokens: Mapping[str, str], searched: str = "") -> None:
        """Keep what was compared.

        Parameters
        ----------
        tokens
            Of the array of each state that there is: rows of others go.
        searched
            Digest of the images, if no pair of theirs is left.
        """
        if not compared and (not searched or searched == self.searched()):
            return
        new = pd.DataFrame(
            [
                (first, second, tokens[first], tokens[second], of.likeness, of.is_certain, SEARCH_VERSION)
                for (first, second), of in compared.items()
            ],
            columns=["state_a", "state_b", "volume_a", "volume_b", "likeness", "is_certain", "version"],
        )
        self.change(lambda kept: _merged(kept, new, tokens.keys()).assign(searched=searched))


def _merged(kept: pd.DataFrame | None, new: pd.DataFrame, there: Collection[str]) -> pd.DataFrame:
    if kept is None:
        return new
    is_there = kept["state_a"].isin(there) & kept["state_b"].isin(there) & (kept["version"] == SEARCH_VERSION)
    if new.empty or not is_there.any():
        return kept[is_there] if new.empty else new
    return pd.concat([kept[is_there], new]).drop_duplicates(["state_a", "state_b"], ignore_index=True)
