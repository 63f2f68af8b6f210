"""Copy rules: the same image twice, under two subjects, in two splits; by the digest of its voxels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from radiobject_assets.audit.folder_view import AuditedSeries, FolderView
from radiobject_assets.diagnostics import folder_kinds as kinds
from radiobject_assets.diagnostics.findings import Finding, Kind, Report

# Empty or tiny masks are alike without being copies.
_MASK_VOXELS = 20
_OWN_SUBJECTS = ("bids", "nnunet", "decathlon", "totalsegmentator", "brats")


def images_without_copies(view: FolderView) -> Report:
    """No image is there twice; in two splits or under two subjects least of all."""
    return Report(len(view.images), "images", tuple(_image_findings(view)))


def _image_findings(view: FolderView) -> list[Finding]:
    together: dict[tuple[Kind, tuple[str, ...]], list[list[AuditedSeries]]] = defaultdict(list)
    for group in _same_images(view):
        subjects = tuple(sorted({item.subject for item in group}))
        splits = {item.split for item in group} - {""}
        if len(splits) > 1:
            kind = kinds.IMAGE_IN_TWO_SPLITS
        elif len(subjects) > 1:
            kind = kinds.IMAGE_OF_TWO_SUBJECTS
        else:
            kind = kinds.IMAGE_AGAIN
        together[kind, subjects].append(group)
    found = []
    for (kind, _), groups in together.items():
        # a case that was copied with all its channels is told of once
        first, *others = groups[0]
        more = f" ({len(groups)} images of the case)" if len(groups) > 1 else ""
        named = " and ".join(sorted({item.split for item in groups[0]} - {""}))
        told = named if kind is kinds.IMAGE_IN_TWO_SPLITS else "equal voxels"
        found.append(first.finding(kind, told + more, *others))
    return found


def _same_images(view: FolderView) -> list[list[AuditedSeries]]:
    groups: dict[str, list[AuditedSeries]] = defaultdict(list)
    for item in view.images:
        if item.seen is not None and not item.seen.is_constant and item.seen.not_finite < item.seen.n_voxels:
            groups[item.seen.digest].append(item)
    return [group for group in groups.values() if len(group) > 1]


def labels_without_copies(view: FolderView) -> Report:
    """No two subjects have the same labels, unless they have the same image."""
    together = [{item.subject for item in group} for group in _same_images(view)]
    groups: dict[tuple[str, str], list[AuditedSeries]] = defaultdict(list)
    looked = 0
    for item in view.items:
        if not item.planned.is_labels or item.seen is None:
            continue
        looked += 1
        if item.seen.labelled >= _MASK_VOXELS:
            groups[item.collection, item.seen.digest].append(item)
    found = []
    everybody = Counter(collection for collection, _ in groups)
    for (collection, _), group in groups.items():
        subjects = {item.subject for item in group}
        if everybody[collection] < len(subjects):
            continue  # most have the same: a mask in a template's space
        if len(subjects) > 1 and not any(subjects <= known for known in together):
            first, *others = group
            found.append(first.finding(kinds.LABELS_OF_TWO_SUBJECTS, "equal voxels", *others))
    return Report(looked, "labels", tuple(found))


def subjects_in_one_split(view: FolderView) -> Report:
    """No subject has images in two splits, where names or headers say for certain who is who."""
    certain = [item for item in view.images if item.series.instances or view.layout in _OWN_SUBJECTS]
    known = {item.name for group in _same_images(view) for item in group}
    by_subject: dict[str, list[AuditedSeries]] = defaultdict(list)
    for item in certain:
        if item.split:
            by_subject[item.subject].append(item)
    found = []
    for items in by_subject.values():
        splits = sorted({item.split for item in items})
        if len(splits) > 1 and not any(item.name in known for item in items):
            first, *others = _one_of_each(items)
            found.append(first.finding(kinds.SUBJECT_IN_TWO_SPLITS, " and ".join(splits), *others))
    return Report(len(by_subject), "subjects in splits", tuple(found))


def _one_of_each(items: Sequence[AuditedSeries]) -> list[AuditedSeries]:
    return list({item.split: item for item in reversed(items)}.values())[::-1]


def files_once(view: FolderView) -> Report:
    """No file of a series is there twice; with copies in two splits the split is no split."""
    found = []
    looked = 0
    for item in view.items:
        if not item.series.instances:
            continue
        looked += 1
        copies = len(item.series.files) - len({instance.path for instance in item.series.instances})
        if item.series.verdict != "ingestable" or copies <= 0:
            continue
        told = f"{copies} of {len(item.series.files)} files are copies"
        kind = kinds.IMAGE_IN_TWO_SPLITS if len(item.splits) > 1 else kinds.FILES_TWICE
        found.append(item.finding(kind, f"{told}, in {' and '.join(item.splits)}" if item.splits else told))
    return Report(looked, "DICOM series", tuple(found))
