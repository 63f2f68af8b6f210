"""Independent readers agree with the phantom's truth: dcm2niix, SimpleITK and highdicom."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest

from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.phantom.truth import CohortTruth, SeriesTruth, VolumeTruth

SHAPE = (64, 64, 32)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CohortTruth]:
    landing = tmp_path_factory.mktemp("landing")
    return landing, make_cohort(landing, shape=SHAPE)


@pytest.fixture(scope="module")
def folders(cohort: tuple[Path, CohortTruth]) -> dict[str, Path]:
    """The folder of each series."""
    found = {}
    for path in sorted(cohort[0].rglob("*")):
        if path.is_file() and pydicom.misc.is_dicom(path) and path.parent not in found.values():
            found[str(pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID)] = path.parent
    return found


def _images(truth: CohortTruth) -> list[SeriesTruth]:
    return [
        series for series in truth.series.values() if series.kind == "image" and series.volume is not None
    ]


def test_dcm2niix_reads_every_good_ct_as_the_truth(
    cohort: tuple[Path, CohortTruth], folders: dict[str, Path], tmp_path: Path
) -> None:
    program = shutil.which("dcm2niix") or shutil.which("dcm2niix", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("the program dcm2niix is not installed")
    for number, series in enumerate(_images(cohort[1])):
        out = tmp_path / str(number)
        out.mkdir()
        subprocess.run(
            [program, "-z", "n", "-b", "n", "-f", "image", "-o", str(out), str(folders[series.series_uid])],
            check=True,
            capture_output=True,
        )
        image = nib.load(out / "image.nii")
        assert series.volume is not None
        # dcm2niix keeps affines in 32 bits.
        difference = series.volume.largest_difference(image.get_fdata(), image.affine, tolerance_mm=0.01)
        assert difference == 0, series.description


def test_simpleitk_reads_every_good_ct_as_the_truth(
    cohort: tuple[Path, CohortTruth], folders: dict[str, Path], tmp_path: Path
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    for number, series in enumerate(_images(cohort[1])):
        # GDCM cannot sort a series in which a slice is there twice, so each instance is shown to it once.
        unique = tmp_path / str(number)
        unique.mkdir()
        for path in folders[series.series_uid].iterdir():
            link = unique / pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
            if not link.exists():
                link.symlink_to(path)
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(unique)))
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        voxels = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
        assert series.volume is not None
        to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
        assert series.volume.largest_difference(voxels, to_ras @ affine) == 0, series.description


def test_highdicom_reads_every_seg_as_the_true_lesions(
    cohort: tuple[Path, CohortTruth], folders: dict[str, Path]
) -> None:
    compared = 0
    for subject in cohort[1].subjects:
        if subject.seg_series_uid is None:
            continue
        (file,) = folders[subject.seg_series_uid].iterdir()
        seg = hd.seg.segread(file)
        assert seg.NumberOfFrames < subject.ct.shape[2] * len(subject.lesions)  # empty frames are left out
        assert {item.SeriesInstanceUID for item in seg.ReferencedSeriesSequence} == {subject.ct_series_uid}
        volume = seg.get_volume(combine_segments=True)
        index = np.stack(np.indices(volume.array.shape), axis=-1)
        points = (index @ volume.affine[:3, :3].T + volume.affine[:3, 3]) * [-1, -1, 1]
        truth = VolumeTruth(subject.lesion_labels, subject.ct.affine)
        assert np.array_equal(truth.at(points), volume.array)
        assert np.count_nonzero(volume.array) == np.count_nonzero(subject.lesion_labels)
        assert [s.SegmentLabel for s in seg.SegmentSequence] == [lesion.name for lesion in subject.lesions]
        compared += 1
    assert compared == 7


def test_the_missing_slice_and_the_cut_file_are_really_there(
    cohort: tuple[Path, CohortTruth], folders: dict[str, Path]
) -> None:
    by_reason = {series.reason: uid for uid, series in cohort[1].series.items()}
    heights = sorted(
        float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])
        for path in folders[by_reason["missing_slice"]].iterdir()
    )
    gaps = np.diff(heights)
    assert gaps.max() == pytest.approx(2 * gaps.min())
    (cut,) = folders[by_reason["truncated"]].iterdir()
    with pytest.raises(ValueError, match="pixel data"):
        _ = pydicom.dcmread(cut).pixel_array
