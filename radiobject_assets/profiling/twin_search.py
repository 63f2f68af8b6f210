"""Near twins among many thumbnails: pairs that show the same image, whatever was done to it.

1. *Candidates.* Descriptors, which do not change when an image is turned or mirrored, are compared all with
   all: exact, by blocks of one matrix product.
2. *Fit.* A candidate's thumbnails are laid over each other, in the best of 48 ways to turn and mirror, by a
   shift and a scale along each axis, which undoes crops and other margins (`twin_fit`).
3. *Likeness.* What decides is fine structure, neighbourhood by neighbourhood: any two heads have the same
   outline; their sulci differ.
4. *Size.* The same image has the same size: in millimetres, or, where spacing was lost, in voxels.
5. *Voxels.* Of a pair that is alike so far the voxels are read and compared in detail (`twin_grain`): what is
   one image has the same noise, or at least nothing that differs.

Steps 2 to 5 are done once for each pair (`compared_pairs`), and only while there is time; step 1 is done anew
until all its pairs are compared, and then when images or owners are others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.errors import StorageError
from radiobject_assets.profiling.thumbnail import ORIENTATIONS, Thumbnail
from radiobject_assets.profiling.twin_fit import Fit, best_fit
from radiobject_assets.profiling.twin_grain import Sameness, compared_in_detail

REACH = 0.60
"""Distance of descriptors up to which a pair is looked at."""
NEIGHBOURS = 8
"""Candidates of each thumbnail: the nearest ones."""
TWIN_LIKENESS = 0.75
"""Likeness from which a pair is twins: different real images had up to 0.62, changed ones 0.78 and more."""
SIZE_TOLERANCE = 0.06
"""Of the logarithm of the ratio of sizes: a fit of thumbnails is as good as that for few, thick slices."""
_MOST_FINER = 6.0
"""Voxels of one for one of the other: beyond, neither fine structure nor grain is left to compare."""
_ROWS, _COLUMNS = 512, 2048
"""Distances that are made at once: 4 MB, which caches hold better than whole rows."""


@dataclass(frozen=True)
class Verdict:
    """What came of comparing two images."""

    likeness: float
    """1: the same in every detail; 0: they are no twins."""
    is_certain: bool = True
    """False: they look alike, and their voxels do not tell whether they are one image."""


@dataclass(frozen=True)
class Twins:
    """Two thumbnails that show the same image."""

    first: int
    second: int
    likeness: float
    """1: the same in every detail."""
    is_certain: bool = True
    """False: they may be two images as well; their voxels do not tell."""


@dataclass(frozen=True)
class Sizes:
    """How large the foregrounds of thumbnails are."""

    voxels: NDArray[np.float64]
    """(N, 3)."""
    mm: NDArray[np.float64]
    """(N, 3)."""

    @classmethod
    def of(cls, profiles: pd.DataFrame) -> Sizes:
        """Of profiles (`kept_profiles.profiles_of`)."""
        voxels = np.stack(
            [
                (profiles[f"foreground_{a}_to"] - profiles[f"foreground_{a}_from"]).to_numpy(float)
                for a in "xyz"
            ],
            axis=1,
        )
        return cls(voxels, voxels * np.array([list(one) for one in profiles["spacing_mm"]], dtype=np.float64))

    def agree(self, first: int, second: int, fit: Fit) -> bool:
        """Whether two images that were laid over each other are of one size."""
        one, other = ((self.mm[n] / self.voxels[n]).prod() for n in (first, second))
        is_finer = max(one, other) > _MOST_FINER * min(one, other)
        order = list(ORIENTATIONS[fit.way][0])
        # of the same number of voxels none is finer, whatever a lost spacing says
        for sizes in (self.voxels,) if is_finer else (self.mm, self.voxels):
            ratio = np.array(fit.scale) * sizes[second][order] / sizes[first]
            if np.all(np.abs(np.log(ratio)) < SIZE_TOLERANCE):
                return True
        return False


@dataclass
class TwinSearch:
    """What came of one look for twins."""

    twins: list[Twins] = field(default_factory=list)
    """Those that were known before as well."""
    compared: dict[tuple[int, int], Verdict] = field(default_factory=dict)
    """What came of the pairs that were compared now."""
    left: int = 0
    """Pairs that there was no time for."""
    failed: set[int] = field(default_factory=set)
    """Images that could not be compared: no thumbnail is there, or voxels can't be read."""


