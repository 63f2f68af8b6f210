"""The phantom cohort is what it claims to be: deterministic, honest about geometry, and untidy on purpose."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from radiobject_assets.errors import AlignmentError, ShapeError
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.phantom.cohort import cohort_truth, make_cohort, make_ct_series, make_subject
from radiobject_assets.phantom.truth import CohortTruth, SubjectTruth

SHAPE = (64, 64, 32)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CohortTruth]:
    landing = tmp_path_factory.mktemp("landing")
    return landing, make_cohort(landing, shape=SHAPE)


def _dicom_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and pydicom.misc.is_dicom(path)]


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others(
    cohort: tuple[Path, CohortTruth], tmp_path: Path
) -> None:
    landing, _ = cohort
    make_cohort(tmp_path / "again", subjects=3, shape=SHAPE)
    make_cohort(tmp_path / "other", subjects=1, shape=SHAPE, seed=8)
    first = {name: digest for name, digest in _digests(landing).items() if name.startswith("batch-001")}
    assert _digests(tmp_path / "again") == first
    images = {digest for name, digest in _digests(tmp_path / "other").items() if _is_image(name)}
    assert len(images) > SHAPE[2]
    assert images.isdisjoint(first.values())


def _is_image(name: str) -> bool:
    return Path(name).suffix in ("", ".gz") and Path(name).name != "_COMPLETE"


def test_a_subject_made_later_is_the_same_as_in_a_larger_cohort(
    cohort: tuple[Path, CohortTruth], tmp_path: Path
) -> None:
    landing, truth = cohort
    alone = make_subject(tmp_path, 5, shape=SHAPE)
    assert np.array_equal(alone.ct.stored, truth.subject("phantom-005").ct.stored)
    dicom_in_cohort = {hashlib.sha256(p.read_bytes()).hexdigest() for p in _dicom_files(landing)}
    assert {hashlib.sha256(p.read_bytes()).hexdigest() for p in _dicom_files(tmp_path)} <= dicom_in_cohort


def test_the_truth_is_known_without_writing_files(cohort: tuple[Path, CohortTruth]) -> None:
    _, written = cohort
    computed = cohort_truth(shape=SHAPE)
    assert computed.verdicts == written.verdicts
    assert computed.participants.equals(written.participants)
    for one, other in zip(computed.subjects, written.subjects, strict=True):
        assert np.array_equal(one.ct.stored, other.ct.stored)
        assert np.array_equal(one.t1w.stored, other.t1w.stored)


def test_progress_counts_subjects_up_to_the_number_asked_for(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    make_cohort(tmp_path, subjects=2, shape=(48, 48, 24), on_progress=lambda *step: seen.append(step))
    assert seen == [(1, 2, "batch-001"), (2, 2, "batch-001")]


def test_every_arrival_is_marked_complete_and_lists_its_own_participants(
    cohort: tuple[Path, CohortTruth],
) -> None:
    landing, truth = cohort
    assert [folder.name for folder in sorted(landing.iterdir())] == list(truth.arrivals)
    listed = []
    for arrival in truth.arrivals:
        assert (landing / arrival / "_COMPLETE").is_file()
        with (landing / arrival / "participants.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        assert [row["participant_id"] for row in rows] == [
            subject.subject_id for subject in truth.subjects if subject.arrival == arrival
        ]
        listed += rows
    assert list(listed[0]) == ["participant_id", "age", "sex", "site", "diagnosis"]
    assert len(listed) == 8


def test_every_file_is_of_a_series_in_the_truth_or_named_as_unreadable(
    cohort: tuple[Path, CohortTruth],
) -> None:
    landing, truth = cohort
    counted: dict[str, int] = {}
    for path in _dicom_files(landing):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert path.suffix == ""
        counted[header.SeriesInstanceUID] = counted.get(header.SeriesInstanceUID, 0) + 1
    assert counted == {uid: series.n_files for uid, series in truth.series.items()}
    others = {p.name for p in landing.rglob("*") if p.is_file()} - {p.name for p in _dicom_files(landing)}
    t1w = {f"{subject.subject_id}_T1w.nii.gz" for subject in truth.subjects}
    assert others == {"_COMPLETE", "participants.tsv", "note.txt"} | t1w


def test_reasons_of_the_truth_are_codes_that_the_platform_knows(cohort: tuple[Path, CohortTruth]) -> None:
    reasons = {series.reason for series in cohort[1].series.values()} - {None}
    assert reasons == {Reason.MISSING_SLICE, Reason.LOCALIZER, Reason.TRUNCATED}
    assert {reason for subject in cohort[1].subjects for _, reason in subject.unreadable} == {
        Reason.NOT_AN_IMAGE
    }


def test_the_cohort_holds_what_archives_really_hold(cohort: tuple[Path, CohortTruth]) -> None:
    landing, truth = cohort
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in _dicom_files(landing)]
    of: dict[str, list[pydicom.Dataset]] = {}
    for header in headers:
        of.setdefault(header.SeriesInstanceUID, []).append(header)
    main = {s.number: sorted(of[s.ct_series_uid], key=lambda h: h.InstanceNumber) for s in truth.subjects}
    height = {n: np.diff([float(h.ImagePositionPatient[2]) for h in series]) for n, series in main.items()}
    assert (height[1] > 0).all()
    assert (height[2] < 0).all()  # descending
    assert (height[8] < 0).all()
    assert (height[3] > 0).any()
    assert (height[3] < 0).any()  # interleaved
    assert main[3][0].Rows < main[3][0].Columns
    assert main[3][0].PixelSpacing[0] > main[3][0].PixelSpacing[1]
    assert np.count_nonzero(np.abs(main[4][0].ImageOrientationPatient) > 0.1) >= 5  # oblique
    assert [main[n][0].PixelRepresentation for n in (1, 5)] == [0, 1]
    assert main[5][0].file_meta.TransferSyntaxUID.is_implicit_VR
    uids = [header.SOPInstanceUID for header in main[6]]
    assert len(uids) == len(set(uids)) + 1  # one was sent twice
    studies = {uid: {h.StudyInstanceUID for h in series} for uid, series in of.items()}
    assert all(len(found) == 1 for found in studies.values())
    first_study = main[1][0].StudyInstanceUID
    assert sum(found == {first_study} for found in studies.values()) == 3  # two CTs and a SEG


def test_a_file_name_tells_nothing_about_the_order_of_slices(cohort: tuple[Path, CohortTruth]) -> None:
    landing, truth = cohort
    wanted = truth.subject("phantom-001").ct_series_uid
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in _dicom_files(landing / "batch-001")]
    numbers = [int(h.InstanceNumber) for h in headers if h.SeriesInstanceUID == wanted]
    assert numbers != sorted(numbers)
    assert numbers != sorted(numbers, reverse=True)


@pytest.mark.parametrize("number", range(1, 9))
def test_pixels_and_positions_in_the_files_are_the_truth(
    cohort: tuple[Path, CohortTruth], number: int
) -> None:
    """Checked point by point in world coordinates, slice by slice, from each file alone."""
    landing, truth = cohort
    subject = truth.subjects[number - 1]
    checked = 0
    for path in _dicom_files(landing / subject.arrival):
        dataset = pydicom.dcmread(path)
        if dataset.SeriesInstanceUID != subject.ct_series_uid:
            continue
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        orientation = np.array(dataset.ImageOrientationPatient, float)
        row, column = np.indices(hu.shape)
        points = (
            np.array(dataset.ImagePositionPatient, float)
            + column[..., None] * orientation[:3] * float(dataset.PixelSpacing[1])
            + row[..., None] * orientation[3:] * float(dataset.PixelSpacing[0])
        )
        assert np.array_equal(subject.ct.at(points * [-1, -1, 1]), hu)
        checked += 1
    assert checked >= subject.ct.shape[2]


@pytest.mark.parametrize("number", range(1, 9))
def test_the_t1w_file_holds_the_true_integers_affine_and_scaling(
    cohort: tuple[Path, CohortTruth], number: int
) -> None:
    landing, truth = cohort
    subject = truth.subjects[number - 1]
    image = nib.load(landing / subject.arrival / "mri" / f"{subject.subject_id}_T1w.nii.gz")
    assert np.array_equal(image.affine, subject.t1w.affine)
    assert np.array_equal(np.asarray(image.dataobj.get_unscaled()), subject.t1w.stored)
    assert np.allclose(image.get_fdata(), subject.t1w.physical())
    assert np.allclose(image.get_qform(), subject.t1w.affine, atol=1e-3)


def test_t1w_orders_and_scalings_differ_between_subjects(cohort: tuple[Path, CohortTruth]) -> None:
    subjects = cohort[1].subjects
    assert nib.aff2axcodes(subjects[0].t1w.affine) == ("R", "A", "S")
    assert nib.aff2axcodes(subjects[4].t1w.affine) == ("L", "A", "S")
    assert np.count_nonzero(np.abs(subjects[2].t1w.affine[:3, :3]) > 0.1) >= 6  # oblique
    assert subjects[6].t1w.slope != 1


@pytest.mark.parametrize("number", range(1, 9))
def test_lesions_lie_apart_in_the_body_and_their_voxels_add_up_to_the_exact_volume(number: int) -> None:
    subject = cohort_truth(shape=(128, 128, 64)).subjects[number - 1]
    assert subject.ct.shape == subject.lesion_labels.shape
    hu = subject.ct.physical()
    for segment, lesion in enumerate(subject.lesions, start=1):
        voxels = subject.lesion_labels == segment
        counted = voxels.sum() * subject.ct.voxel_mm3
        # One layer of half voxels over the surface bounds what sampling at voxel centres can miss.
        assert counted == pytest.approx(lesion.volume_mm3, rel=0.06)
        assert hu[voxels].mean() == pytest.approx(lesion.value, abs=3)
        for other in subject.lesions[segment:]:
            gap = np.linalg.norm(np.subtract(lesion.center_mm, other.center_mm))
            assert gap > max(lesion.semi_axes_mm) + max(other.semi_axes_mm)
    assert set(np.unique(subject.lesion_labels)) == set(range(len(subject.lesions) + 1))


def test_one_subject_is_without_lesions_and_without_seg(cohort: tuple[Path, CohortTruth]) -> None:
    healthy = [subject for subject in cohort[1].subjects if not subject.lesions]
    assert [subject.number for subject in healthy] == [8]
    assert healthy[0].seg_series_uid is None
    assert healthy[0].participant.diagnosis == "healthy"
    assert not [series for series in healthy[0].series if series.modality == "SEG"]


def test_headers_carry_names_that_a_privacy_test_can_look_for(cohort: tuple[Path, CohortTruth]) -> None:
    landing, truth = cohort
    subject: SubjectTruth = truth.subjects[2]
    content = b"".join(path.read_bytes() for path in _dicom_files(landing / subject.arrival))
    assert all(identifier.encode() in content for identifier in subject.identifiers)


def test_one_plain_series_can_be_made_for_measurements(tmp_path: Path) -> None:
    truth = make_ct_series(tmp_path, shape=(96, 80, 12))
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in _dicom_files(tmp_path)]
    assert len(headers) == truth.n_files == 12
    assert {header.SeriesInstanceUID for header in headers} == {truth.series_uid}
    assert truth.volume is not None
    assert truth.volume.shape == (96, 80, 12)
    assert truth.volume.stored.dtype == np.int16


def test_a_shape_that_would_lose_lesions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="lesions fall between voxels"):
        make_cohort(tmp_path, shape=(32, 32, 16))


def test_comparison_accepts_any_axis_order_and_finds_every_error(cohort: tuple[Path, CohortTruth]) -> None:
    truth = cohort[1].subjects[3].ct
    turned = nib.as_closest_canonical(nib.Nifti1Image(truth.physical(), truth.affine))
    moved = nib.Nifti1Image(np.transpose(turned.get_fdata(), (2, 0, 1))[::-1], np.eye(4))
    affine = turned.affine[:, [2, 0, 1, 3]].copy()
    affine[:3, 3] += affine[:3, 0] * (moved.shape[0] - 1)
    affine[:3, 0] *= -1
    assert truth.largest_difference(moved.get_fdata(), affine) == 0

    one_wrong = truth.physical()
    one_wrong[3, 4, 5] += 1
    assert truth.largest_difference(one_wrong, truth.affine) == 1
    assert truth.largest_difference(truth.physical()[::-1], truth.affine) > 100
    shifted = truth.affine.copy()
    shifted[0, 3] += 0.5
    with pytest.raises(AlignmentError, match="mm away"):
        truth.largest_difference(truth.physical(), shifted)
    with pytest.raises(AlignmentError, match="shape"):
        truth.largest_difference(truth.physical()[1:], truth.affine)
    with pytest.raises(AlignmentError, match="spacing"):
        truth.largest_difference(truth.physical(), truth.affine @ np.diag([2, 1, 1, 1]))
