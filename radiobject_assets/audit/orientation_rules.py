"""Orientation rules: axes that run otherwise than in the rest of a cohort, by headers and by what is seen.

By the voxels: thumbs of a cohort, turned to RAS by their affines, look alike. One that fits the others better
in another of the 48 orders and directions of its axes is odd. What a mirror changes of a body is a small part
of it, so that part is compared by itself. Left and right of a head, which is all but symmetrical, are not
told apart by this, nor is a cohort of which more than a few are turned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.audit.folder_view import AuditedSeries, FolderView
from radiobject_assets.diagnostics import folder_kinds as kinds
from radiobject_assets.diagnostics.findings import Finding, Kind, Report
from radiobject_assets.orientation import affine_axcodes, reorient

_COHORT = 5
_MAJORITY = 0.75
_MIRRORED = -0.3
_ALIKE = 0.4
_GAIN = 0.25
_GAIN_OF_MIRROR = 0.02
_FEW = 0.15
_AXES = ("left and right", "front and back", "head and foot")

Thumb = NDArray[np.float64]


def orientation_in_headers(view: FolderView) -> Report:
    """In a cohort nearly all images have their axes in one order and direction."""
    looked = sum(item.series.affine is not None for item in view.images)
    content = {id(item) for item in odd_by_content(view)}
    odd = {item: told for item, told in odd_by_header(view).items() if id(item) not in content}
    return Report(looked, "images", _by_subject(kinds.ORIENTATION_DIFFERS, odd))


def orientation_in_voxels(view: FolderView) -> Report:
    """The voxels of a cohort look alike once the affines were followed."""
    found = odd_by_content(view)
    looked = sum(item.seen is not None and item.seen.thumb is not None for item in view.images)
    return Report(looked, "images", _by_subject(kinds.CONTENT_TURNED, found))


def _by_subject(kind: Kind, odd: Mapping[AuditedSeries, str]) -> tuple[Finding, ...]:
    """One finding for all channels of a case."""
    cases: dict[tuple[str, str], list[AuditedSeries]] = defaultdict(list)
    for item, told in odd.items():
        cases[item.subject, told].append(item)
    return tuple(items[0].finding(kind, told, *items[1:]) for (_, told), items in cases.items())


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
    # one bright voxel (metal, a marker) must not be all that is compared
    low, high = np.percentile(turned, (2, 98))
    flat = np.clip(turned.astype(np.float64), low, high)
    return None if high <= low else (flat - flat.mean()) / float(high - low)


def _odd_ones(thumbs: Thumb) -> dict[int, str]:
    """Numbers of thumbs that fit the others only when they are turned, and how they would be."""
    total = thumbs.sum(axis=0)
    whole = np.array([_correlation(thumb, total - thumb) for thumb in thumbs])
    suspects = {at for at in range(len(thumbs)) if _agree(np.delete(whole, at))}
    mirrored: set[int] = set()
    for axis in range(3):
        # the part that a mirror changes: much smaller than the whole, and all that tells left from right
        parts = thumbs - np.flip(thumbs, axis=axis + 1)
        sum_of_parts = parts.sum(axis=0)
        likeness = np.array([_correlation(part, sum_of_parts - part) for part in parts])
        found = [at for at in suspects if likeness[at] < _MIRRORED and _agree(np.delete(likeness, at))]
        if len(found) <= max(1, _FEW * len(thumbs)):  # left and right hips in one cohort are no mistake
            mirrored.update(found)
    told: dict[int, str] = {}
    for at in sorted(suspects):
        if at not in mirrored and whole[at] > 1 - _GAIN:
            continue  # nothing can fit that much better
        best, order, flips = max(_turned(thumbs[at], total - thumbs[at]))
        gain = best - whole[at]
        if best > _ALIKE and (gain > _GAIN or (at in mirrored and gain > _GAIN_OF_MIRROR)):
            told[at] = _described(order, flips)
    return told if len(told) <= max(1, _FEW * len(thumbs)) else {}


_Turn = tuple[float, tuple[int, ...], tuple[int, ...]]


def _turned(thumb: Thumb, rest: Thumb) -> list[_Turn]:
    """How well a thumb fits the rest in each of the 48 orders and directions of its axes."""
    found: list[_Turn] = []
    for order in permutations(range(3)):
        moved = np.transpose(thumb, order)
        for flips in product((0, 1), repeat=3):
            axes = tuple(axis for axis in range(3) if flips[axis])
            found.append((_correlation(np.flip(moved, axes), rest), order, axes))
    return found


def _described(order: tuple[int, ...], flips: tuple[int, ...]) -> str:
    swapped = [name for axis, name in enumerate(_AXES) if order[axis] != axis]
    parts = [f"swapped ({'; '.join(swapped)})"] if swapped else []
    parts += [f"mirrored ({'; '.join(_AXES[axis] for axis in flips)})"] if flips else []
    return f"it fits the others when it is {' and '.join(parts)}"


def _agree(likeness: Thumb) -> bool:
    """Whether the others are alike enough to judge by them."""
    return bool(np.median(likeness) > _ALIKE and (likeness > 0).mean() >= _MAJORITY)


def _correlation(one: Thumb, other: Thumb) -> float:
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / size if size > 0 else 0.0
