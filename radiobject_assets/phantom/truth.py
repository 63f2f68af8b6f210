"""The truth about a phantom cohort: what a correct reading of its files must give.

Pure values, made from the seed and never from the files. Voxels are in the (column, row, slice) order of
the scanner's images with slices ascending along the slice normal (row cosines x column cosines), but the
comparisons go through world coordinates, so another tool's array order does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from radiobject_assets.errors import AlignmentError
from radiobject_assets.phantom.anatomy import Ellipsoid


@dataclass(frozen=True, eq=False)
class VolumeTruth:
    """One volume exactly as it is stored, noise included."""

    stored: NDArray[np.int16] | NDArray[np.uint16] | NDArray[np.uint8]
    """Stored integers, shape (X, Y, Z) = (columns, rows, slices)."""
    affine: NDArray[np.float64]
    """4x4, voxel index to RAS+ mm."""
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along column, row and slice axis."""
        x, y, z = self.stored.shape
        return (x, y, z)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along each axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(x), float(y), float(z))

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def physical(self) -> NDArray[np.float64]:
        """Hounsfield units (CT) or signal (MR), shape (X, Y, Z): stored * slope + intercept."""
        return self.stored.astype(np.float64) * self.slope + self.intercept

    def at(self, world_mm: ArrayLike) -> NDArray[np.float64]:
        """Physical values of the voxels nearest to points.

        Parameters
        ----------
        world_mm
            Points in RAS+ millimetres, shape (..., 3).

        Returns
        -------
        Array of shape (...); NaN where a point is outside the volume.
        """
        points = np.asarray(world_mm, np.float64)
        inverse = np.linalg.inv(self.affine)
        index = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.int64)
        within = np.all((index >= 0) & (index < self.shape), axis=-1)
        values = np.full(points.shape[:-1], np.nan)
        values[within] = self.stored[tuple(index[within].T)] * self.slope + self.intercept
        return values

    def largest_difference(
        self, voxels: NDArray[np.generic], affine: ArrayLike, tolerance_mm: float = 0.01
    ) -> float:
        """Largest absolute difference to another reading of the same volume, matched by world position.

        Parameters
        ----------
        voxels
            Physical values, 3D, in any axis order and direction.
        affine
            4x4, their voxel index to RAS+ mm.
        tolerance_mm
            How far a voxel centre may be from the one that it stands for.

        Raises
        ------
        AlignmentError
            The voxel centres of both are not the same set of points.
        """
        own_from_other = np.linalg.inv(self.affine) @ np.asarray(affine, np.float64)
        turn = np.rint(own_from_other[:3, :3]).astype(int)
        if not np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1]) or abs(round(np.linalg.det(turn))) != 1:
            raise AlignmentError(
                f"axes or spacing differ: voxel to voxel {own_from_other[:3].round(4).tolist()}"
            )
        order = [int(np.flatnonzero(turn[axis])[0]) for axis in range(3)]
        aligned = np.transpose(np.asarray(voxels), order)
        if aligned.shape != self.shape:
            raise AlignmentError(f"shape {aligned.shape} in this order, expected {self.shape}")
        flips = tuple(slice(None, None, int(turn[axis, order[axis]])) for axis in range(3))
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in np.shape(voxels)], indexing="ij")).reshape(3, -1)
        mapped = own_from_other[:3, :3] @ corners + own_from_other[:3, 3:]
        offset = np.array([0 if turn[a, order[a]] > 0 else self.shape[a] - 1 for a in range(3)])
        expected = turn @ corners + offset[:, None]
        off_mm = float(np.abs(self.affine[:3, :3] @ (mapped - expected)).max())
        if off_mm > tolerance_mm:
            raise AlignmentError(f"voxel centres are up to {off_mm:.4f} mm away from where they belong")
        return float(np.abs(aligned[flips].astype(np.float64) - self.physical()).max())


@dataclass(frozen=True, eq=False)
class SeriesTruth:
    """One DICOM series that was written, and the verdict that it deserves."""

    series_uid: str
    study_uid: str
    modality: str
    description: str
    kind: Literal["image", "labels"]
    verdict: Literal["ingestable", "quarantined"]
    reason: str | None
    """Reason code of the quarantine."""
    n_files: int
    """Files written, re-sent duplicates included."""
    volume: VolumeTruth | None
    """None when the series is quarantined."""
    references: tuple[str, ...] = ()
    """Series that a SEG was drawn on."""


@dataclass(frozen=True)
class Participant:
    """One row of participants.tsv."""

    participant_id: str
    age: int
    sex: str
    site: str
    diagnosis: str


@dataclass(frozen=True, eq=False)
class SubjectTruth:
    """Everything that is true of one subject."""

    number: int
    arrival: str
    participant: Participant
    ct: VolumeTruth
    """The main CT, Hounsfield units once the rescale is applied."""
    ct_series_uid: str
    seg_series_uid: str | None
    """None for a subject without lesions."""
    lesions: tuple[Ellipsoid, ...]
    """Lesion n (from 1) is segment n; `volume_mm3` of each is exact."""
    lesion_labels: NDArray[np.uint8]
    """On the CT's grid, shape (X, Y, Z): 0, or the number of the lesion."""
    t1w: VolumeTruth
    series: tuple[SeriesTruth, ...]
    unreadable: tuple[tuple[str, str], ...]
    """(file name, reason code) of files that are no image, or of which a part is missing."""
    identifiers: tuple[str, ...]
    """Strings from the DICOM headers that identify a person: they may never appear in logs or metadata."""

    @property
    def subject_id(self) -> str:
        """PatientID, and `participant_id` of participants.tsv."""
        return self.participant.participant_id

    @property
    def lesion_volumes_mm3(self) -> tuple[float, ...]:
        """Exact volume of each lesion."""
        return tuple(lesion.volume_mm3 for lesion in self.lesions)


@dataclass(frozen=True, eq=False)
class CohortTruth:
    """Everything that is true of a cohort."""

    seed: int
    subjects: tuple[SubjectTruth, ...]

    @property
    def arrivals(self) -> tuple[str, ...]:
        """Names of the arrivals, in order."""
        return tuple(dict.fromkeys(subject.arrival for subject in self.subjects))

    @property
    def participants(self) -> pd.DataFrame:
        """All rows of the participants.tsv files, one per subject."""
        return pd.DataFrame([vars(subject.participant) for subject in self.subjects])

    @property
    def series(self) -> Mapping[str, SeriesTruth]:
        """Every DICOM series by its SeriesInstanceUID."""
        return {series.series_uid: series for subject in self.subjects for series in subject.series}

    @property
    def verdicts(self) -> Mapping[str, tuple[str, str | None]]:
        """(verdict, reason code) by SeriesInstanceUID."""
        return {uid: (series.verdict, series.reason) for uid, series in self.series.items()}

    def subject(self, subject_id: str) -> SubjectTruth:
        """The subject with this id; KeyError when there is none."""
        return {subject.subject_id: subject for subject in self.subjects}[subject_id]
