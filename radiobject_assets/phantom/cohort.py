"""A phantom cohort on disk: seeded, deterministic, and as untidy as what scanners and archives deliver.

    <landing>/batch-001/                  one arrival
        participants.tsv                  BIDS: one row per subject of the arrival
        <8 hex>/<8 hex>/<8 hex>/<8 hex>   DICOM: patient, study, series, instance
        mri/<subject>_T1w.nii.gz
        _COMPLETE                         written last

`make_cohort` writes it and returns the truth; `cohort_truth` gives the same truth without writing.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib

from radiobject_assets.phantom.design import (
    DEFAULT_SHAPE,
    NOTE_NAME,
    SubjectDesign,
    design_ct,
    design_subject,
)
from radiobject_assets.phantom.dicom_files import seg_dataset, write_ct
from radiobject_assets.phantom.truth import CohortTruth, Participant, SeriesTruth, SubjectTruth, VolumeTruth

__all__ = [
    "COMPLETE_MARKER",
    "DEFAULT_SHAPE",
    "SUBJECTS_PER_ARRIVAL",
    "CohortTruth",
    "SubjectTruth",
    "arrival_of",
    "cohort_truth",
    "make_cohort",
    "make_ct_series",
    "make_subject",
    "write_phantom_nifti",
]

SUBJECTS_PER_ARRIVAL = 3
COMPLETE_MARKER = "_COMPLETE"

OnProgress = Callable[[int, int, str], None]
"""Called with (subjects done, subjects in all, name of the arrival)."""


def make_cohort(
    out_dir: Path,
    *,
    subjects: int = 8,
    seed: int = 7,
    shape: tuple[int, int, int] = DEFAULT_SHAPE,
    on_progress: OnProgress | None = None,
) -> CohortTruth:
    """Write a cohort as arrivals of three subjects under `out_dir` and return the truth about it.

    Parameters
    ----------
    out_dir
        The landing zone; made if needed. The arrivals `batch-001`, `batch-002`, ... appear in it.
    subjects
        Numbered from 1; which traits each has is told in `phantom.design`.
    seed
        The same seed gives the same bytes.
    shape
        Columns, rows and slices of the main CT. The field of view stays, so the spacing follows.
    on_progress
        Called after each subject.

    Raises
    ------
    ShapeError
        `shape` is too coarse to show the lesions.
    """
    done: list[SubjectTruth] = []
    for first in range(1, subjects + 1, SUBJECTS_PER_ARRIVAL):
        numbers = range(first, min(first + SUBJECTS_PER_ARRIVAL, subjects + 1))
        arrival = arrival_of(first)
        for number in numbers:
            design = design_subject(number, arrival=arrival, seed=seed, shape=shape)
            _write_subject(out_dir / arrival, design)
            done.append(design.truth)
            if on_progress is not None:
                on_progress(len(done), subjects, arrival)
        _finish_arrival(out_dir / arrival, [one.participant for one in done[first - 1 :]])
    return CohortTruth(seed, tuple(done))


def make_subject(
    out_dir: Path,
    number: int,
    *,
    arrival: str | None = None,
    seed: int = 7,
    shape: tuple[int, int, int] = DEFAULT_SHAPE,
) -> SubjectTruth:
    """Write one subject as a finished arrival of its own (`late-<number>` by default)."""
    name = arrival or f"late-{number:03d}"
    design = design_subject(number, arrival=name, seed=seed, shape=shape)
    _write_subject(out_dir / name, design)
    _finish_arrival(out_dir / name, [design.truth.participant])
    return design.truth


def make_ct_series(
    out_dir: Path, *, shape: tuple[int, int, int] = (512, 512, 120), seed: int = 7
) -> SeriesTruth:
    """Write one plain axial CT series (signed 16-bit, no faults) into `out_dir`: what benchmarks read."""
    series, person, truth = design_ct(seed=seed, shape=shape)
    write_ct(out_dir, series, person)
    return truth


def cohort_truth(
    *, subjects: int = 8, seed: int = 7, shape: tuple[int, int, int] = DEFAULT_SHAPE
) -> CohortTruth:
    """What `make_cohort` with the same arguments returns, without writing a file."""
    return CohortTruth(
        seed,
        tuple(
            design_subject(number, arrival=arrival_of(number), seed=seed, shape=shape).truth
            for number in range(1, subjects + 1)
        ),
    )


def arrival_of(number: int) -> str:
    """The arrival in which `make_cohort` puts a subject."""
    return f"batch-{(number - 1) // SUBJECTS_PER_ARRIVAL + 1:03d}"


def _write_subject(arrival_dir: Path, design: SubjectDesign) -> None:
    truth = design.truth
    patient, study, *series_folders = design.folders
    study_dir = arrival_dir / patient / study
    written = [
        write_ct(study_dir / folder, series, design.person)
        for series, folder in zip(design.ct, series_folders, strict=False)
    ]
    if truth.seg_series_uid is not None:
        seg = seg_dataset(
            truth.lesion_labels,
            truth.lesions,
            design.ct[0],
            written[0],
            design.person,
            truth.seg_series_uid,
            100,
        )
        seg_dir = study_dir / series_folders[len(design.ct)]
        seg_dir.mkdir(parents=True, exist_ok=True)
        seg.save_as(seg_dir / design.seg_file, enforce_file_format=True)
    if design.with_note:
        (study_dir / NOTE_NAME).write_text(
            "Table height was logged by hand for this session.\n", encoding="utf-8"
        )
    mri = arrival_dir / "mri"
    mri.mkdir(parents=True, exist_ok=True)
    write_phantom_nifti(mri / f"{truth.subject_id}_T1w.nii.gz", truth.t1w)


def write_phantom_nifti(path: Path, volume: VolumeTruth) -> None:
    """Write stored integers, slope, intercept and affine (sform and qform) as gzipped NIfTI-1.

    nibabel's own image class rescales integers when it saves; here the stored ones must arrive unchanged.
    """
    header_class: Any = nib.Nifti1Header  # nibabel ships untyped methods
    header = header_class(endianness="<")
    header.set_data_dtype(volume.stored.dtype)
    header.set_data_shape(volume.shape)
    header.set_sform(volume.affine, code=1)
    header.set_qform(volume.affine, code=1)
    header.set_xyzt_units("mm")
    header.set_slope_inter(volume.slope, volume.intercept)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    content = header.binaryblock + b"\0" * 4 + volume.stored.tobytes(order="F")
    path.write_bytes(gzip.compress(content, compresslevel=1, mtime=0))


def _finish_arrival(arrival_dir: Path, participants: Sequence[Participant]) -> None:
    with (arrival_dir / "participants.tsv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(vars(participants[0])), delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(vars(participant) for participant in participants)
    (arrival_dir / COMPLETE_MARKER).touch()
