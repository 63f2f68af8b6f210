"""Who is trained on and who is tested on: subjects to splits.

A subject is placed by a keyed hash of its id, so the result depends on nothing that varies between machines
or runs. Three rules, in this order:

1. *Placed once, placed for good.* A subject of the `previous` table keeps its split. Pass the table of the
   last assignment (with everyone who was ever in it) and no addition moves anybody.
2. *Small cohorts are balanced.* While the smallest split's share is below `SMALL_SHARE` subjects, new ones
   fill the splits that are furthest below their share; the hash only decides who goes where. A pure hash
   leaves a 15 % split of eight subjects empty one time in four.
3. *Large cohorts need no memory.* From then on, a new subject's split follows from (seed, id) alone: two
   sites that know the same subject agree without exchanging tables.

No rule that looks only at the present subjects can both fill every split and never move anyone: that is why
small cohorts need the `previous` table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.dataset.dataset_yaml import SplitConfig
from radiobject_assets.errors import AlignmentError, ConfigurationError

SMALL_SHARE = 15
"""Subjects that the smallest split must expect before the hash alone decides; by pure hash, a split that
expects 15 is empty once in three million times. With fractions of 0.7, 0.15 and 0.15 this is a cohort of
100."""

SPLIT_COLUMNS = ("obs_subject_id", "split")


def hash_fraction(seed: int, subject_id: str) -> float:
    """A number in [0, 1) that depends on the seed and the id alone: BLAKE2b keyed with the seed.

    >>> hash_fraction(7, "患者-1") == hash_fraction(7, "患者-1") != hash_fraction(8, "患者-1")
    True
    """
    digest = hashlib.blake2b(
        subject_id.encode(), digest_size=8, key=str(seed).encode(), person=b"split"
    ).digest()
    # 53 bits: every value is exactly representable, so thresholds compare the same everywhere
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def assign_splits(
    subject_ids: Iterable[str], config: SplitConfig, previous: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Assign every subject to one split.

    Parameters
    ----------
    subject_ids
        Ids in any order and any script; repeats count once.
    config
        Split names with their fractions, and the seed.
    previous
        The table of an earlier assignment: columns `obs_subject_id` and `split`. Its subjects stay where
        they are, whatever the config says now. To start afresh (new seed, new fractions), leave it out.

    Returns
    -------
    DataFrame with columns `obs_subject_id` and `split`, sorted by id, one row for each of `subject_ids`. In
    a small cohort no split stays empty while there is a new subject for it.

    Raises
    ------
    AlignmentError
        `previous` has one subject in two splits.
    ConfigurationError
        `previous` names a split that is not in `config`.
    """
    ids = sorted(set(subject_ids))
    placed = _previous_splits(previous, config)
    names = list(config.fractions)
    assigned = {subject: placed[subject] for subject in ids if subject in placed}
    new = sorted(
        (subject for subject in ids if subject not in placed),
        key=lambda subject: (hash_fraction(config.seed, subject), subject),
    )
    counts = np.array([sum(split == name for split in assigned.values()) for name in names], dtype=np.int64)
    shares = np.array([config.fractions[name] for name in names], dtype=np.float64)
    if len(ids) * shares.min() < SMALL_SHARE:
        chosen = _fill_up(len(new), counts, shares)
    else:
        hashes = np.array([hash_fraction(config.seed, subject) for subject in new], dtype=np.float64)
        chosen = np.searchsorted(np.cumsum(shares)[:-1], hashes, side="right").astype(np.int64)
    assigned.update({subject: names[index] for subject, index in zip(new, chosen, strict=True)})
    return pd.DataFrame(
        {"obs_subject_id": ids, "split": [assigned[subject] for subject in ids]}, columns=list(SPLIT_COLUMNS)
    )


def _previous_splits(previous: pd.DataFrame | None, config: SplitConfig) -> dict[str, str]:
    if previous is None or previous.empty:
        return {}
    pairs = previous.reset_index()[list(SPLIT_COLUMNS)].drop_duplicates()
    twice = int(pairs["obs_subject_id"].duplicated().sum())
    if twice:
        raise AlignmentError(
            f"the previous split table has {twice} subjects in more than one split; repair it first"
        )
    unknown = sorted(set(pairs["split"]) - set(config.fractions))
    if unknown:
        raise ConfigurationError(
            f"the previous split table names {', '.join(unknown)}, but split.fractions has "
            f"{', '.join(config.fractions)}; keep these names, or leave the old table out to start afresh"
        )
    return dict(zip(pairs["obs_subject_id"].astype(str), pairs["split"].astype(str), strict=True))


def _fill_up(n_new: int, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Split index for each of `n_new` subjects (in hash order), bringing `counts` towards `shares`.

    Empty splits come first, the largest share first; then each subject goes where the count is furthest
    below the share of the whole cohort. Neighbours in hash order get the same split, so a cohort that is
    assigned at once is cut at its own quantiles.
    """
    counts = counts.copy()
    total = int(counts.sum()) + n_new
    taken = np.zeros_like(counts)
    for _ in range(n_new):
        deficit = shares * total - counts
        empty = counts == 0
        index = int(np.argmax(np.where(empty, shares + total, deficit) if empty.any() else deficit))
        counts[index] += 1
        taken[index] += 1
    return np.repeat(np.arange(len(counts)), taken)
