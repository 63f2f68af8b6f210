"""Series that are one volume together, and come in any order: no copy, nothing overwritten by less."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

SIZE = 16
COLLECTIONS = {
    "mr": {"match": {"modality": "MR"}},
    "seg": {"match": {"modality": "SEG"}, "kind": "labels", "labels_of": "mr"},
}
PLAIN = DatasetSettings.model_validate({"collections": COLLECTIONS})
PSEUDONYMS = DatasetSettings.model_validate({"collections": COLLECTIONS, "subjects": {"key": "pseudonym"}})


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("RADIOBJECT_PSEUDONYM_KEY", "a secret of enough letters")


def _write(path: Path, value: int, **elements: Any) -> Path:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, generate_uid()
    ds.StudyInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.3.4"
    ds.PatientID, ds.Modality, ds.ImageType = "P1", "MR", ["ORIGINAL", "PRIMARY", "M"]
    ds.SeriesNumber, ds.SeriesDescription = 3, "scan"
    ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness = [1, 0, 0, 0, 1, 0], [1, 1], 1
    ds.Rows = ds.Columns = SIZE
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = np.full((SIZE, SIZE), value, "<u2").tobytes()
    for name in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
        setattr(ds, name, "")
    for name in ("AccessionNumber", "StudyID", "ReferringPhysicianName", "PositionReferenceIndicator"):
        setattr(ds, name, "")
    for name, element in elements.items():
        setattr(ds, name, element)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def split_scan(folder: Path, point: int) -> Path:
    """One volume of a scan whose volumes have a series each (Siemens, MFSPLIT)."""
    for z in range(5):
        _write(
            folder / f"{point}-{z}.dcm", 100 * point + z, SeriesInstanceUID=f"1.2.3.1{point}",
            SeriesNumber=7000 + point, ImageType=["ORIGINAL", "PRIMARY", "M", "MFSPLIT"],
            AcquisitionNumber=point, InstanceNumber=z + 1, ImagePositionPatient=[0, 0, 2 * z],
            AcquisitionDate="20200101", AcquisitionTime=f"10{point:02}{z:02}",
        )  # fmt: skip
    return folder


def numbered(folder: Path, part: int) -> Path:
    """Ten of the slices of a series that was numbered through, under a UID of their own."""
    for z in range(10 * (part - 1), 10 * part):
        _write(
            folder / f"{part}-{z:02}.dcm", 100 + z, SeriesInstanceUID=f"1.2.3.2{part}",
            InstanceNumber=z + 1, ImagePositionPatient=[0, 0, z],
        )  # fmt: skip
    return folder


@pytest.fixture(params=["split_scan", "numbered"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Path]:
    """Folders of the first series, of the second, and of both."""
    write = {"split_scan": split_scan, "numbered": numbered}[request.param]
    folders = {"1": write(tmp_path / "one", 1), "2": write(tmp_path / "two", 2)}
    for folder in folders.values():
        shutil.copytree(folder, tmp_path / "both", dirs_exist_ok=True)
    return {**folders, "12": tmp_path / "both"}


def ingest(source: Path, tmp_path: Path, dataset: DatasetSettings = PLAIN) -> IngestReport:
    store = str(tmp_path / "store")
    return ingest_sources([source], store, dataset, budget=MemoryBudget(512), compute=Compute(workers=1))


def values(tmp_path: Path) -> list[set[int]]:
    """The values of each image volume: which series it holds."""
    images = RadiObject(str(tmp_path / "store")).collection("mr")
    return [set(np.unique(images.iloc[n].to_numpy()).astype(int)) for n in range(len(images))]


def expected(folder: Path) -> set[int]:
    return {int(dcmread(path).pixel_array[0, 0]) for path in folder.iterdir()}


@pytest.mark.parametrize("dataset", [PLAIN, PSEUDONYMS], ids=["plain", "pseudonyms"])
@pytest.mark.parametrize(
    "order", [("2", "1", "12"), ("1", "2", "12"), ("1", "12"), ("2", "12"), ("12", "12")]
)
def test_once_the_whole_is_there_its_parts_are_not_beside_it(
    parts: dict[str, Path], tmp_path: Path, order: Sequence[str], dataset: DatasetSettings
) -> None:
    for name in order:
        last = ingest(parts[name], tmp_path, dataset)
    assert values(tmp_path) == [expected(parts["12"])]
    assert ingest(parts["12"], tmp_path, dataset).counts["unchanged"] == 1
    (outcome,) = last.outcomes
    assert ("withdrawn" in outcome.detail) == ("2" in order)


@pytest.mark.parametrize("dataset", [PLAIN, PSEUDONYMS], ids=["plain", "pseudonyms"])
@pytest.mark.parametrize("part", ["1", "2"])
def test_a_part_that_comes_again_alone_neither_overwrites_the_whole_nor_is_a_second_copy(
    parts: dict[str, Path], tmp_path: Path, part: str, dataset: DatasetSettings
) -> None:
    ingest(parts["12"], tmp_path, dataset)
    (outcome,) = ingest(parts[part], tmp_path, dataset).outcomes
    assert (outcome.status, outcome.reason) == ("quarantined", "partial_resend")
    assert outcome.detail == "the stored volume was joined of 2 series, and this has 1 of them"
    assert values(tmp_path) == [expected(parts["12"])]


def test_a_scan_that_grows_is_one_volume_and_does_not_shrink(tmp_path: Path) -> None:
    two, three = tmp_path / "two", tmp_path / "three"
    for folder, points in ((two, (1, 2)), (three, (1, 2, 3))):
        for point in points:
            split_scan(folder, point)
    ingest(two, tmp_path)
    ingest(three, tmp_path)
    assert values(tmp_path) == [expected(three)]
    (outcome,) = ingest(two, tmp_path).outcomes
    assert outcome.reason == "partial_resend"
    assert values(tmp_path) == [expected(three)]


def labels(folder: Path, images: Path) -> Path:
    """A segmentation that names the images of a folder alone."""
    found = sorted((dcmread(p) for p in images.iterdir()), key=lambda ds: ds.ImagePositionPatient[2])
    mask = np.zeros((len(found), SIZE, SIZE), np.uint8)
    mask[:, 3:8, 3:9] = 1
    algorithm = hd.AlgorithmIdentificationSequence("a", codes.DCM.ArtificialIntelligence, "1")
    segment = hd.seg.SegmentDescription(
        1, "lesion", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion,
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm,
    )  # fmt: skip
    seg = hd.seg.Segmentation(
        found, mask, hd.seg.SegmentationTypeValues.BINARY, [segment], generate_uid(), 9, generate_uid(), 1,
        "maker", "model", "1", "serial",
    )  # fmt: skip
    folder.mkdir()
    seg.save_as(folder / "seg.dcm")
    return folder


@pytest.mark.parametrize("dataset", [PLAIN, PSEUDONYMS], ids=["plain", "pseudonyms"])
@pytest.mark.parametrize("images_first", [True, False])
def test_labels_that_name_the_second_series_find_the_volume_that_it_was_joined_to(
    parts: dict[str, Path], tmp_path: Path, images_first: bool, dataset: DatasetSettings
) -> None:
    drawn = labels(tmp_path / "labels", parts["2"])
    first, second = (parts["12"], drawn) if images_first else (drawn, parts["12"])
    ingest(first, tmp_path, dataset)
    report = ingest(second, tmp_path, dataset)
    found = [*report.outcomes, *report.resolved]
    assert ("seg", "written") in {(o.collection, o.status) for o in found}
    store = RadiObject(str(tmp_path / "store"))
    (row,) = store.collection("seg").to_obs().to_dict("records")
    assert [row["labels_of"]] == list(store.collection("mr").obs_ids)
    assert np.count_nonzero(store.collection("seg").iloc[0].to_numpy()) == 30 * len(
        list(parts["2"].iterdir())
    )
    # with a part of their image beside them they are where they were
    (parts["2"] / "seg.dcm").write_bytes((drawn / "seg.dcm").read_bytes())
    statuses = {(o.collection, o.status) for o in ingest(parts["2"], tmp_path, dataset).outcomes}
    assert statuses == {("mr", "quarantined"), ("seg", "unchanged")}


def test_labels_on_a_part_are_those_of_the_whole_once_it_is_there(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    drawn = labels(tmp_path / "labels", parts["2"])
    for folder in (parts["2"], drawn, parts["12"]):
        ingest(folder, tmp_path)
    store = RadiObject(str(tmp_path / "store"))
    whole = store.collection("mr").iloc[0]
    (row,) = store.collection("seg").to_obs().to_dict("records")
    assert [row["labels_of"]] == list(store.collection("mr").obs_ids)
    # on the voxels of the whole they are as soon as they come again
    ingest(drawn, tmp_path)
    again = RadiObject(str(tmp_path / "store")).collection("seg")
    assert len(again) == 1
    assert again.iloc[0].shape[:3] == whole.shape[:3]
