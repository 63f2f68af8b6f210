"""Near twins: the same image under two subjects, in another form. Found by the signatures of profiles."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.profiling.kept_profiles import Thumbnails, profiles_of
from radiobject_assets.profiling.twin_search import Sizes, find_twins
from radiobject_assets.profiling.volume_profile import read_foreground
from radiobject_assets.store import RadiObject, Storage, TileDBContext

_TOKEN = 10


def near_twins(
    store_uri: str,
    rows: pd.DataFrame,
    profiles: Storage,
    splits: pd.DataFrame | None,
    known: Collection[str] = (),
    *,
    snapshot: str | None = None,
    ctx: TileDBContext | None = None,
) -> Report:
    """No two subjects have the same image; of two splits it is an error, else a warning.

    Equal voxels are not told here: `images_once` and the leakage check do.

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
    snapshot
        The one that the rows are of; None: the present state.
    """
    images = rows[rows["kind"] != "labels"]
    found = profiles_of(profiles, images)
    if "descriptor" in found:
        found = found[found["descriptor"].notna()]
    if found.empty or "descriptor" not in found:
        return Report(0, "profiled images")
    images = images.loc[found.index]
    thumbnails = Thumbnails(profiles)
    states = found["state"].tolist()
    owners = images["obs_subject_id"].astype("str").tolist()
    twins = find_twins(
        np.stack(found["descriptor"].tolist()).astype(np.float32),
        lambda number: thumbnails.get(states[number]),
        owners,
        Sizes.of(found),
        _foregrounds(RadiObject(store_uri, ctx=ctx, timestamp=snapshot), images, found),
    )
    split_of = {} if splits is None else dict(zip(splits["obs_subject_id"], splits["split"], strict=True))
    tokens, digests = images["volume"].tolist(), images["voxel_digest"].tolist()
    findings = []
    for pair in twins:
        first, second = sorted((pair.first, pair.second), key=lambda number: str(tokens[number]))
        name = f"{str(tokens[first])[:_TOKEN]}-{str(tokens[second])[:_TOKEN]}"
        if name in known or (digests[first] and digests[first] == digests[second]):
            continue
        sides = [split_of.get(owners[number]) for number in (first, second)]
        apart = None not in sides and sides[0] != sides[1]
        where = f", in {sides[0]} and {sides[1]}" if apart else ""
        findings.append(
            Finding(
                kinds.NEAR_TWINS if apart else kinds.NEAR_TWINS_IN_A_SPLIT,
                f"twins {name}",
                f"{name}, likeness {pair.likeness:.2f}{where}",
                collection=str(images["collection"].iloc[first]),
            )
        )
    numbers = {"twins": float(len(findings)), "known_twins": float(len(known))}
    said = f"{len(images)} of {int((rows['kind'] != 'labels').sum())} images are profiled"
    return Report(len(images), "profiled images", tuple(findings), numbers, said)


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
