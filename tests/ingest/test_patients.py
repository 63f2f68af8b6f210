"""Who is who: ids that are padded, spelled in two ways or issued twice neither merge nor split patients."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.export.nifti_files import export_store
from radiobject_assets.imaging.release.deidentification import PSEUDONYM
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from tests.imaging.structure_sets import write_rtstruct

VARIABLE = "RADIOBJECT_PSEUDONYM_KEY"
KEYS = pytest.mark.parametrize("key", ["patient_id", "pseudonym"])


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "a secret of enough letters")


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> list[pydicom.Dataset]:
    """Four neighbouring instances of a CT series."""
    folder = tmp_path_factory.mktemp("made")
    made = make_subject(folder, 1, shape=(48, 48, 24))
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and pydicom.misc.is_dicom(path)]
    found = {
        tuple(one.ImagePositionPatient): one
        for one in map(pydicom.dcmread, paths)
        if one.get("SeriesInstanceUID") == made.ct_series_uid
    }
    return [found[place] for place in sorted(found, key=lambda place: (place[2], place))][:4]


def drop(
    folder: Path, slices: list[pydicom.Dataset], patient_id: str | None, study: int, **more: str
) -> Path:
    """The series once more, as another study of somebody."""
    folder.mkdir(parents=True)
    for number, instance in enumerate(slices):
        copy = deepcopy(instance)
        copy.StudyInstanceUID = f"2.25.{study}"
        copy.SeriesInstanceUID = f"2.25.{study}.1"
        copy.SOPInstanceUID = f"2.25.{study}.1.{number}"
        copy.StudyDate = "20200131"
        if patient_id is None:
            del copy.PatientID
        else:
            copy.PatientID = patient_id
        for name, value in more.items():
            setattr(copy, name, value)
        copy.save_as(folder / f"{number}", enforce_file_format=True)
    return folder


def ingest(tmp_path: Path, key: str, source: str = "in", **subjects: str) -> IngestReport:
    dataset = DatasetSettings.model_validate(
        {"subjects": {"key": key, **subjects}, "attributes": ["StudyDate"]}
    )
    return ingest_sources(
        [tmp_path / source],
        str(tmp_path / "store"),
        dataset,
        budget=MemoryBudget(512),
        compute=Compute(workers=1),
    )


def people(tmp_path: Path, key: str, ids: list[str | None], slices: list[pydicom.Dataset]) -> list[str]:
    """The subjects of some drops, in their order."""
    for number, patient_id in enumerate(ids, start=1):
        drop(tmp_path / "in" / str(number), slices, patient_id, number, SpecificCharacterSet="ISO_IR 192")
    report = ingest(tmp_path, key)
    assert {o.status for o in report.outcomes} == {"written"}
    return [o.subject_id for o in sorted(report.outcomes, key=lambda o: o.source)]


@KEYS
def test_padding_and_composition_of_letters_make_no_second_patient(
    tmp_path: Path, key: str, slices: list[pydicom.Dataset]
) -> None:
    # DICOM pads LO with spaces on both sides; one letter may be one code point or two
    found = people(tmp_path, key, ["J\u00f6 7", "J\u00f6 7 ", " J\u00f6 7  ", "Jo\u0308 7"], slices)
    assert len(set(found)) == 1


@KEYS
def test_ids_that_differ_in_case_or_inner_spaces_are_different_patients(
    tmp_path: Path, key: str, slices: list[pydicom.Dataset]
) -> None:
    found = people(tmp_path, key, ["ab 1", "AB 1", "ab  1", "ab1", "ab-1"], slices)
    assert len(set(found)) == 5
    written = export_store(str(tmp_path / "store"), tmp_path / "out", layout="bids")
    # folders of different patients stay apart also where case does not count
    folders = {path.relative_to(tmp_path / "out").parts[0].casefold() for path in written}
    assert len({str(path).casefold() for path in written}) == len(written)
    assert len(folders) == 5


@KEYS
def test_patients_without_an_id_are_told_apart_by_their_study(
    tmp_path: Path, key: str, slices: list[pydicom.Dataset]
) -> None:
    found = people(tmp_path, key, [None, "", "   "], slices)
    assert len(set(found)) == 3
    assert all(subject.startswith("study-") for subject in found)


@KEYS
def test_one_number_of_two_issuers_does_not_merge_two_patients(
    tmp_path: Path, key: str, slices: list[pydicom.Dataset]
) -> None:
    drop(tmp_path / "first", slices, "1234", 1, IssuerOfPatientID="St Elsewhere")
    drop(tmp_path / "same", slices, "1234", 2, IssuerOfPatientID="St Elsewhere ")
    drop(tmp_path / "silent", slices, "1234", 3)
    drop(tmp_path / "other", slices, "1234", 4, IssuerOfPatientID="County General")
    statuses = [ingest(tmp_path, key, name).outcomes[0].status for name in ("first", "same", "silent")]
    assert statuses == ["written", "written", "written"]
    (held,) = ingest(tmp_path, key, "other").outcomes
    assert (held.status, held.reason) == ("quarantined", "subject_conflict")
    assert "County" not in held.detail + str(RadiObject(str(tmp_path / "store")).collection("ct").to_obs())
    (taken,) = ingest(tmp_path, key, "other", issuer="ignore").outcomes
    assert taken.status == "written"


@KEYS
def test_two_issuers_in_one_arrival_are_held_back_both(
    tmp_path: Path, key: str, slices: list[pydicom.Dataset]
) -> None:
    for number, issuer in enumerate(("St Elsewhere", "County General"), start=1):
        drop(tmp_path / "in" / str(number), slices, "1234", number, IssuerOfPatientID=issuer)
    assert {o.reason for o in ingest(tmp_path, key).outcomes} == {"subject_conflict"}


def test_two_arrivals_of_a_patient_are_one_pseudonym_with_its_intervals_and_a_bids_export(
    tmp_path: Path, slices: list[pydicom.Dataset]
) -> None:
    drop(tmp_path / "one", slices, "1234", 1)
    drop(tmp_path / "two", slices, "1234", 2, StudyDate="20200310")
    (tmp_path / "three").mkdir()
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)), tmp_path / "three" / "1234_T1w.nii.gz")
    outcomes = [ingest(tmp_path, "pseudonym", name).outcomes[0] for name in ("one", "two", "three")]
    (subject,) = {o.subject_id for o in outcomes}
    assert PSEUDONYM.fullmatch(subject)
    rows = RadiObject(str(tmp_path / "store")).collection("ct").to_obs()
    first, second = sorted(np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:]}") for d in rows["study_date"])
    assert second - first == np.timedelta64(39, "D")
    written = export_store(str(tmp_path / "store"), tmp_path / "out", layout="bids")
    assert len({path.relative_to(tmp_path / "out").parts[0] for path in written}) == 1
    for path in (tmp_path / "out").rglob("*"):
        assert "1234" not in str(path.relative_to(tmp_path / "out"))


def test_regions_that_come_before_their_image_find_it_by_its_new_uid(
    tmp_path: Path, slices: list[pydicom.Dataset]
) -> None:
    images = drop(tmp_path / "images", slices, "P1", 1)
    corner = np.asarray(slices[1].ImagePositionPatient, np.float64)
    along, down = np.asarray(slices[1].ImageOrientationPatient, np.float64).reshape(2, 3)
    rows_mm, columns_mm = (float(step) for step in slices[1].PixelSpacing)
    square = [(10, 10), (30, 10), (30, 30), (10, 30)]
    ring = np.array([corner + x * columns_mm * along + y * rows_mm * down for x, y in square])
    (tmp_path / "regions").mkdir()
    write_rtstruct(images, {"lesion": [ring]}).rename(tmp_path / "regions" / "structures")
    (waiting,) = ingest(tmp_path, "pseudonym", "regions").outcomes
    assert waiting.reason == "reference_missing"
    (regions,) = ingest(tmp_path, "pseudonym", "images").resolved
    assert regions.subject_id == waiting.subject_id
    radi = RadiObject(str(tmp_path / "store"))
    labels = radi.collection("rtstruct").to_obs().iloc[0]
    assert labels["labels_of"] in radi.collection("ct").obs_ids
    assert np.count_nonzero(radi.collection("rtstruct").iloc[0].to_numpy()) > 300
