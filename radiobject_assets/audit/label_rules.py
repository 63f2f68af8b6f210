"""Label rules: labels lie on their image, have one, and mean by their numbers what the other cases mean."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from radiobject_assets.audit.folder_view import AuditedSeries, FolderView, Pairing
from radiobject_assets.audit.orientation_rules import odd_by_content, odd_by_header
from radiobject_assets.diagnostics import folder_kinds as kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.imaging.labels.turning import AS_STORED, nearest_turn
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.orientation import affine_axcodes

# So many other cases that agree make one that does not worth a look.
_OTHERS = 5
# Atlases have structures that few cases have.
_ATLAS_VALUES = 30
_SHOWN = 12


def labels_on_images(view: FolderView) -> Report:
    """Labels in files of their own have an image, and lie on its voxels."""
    odd = {id(item) for item in (*odd_by_content(view), *odd_by_header(view))}
    found = [finding for pair in view.pairings if (finding := _placed(view, pair, odd)) is not None]
    return Report(len(view.pairings), "labels", tuple(found))


def _placed(view: FolderView, pair: Pairing, odd: Collection[int]) -> Finding | None:
    labels = pair.labels
    if pair.image is not None:
        one, other = labels.series.grid, pair.image.series.grid
        # of an image that is stored otherwise than all the others its own finding tells
        if one is None or other is None or one.same_as(other) or id(pair.image) in odd:
            return None
        codes = affine_axcodes(one.affine), affine_axcodes(other.affine)
        told = f"the labels' axes run {codes[0]}, the image's {codes[1]}"
        return labels.finding(kinds.LABELS_TURNED, told, pair.image)
    if pair.reason is Reason.LABELS_OFF_GRID:
        images = view.images_of.get(labels.subject, [])
        if any(id(item) in odd for item in images):
            return None
        alike = any(_one_shape(labels, image) for image in images)
        kind = kinds.LABELS_PLACE if alike else kinds.LABELS_SHAPE
        target = labels.planned.settings.labels_of if labels.planned.settings else None
        beside = [image for image in images if target in (None, image.collection)]
        return labels.finding(kind, pair.detail, *beside[:1])
    if pair.reason is Reason.REFERENCE_MISSING:
        if labels.subject in view.doubtful_subjects:
            return None
        return labels.finding(kinds.LABELS_WITHOUT_IMAGE)
    if pair.reason is None:
        return None
    # the detail names the collection, which under BIDS is a word of a file's name
    is_ambiguous = pair.reason is Reason.REFERENCE_AMBIGUOUS
    told = "several images have the labels' grid, session and run alike" if is_ambiguous else pair.detail
    return labels.finding(kinds.REFUSED[pair.reason], told)


def _one_shape(labels: AuditedSeries, image: AuditedSeries) -> bool:
    one, other = labels.series.grid, image.series.grid
    if one is None or other is None:
        return False
    return (nearest_turn(one, other) or AS_STORED).grid(one).shape == other.shape


def images_have_labels(view: FolderView) -> Report:
    """In layouts with a training folder every image in it has labels, and every case all channels."""
    if view.layout not in ("nnunet", "decathlon"):
        return Report(0, "training images")
    training = [item for item in view.images if item.split == "train"]
    labelled = {item.subject for item in view.items if item.planned.is_labels}
    found = []
    first = {item.subject: item for item in reversed(training)}
    for subject, item in sorted(first.items()):
        if labelled and subject not in labelled and subject not in view.doubtful_subjects:
            found.append(item.finding(kinds.IMAGE_WITHOUT_LABELS))
    return Report(len(first), "training images", tuple(found))


def channels_together(view: FolderView) -> Report:
    """Each case of nnU-Net has every channel, and they lie on one grid."""
    if view.layout != "nnunet":
        return Report(0, "cases")
    cases: dict[tuple[str, str], dict[str, AuditedSeries]] = defaultdict(dict)
    for item in view.images:
        if item.collection.startswith("channel_"):
            cases[item.split, item.subject][item.collection] = item
    every = {name for channels in cases.values() for name in channels}
    found = []
    for (_, subject), channels in sorted(cases.items()):
        ordered = [channels[name] for name in sorted(channels)]
        missing = sorted(every - set(channels))
        # a channel that one case alone has is not what all the others lack
        shared = [name for name in missing if sum(name in one for one in cases.values()) > len(cases) / 2]
        if shared and subject not in view.doubtful_subjects:
            found.append(ordered[0].finding(kinds.CHANNEL_MISSING, ", ".join(shared)))
        grids = [item.series.grid for item in ordered]
        for item, grid in zip(ordered[1:], grids[1:], strict=True):
            if grid is not None and grids[0] is not None and not grid.same_as(grids[0]):
                told = f"{item.collection} has {_size(item)}, {ordered[0].collection} {_size(ordered[0])}"
                found.append(item.finding(kinds.CHANNELS_APART, told))
                break
    return Report(len(cases), "cases", tuple(found))


def _size(item: AuditedSeries) -> str:
    shape = "x".join(map(str, item.series.shape or ()))
    return shape if item.series.affine is None else f"{shape} voxels {affine_axcodes(item.series.affine)}"


def values_of_labels(view: FolderView) -> Report:
    """The labels of a cohort use the same numbers, and something is labelled."""
    groups: dict[tuple[str, str], list[AuditedSeries]] = defaultdict(list)
    for item in view.items:
        if item.planned.is_labels and item.seen is not None and not item.seen.not_whole:
            groups[item.collection, str(item.series.attributes.get("segments") or "")].append(item)
    found: list[Finding] = []
    for (_, segment), items in groups.items():
        found += _differing(items, _declared(view), of_one_structure=bool(segment))
    return Report(sum(map(len, groups.values())), "labels", tuple(found))


def _declared(view: FolderView) -> frozenset[int]:
    """Values that dataset.json names: {"0": "background"} of the Decathlon, {"background": 0} of nnU-Net."""
    labels = view.dataset_json.get("labels")
    if not isinstance(labels, Mapping):
        return frozenset()
    told: set[int] = set()
    for key, value in labels.items():
        for one in value if isinstance(value, Sequence) and not isinstance(value, str) else (value,):
            if isinstance(one, int):
                told.add(one)
            elif str(key).isdigit():
                told.add(int(key))
    ignored = {int(v) for k, v in labels.items() if k == "ignore" and isinstance(v, int)}
    return frozenset(told | ignored)


def _differing(
    items: Sequence[AuditedSeries], declared: frozenset[int], *, of_one_structure: bool
) -> list[Finding]:
    sets = {id(item): _values(item) for item in items}
    cases = Counter(value for values in sets.values() for value in values)
    counted = len(cases) <= _ATLAS_VALUES and not _numbers_lesions([v for v in sets.values() if v])
    found = []
    n_labelled = sum(map(bool, sets.values()))
    for item in items:
        own = sets[id(item)]
        others = n_labelled - bool(own)
        if not own:
            if others and not of_one_structure and item.seen is not None and item.seen.values is not None:
                told = f"{others} of the other {len(items) - 1} have something"
                found.append(item.finding(kinds.LABELS_ALL_BACKGROUND, told))
            continue
        odd = own - declared if declared else frozenset[int]()
        if not declared and counted and others >= min(_OTHERS, 3):
            odd = frozenset(value for value in own if cases[value] == 1)
        lacking = frozenset(
            value for value in cases if value not in own and counted and cases[value] == others >= _OTHERS
        )
        if odd or (lacking and not of_one_structure):
            usual = declared or frozenset(value for value in cases if cases[value] > 1)
            told = f"it has {_listed(own)}, the others {_listed(usual | {0})}"
            found.append(item.finding(kinds.LABEL_VALUES_DIFFER, told))
    return found


def _values(item: AuditedSeries) -> frozenset[int]:
    return frozenset(() if item.seen is None else item.seen.values or ()) - {0}


def _numbers_lesions(sets: Sequence[frozenset[int]]) -> bool:
    """Whether labels number what is there (lesions 1, 2, 3...), so that cases differ as they should."""
    counts = [len(values) for values in sets if values == frozenset(range(1, len(values) + 1))]
    return len(counts) == len(sets) and len(set(counts)) > 2


def _listed(values: Collection[int]) -> str:
    shown = sorted(values)
    more = f", ... ({len(shown)})" if len(shown) > _SHOWN else ""
    return ", ".join(map(str, shown[:_SHOWN])) + more
