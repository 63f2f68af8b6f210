"""Near twins: the same image under two subjects, in another form. Found by the signatures of profiles."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.profiling.compared_pairs import KeptPairs
from radiobject_assets.profiling.kept_profiles import Thumbnails, profiles_of
from radiobject_assets.profiling.twin_search import Sizes, find_twins
from radiobject_assets.profiling.volume_profile import read_foreground
from radiobject_assets.store import RadiObject, Storage, TileDBContext

_TOKEN = 10
# What an hourly check may take of the machine.
_SECONDS = 60.0
# By the clock a look may take so many times its work: others are at it too, or images come from far.
_PATIENCE = 5.0


def near_twins(
    store_uri: str,
    rows: pd.DataFrame,
    profiles: Storage,
    splits: pd.DataFrame | None,
    known: Collection[str] = (),
    *,
    compared: KeptPairs | None = None,
    seconds: float = _SECONDS,
    snapshot: str | None = None,
    ctx: TileDBContext | None = None,
) -> Report:
    """No two subjects have the same image; of two splits it is an error, else a warning. Whether a pair is
    one image or two is not always to be seen: that is a warning too.

    What could not be compared, for want of time or of a profile, is a warning as well: it is not green while
    a twin may be among it. Equal voxels are not told here: `images_once` and the leakage check do.

    Parameters
    ----------
    rows
        Inventory rows of volumes of the store.
    profiles
        Where profiles are kept.
    splits
        `obs_subject_id`, `split`; None: nobody was divided.
    known
        Pairs that are fine.
    compared
        What earlier looks compared, which is not done again; None: nothing is kept.
    seconds
        Of work that comparing pairs may take (five times as long by the clock); the next look goes on.
    snapshot
        The one that the rows are of; None: the present state.
    """
    every = rows[rows["kind"] != "labels"]
    profiled = profiles_of(profiles, every)
    if profiled.empty:
        return Report(0, "profiled images")
    # an image of one value, or of none, has nothing to compare
    found = profiled[profiled["descriptor"].notna()] if "descriptor" in profiled else profiled.iloc[:0]
    said = f"{len(profiled)} of {len(every)} images are profiled"
    if n_blank := len(profiled) - len(found):
        said += f", {n_blank} of them show nothing (one value throughout)"
    unprofiled = every.loc[every.index.difference(profiled.index, sort=False)]
    if found.empty:
        return Report(len(profiled), "profiled images", tuple(_unprofiled(unprofiled)), {}, said)
    images = every.loc[found.index]
    thumbnails = Thumbnails(profiles)
    states, tokens = found["state"].tolist(), images["volume"].astype("str").tolist()
    owners = images["obs_subject_id"].astype("str").tolist()
    before = compared.verdicts() if compared is not None else {}
    images_now = _digest(states, owners)
    is_searched = compared is not None and compared.searched() == images_now
    search = find_twins(
        np.stack(found["descriptor"].tolist()).astype(np.float32),
        lambda number: thumbnails.get(states[number]),
        owners,
        Sizes.of(found),
        _foregrounds(RadiObject(store_uri, ctx=ctx, timestamp=snapshot), images, found),
        candidates=_numbers(before, states, owners) if is_searched else None,
        known=lambda first, second: before.get(_pair(states, first, second)),
        is_late=_late_after(seconds),
    )
    if compared is not None:
        new = {_pair(states, *pair): verdict for pair, verdict in search.compared.items()}
        is_whole = not search.left and not search.failed
        compared.add(new, dict(zip(states, tokens, strict=True)), images_now if is_whole else "")
    lacking = thumbnails.missing(states)
    not_whole = {number for number, state in enumerate(states) if state in lacking} | search.failed
    findings = _unprofiled(pd.concat([unprofiled, images.iloc[sorted(not_whole)]]))
    if search.left:
        findings.append(Finding(kinds.PAIRS_LEFT, "pairs of images", f"{search.left} pairs are left"))
    split_of = {} if splits is None else dict(zip(splits["obs_subject_id"], splits["split"], strict=True))
    digests = images["voxel_digest"].tolist()
    n_twins = 0
    for pair in search.twins:
        first, second = sorted((pair.first, pair.second), key=lambda number: tokens[number])
        name = f"{tokens[first][:_TOKEN]}-{tokens[second][:_TOKEN]}"
        if name in known or (digests[first] and digests[first] == digests[second]):
            continue
        sides = [split_of.get(owners[number]) for number in (first, second)]
        apart = None not in sides and sides[0] != sides[1]
        where = f", in {sides[0]} and {sides[1]}" if apart else ""
        if not pair.is_certain:
            findings.append(
                Finding(
                    kinds.CANNOT_BE_TOLD_APART,
                    f"pair {name}",
                    f"{name}, likeness {pair.likeness:.2f}{where}",
                    collection=str(images["collection"].iloc[first]),
                )
            )
            continue
        n_twins += 1
        findings.append(
            Finding(
                kinds.NEAR_TWINS if apart else kinds.NEAR_TWINS_IN_A_SPLIT,
                f"twins {name}",
                f"{name}, likeness {pair.likeness:.2f}{where}",
                collection=str(images["collection"].iloc[first]),
            )
        )
    numbers = {
        "twins": float(n_twins),
        "known_twins": float(len(known)),
        "compared_now": float(len(search.compared)),
        "pairs_left": float(search.left),
    }
    return Report(len(images), "profiled images", tuple(findings), numbers, said)


def _pair(states: list[str], first: int, second: int) -> tuple[str, str]:
    one, other = sorted((states[first], states[second]))
    return one, other


def _digest(states: list[str], owners: list[str]) -> str:
    """Of which images there are, and which have one owner."""
    _, whose = np.unique(np.asarray(owners, dtype=str), return_inverse=True)
    told = sorted(zip(states, whose.tolist(), strict=True))
    return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()


def _numbers(pairs: Iterable[tuple[str, str]], states: list[str], owners: list[str]) -> list[tuple[int, int]]:
    """Pairs of states as numbers, where both are there."""
    number = {state: n for n, state in enumerate(states)}
    there = ((number[a], number[b]) for a, b in pairs if a in number and b in number)
    return [(min(a, b), max(a, b)) for a, b in there if owners[a] != owners[b]]


def _late_after(seconds: float) -> Callable[[], bool]:
    """Counts from the first time that it is asked, so that every look gets on.

    Seconds of this process's own work count: a machine that is busy with other things compares no less.
    """
    ends: list[tuple[float, float]] = []

    def is_late() -> bool:
        if not ends:
            ends.append((time.process_time() + seconds, time.monotonic() + _PATIENCE * seconds))
            return False
        return time.process_time() > ends[0][0] or time.monotonic() > ends[0][1]

    return is_late


def _unprofiled(images: pd.DataFrame) -> list[Finding]:
    """One finding for each collection: thousands of images may be new."""
    return [
        Finding(
            kinds.NOT_COMPARED,
            f"collection {name}",
            f"{len(of_one)} of {name}, the first {str(of_one['volume'].iloc[0])[:_TOKEN]}",
            collection=str(name),
        )
        for name, of_one in images.groupby("collection", sort=True)
    ]


def _foregrounds(
    store: RadiObject, images: pd.DataFrame, profiles: pd.DataFrame
) -> Callable[[int], NDArray[np.float32]]:
    """Reads foregrounds by number; a few are kept, since pairs come by likeness and share images."""
    collections, ids = images["collection"].tolist(), images["obs_id"].tolist()
    ends = [profiles[f"foreground_{axis}_{end}"].tolist() for axis in "xyz" for end in ("from", "to")]

    @lru_cache(maxsize=16)
    def read(number: int) -> NDArray[np.float32]:
        x0, x1, y0, y1, z0, z1 = (int(column[number]) for column in ends)
        volume = store.collection(str(collections[number])).loc[ids[number]]
        return read_foreground(volume, ((x0, x1), (y0, y1), (z0, z1)))

    return read
