"""Orientation rules: axes that run otherwise than in the rest of a cohort, by headers and by what is seen.

By the voxels: thumbs of a cohort, turned to RAS by their affines, look alike. What is not symmetrical in all
of them (the part that a mirror changes) tells a mirrored one; axes that were swapped show in the whole thumb.
Left and right of a head, which is all but symmetrical, are not told apart by this.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.audit.folder_view import AuditedSeries, FolderView
from radiobject_assets.diagnostics import folder_kinds as kinds
from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.orientation import affine_axcodes, reorient

_COHORT = 5
_MAJORITY = 0.75
_MIRRORED = -0.3
_ALIKE = 0.4
_SWAP_GAIN = 0.25
_AXES = ("left and right", "front and back", "head and foot")

Thumb = NDArray[np.float64]


def orientation_in_headers(view: FolderView) -> Report:
    """In a cohort nearly all images have their axes in one order and direction."""
    looked = sum(item.series.affine is not None for item in view.images)
    content = {id(item) for item in odd_by_content(view)}
    found = [
        item.finding(kinds.ORIENTATION_DIFFERS, told)
        for item, told in odd_by_header(view).items()
        if id(item) not in content
    ]
    return Report(looked, "images", tuple(found))


def orientation_in_voxels(view: FolderView) -> Report:
    """The voxels of a cohort look alike once the affines were followed."""
    found = odd_by_content(view)
    looked = sum(item.seen is not None and item.seen.thumb is not None for item in view.images)
    return Report(
        looked, "images", tuple(item.finding(kinds.CONTENT_TURNED, told) for item, told in found.items())
    )


def odd_by_header(view: FolderView) -> dict[AuditedSeries, str]:
    """Images whose axes run otherwise than those of most of their cohort, and how."""
    found: dict[AuditedSeries, str] = {}
    for items in _cohorts(view):
        codes = {id(i): affine_axcodes(i.series.affine) for i in items if i.series.affine is not None}
        counts = Counter(codes.values())
        usual, number = counts.most_common(1)[0] if counts else ("", 0)
        if len(codes) < _COHORT or number < _MAJORITY * len(codes):
            continue
        for item in items:
            own = codes.get(id(item), usual)
            if own != usual:
                found[item] = f"its axes run {own}, those of {number} of {len(codes)} {usual}"
    return found


def odd_by_content(view: FolderView) -> dict[AuditedSeries, str]:
    """Images that look mirrored or swapped beside those of their cohort, and along which axes."""
    found: dict[AuditedSeries, str] = {}
    for items in _cohorts(view):
        with_thumb = [(item, thumb) for item in items if (thumb := _thumb(item)) is not None]
        if len(with_thumb) <= _COHORT:
            continue
        thumbs = np.stack([thumb for _, thumb in with_thumb])
        for number, told in _odd_ones(thumbs).items():
            found[with_thumb[number][0]] = told
    return found


def _cohorts(view: FolderView) -> list[list[AuditedSeries]]:
    groups: dict[tuple[str, str], list[AuditedSeries]] = defaultdict(list)
    for item in view.images:
        groups[item.collection, item.series.description].append(item)
    return list(groups.values())


def _thumb(item: AuditedSeries) -> Thumb | None:
    look, affine = item.seen, item.series.affine
    if look is None or look.thumb is None or affine is None or look.is_constant:
        return None
    turned, _ = reorient(look.thumb, affine)
    # ranks: one bright voxel must not be all that is compared
    ranks = np.argsort(np.argsort(turned, axis=None, kind="stable"), kind="stable").reshape(turned.shape)
    flat = np.where(turned == turned.min(), 0, ranks).astype(np.float64)
    return flat - float(flat.mean())


def _odd_ones(thumbs: Thumb) -> dict[int, str]:
    total = thumbs.sum(axis=0)
    found: dict[int, str] = {}
    mirrored: dict[int, list[str]] = defaultdict(list)
    for axis, name in enumerate(_AXES):
        parts = thumbs - np.flip(thumbs, axis=axis + 1)
        whole = parts.sum(axis=0)
        likeness = np.array([_correlation(part, whole - part) for part in parts])
        for number in np.flatnonzero(likeness < _MIRRORED).tolist():
            if _agree(np.delete(likeness, number)):
                mirrored[number].append(name)
    likeness = np.array([_correlation(thumb, total - thumb) for thumb in thumbs])
    for at, thumb in enumerate(thumbs):
        if not _agree(np.delete(likeness, at)):
            continue
        rest = total - thumb
        best, order = max(
            (_correlation(np.transpose(thumb, order), rest), order) for order in permutations(range(3))
        )
        if order != (0, 1, 2) and best - likeness[at] > _SWAP_GAIN and best > _ALIKE:
            swapped = [name for axis, name in enumerate(_AXES) if order[axis] != axis]
            found[at] = f"axes seem to be swapped: {'; '.join(swapped)}"
    for at, names in mirrored.items():
        found.setdefault(at, f"seems to be mirrored: {'; '.join(names)}")
    return found


def _agree(likeness: Thumb) -> bool:
    """Whether the others are alike enough to judge by them."""
    return bool(np.median(likeness) > _ALIKE and (likeness > 0).mean() >= _MAJORITY)


def _correlation(one: Thumb, other: Thumb) -> float:
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / size if size > 0 else 0.0


