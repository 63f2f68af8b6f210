"""What an audit looked at: every series of a folder with what it would become and what its voxels are."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from radiobject_assets.audit.folder_layout import split_of
from radiobject_assets.audit.volume_look import VolumeLook
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics.findings import Finding, Kind
from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.files.unreadable import Unreadable
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.release.known_words import names_an_image
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.ingest.dataset_release import subject_in_file_name
from radiobject_assets.ingest.identity import token
from radiobject_assets.ingest.labels_on_images.labelled_image import (
    ImageCandidate,
    entities_of,
    image_of_labels,
)
from radiobject_assets.ingest.naming.label_names import LABEL_WORDS
from radiobject_assets.ingest.plan import PlannedSeries

_TOKEN_DIGITS = 10
_MAX_JSON = 4 << 20


@dataclass(frozen=True, eq=False)
class AuditedSeries:
    """One series of the folder.

    name
        Where it lies, below the folder.
    splits
        Those that folders above its files are called after; mostly one or none.
    look
        What its voxels are; None where they were not looked at.
    """

    planned: PlannedSeries
    name: str
    splits: tuple[str, ...] = ()
    look: VolumeLook | None = None

    @property
    def series(self) -> Series:
        """The series with its verdict by the headers."""
        return self.planned.series

    @property
    def is_image(self) -> bool:
        """Whether it is an image that would be taken in, as far as its header says."""
        return self.series.verdict == "ingestable" and not self.planned.is_labels

    @property
    def subject(self) -> str:
        """Whose it is."""
        return self.planned.subject_id

    @property
    def collection(self) -> str:
        """Where it would go."""
        return self.planned.collection or ""

    @property
    def split(self) -> str:
        """Its split, where there is one."""
        return self.splits[0] if len(self.splits) == 1 else ""

    @property
    def token(self) -> str:
        """What names it where paths must not be shown."""
        return token(f"{self.name}/{self.series.key}", _TOKEN_DIGITS)

    @property
    def seen(self) -> VolumeLook | None:
        """The look, where the voxels could be read."""
        return self.look if self.look is not None and self.look.reason is None else None

    def finding(self, kind: Kind, evidence: str = "", *others: AuditedSeries) -> Finding:
        """A finding about this series; `others` have a part in it."""
        also = f" and {', '.join(other.token for other in others[:3])}" if others else ""
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return Finding(
            kind,
            f"{'labels' if self.planned.is_labels else 'image'} {self.token}{also}{more}",
            evidence,
            collection=shown_collection(self.collection),
            split=self.split,
            where="; ".join([self.name, *(other.name for other in others)]),
        )


@dataclass(frozen=True)
class Pairing:
    """The image that labels belong to, or why there is none."""

    labels: AuditedSeries
    image: AuditedSeries | None
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, eq=False)
class FolderView:
    """A folder, looked at.

    names
        Of all files, below the folder.
    layout
        As its names tell (`dataset.layouts`); None for DICOM alone.
    """

    folder: Path
    layout: str | None
    settings: DatasetSettings
    items: tuple[AuditedSeries, ...]
    unreadable: tuple[Unreadable, ...]
    names: tuple[str, ...]
    header_names: frozenset[str] = field(default=frozenset(), repr=False)
    """Words of the patients' names in DICOM headers, to look for in names of files."""

    def name_of(self, path: Path) -> str:
        """A path below the folder, as text."""
        return name_below(path, self.folder)

    @cached_property
    def images(self) -> tuple[AuditedSeries, ...]:
        """Images that would be taken in."""
        return tuple(item for item in self.items if item.is_image)

    @cached_property
    def doubtful_subjects(self) -> frozenset[str]:
        """Subjects of whom something is refused already: what is missing of them has its own reason."""
        refused = {item.subject for item in self.items if item.series.verdict == "quarantined"}
        named = {subject_in_file_name(self.name_of(u.path), self.settings.subjects) for u in self.unreadable}
        return frozenset(refused | named) - {""}

    @cached_property
    def dataset_json(self) -> Mapping[str, Any]:
        """The `dataset.json` of nnU-Net and the Decathlon; empty where there is none that can be read."""
        found = sorted(name for name in self.names if name.rpartition("/")[2] == "dataset.json")
        if not found or self.layout not in ("nnunet", "decathlon"):
            return {}
        path = self.folder / found[0]
        try:
            if path.stat().st_size > _MAX_JSON:
                return {}
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def images_of(self) -> Mapping[str, list[AuditedSeries]]:
        """The images of each subject."""
        found: dict[str, list[AuditedSeries]] = defaultdict(list)
        for item in self.images:
            found[item.subject].append(item)
        return found

    @cached_property
    def pairings(self) -> tuple[Pairing, ...]:
        """For labels in files of their own: their image. (Drawn ones were judged with their series.)"""
        return tuple(
            _paired(item, self.images_of.get(item.subject, ()))
            for item in self.items
            if item.planned.is_labels and not item.series.is_drawn and item.series.verdict == "ingestable"
        )


