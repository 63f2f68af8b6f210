"""Keyed pseudonyms: the same patient is the same subject, references hold, and nothing says who it was."""

from __future__ import annotations

import json
import pickle
import shutil
from datetime import date
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import UID

from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.dataset.keywords import OPTIONAL_KEYWORDS
from radiobject_assets.errors import ConfigurationError, IngestError
from radiobject_assets.imaging.dicom.tags import OPTIONAL_ATTRIBUTES
from radiobject_assets.imaging.release.deidentification import PSEUDONYM, Release
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.ingest import IngestReport, ingest_sources, plan_ingest
from radiobject_assets.ingest.dataset_release import release_of
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

SECRET = "a secret of enough letters"
VARIABLE = "RADIOBJECT_PSEUDONYM_KEY"


def dataset(**more: object) -> DatasetSettings:
    return DatasetSettings.model_validate(
        {
            "collections": {
                "ct": {"match": {"modality": "CT"}},
                "seg": {"match": {"modality": "SEG"}, "kind": "labels", "labels_of": "ct"},
                "t1w": {"match": {"files": "*_T1w.nii.gz"}},
            },
            "subjects": {"key": "pseudonym", "columns": ["age", "sex", "scan_date", "folder", "site_name"]},
            **more,
        }
    )


def ingest(source: Path, store: Path, config: DatasetSettings | None = None) -> IngestReport:
    return ingest_sources(
        [source], str(store), config or dataset(), budget=MemoryBudget(512), compute=Compute(workers=1)
    )


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, SECRET)
    return SECRET


@pytest.fixture
def arrival(tmp_path: Path) -> Path:
    make_subject(tmp_path / "in", 1, shape=(48, 48, 24))
    return tmp_path / "in"


def headers(folder: Path) -> list[pydicom.Dataset]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [pydicom.dcmread(p, stop_before_pixels=True) for p in found if p.read_bytes()[128:132] == b"DICM"]


def test_images_labels_nifti_and_the_table_of_one_patient_are_one_subject(
    arrival: Path, tmp_path: Path
) -> None:
    report = ingest(arrival, tmp_path / "store")
    assert {o.status for o in report.outcomes} == {"written"}
    radi = RadiObject(str(tmp_path / "store"))
    subjects = {o.subject_id for o in report.outcomes}
    assert len(subjects) == 1
    assert PSEUDONYM.fullmatch(subjects.pop())
    row = radi.obs_meta.read()
    assert len(row) == 1
    assert row["sex"].notna().all()


