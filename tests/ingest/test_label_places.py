"""Labels find their image by place: over series, frames of reference, calls, and storage in other tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.errors import ImageReadError
from radiobject_assets.export.nifti_files import export_store
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.imaging.source import ImageSource
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

sys.path.insert(0, str(Path(__file__).parent.parent / "imaging"))

from dcm2niix_reference import read_all
from dicom_files import ramp, write_stack
from structure_sets import write_rtstruct

SHAPE = (6, 12, 10)  # slices, rows, columns
FRAME = "1.2.3.4.5"
SQUARE = np.array([(2, 2), (6, 2), (6, 6), (2, 6)], float)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def ct(
    folder: Path,
    series_uid: str = "1.2.3.1",
    frame: str = FRAME,
    patient: str = "P1",
    shape: tuple[int, int, int] = SHAPE,
    **place: Any,
) -> list[FileDataset]:
    said = {
        "FrameOfReferenceUID": frame, "PatientName": "", "PatientBirthDate": "", "PatientSex": "",
        "StudyDate": "20200101", "StudyTime": "101010", "AccessionNumber": "", "StudyID": "",
        "ReferringPhysicianName": "", "PositionReferenceIndicator": "", "SliceThickness": "2",
        "PatientID": patient,
    }  # fmt: skip

    def complete(ds: Dataset, k: int) -> None:
        for name, value in said.items():
            setattr(ds, name, value)

    paths = write_stack(folder, ramp(*shape), change=complete, series_uid=series_uid, **place)
    return [dcmread(path) for path in paths]


def write_seg(folder: Path, images: Sequence[Dataset], pixels: NDArray[Any]) -> hd.seg.Segmentation:
    segment = hd.seg.SegmentDescription(
        1, "lesion", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion,
        hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )  # fmt: skip
    seg = hd.seg.Segmentation(
        source_images=images, pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY, segment_descriptions=[segment],
        series_instance_uid=generate_uid(), series_number=9, sop_instance_uid=generate_uid(),
        instance_number=1, manufacturer="none", manufacturer_model_name="none", software_versions="1",
        device_serial_number="1",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    seg.save_as(folder / "seg")
    return seg


def in_frame(folder: Path, frame: str = FRAME, z: Sequence[float] = (4.0,), ring: Any = SQUARE) -> Path:
    """An RTSTRUCT that names its frame of reference and nothing else, on the images of a folder."""

    def change(ds: FileDataset) -> None:
        item = Dataset()
        item.FrameOfReferenceUID = frame
        ds.ReferencedFrameOfReferenceSequence = [item]
        for roi in ds.StructureSetROISequence:
            roi.ReferencedFrameOfReferenceUID = frame

    return write_rtstruct(
        folder, {"Organ": [np.column_stack([ring, np.full(len(ring), at)]) for at in z]}, change
    )


def ingest(source: Path, tmp_path: Path, **dataset: Any) -> IngestReport:
    return ingest_sources(
        [source], str(tmp_path / "store"), DatasetSettings.model_validate(dataset),
        budget=MemoryBudget(256), compute=Compute(workers=1),
    )  # fmt: skip


def labels(tmp_path: Path, collection: str) -> list[dict[str, Any]]:
    """Rows of labels, each with its voxels, and with the series of its image."""
    radi = RadiObject(str(tmp_path / "store"))
    rows = radi.collection(collection).to_obs().to_dict("records")
    for row in rows:
        images = radi.collection(row["labels_of_collection"]).to_obs().set_index("obs_id")
        row["voxels"] = radi.collection(collection)[row["obs_id"]].to_numpy()
        row["image_series"] = images.loc[row["labels_of"], "series_uid"]
    return rows


def truth() -> NDArray[np.uint8]:
    found = np.zeros(SHAPE, np.uint8)
    found[1:3, 2:7, 3:8] = 1
    return found


@pytest.mark.parametrize("gone", ["nothing", "a series", "an instance"])
def test_all_series_that_a_segmentation_names_count(tmp_path: Path, gone: str) -> None:
    first = ct(tmp_path / "in" / "a", "1.2.3.1")
    second = ct(tmp_path / "in" / "b", "1.2.3.2")
    seg = write_seg(tmp_path / "in", first, truth())
    other = Dataset()
    other.SeriesInstanceUID = "1.2.3.2"
    other.ReferencedInstanceSequence = []
    for image in second:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        other.ReferencedInstanceSequence.append(item)
    seg.ReferencedSeriesSequence = [other, *seg.ReferencedSeriesSequence]
    seg.save_as(tmp_path / "in" / "seg")
    for path in sorted((tmp_path / "in" / "b").iterdir())[
        : {"nothing": 0, "a series": 9, "an instance": 1}[gone]
    ]:
        path.unlink()
    report = ingest(tmp_path / "in", tmp_path)
    assert not any("reference" in reason for reason in report.quarantined_by_reason)
    (row,) = labels(tmp_path, "seg")
    assert np.array_equal(row["voxels"], truth().transpose(2, 1, 0))
    assert row["labels_found_by"] == "reference"
    assert row["image_series"] in ("1.2.3.1", "1.2.3.2")
    assert row["image_series"] == "1.2.3.1" or gone == "nothing"
    again = ingest(tmp_path / "in", tmp_path)
    assert "written" not in {outcome.status for outcome in again.outcomes}


def test_contours_that_name_their_frame_of_reference_alone_find_the_image_in_it(tmp_path: Path) -> None:
    ct(tmp_path / "in" / "a")
    ct(tmp_path / "in" / "b", "1.2.3.2", frame="9.9.9")
    ct(tmp_path / "in" / "c", "1.2.3.3", patient="P2")
    in_frame(tmp_path / "in" / "a")
    assert not ingest(tmp_path / "in", tmp_path).quarantined_by_reason
    (row,) = labels(tmp_path, "rtstruct")
    assert (row["image_series"], row["labels_found_by"]) == ("1.2.3.1", "frame_of_reference")
    assert row["voxels"][:, :, 2].sum() == row["voxels"].sum() == 16
    assert {o.status for o in ingest(tmp_path / "in", tmp_path).outcomes} == {"unchanged"}


def test_of_several_images_in_one_frame_of_reference_the_slices_decide(tmp_path: Path) -> None:
    ct(tmp_path / "in" / "a", step=(0, 0, 2))
    ct(tmp_path / "in" / "b", "1.2.3.2", origin=(0, 0, 0.7), step=(0, 0, 2.6))
    in_frame(tmp_path / "in" / "b", z=(0.7 + 2.6, 0.7 + 5.2))
    assert not ingest(tmp_path / "in", tmp_path).quarantined_by_reason
    (row,) = labels(tmp_path, "rtstruct")
    assert row["image_series"] == "1.2.3.2"


def test_what_lies_on_the_slices_of_two_images_is_a_reason_and_not_a_guess(tmp_path: Path) -> None:
    ct(tmp_path / "in" / "a")
    ct(tmp_path / "in" / "b", "1.2.3.2")
    in_frame(tmp_path / "in" / "b")
    assert ingest(tmp_path / "in", tmp_path).quarantined_by_reason == {"reference_ambiguous": 1}


@pytest.mark.parametrize("attributes", [[], ["FrameOfReferenceUID"]])
def test_labels_that_name_nothing_come_after_their_image(tmp_path: Path, attributes: list[str]) -> None:
    ct(tmp_path / "images")
    in_frame(tmp_path / "images")
    (tmp_path / "labels").mkdir()
    (tmp_path / "images" / "structures").rename(tmp_path / "labels" / "structures")
    assert not ingest(tmp_path / "images", tmp_path, attributes=attributes).quarantined_by_reason
    assert not ingest(tmp_path / "labels", tmp_path, attributes=attributes).quarantined_by_reason
    (row,) = labels(tmp_path, "rtstruct")
    assert row["labels_found_by"] == ("frame_of_reference" if attributes else "grid")
    radi = RadiObject(str(tmp_path / "store"))
    assert ("frame_of_reference_uid" in radi.collection("ct").to_obs()) == bool(attributes)


def test_contours_between_the_slices_of_an_image_whose_frame_is_not_known_prove_nothing(
    tmp_path: Path,
) -> None:
    ct(tmp_path / "images")
    in_frame(tmp_path / "images", z=(3.0, 4.7))
    (tmp_path / "labels").mkdir()
    (tmp_path / "images" / "structures").rename(tmp_path / "labels" / "structures")
    ingest(tmp_path / "images", tmp_path)
    assert ingest(tmp_path / "labels", tmp_path).quarantined_by_reason == {"reference_missing": 1}


def test_labels_that_name_nothing_wait_for_their_image(tmp_path: Path) -> None:
    ct(tmp_path / "images")
    in_frame(tmp_path / "images")
    (tmp_path / "labels").mkdir()
    (tmp_path / "images" / "structures").rename(tmp_path / "labels" / "structures")
    assert ingest(tmp_path / "labels", tmp_path).quarantined_by_reason == {"reference_missing": 1}
    report = ingest(tmp_path / "images", tmp_path)
    assert [(o.collection, o.status) for o in report.resolved] == [("rtstruct", "written")]


def test_another_image_of_the_frame_of_reference_is_taken_where_the_data_set_says_so(tmp_path: Path) -> None:
    named = ct(tmp_path / "named", "1.2.3.1")
    ct(tmp_path / "in", "1.2.3.2")
    write_seg(tmp_path / "in" / "labels", named, truth())
    report = ingest(tmp_path / "in", tmp_path)
    assert report.quarantined_by_reason == {"reference_missing": 1}
    assert any("imaging.labels_on" in outcome.detail for outcome in report.outcomes)
    report = ingest(tmp_path / "in", tmp_path, imaging={"labels_on": "same_frame_of_reference"})
    assert not report.quarantined_by_reason
    (row,) = labels(tmp_path, "seg")
    assert (row["image_series"], row["labels_found_by"]) == ("1.2.3.2", "frame_of_reference")
    assert np.array_equal(row["voxels"], truth().transpose(2, 1, 0))


def test_labels_of_an_image_that_was_refused_get_its_reason(tmp_path: Path) -> None:
    images = ct(tmp_path / "in")
    write_seg(tmp_path / "in" / "labels", images, truth())
    (tmp_path / "in" / "I0003").unlink()
    report = ingest(tmp_path / "in", tmp_path)
    assert report.quarantined_by_reason == {"missing_slice": 1, "reference_quarantined": 1}
    (told,) = (o.detail for o in report.outcomes if o.reason == "reference_quarantined")
    assert "missing_slice" in told


def test_labels_of_an_image_that_no_collection_takes_say_so(tmp_path: Path) -> None:
    write_seg(tmp_path / "in" / "labels", ct(tmp_path / "in"), truth())
    report = ingest(
        tmp_path / "in", tmp_path, collections={"seg": {"match": {"modality": "SEG"}, "kind": "labels"}}
    )
    (told,) = (o.detail for o in report.outcomes if o.reason == "reference_missing")
    assert "no collection" in told
    assert report.needs_attention


def mask_on(folder: Path, levels: Sequence[float], ring: NDArray[Any], **place: Any) -> ImageSource:
    ct(folder, step=(0, 0, 1), **place)
    in_frame(folder, z=levels, ring=ring)
    (series,) = (series for series in build_series(scan([folder])) if series.kind == "labels")
    return open_series(series)


@given(
    low=st.tuples(st.integers(-6, 11), st.integers(-6, 13), st.integers(-5, 7)),
    size=st.tuples(*[st.integers(2, 9)] * 3),
    every=st.integers(1, 2),
)
@settings(max_examples=20, deadline=None)
def test_contours_beyond_the_image_give_what_a_larger_image_has_of_them(
    tmp_path_factory: pytest.TempPathFactory,
    low: tuple[int, int, int],
    size: tuple[int, int, int],
    every: int,
) -> None:
    tmp_path = tmp_path_factory.mktemp("clipped")
    high = np.array(low) + size
    ring = np.array([(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]) - 0.5
    levels = [float(z) for z in range(low[2], high[2] + 1, every)]
    large = mask_on(tmp_path / "large", levels, ring, origin=(-8, -8, -7), shape=(26, 32, 30))
    part = read_all(large)[8:18, 8:20, 7:13]
    small = mask_on(tmp_path / "small", levels, ring)
    if not part.any():
        with pytest.raises(ImageReadError, match=r"beyond the|no voxel of the image"):
            read_all(small)
        return
    assert np.array_equal(read_all(small), part)
    inside = min(low) >= 0 and bool((high[:2] <= [10, 12]).all()) and levels[-1] <= 5
    assert ("contours_clipped" in small.attributes) != inside


def test_dicom_images_that_a_collection_calls_labels_find_their_image_by_its_grid(tmp_path: Path) -> None:
    def collections(description: str) -> dict[str, Any]:
        return {
            "mask": {"match": {"description": description}, "kind": "labels", "labels_of": "ct"},
            "ct": {"match": {"modality": "CT"}},
        }

    ct(tmp_path / "in" / "a")
    values = np.zeros(SHAPE, np.int16)
    values[2, 3:6, 4:8] = 500

    def scaled(ds: Dataset, k: int) -> None:
        ds.SeriesDescription, ds.PatientID = "mask", "P1"
        ds.RescaleSlope, ds.RescaleIntercept = "0.002", "0"

    write_stack(tmp_path / "in" / "b", values, change=scaled, series_uid="1.2.3.2")
    assert not ingest(tmp_path / "in", tmp_path, collections=collections("^mask")).quarantined_by_reason
    (row,) = labels(tmp_path, "mask")
    assert (row["dtype"], row["slope"], row["labels_found_by"]) == ("uint8", 1.0, "grid")
    assert np.array_equal(row["voxels"], (values > 0).transpose(2, 1, 0))


def test_an_oblique_image_that_simpleitk_segmented_comes_home(tmp_path: Path) -> None:
    row, column = np.array([0.9455, 0.1736, -0.2753]), np.array([-0.1321, 0.9774, 0.1651])  # four decimals
    normal = np.cross(row, column)
    write_stack(
        tmp_path / "in", ramp(8, 256, 256), orientation=[*row, *column], step=normal * 3.3,
        origin=(-110.1, -93.7, 41.3), pixel_spacing=(0.9, 0.9),
    )  # fmt: skip
    masks = {"match": {"files": "*_seg.nii.gz"}, "kind": "labels", "labels_of": "img"}
    dataset = {"collections": {"img": {"match": {"modality": "CT"}}, "seg": masks}}
    ingest(tmp_path / "in", tmp_path, **dataset)
    export_store(str(tmp_path / "store"), tmp_path / "out")
    (exported,) = (tmp_path / "out").rglob("*.nii.gz")
    image = sitk.ReadImage(str(exported))
    (tmp_path / "labels").mkdir()
    for name, turned in (("a", image), ("b", sitk.DICOMOrient(image, "RAS"))):
        sitk.WriteImage(
            sitk.BinaryThreshold(turned, 1000, 32767), str(tmp_path / "labels" / f"P1_{name}_seg.nii.gz")
        )
    assert not ingest(tmp_path / "labels", tmp_path, **dataset).quarantined_by_reason
    radi = RadiObject(str(tmp_path / "store"))
    (stored,) = radi.collection("img")
    for mask in radi.collection("seg"):
        assert np.array_equal(mask.to_numpy(), stored.to_numpy() >= 1000)
        assert np.array_equal(mask.affine, stored.affine)


def test_labels_off_the_grid_say_by_how_much_and_why(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    voxels = np.zeros((4, 5, 6), np.uint8)
    nib.save(nib.Nifti1Image(voxels, affine), folder / "p_ct.nii.gz")
    nib.save(nib.Nifti1Image(voxels, np.diag([-1, -1, 1, 1]) @ affine), folder / "p_seg.nii.gz")
    report = ingest(
        folder, tmp_path,
        collections={"ct": {"match": {"files": "*_ct.nii.gz"}},
                     "seg": {"match": {"files": "*_seg.nii.gz"}, "kind": "labels", "labels_of": "ct"}},
    )  # fmt: skip
    (refused,) = (o for o in report.outcomes if o.reason)
    assert refused.reason == "labels_off_grid"
    assert "5 mm (4 voxels)" in refused.detail
    assert "LPS taken for RAS" in refused.detail


def test_of_an_image_and_its_turned_copy_the_one_stored_as_the_labels_is_theirs(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.diag([-1.0, -1.0, 2.0, 1.0]))
    nib.save(image, folder / "p_a_ct.nii.gz")
    nib.save(nib.as_closest_canonical(image), folder / "p_b_ct.nii.gz")
    nib.save(nib.as_closest_canonical(image), folder / "p_seg.nii.gz")
    report = ingest(
        folder, tmp_path,
        collections={"ct": {"match": {"files": "*_ct.nii.gz"}},
                     "seg": {"match": {"files": "*_seg.nii.gz"}, "kind": "labels", "labels_of": "ct"}},
    )  # fmt: skip
    assert not report.quarantined_by_reason
    radi = RadiObject(str(tmp_path / "store"))
    (labels_of,) = radi.collection("seg").to_obs()["labels_of"]
    assert radi.collection("ct")[labels_of].affine[0, 0] == 1.0


CASES = {
    "l03_seg_of_two_series": {"seg": "expected.nii.gz"},
    "l05_rtstruct_frame_of_reference_only": {"liver": "expected.nii.gz"},
    "l04_rtstruct_beyond_the_image": {
        name: f"expected_{name}.nii.gz" for name in ("cord", "body", "liver")
    },
    "l08_nifti_label_flipped_storage": {"seg": "expected.nii.gz"},
    "l10_nifti_label_scaled": {"seg": "expected.nii.gz"},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_cases_that_were_reported_come_out_as_they_should(
    shared_data: Path, tmp_path: Path, case: str
) -> None:
    folder = shared_data / "cases" / case
    if not folder.is_dir():
        pytest.skip("the reported cases are not on this machine")
    description = folder / "dataset.yaml"
    dataset = load_dataset(description) if description.is_file() else DatasetSettings()
    report = ingest_sources(
        [folder / "input"], str(tmp_path / "store"), dataset.model_copy(update={"folder": tmp_path}),
        budget=MemoryBudget(256), compute=Compute(workers=1),
    )  # fmt: skip
    assert not report.quarantined_by_reason
    names = {"seg", "rtstruct"} & set(RadiObject(str(tmp_path / "store")).collection_names)
    rows = [row for name in names for row in labels(tmp_path, name)]
    assert len(rows) == len(CASES[case])
    for row in rows:
        (name,) = CASES[case] if len(rows) == 1 else (json.loads(row["segments"])[0]["label"].lower(),)
        assert np.array_equal(row["voxels"], nib.load(folder / CASES[case][name]).get_fdata())


def test_a_slide_and_its_segmentation_ask_nobody_for_anything(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "cases" / "d04_whole_slide" / "input"
    if not folder.is_dir():
        pytest.skip("the reported cases are not on this machine")
    report = ingest(folder, tmp_path)
    assert report.quarantined_by_reason == {"unsupported_object": 1, "reference_quarantined": 1}
    assert not report.needs_attention