def _paired(labels: AuditedSeries, images: Sequence[AuditedSeries]) -> Pairing:
    target = labels.planned.settings.labels_of if labels.planned.settings else None
    possible = [item for item in images if target in (None, item.collection)]
    # a case number that training and test both have is two images
    own = {item.name: item for item in possible if item.split == labels.split} or {
        item.name: item for item in possible
    }
    candidates = [_candidate(item) for item in own.values()]
    grid = labels.series.grid
    if grid is None:
        return Pairing(labels, None, Reason.REFERENCE_MISSING)
    try:
        told = entities_of(labels.series.attributes, "")
        found = image_of_labels(grid, told, candidates, labels.planned.file_place, labels.series.study_uid)
    except ImageReadError as error:
        return Pairing(labels, None, Reason(error.code), error.detail)
    return Pairing(labels, own[found.obs_id])


def _candidate(item: AuditedSeries) -> ImageCandidate:
    series = item.series
    assert series.grid is not None and series.shape is not None  # noqa: PT018
    return ImageCandidate(
        obs_id=item.name,
        collection=item.collection,
        grid=series.grid,
        entities=entities_of(series.attributes, ""),
        file=item.planned.file_place,
        series_uid=series.series_uid,
        study_uid=series.study_uid,
        n_points=series.shape[3] if len(series.shape) == 4 else 1,
    )


def series_name(series: Series, folder: Path) -> str:
    """Where a series lies below a folder: its file, or the folder of its files and the first of them."""
    files = series.files or (() if series.nifti is None else (series.nifti.path,))
    files = files or tuple(instance.path for instance in series.instances)
    if series.nifti is not None:
        return name_below(series.nifti.path, folder) + (f" [{series.component}]" if series.component else "")
    if len(files) == 1:
        return name_below(files[0], folder)
    return f"{name_below(files[0], folder)} and {len(files) - 1} more"


def splits_of(series: Series, folder: Path) -> tuple[str, ...]:
    """The splits that the folders of a series' files are called after."""
    files = series.files or (() if series.nifti is None else (series.nifti.path,))
    found = {split_of(name_below(path, folder)) for path in files}
    return tuple(sorted(found - {""}))


def name_below(path: Path, folder: Path) -> str:
    """A path below the folder, with forward slashes."""
    return path_text(path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name)


def shown_collection(name: str) -> str:
    """A collection's name as it may be told: under BIDS it is a word of a file's name, and anybody's."""
    is_known = name in LABEL_WORDS or names_an_image(name.replace("_", " "))
    return name if is_known or name in _OWN_NAMES else "other"


_OWN_NAMES = frozenset(
    {
        *("image", "labels", "segmentations", "ct", "mri", "nifti", "mgh", "nrrd", "metaimage", "mr", "pt"),
        *("nm", "us", "seg", "rtstruct", "rtdose", "flair", "t1", "t1c", "t2"),
        *(f"channel_{number:04d}" for number in range(10)),
    }
)
