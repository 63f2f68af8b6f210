"""The value that a series is: where it came from, what was decided about it, and how its volume will look."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.dicom.instance import Instance, Segment
from radiobject_assets.imaging.dicom.split_uids import MEMBERS, members_of
from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.pixels.acceptance import COMPRESSED, Problem
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue

Kind = Literal["image", "labels", "other"]
Verdict = Literal["ingestable", "quarantined"]


@dataclass(frozen=True, eq=False)
class Series:
    """One series (split where echo, phase, orientation or geometry differ) and what was decided about it.

    series_uid, component
        SeriesInstanceUID ("" for NIfTI) and "" or what splits it (echo, phase, orientation, stack...).
    key
        Stable unique key of (series, component); of a NIfTI, its path relative to the scanned root.
    files
        Every file that belongs to it, duplicates included. A file whose frames form several volumes is listed
        with the first of them only, so that files are counted once.
    detail
        Numbers behind the verdict, for a person; never an identifier.
    also
        What else is wrong with a quarantined series, besides `reason`.
    shape, dtype, affine, slope, intercept
        Of the volume that `open_series` will give; None unless ingestable.
    references
        SeriesInstanceUIDs of the images that a SEG or RTSTRUCT refers to.
    decoded_bytes
        Bytes of the decoded volume.
    native_codec
        True if the pixels need a C codec (compressed transfer syntax).
    instances
        In slice order (time outermost), duplicates removed; empty for NIfTI.
    planes
        For each slice (time outermost) the index of its instance and the frame in it.
    segments
        Segments of a label volume (value, label, coded meaning, algorithm).
    attributes
        Allow-listed acquisition parameters of the volume: what all its planes say.
    """

    series_uid: str
    component: str
    key: str
    kind: Kind
    patient_id: str | None
    study_uid: str
    modality: str
    description: str
    files: tuple[Path, ...]
    verdict: Verdict
    reason: Reason | None
    detail: str
    shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    affine: NDArray[np.float64] | None = None
    slope: float | None = None
    intercept: float | None = None
    references: tuple[str, ...] = ()
    decoded_bytes: int = 0
    native_codec: bool = False
    instances: tuple[Instance, ...] = ()
    planes: tuple[tuple[int, int], ...] = ()
    nifti: NiftiFile | None = None
    segments: tuple[Segment, ...] = ()
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    also: tuple[Problem, ...] = ()

    @property
    def n_instances(self) -> int:
        """Files of the series, duplicates included."""
        return len(self.files)

    @property
    def series_uids(self) -> frozenset[str]:
        """SeriesInstanceUIDs that its images go by: its own, and those that were joined to it."""
        return members_of({"series_uid": self.series_uid, MEMBERS: self.attributes.get(MEMBERS)})

    @property
    def is_drawn(self) -> bool:
        """Whether it is labels that are drawn on a grid which they are given (SEG, RTSTRUCT).

        Other labels (a segmentation in a file of its own) have voxels of their own.
        """
        return self.kind == "labels" and self.nifti is None

    @property
    def grid(self) -> Grid | None:
        """The voxel grid, None unless ingestable."""
        if self.shape is None or self.affine is None:
            return None
        return Grid((self.shape[0], self.shape[1], self.shape[2]), self.affine)


def series_key(uid: str, component: str) -> str:
    """Key of a (series, component): stable over scans, and free of what a path must not contain."""
    return f"{uid}/{component}" if component else uid


def quarantined(
    uid: str, component: str, kind: Kind, instances: Iterable[Instance], problem: Problem
) -> Series:
    """A series of `instances` that is refused as a whole."""
    members = tuple(instances)
    first = members[0]
    return Series(
        series_uid=uid if first.series_uid else "",
        component=component,
        key=series_key(uid, component),
        kind=kind,
        patient_id=first.patient_id,
        study_uid=first.study_uid,
        modality=first.modality,
        description=first.description,
        files=tuple(sorted(i.path for i in members)),
        verdict="quarantined",
        reason=problem.reason,
        detail=problem.detail,
        references=first.references,
        native_codec=any(i.transfer_syntax in COMPRESSED for i in members),
        instances=members,
    )


def fallback_uid(instance: Instance) -> str:
    """What groups an instance that has no SeriesInstanceUID: a digest of its own identity."""
    identity = instance.sop_instance_uid or instance.path.name
    return "no-series-uid-" + hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
