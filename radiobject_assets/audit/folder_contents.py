"""What is in a folder: subjects, series, modalities, sizes, spacings, by collection; no names."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from radiobject_assets.audit.folder_view import AuditedSeries, FolderView, shown_collection
from radiobject_assets.orientation import affine_axcodes, spacing_mm

_MOST = 4


@dataclass(frozen=True)
class FolderPart:
    """What of one kind is there: a collection that `ingest` would make, or what belongs to none."""

    name: str
    kind: str
    series: int
    subjects: int
    refused: int
    files: int
    voxel_bytes: int
    shapes: dict[str, int]
    spacings_mm: tuple[tuple[float, float, float], ...]
    dtypes: dict[str, int]
    orientations: dict[str, int]
    splits: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """For other programs: spacings by their ends."""
        told = {name: value for name, value in vars(self).items() if name != "spacings_mm"}
        return told | {"spacing_mm": self.spacing_range}

    @property
    def spacing_range(self) -> list[list[float]]:
        """Least and greatest spacing of each axis, mm."""
        return [[round(min(axis), 4), round(max(axis), 4)] for axis in zip(*self.spacings_mm, strict=True)]


@dataclass(frozen=True)
class FolderContents:
    """Everything that is there, counted."""

    layout: str | None
    files: int
    subjects: int
    series: int
    other_files: dict[str, int]
    """Files without an image, by reason."""
    parts: tuple[FolderPart, ...]

    def to_json(self) -> dict[str, Any]:
        """For other programs."""
        return {**vars(self), "parts": [part.to_json() for part in self.parts]}


def contents_of(view: FolderView, n_files: int) -> FolderContents:
    """Count what a folder holds."""
    groups: dict[tuple[str, str], list[AuditedSeries]] = defaultdict(list)
    for item in view.items:
        kind = "labels" if item.planned.is_labels else item.series.kind
        groups[shown_collection(item.collection), kind].append(item)
    volumes = [item for item in view.items if item.series.kind != "other"]
    return FolderContents(
        layout=view.layout,
        files=n_files,
        subjects=len({item.subject for item in volumes}),
        series=len(view.items),
        other_files=dict(Counter(str(item.reason) for item in view.unreadable).most_common()),
        parts=tuple(_part(name, kind, items) for (name, kind), items in sorted(groups.items())),
    )


def _part(name: str, kind: str, items: list[AuditedSeries]) -> FolderPart:
    good = [item.series for item in items if item.series.verdict == "ingestable"]
    affines = [series.affine for series in good if series.affine is not None]
    return FolderPart(
        name=name,
        kind=kind,
        series=len(items),
        subjects=len({item.subject for item in items}),
        refused=sum(
            item.series.verdict == "quarantined" or (item.look is not None and item.look.reason is not None)
            for item in items
        ),
        files=sum(len(item.series.files) or 1 for item in items),
        voxel_bytes=sum(series.decoded_bytes for series in good),
        shapes=_counted("x".join(map(str, series.shape or ())) for series in good),
        spacings_mm=tuple(spacing_mm(affine) for affine in affines),
        dtypes=_counted(str(series.dtype) for series in good),
        orientations=_counted(map(affine_axcodes, affines)),
        splits=_counted(item.split for item in items if item.split),
    )


def _counted(texts: Any) -> dict[str, int]:
    counts = Counter(texts)
    shown = dict(counts.most_common(_MOST))
    rest = sum(counts.values()) - sum(shown.values())
    return shown | ({"others": rest} if rest else {})
