"""Who the phantom subjects are: everything about one of them, drawn from (seed, number).

No file is touched here. Subject n is the same whatever the size of the cohort, so one can be added later.
Every eighth subject repeats the same traits, which together are what real archives hold:

1  a second, thicker reconstruction in the same study; a text note lies between the files
2  instance numbers descend along the normal; a scout whose transfer broke off
3  fewer rows than columns, rows further apart than columns, odd slices numbered before even ones;
   oblique T1w
4  oblique CT (tilted around all three axes), a reformat
5  signed 16-bit CT in implicit VR; T1w stored in LAS order
6  descending; one instance sent twice; a localizer in the study
7  a delayed phase with a missing slice; T1w with scl_slope and scl_inter
8  descending; no lesions, so no SEG
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from radiobject_assets.errors import ShapeError
from radiobject_assets.phantom.anatomy import AIR_HU, Ellipsoid, head, label, lesions, render, torso
from radiobject_assets.phantom.dicom_files import AcquisitionGrid, CtSeries, Person
from radiobject_assets.phantom.truth import Participant, SeriesTruth, SubjectTruth, VolumeTruth

DEFAULT_SHAPE = (128, 128, 64)
_SMALLEST_SHAPE = (48, 48, 24)
_CT_FIELD_MM = (384.0, 384.0, 320.0)
_HEAD_FIELD_MM = (192.0, 228.0, 240.0)
_GIVEN_NAMES = ("Ada", "Bruno", "Chloë", "Dmitri", "Ewa", "Farid", "Greta", "Håkon")
_SITES = ("North", "Harbour", "Hill")
NOTE_NAME = "note.txt"


@dataclass(frozen=True, eq=False)
class SubjectDesign:
    """The truth of one subject, and what the writers need besides it."""

    truth: SubjectTruth
    person: Person
    ct: tuple[CtSeries, ...]
    """All CT series; the first is the main one."""
    folders: tuple[str, ...]
    """Opaque names: patient, study, then one per DICOM series (the SEG's last)."""
    seg_file: str
    with_note: bool


def design_subject(number: int, *, arrival: str, seed: int, shape: tuple[int, int, int]) -> SubjectDesign:
    """Everything about subject `number` (from 1).

    Raises
    ------
    ShapeError
        `shape` (columns, rows, slices of the main CT) is too coarse to show the lesions.
    """
    if any(n < least for n, least in zip(shape, _SMALLEST_SHAPE, strict=True)):
        raise ShapeError(f"phantom shape {shape}: at least {_SMALLEST_SHAPE}, or lesions fall between voxels")
    if number < 1:
        raise ShapeError(f"subject number {number}: counted from 1")
    trait = (number - 1) % 8 + 1
    # One stream per purpose: the appearance of one image never depends on how another was drawn.
    body_rng, noise_rng, mr_rng, name_rng, person_rng = (
        np.random.default_rng([seed, number, purpose]) for purpose in range(5)
    )
    organs = torso(body_rng)
    found = lesions(body_rng, 0 if trait == 8 else int(body_rng.integers(1, 4)))
    person, participant = _person(number, seed, person_rng, found)

    series = [_main_ct(trait, person, shape, (*organs, *found), body_rng, noise_rng)]
    main = series[0]
    series += _extra_series(trait, person, main, (*organs, *found), noise_rng)
    names = _opaque_names(name_rng, sum(one.n_files for one in series) + len(series) + 4)
    named = []
    for one in series:
        files, names = names[: one.n_files], names[one.n_files :]
        named.append(replace(one, file_names=files))

    truths = [_series_truth(one, person) for one in named]
    labels = label(found, main.grid.shape, main.grid.affine)
    seg_uid = _uid(person.study_uid, "seg") if found else None
    if seg_uid is not None:
        truths.append(
            SeriesTruth(
                seg_uid,
                person.study_uid,
                "SEG",
                "Lesions",
                "labels",
                "ingestable",
                None,
                1,
                VolumeTruth(labels, main.grid.affine),
                (main.series_uid,),
            )
        )
    unreadable = [(NOTE_NAME, "not_an_image")] if trait == 1 else []
    truth = SubjectTruth(
        number=number,
        arrival=arrival,
        participant=participant,
        ct=VolumeTruth(main.stored, main.grid.affine, 1.0, float(main.intercept)),
        ct_series_uid=main.series_uid,
        seg_series_uid=seg_uid,
        lesions=found,
        lesion_labels=labels,
        t1w=_t1w(trait, shape, mr_rng),
        series=tuple(truths),
        unreadable=tuple(unreadable),
        identifiers=(
            person.patient_name,
            person.patient_name.split("^")[0],
            person.birth_date,
            person.accession,
        ),
    )
    return SubjectDesign(
        truth,
        person,
        tuple(named),
        folders=names[:-1],
        seg_file=names[-1],
        with_note=trait == 1,
    )


def design_ct(*, seed: int, shape: tuple[int, int, int]) -> tuple[CtSeries, Person, SeriesTruth]:
    """One plain axial CT of a healthy torso, signed 16-bit, for measurements at clinical size."""
    rng = np.random.default_rng([seed, 0])
    person, _ = _person(0, seed, rng, ())
    organs = torso(rng)
    series = _main_ct(5, person, shape, organs, rng, rng)
    series = replace(series, implicit_vr=False, file_names=_opaque_names(rng, series.n_files))
    return series, person, _series_truth(series, person)


def _person(
    number: int, seed: int, rng: np.random.Generator, found: tuple[Ellipsoid, ...]
) -> tuple[Person, Participant]:
    subject_id = f"phantom-{number:03d}"
    age = int(rng.integers(31, 84))
    sex = "F" if rng.random() < 0.5 else "M"
    site = _SITES[int(rng.integers(len(_SITES)))]
    organs = sorted({lesion.name.split()[-2] for lesion in found})
    diagnosis = f"lesions of {' and '.join(organs)}" if organs else "healthy"
    study_uid = _uid(seed, number, "study")
    person = Person(
        patient_id=subject_id,
        patient_name=f"Testpatient{number:03d}^{_GIVEN_NAMES[(number - 1) % len(_GIVEN_NAMES)]}",
        birth_date=f"{2023 - age}{int(rng.integers(1, 6)):02d}{int(rng.integers(1, 28)):02d}",
        sex=sex,
        age=f"{age:03d}Y",
        study_uid=study_uid,
        study_date=f"202306{int(rng.integers(1, 29)):02d}",
        study_time=f"{int(rng.integers(7, 18)):02d}{int(rng.integers(60)):02d}00",
        accession=f"ACC{int(rng.integers(10**6, 10**7))}",
        frame_of_reference_uid=_uid(study_uid, "frame of reference"),
        institution=f"{site} Hospital",
    )
    return person, Participant(subject_id, age, sex, site, diagnosis)


def _main_ct(
    trait: int,
    person: Person,
    shape: tuple[int, int, int],
    structures: tuple[Ellipsoid, ...],
    rng: np.random.Generator,
    noise_rng: np.random.Generator,
) -> CtSeries:
    field_mm = _CT_FIELD_MM
    row_cosines, column_cosines = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    if trait == 3:
        shape = (shape[0], shape[1] * 3 // 4, shape[2])
        field_mm = (field_mm[0], 336.0, field_mm[2])
    if trait == 4:
        row_cosines, column_cosines = _tilted(np.deg2rad([14.0, -9.0, 11.0]))
    center = np.round(rng.uniform(-6.0, 6.0, 3) * 2) / 2
    grid = AcquisitionGrid(shape, _spacing(field_mm, shape), _triple(center), row_cosines, column_cosines)
    signed = trait == 5
    return CtSeries(
        series_uid=_uid(person.study_uid, "ct"),
        number=2,
        description="Body 5.0 B30f",
        grid=grid,
        stored=_scan(grid, structures, noise_rng, sigma_hu=18.0, signed=signed),
        intercept=0 if signed else -1024,
        image_type=("DERIVED", "SECONDARY", "MPR") if trait == 4 else ("ORIGINAL", "PRIMARY", "AXIAL"),
        implicit_vr=signed,
        descending=trait % 2 == 0 and trait != 4,
        interleaved=trait == 3,
        resent_slices=(shape[2] // 3,) if trait == 6 else (),
    )


def _extra_series(
    trait: int,
    person: Person,
    main: CtSeries,
    structures: tuple[Ellipsoid, ...],
    noise_rng: np.random.Generator,
) -> list[CtSeries]:
    x, y, z = main.grid.shape
    if trait in (1, 7):
        shape = (x // 2, y // 2, z // 2)
        grid = AcquisitionGrid(shape, _spacing(_CT_FIELD_MM, shape), main.grid.center_mm)
        return [
            CtSeries(
                series_uid=_uid(person.study_uid, "ct", 2),
                number=3,
                description="Body 10.0 thick" if trait == 1 else "Body 10.0 delayed",
                grid=grid,
                stored=_scan(grid, structures, noise_rng, sigma_hu=9.0, signed=False),
                intercept=-1024,
                descending=True,
                missing_slices=(shape[2] // 2,) if trait == 7 else (),
            )
        ]
    if trait in (2, 6):
        # A frontal projection: columns run to the left, rows to the feet, seen from the front.
        grid = AcquisitionGrid(
            (x, z, 1),
            (main.grid.spacing_mm[0], main.grid.spacing_mm[2], 1.0),
            main.grid.center_mm,
            (1.0, 0.0, 0.0),
            (0.0, 0.0, -1.0),
        )
        projection = main.stored.mean(axis=1)[:, ::-1].round().astype(np.uint16)
        return [
            CtSeries(
                series_uid=_uid(person.study_uid, "scout"),
                number=1,
                description="Scout",
                grid=grid,
                stored=np.ascontiguousarray(projection[:, :, None]),
                intercept=-1024,
                image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"),
                cut_slices=(0,) if trait == 2 else (),
            )
        ]
    return []


def _series_truth(series: CtSeries, person: Person) -> SeriesTruth:
    reason = None
    if series.missing_slices:
        reason = "missing_slice"
    elif series.cut_slices:
        reason = "truncated"
    elif "LOCALIZER" in series.image_type:
        reason = "localizer"
    return SeriesTruth(
        series_uid=series.series_uid,
        study_uid=person.study_uid,
        modality="CT",
        description=series.description,
        kind="image",
        verdict="quarantined" if reason else "ingestable",
        reason=reason,
        n_files=series.n_files,
        volume=None
        if reason
        else VolumeTruth(series.stored, series.grid.affine, 1.0, float(series.intercept)),
    )


def _t1w(trait: int, ct_shape: tuple[int, int, int], rng: np.random.Generator) -> VolumeTruth:
    shape = (ct_shape[0] * 3 // 4, ct_shape[1] * 3 // 4, ct_shape[2])
    affine = np.diag([*_spacing(_HEAD_FIELD_MM, shape), 1.0])
    if trait == 3:
        row, column = _tilted(np.deg2rad([-12.0, 7.0, 16.0]))
        affine[:3, :3] = np.stack([row, column, np.cross(row, column)], axis=1) @ affine[:3, :3]
    if trait == 5:
        affine[0, 0] *= -1  # LAS: the first axis runs to the left
    center = rng.uniform(-5.0, 5.0, 3)
    affine[:3, 3] = center - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    affine = affine.astype(np.float32).astype(np.float64)  # a NIfTI sform holds 32 bits
    signal = render(0.0, head(rng), shape, affine)
    # Magnitude of a complex signal with noise in both parts: Rician, as in MR.
    noise = rng.standard_normal((2, *shape), np.float32) * 14.0
    magnitude = np.hypot(signal + noise[0], noise[1])
    slope, intercept = (0.25, 8.0) if trait == 7 else (1.0, 0.0)
    return VolumeTruth(np.rint((magnitude - intercept) / slope).astype(np.int16), affine, slope, intercept)


def _scan(
    grid: AcquisitionGrid,
    structures: tuple[Ellipsoid, ...],
    rng: np.random.Generator,
    *,
    sigma_hu: float,
    signed: bool,
) -> NDArray[np.int16] | NDArray[np.uint16]:
    """Stored integers of a CT with Gaussian noise: int16 Hounsfield units, or 12 bits of HU + 1024."""
    values = render(AIR_HU, structures, grid.shape, grid.affine)
    noise = rng.standard_normal(grid.shape, np.float32)
    noise *= sigma_hu
    values += noise
    np.rint(values, out=values)
    np.clip(values, -1024, 3071, out=values)
    return values.astype(np.int16) if signed else (values + 1024).astype(np.uint16)


def _spacing(field_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> tuple[float, float, float]:
    return _triple(np.round(np.divide(field_mm, shape), 4))


def _tilted(angles: NDArray[np.float64]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Row and column cosines of an axial plane turned about x, y and z by `angles` (radians)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turn = about_z @ about_y @ about_x
    return _triple(turn[:, 0]), _triple(turn[:, 1])


def _triple(values: NDArray[np.floating[Any]]) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return (x, y, z)


def _opaque_names(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """Distinct names of eight hexadecimal digits, as archives give to exported files."""
    numbers: list[int] = []
    while len(numbers) < count:
        numbers = list(dict.fromkeys([*numbers, *rng.integers(16**7, 16**8, count).tolist()]))
    return tuple(f"{number:08X}" for number in numbers[:count])


def _uid(*parts: object) -> str:
    return str(generate_uid(entropy_srcs=["radiobject-assets phantom", *map(str, parts)]))