def test_labels_refer_to_their_image_also_when_it_came_earlier(arrival: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    for path in list(arrival.rglob("*")):
        if (
            path.is_file()
            and path.read_bytes()[128:132] == b"DICM"
            and pydicom.dcmread(path).Modality == "SEG"
        ):
            shutil.move(path, later / "seg")
    ingest(arrival, tmp_path / "store")
    assert ingest(later, tmp_path / "store").counts["written"] == 1
    radi = RadiObject(str(tmp_path / "store"))
    labels = radi.collection("seg").to_obs().iloc[0]
    image = radi.collection("ct").to_obs().set_index("obs_id").loc[labels["labels_of"]]
    assert image["obs_subject_id"] == labels["obs_subject_id"]


def test_uids_are_valid_new_and_the_same_for_the_same_instance(arrival: Path, tmp_path: Path) -> None:
    for store in ("one", "two"):
        ingest(arrival, tmp_path / store)
    seen = []
    for store in ("one", "two"):
        radi = RadiObject(str(tmp_path / store))
        rows = radi.collection("ct").to_obs()
        sources = [uid for volume in radi.collection("ct") for uid in volume.sources]
        seen.append(sorted([*rows["series_uid"], *rows["study_uid"], *sources]))
    assert seen[0] == seen[1]
    assert all(UID(uid).is_valid and uid.startswith("2.25.") for uid in seen[0])
    originals = {str(h.SOPInstanceUID) for h in headers(arrival)}
    assert originals.isdisjoint(seen[0])
    assert len(set(seen[0])) >= len([h for h in headers(arrival) if h.Modality == "CT"])


def test_ingesting_again_changes_nothing(arrival: Path, tmp_path: Path) -> None:
    ingest(arrival, tmp_path / "store")
    assert ingest(arrival, tmp_path / "store").counts["unchanged"] == 4


def test_another_secret_gives_other_pseudonyms(
    arrival: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {o.subject_id for o in ingest(arrival, tmp_path / "one").outcomes}
    monkeypatch.setenv(VARIABLE, SECRET + "!")
    second = {o.subject_id for o in ingest(arrival, tmp_path / "two").outcomes}
    assert first.isdisjoint(second)


def test_a_store_holds_the_pseudonyms_of_one_secret_only(
    arrival: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(arrival, tmp_path / "store")
    with pytest.raises(ConfigurationError, match="its subjects are pseudonyms"):
        ingest(arrival, tmp_path / "store", dataset(subjects={}))
    monkeypatch.setenv(VARIABLE, SECRET + "!")
    with pytest.raises(ConfigurationError, match="another secret"):
        ingest(arrival, tmp_path / "store")
    ingest(arrival, tmp_path / "plain", dataset(subjects={}))
    with pytest.raises(ConfigurationError, match="a store of their own"):
        ingest(arrival, tmp_path / "plain")


def test_dates_move_by_the_same_days_within_a_subject_and_not_across(arrival: Path, tmp_path: Path) -> None:
    for number, header in enumerate(headers(arrival)):
        header = pydicom.dcmread(header.filename)
        header.StudyDate, header.AcquisitionDate = "20200131", "20200210"
        header.AcquisitionDateTime = "20200210123456.5"
        header.save_as(header.filename)
        assert number < 200
    config = dataset(attributes=["StudyDate", "AcquisitionDate", "AcquisitionDateTime"])
    ingest(arrival, tmp_path / "store", config)
    for row in RadiObject(str(tmp_path / "store")).collection("ct").to_obs().to_dict("records"):
        study, acquired = (_date(row[name]) for name in ("study_date", "acquisition_date"))
        assert (acquired - study).days == 10
        assert study != date(2020, 1, 31)
        assert _date(row["acquisition_datetime"][:8]) == acquired
        assert row["acquisition_datetime"][8:] == "123456.5"
    release = release_of(dataset())
    moved = {release.date("20200131", release.subject(f"patient {n}")) for n in range(50)}
    assert len(moved) > 40


def _date(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:8]))


def test_dates_and_other_ids_of_the_table_follow(arrival: Path, tmp_path: Path) -> None:
    (path,) = arrival.rglob("participants.tsv")
    (row,) = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    path.write_text(
        "participant_id\tage\tscan_date\thospital_id\tfolder\tsite_name\tLast Name\n"
        f"{row[0]}\t44\t2020-02-10\tH-7\t/data/{row[0]}/ct\tOslo\tDoe\n"
    )
    ingest(arrival, tmp_path / "store")
    (stored,) = RadiObject(str(tmp_path / "store")).obs_meta.read().to_dict("records")
    release = release_of(dataset())
    moved = release.date("20200210", stored["obs_subject_id"])
    assert stored["scan_date"].replace("-", "") == moved != "20200210"
    assert (stored["age"], stored["site_name"]) == (44, "Oslo")
    assert not {"hospital_id", "Last Name"} & stored.keys()
    assert row[0] not in json.dumps(stored, default=str)


@pytest.mark.parametrize("value", ["", "short", "   padded    "])
def test_a_secret_that_is_absent_or_too_short_is_refused_before_anything_is_read(
    arrival: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ConfigurationError, match=VARIABLE) as raised:
        ingest(arrival, tmp_path / "store")
    assert not value.strip() or value.strip() not in str(raised.value)
    assert not (tmp_path / "store").exists()


def test_the_secret_is_in_no_text_and_no_configuration(arrival: Path, tmp_path: Path) -> None:
    release = release_of(dataset())
    assert SECRET not in repr(release) + str(release)
    assert SECRET not in dataset().model_dump_json()
    plan = plan_ingest(release.scan(scan([arrival])), dataset())
    assert SECRET.encode() not in pickle.dumps([p.series for p in plan.planned])


def test_a_scan_that_was_not_released_is_refused(arrival: Path) -> None:
    with pytest.raises(IngestError, match="release it first"):
        plan_ingest(scan([arrival]), dataset())


def test_without_pseudonyms_uids_stay_as_they_are(arrival: Path, tmp_path: Path) -> None:
    config = dataset(subjects={"key": "patient_id"})
    found = {o.series_uid for o in ingest(arrival, tmp_path / "store", config).outcomes if o.series_uid}
    assert found == {str(h.SeriesInstanceUID) for h in headers(arrival)}


def test_a_nifti_file_named_after_a_patient_gives_no_name_away(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "Doe Jane"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), folder / "DOE^JANE_T1w.nii.gz")
    (outcome,) = ingest(folder, tmp_path / "store").outcomes
    told = json.dumps({**outcome.to_json(), "source": ""}).casefold()
    assert outcome.status == "written"
    assert "doe" not in told
    assert "jane" not in told


def test_grouping_and_verdicts_are_those_of_the_original(shared_data: Path) -> None:
    found = scan([shared_data / "series"])
    released = Release(key=b"k" * 20).scan(found)
    before = {s.files: s for s in build_series(found)}
    after = {s.files: s for s in build_series(released)}
    assert before.keys() == after.keys()
    for files, series in before.items():
        other = after[files]
        assert (series.verdict, series.reason, series.shape, series.component) == (
            other.verdict, other.reason, other.shape, other.component,
        )  # fmt: skip
        assert [i.path for i in series.instances] == [i.path for i in other.instances]


def test_an_attribute_is_added_by_its_keyword_and_no_other_is(arrival: Path, tmp_path: Path) -> None:
    for header in headers(arrival):
        whole = pydicom.dcmread(header.filename)
        whole.ProtocolName, whole.SoftwareVersions = "liver 3 phases", "VB20"
        whole.save_as(header.filename)
    config = dataset(attributes=["ProtocolName"], subjects={"key": "patient_id"})
    ingest(arrival, tmp_path / "store", config)
    rows = RadiObject(str(tmp_path / "store")).collection("ct").to_obs()
    assert set(rows["protocol_name"]) == {"liver 3 phases"}
    assert "software_versions" not in rows


@pytest.mark.parametrize("keyword", ["PatientName", "PatientBirthDate", "ImageComments", "Nonsense"])
def test_an_attribute_that_could_name_a_patient_cannot_be_added(tmp_path: Path, keyword: str) -> None:
    (tmp_path / "dataset.yaml").write_text(f"name: x\nattributes: [{keyword}]\n")
    with pytest.raises(ConfigurationError, match=rf"yaml:2: attributes.*{keyword}"):
        load_dataset(tmp_path / "dataset.yaml")


def test_the_configuration_knows_every_optional_attribute() -> None:
    assert OPTIONAL_ATTRIBUTES.keys() == OPTIONAL_KEYWORDS
    for keyword, (_, tag, _) in OPTIONAL_ATTRIBUTES.items():
        assert pydicom.datadict.tag_for_keyword(keyword) == tag
