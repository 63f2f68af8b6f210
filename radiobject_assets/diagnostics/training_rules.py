"""Rules over what training reads: labels, splits, patch caches, memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.diagnostics.rule_registry import CacheFacts, MemoryPeak
from radiobject_assets.training.pairing import VolumeRow, pairs_to_cut, volume_rows


def trainable(
    rows: pd.DataFrame, patches: PatchesConfig | None
) -> tuple[list[VolumeRow], list[VolumeRow], Mapping[str, int]]:
    """The images that patches can be cut from, their labels, and why others can't (reason: number)."""
    if patches is None:
        return volume_rows(rows[rows["kind"] != "labels"]), [], {}
    images = volume_rows(rows[rows["collection"] == patches.image])
    of_labels = rows[rows["collection"] == patches.labels] if patches.labels is not None else None
    pairs, left_out = pairs_to_cut(
        images, volume_rows(of_labels) if of_labels is not None else None, patches.point
    )
    reasons = pd.Series([str(one.reason) for one in left_out], dtype="str").value_counts()
    labels = [label for _, label in pairs if label is not None]
    return [image for image, _ in pairs], labels, {str(k): int(v) for k, v in reasons.items()}


def labels_complete(rows: pd.DataFrame, patches: PatchesConfig | None) -> Report:
    """Every image that patches are cut from has the labels that training needs."""
    if patches is None or patches.labels is None:
        return Report(len(rows), "volumes", said="dataset.yaml asks for no labels")
    images = int((rows["collection"] == patches.image).sum())
    _, _, left_out = trainable(rows, patches)
    lacking = sum(left_out.values())
    findings: tuple[Finding, ...] = ()
    if lacking:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in left_out.items())
        findings = (
            Finding(
                kinds.LABELS_MISSING,
                f"images of {patches.image}",
                f"{lacking} of {images}: {reasons}",
                collection=patches.image,
            ),
        )
    return Report(images, "images", findings, {"images": images, "without_labels": lacking})


def splits_are_usable(
    splits: pd.DataFrame, rows: pd.DataFrame, patches: PatchesConfig | None, names: Sequence[str]
) -> Report:
    """Every split has something to train or test on, and the classes that are common have a part in each.

    Parameters
    ----------
    splits
        `obs_subject_id`, `split`.
    rows
        Inventory rows of the snapshot that was divided.
    """
    split_of = dict(zip(splits["obs_subject_id"], splits["split"], strict=True))
    images, labels, _ = trainable(rows, patches)
    counts = dict.fromkeys(names, 0)
    for image in images:
        name = split_of.get(image.obs_subject_id)
        if name in counts:
            counts[name] += 1
    what = "images with labels" if patches is not None and patches.labels is not None else "images"
    findings = [
        Finding(kinds.SPLIT_EMPTY, f"split {name}", f"{name} has no {what}", split=name)
        for name, count in counts.items()
        if count == 0 and len(splits)
    ]
    used = {label.obs_id for label in labels}
    findings += _classes_missing(rows[rows["obs_id"].isin(used)], split_of, names)
    numbers: dict[str, float] = {f"usable_{name}": count for name, count in counts.items()}
    said = ", ".join(f"{name} {count}" for name, count in counts.items()) + f" {what}"
    return Report(len(splits), "subjects", tuple(findings), numbers, said)


def _classes_missing(
    labels: pd.DataFrame, split_of: Mapping[str, str], names: Sequence[str]
) -> Iterable[Finding]:
    carriers: dict[str, set[str]] = {}
    if "segments" in labels:
        for subject, text in zip(labels["obs_subject_id"], labels["segments"], strict=True):
            for name in _classes(text):
                carriers.setdefault(name, set()).add(str(subject))
    for number, (_, subjects) in enumerate(sorted(carriers.items()), start=1):
        if len(subjects) < 2 * len(names):
            continue  # so rare a class can't be in every split
        there = {split_of.get(subject) for subject in subjects}
        for name in names:
            if name not in there:
                evidence = f"class {number} of {len(carriers)}, which {len(subjects)} subjects have"
                yield Finding(kinds.CLASS_MISSING, f"split {name}", evidence, split=name)


def _classes(text: Any) -> set[str]:
    try:
        found = json.loads(text) if isinstance(text, str) and text else []
    except ValueError:
        return set()
    kept = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    return {str(item.get("type") or item.get("label") or item.get("value")) for item in kept}


def caches_have_patches(caches: Sequence[CacheFacts]) -> Report:
    """Every split has a patch cache, of today's data set and settings, with patches in it."""
    findings = []
    for cache in caches:
        about = f"patch cache of {cache.split}"
        if cache.n_patches is None:
            findings.append(Finding(kinds.CACHE_MISSING, about, "never built", split=cache.split))
        elif cache.n_patches == 0:
            findings.append(Finding(kinds.CACHE_EMPTY, about, "0 patches", split=cache.split))
        elif not cache.is_there:
            findings.append(Finding(kinds.CACHE_MISSING, about, "its folder is gone", split=cache.split))
        elif not cache.is_current:
            findings.append(Finding(kinds.CACHE_OLD, about, split=cache.split))
    built = [cache for cache in caches if cache.n_patches is not None]
    numbers: dict[str, float] = {f"patches_{cache.split}": cache.n_patches or 0 for cache in built}
    if not built:
        return Report(0, "patch caches")
    return Report(len(caches), "patch caches", tuple(findings), numbers)


def memory_within_budget(peaks: Sequence[MemoryPeak]) -> Report:
    """No materialization took more memory above the idle process than its budget."""
    findings = tuple(
        Finding(
            kinds.MEMORY_PEAK,
            f"asset {peak.asset}",
            f"{peak.above_idle_mb:.0f} MB above idle, budget {peak.budget_mb:.0f} MB",
            collection=peak.asset,
            arrival=peak.arrival,
        )
        for peak in peaks
        if peak.above_idle_mb > peak.budget_mb
    )
    largest = max((peak.above_idle_mb for peak in peaks), default=0.0)
    return Report(len(peaks), "materializations", findings, {"largest_peak_mb": largest})
