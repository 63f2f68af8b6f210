"""From a landing folder to a store, compared with the phantom's truth; and when things go wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import IngestError, StorageError
from radiobject_assets.export.nifti_files import export_store
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.phantom.truth import CohortTruth, VolumeTruth
from radiobject_assets.store import RadiObject, forgetting_key, note_forgotten, store_contents, vacuum
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

DATASET = DatasetSettings.model_validate(
    {
        "collections": {
            "ct": {"match": {"modality": "CT"}, "tile": "axial"},
            "seg": {"kind": "labels", "labels_of": "ct", "match": {"modality": "SEG"}},
            "t1w": {"match": {"files": "*_T1w.nii.gz"}},
        }
    }
)


def ingest(source: Path, store: Path, dataset: DatasetSettings = DATASET, workers: int = 2) -> IngestReport:
    return ingest_sources(
        [source], str(store), dataset, budget=MemoryBudget(512), compute=Compute(workers=workers)
    )


@pytest.fixture(scope="module")
def ingested(
    cohort: tuple[Path, CohortTruth], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, IngestReport]:
    store = tmp_path_factory.mktemp("store") / "store"
    return store, ingest(cohort[0], store)


def test_every_file_handed_in_is_accounted_for(
    cohort: tuple[Path, CohortTruth], ingested: tuple[Path, IngestReport]
) -> None:
    files = sum(path.is_file() for path in cohort[0].rglob("*"))
    assert ingested[1].counts["files"] == files


def test_every_series_gets_the_verdict_that_the_phantom_deserves(
    cohort: tuple[Path, CohortTruth], ingested: tuple[Path, IngestReport]
) -> None:
    found = {o.series_uid: (o.verdict, o.reason) for o in ingested[1].outcomes if o.series_uid}
    expected = {uid: (truth.verdict, truth.reason) for uid, truth in cohort[1].series.items()}
    assert found == expected


def test_who_is_forgotten_while_their_files_are_read_does_not_come_in(tmp_path: Path) -> None:
    store, landing = str(tmp_path / "store"), tmp_path / "landing"
    gone, other = (make_subject(landing, n, arrival="drop", shape=(48, 48, 24)).subject_id for n in (1, 2))

    def forget(done: int, total: int, text: str) -> None:
        """Volumes are committed together: the first was read by now, and is not in the store yet."""
        if done == 1:
            assert not len(RadiObject(store).obs_meta.read())
            note_forgotten(store, [forgetting_key(store).mark(gone)])

    report = ingest_sources(
        [landing], store, DATASET, budget=MemoryBudget(512), compute=Compute(workers=1), on_progress=forget
    )
    assert {one.status for one in report.outcomes if one.subject_id == gone} == {"quarantined"}
    assert "subject_forgotten" in {one.reason for one in report.outcomes if one.subject_id == gone}
    assert list(RadiObject(store).obs_meta.read()["obs_subject_id"]) == [other]
    assert vacuum(store, grace_s=0).arrays == 0


def test_every_voxel_lies_where_the_phantom_has_it(
    cohort: tuple[Path, CohortTruth], ingested: tuple[Path, IngestReport]
) -> None:
    radi = RadiObject(str(ingested[0]))
    truths = cohort[1].series
    compared = 0
    for name in ("ct", "seg"):
        collection = radi.collection(name)
        for row in collection.to_obs().to_dict("records"):
            truth = truths[row["series_uid"]].volume
            assert truth is not None
            volume = collection[row["obs_id"]]
            assert largest_difference(truth, volume.to_numpy(), volume.affine) == 0
            compared += 1
    for subject in cohort[1].subjects:
        volume = radi.collection("t1w").sel(subject=subject.subject_id).iloc[0]
        assert largest_difference(subject.t1w, volume.to_numpy(), volume.affine) < 1e-3
        compared += 1
    assert compared == ingested[1].counts["written"]


def largest_difference(truth: VolumeTruth, physical: np.ndarray, affine: np.ndarray) -> float:
    """Largest difference of physical values; each voxel is looked up by its place in the patient."""
    assert sorted(truth.shape) == sorted(physical.shape)
    index = np.indices(physical.shape).reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:]
    return float(np.abs(truth.at(world.T) - physical.reshape(-1)).max())


def test_lesion_volumes_agree_with_the_phantom_within_one_voxel_layer(
    cohort: tuple[Path, CohortTruth], ingested: tuple[Path, IngestReport], tmp_path: Path
) -> None:
    paths = export_store(str(ingested[0]), tmp_path, collections=["seg"])
    checked = 0
    for path in paths:
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        subject = cohort[1].subject(sidecar["subject_id"])
        image = nib.load(path)
        labels = np.asarray(image.dataobj)
        voxel_mm3 = abs(np.linalg.det(image.affine[:3, :3]))
        edge_mm = max(image.header.get_zooms())
        for number, lesion in enumerate(subject.lesions, start=1):
            measured = np.count_nonzero(labels == number) * voxel_mm3
            semi = np.array(lesion.semi_axes_mm)
            layer = 4 / 3 * np.pi * (np.prod(semi + edge_mm) - np.prod(semi))
            assert abs(measured - lesion.volume_mm3) < layer
            checked += 1
    assert checked == sum(len(s.lesions) for s in cohort[1].subjects) > 0


def test_labels_name_the_image_that_they_lie_on(
    cohort: tuple[Path, CohortTruth], ingested: tuple[Path, IngestReport]
) -> None:
    radi = RadiObject(str(ingested[0]))
    images = radi.collection("ct").to_obs().set_index("obs_id")
    for row in radi.collection("seg").to_obs().to_dict("records"):
        image = images.loc[row["labels_of"]]
        assert image["series_uid"] in cohort[1].series[row["series_uid"]].references
        assert image["obs_subject_id"] == row["obs_subject_id"]


def test_subjects_carry_their_own_table(
    cohort: tuple[Path, CohortTruth], ingested: tuple[Path, IngestReport]
) -> None:
    rows = RadiObject(str(ingested[0])).obs_meta.read().set_index("obs_subject_id")
    for subject in cohort[1].subjects:
        assert rows.loc[subject.subject_id, "age"] == subject.participant.age
        assert rows.loc[subject.subject_id, "site"] == subject.participant.site


def test_ingesting_again_writes_nothing(
    cohort: tuple[Path, CohortTruth], ingested: tuple[Path, IngestReport]
) -> None:
    before = RadiObject(str(ingested[0])).collection("ct").to_obs()
    again = ingest(cohort[0], ingested[0])
    assert again.counts["written"] == 0
    assert again.counts["unchanged"] == ingested[1].counts["written"]
    after = RadiObject(str(ingested[0])).collection("ct").to_obs()
    assert list(before["volume"]) == list(after["volume"])


def test_names_and_birth_dates_are_nowhere_in_the_store(
    cohort: tuple[Path, CohortTruth], ingested: tuple[Path, IngestReport]
) -> None:
    planted = [text.encode() for subject in cohort[1].subjects for text in subject.identifiers]
    described = json.dumps(store_contents(str(ingested[0]))).encode()
    obs = b"".join(
        RadiObject(str(ingested[0])).collection(name).to_obs().to_csv().encode()
        for name in ("ct", "seg", "t1w")
    )
    stored = b"".join(path.read_bytes() for path in ingested[0].rglob("*") if path.is_file())
    for text in planted:
        assert text not in described
        assert text not in obs
        assert text not in stored


def test_labels_that_come_in_a_later_arrival_find_their_image(
    cohort: tuple[Path, CohortTruth], tmp_path: Path
) -> None:
    truth = make_subject(tmp_path / "all", 1, shape=(64, 64, 32))
    report = ingest(tmp_path / "all", tmp_path / "probe")
    seg = Path(next(o.source for o in report.outcomes if o.collection == "seg"))
    (tmp_path / "later").mkdir()
    shutil.move(seg, tmp_path / "later" / "seg")
    store = tmp_path / "store"
    alone = ingest(tmp_path / "later", store)
    assert [(o.verdict, o.reason) for o in alone.outcomes] == [("quarantined", "reference_missing")]
    assert ingest(tmp_path / "all", store).counts["resolved"] == 1
    assert ingest(tmp_path / "later", store).counts["unchanged"] == 1
    volume = RadiObject(str(store)).collection("seg").iloc[0]
    assert np.count_nonzero(volume.to_numpy()) == np.count_nonzero(truth.lesion_labels)


def test_a_partial_resend_does_not_replace_the_whole_series(tmp_path: Path) -> None:
    truth = make_subject(tmp_path / "first", 5, shape=(64, 64, 32))
    store = tmp_path / "store"
    report = ingest(tmp_path / "first", store)
    series = next(o for o in report.outcomes if o.series_uid == truth.ct_series_uid)
    files = sorted(Path(series.source).iterdir())
    corrected = tmp_path / "first" / "corrected"
    assert len(files) == truth.ct.shape[2]
    from radiobject_assets.imaging.scanning.scan import scan
    from radiobject_assets.ingest import plan_ingest, run_ingest

    order = [
        instance.path
        for planned in plan_ingest(scan([Path(series.source)]), DATASET).planned
        for instance in planned.series.instances
    ]
    corrected.mkdir()
    for path in order[:5]:
        shutil.copy(path, corrected / path.name)
    plan = plan_ingest(scan([corrected]), DATASET, arrival="batch-002")
    outcome = run_ingest(plan, str(store), budget=MemoryBudget(256), compute=Compute(workers=1)).outcomes[0]
    assert (outcome.verdict, outcome.reason) == ("quarantined", "partial_resend")
    assert RadiObject(str(store)).collection("ct")[series.obs_id].shape == truth.ct.shape


def test_a_series_under_a_second_patient_is_held_back(tmp_path: Path) -> None:
    import pydicom

    truth = make_subject(tmp_path / "first", 5, shape=(64, 64, 32))
    store = tmp_path / "store"
    report = ingest(tmp_path / "first", store)
    source = Path(next(o.source for o in report.outcomes if o.series_uid == truth.ct_series_uid))
    (tmp_path / "second").mkdir()
    for path in source.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "somebody-else"
        dataset.save_as(tmp_path / "second" / path.name)
    outcome = ingest(tmp_path / "second", store).outcomes[0]
    assert (outcome.verdict, outcome.reason) == ("quarantined", "subject_conflict")
    assert set(RadiObject(str(store)).collection("ct").obs_subject_ids) == {truth.subject_id}


def test_an_empty_folder_an_absent_one_and_a_foreign_store_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(IngestError, match="holds no files"):
        ingest(tmp_path / "empty", tmp_path / "store")
    with pytest.raises(IngestError, match="no such"):
        ingest(tmp_path / "absent", tmp_path / "store")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    with pytest.raises(StorageError, match="something else"):
        ingest(tmp_path / "notes", tmp_path / "notes")


def cli(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,  # type: ignore[call-overload]  # passed on as they are
    )


def test_a_write_that_the_disk_refuses_is_one_clear_line_and_the_next_run_completes(
    cohort: tuple[Path, CohortTruth], tmp_path: Path
) -> None:
    import resource

    def small_files_only() -> None:  # what a full disk does to a large write, without filling one
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    source, store = cohort[0] / "batch-001", tmp_path / "store"
    refused = cli("ingest", str(source), "--store", str(store), preexec_fn=small_files_only)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr
    radi = RadiObject(str(store))
    whole = sum(len(radi.collection(name)) for name in radi.collection_names)
    assert all(radi.collection(name).verify() == [] for name in radi.collection_names)
    report = ingest(source, store, DatasetSettings())
    assert report.counts["unchanged"] == whole
    assert report.counts["written"] == report.counts["ingestable"] - whole > 0


def test_ctrl_c_leaves_only_whole_volumes_and_the_next_run_completes(
    cohort: tuple[Path, CohortTruth], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = [
        sys.executable,
        "-m",
        "radiobject_assets.cli",
        "ingest",
        str(cohort[0]),
        "--store",
        str(store),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(store.glob("collections/*/volumes/*/__fragments/*")):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "does the rest" in stderr
    assert "Traceback" not in stderr
    radi = RadiObject(str(store))
    for name in radi.collection_names:
        assert radi.collection(name).verify() == []
    report = ingest(cohort[0], store, DatasetSettings())
    assert report.counts["written"] + report.counts["unchanged"] == report.counts["ingestable"]