def find_twins(
    descriptors: NDArray[np.float32],
    thumbnail: Callable[[int], Thumbnail | None],
    owners: Sequence[str],
    sizes: Sizes,
    foreground: Callable[[int], NDArray[np.float32]] | None = None,
    *,
    candidates: Sequence[tuple[int, int]] | None = None,
    known: Callable[[int, int], Verdict | None] = lambda first, second: None,
    is_late: Callable[[], bool] = lambda: False,
) -> TwinSearch:
    """Pairs of different owners that are near twins.

    Parameters
    ----------
    descriptors
        (N, 80), from `thumbnail.descriptors`.
    thumbnail
        Gives one of the N thumbnails; called for candidates alone.
    owners
        Whose each is: images of one owner are not compared.
    foreground
        Reads the voxels of one, for pairs that look alike (`twin_grain`); None: thumbnails alone decide.
    candidates
        Pairs that may be twins, of an earlier search; None: they are searched.
    known
        What came of a pair that was compared before, which is not compared again.
    is_late
        Asked before each pair is compared, after candidates were found: when it is, the others are left.
    """
    found = TwinSearch()
    for first, second in candidate_pairs(descriptors, owners) if candidates is None else candidates:
        verdict = known(first, second)
        if verdict is None:
            if found.left or is_late():
                found.left += 1
                continue
            one, other = thumbnail(first), thumbnail(second)
            if one is None or other is None:
                found.failed |= {n for n, there in ((first, one), (second, other)) if there is None}
                continue
            try:
                verdict = _verdict(one, other, (first, second), sizes, foreground)
            except (StorageError, ArithmeticError, ValueError):  # which of both can't be told here
                found.failed |= {first, second}
                continue
            found.compared[first, second] = verdict
        if verdict.likeness > 0:
            found.twins.append(Twins(first, second, verdict.likeness, verdict.is_certain))
    return found


def _verdict(
    one: Thumbnail,
    other: Thumbnail,
    pair: tuple[int, int],
    sizes: Sizes,
    foreground: Callable[[int], NDArray[np.float32]] | None,
) -> Verdict:
    fit = best_fit(one, other)
    if fit.likeness < TWIN_LIKENESS or not sizes.agree(*pair, fit):
        return Verdict(0.0)
    if foreground is None:
        return Verdict(fit.likeness)
    sameness = compared_in_detail(foreground(pair[0]), foreground(pair[1]), fit).sameness
    if sameness is Sameness.TWO:
        return Verdict(0.0)
    return Verdict(fit.likeness, is_certain=sameness is Sameness.ONE)


def candidate_pairs(descriptors: NDArray[np.float32], owners: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (smaller, larger) of different owners whose descriptors are near, nearest first."""
    _, whose = np.unique(np.asarray(owners, dtype=str), return_inverse=True)
    # closeness = reach² - distance², all of it as one matrix product
    half = 0.5 * (descriptors**2).sum(axis=1, keepdims=True)
    ones = np.ones_like(half)
    left = np.hstack([descriptors, ones, -half]).astype(np.float32)
    right = np.ascontiguousarray(np.hstack([descriptors, -half, ones]).T, dtype=np.float32)
    firsts, seconds, apart = [], [], []
    for start in range(0, len(left), _ROWS):
        rows, near, square = _nearest(left[start : start + _ROWS], right, whose, start)
        firsts.append(np.minimum(rows, near))
        seconds.append(np.maximum(rows, near))
        apart.append(square)
    if not firsts:
        return []
    pairs = np.stack([np.concatenate(firsts), np.concatenate(seconds)], axis=1)
    pairs, where = np.unique(pairs, axis=0, return_index=True)
    order = np.argsort(np.concatenate(apart)[where], kind="stable")
    return [(int(first), int(second)) for first, second in pairs[order]]


def _nearest(
    left: NDArray[np.float32], right: NDArray[np.float32], whose: NDArray[np.int64], start: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Of the rows from `start` on: the nearest of other owners within reach, and half the squared distances.

    What is farther than the nearest so far is passed over: of many images that is nearly all.
    """
    bound = np.full(len(left), -0.5 * REACH**2, np.float32)
    rows = near = np.zeros(0, np.int64)
    square = np.zeros(0, np.float32)
    for low in range(0, right.shape[1], _COLUMNS):
        product = left @ right[:, low : low + _COLUMNS]
        found = np.flatnonzero(product > bound[:, None])
        row, column = np.divmod(found, product.shape[1])
        column += low
        others = whose[row + start] != whose[column]
        if not others.any():
            continue
        rows = np.concatenate([rows, row[others]])
        near = np.concatenate([near, column[others]])
        square = np.concatenate([square, -product.ravel()[found[others]]])
        order = np.lexsort((near, square, rows))
        rows, near, square = rows[order], near[order], square[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        keep = rank < NEIGHBOURS
        is_last = rank == NEIGHBOURS - 1
        bound[rows[is_last]] = -square[is_last]
        rows, near, square = rows[keep], near[keep], square[keep]
    return rows + start, near, square
