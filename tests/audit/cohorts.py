"""Five kinds of folder, clean, as their owners lay them out; small, with a left that is no right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from tests.imaging.dicom_files import write_stack

SHAPE = (26, 22, 16)
AFFINE = np.array([[2.0, 0, 0, -26], [0, 2, 0, -22], [0, 0, 3, -24], [0, 0, 0, 1]])
CASES = range(1, 8)


def body(case: int, contrast: int = 1) -> NDArray[np.int16]:
    """A trunk in RAS: a liver on the right, a heart on the left and front, a spine behind."""
    noise = np.random.default_rng(case * 10 + contrast)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    wide = 0.85 + 0.02 * (case % 4)
    image = np.where((x / wide) ** 2 + (y / 0.8) ** 2 < 1, 300.0, 0.0)
    image[_ball(x, y, z, (0.4, 0.1, -0.4), 0.45)] = 600 * contrast
    image[_ball(x, y, z, (-0.25, 0.3, 0.45), 0.35)] = 900
    image[_ball(x, y, z * 0.2, (0, -0.6, 0), 0.15)] = 1400
    return np.asarray(image + noise.normal(0, 15, SHAPE), dtype=np.int16)


def organs(case: int) -> NDArray[np.uint8]:
    """Labels of `body`: the liver is 1, the heart 2."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    labels = np.zeros(SHAPE, np.uint8)
    labels[_ball(x, y, z, (0.4, 0.1, -0.4), 0.41 + 0.01 * case)] = 1
    labels[_ball(x, y, z, (-0.25, 0.3, 0.45), 0.31 + 0.01 * case)] = 2
    return labels


def _ball(x: Any, y: Any, z: Any, centre: tuple[float, float, float], size: float) -> Any:
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < size**2


def save(path: Path, voxels: NDArray[Any], affine: NDArray[Any] = AFFINE, **fields: Any) -> None:
    """A NIfTI file as nibabel writes it; `fields` go into its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine)
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)


def write_ct(folder: Path, case: int, **changed: Any) -> None:
    """A CT series as a PACS exports it: a folder, numbered files, the research id for a name."""

    def tell(ds: FileDataset, _: int) -> None:
        ds.PatientID = ds.PatientName = f"TR-{case:02d}"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.826.0.1.{case}", f"1.2.826.0.1.{case}.1"
        ds.FrameOfReferenceUID, ds.SeriesDescription = f"1.2.826.0.1.{case}.9", "trunk"
        for name, value in changed.items():
            setattr(ds, name, value)

    # from LPS: rows run to the back, columns to the left
    voxels = body(case)[::-1, ::-1].transpose(2, 1, 0) if changed.get("pixels") is None else changed["pixels"]
    changed.pop("pixels", None)
    write_stack(folder, np.ascontiguousarray(voxels), pixel_spacing=(2, 2), step=(0, 0, 3), change=tell)


def dicom_dump(folder: Path) -> None:
    """Patients' folders with a series in each, and a DICOMDIR-like note beside."""
    for case in CASES:
        write_ct(folder / f"TR-{case:02d}" / "S1", case)
    (folder / "README.txt").write_text("exported for the trial\n")


def bids(folder: Path) -> None:
    """A T1w image with sidecar and a segmentation beside it, for each subject."""
    for case in CASES:
        anat = folder / f"sub-{case:02d}" / "anat"
        save(anat / f"sub-{case:02d}_T1w.nii.gz", body(case), descrip="TE=2.6;Time=113552.000")
        save(anat / f"sub-{case:02d}_dseg.nii.gz", organs(case))
        told = {"Modality": "MR", "EchoTime": 0.0026, "Manufacturer": "Siemens", "ProtocolName": "t1_mprage"}
        (anat / f"sub-{case:02d}_T1w.json").write_text(json.dumps(told))
    (folder / "dataset_description.json").write_text('{"Name": "A trial", "BIDSVersion": "1.10.0"}')
    rows = "".join(f"sub-{case:02d}\t{50 + case}\n" for case in CASES)
    (folder / "participants.tsv").write_text("participant_id\tage\n" + rows)


def nnunet(folder: Path) -> None:
    """Two channels for each case, labels for the training cases, two test cases."""
    for case in [*CASES, 8, 9]:
        images = folder / ("imagesTr" if case in CASES else "imagesTs")
        save(images / f"trunk_{case:03d}_0000.nii.gz", body(case))
        save(images / f"trunk_{case:03d}_0001.nii.gz", body(case, contrast=2))
        if case in CASES:
            save(folder / "labelsTr" / f"trunk_{case:03d}.nii.gz", organs(case))
    told = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "liver": 1, "heart": 2},
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(told))


def totalsegmentator(folder: Path) -> None:
    """A CT and a mask for each structure, in a folder for each subject."""
    for case in CASES:
        save(folder / f"s{case:04d}" / "ct.nii.gz", body(case))
        for value, name in ((1, "liver"), (2, "heart")):
            mask = (organs(case) == value).astype(np.uint8)
            save(folder / f"s{case:04d}" / "segmentations" / f"{name}.nii.gz", mask)
    rows = "".join(f"s{case:04d};{50 + case}\n" for case in CASES)
    (folder / "meta.csv").write_text("image_id;age\n" + rows)


def decathlon(folder: Path) -> None:
    """All channels in one file, labels for the training cases, two test cases."""
    for case in [*CASES, 8, 9]:
        images = folder / ("imagesTr" if case in CASES else "imagesTs")
        both = np.stack([body(case), body(case, contrast=2)], axis=3)
        save(images / f"TRUNK_{case:03d}.nii.gz", both)
        if case in CASES:
            save(folder / "labelsTr" / f"TRUNK_{case:03d}.nii.gz", organs(case))
    told = {
        "name": "TRUNK",
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "background", "1": "liver", "2": "heart"},
    }
    (folder / "dataset.json").write_text(json.dumps(told))


COHORTS = {
    "dicom": dicom_dump,
    "bids": bids,
    "nnunet": nnunet,
    "totalsegmentator": totalsegmentator,
    "decathlon": decathlon,
}
