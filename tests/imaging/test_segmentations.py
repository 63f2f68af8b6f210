"""DICOM SEG by highdicom: binary, fractional, sparse, overlapping, and on another grid than its image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faulty_codec
import highdicom as hd
import numpy as np
import pytest
from dcm2niix_reference import physical, read_all
from dicom_files import ramp, write_stack
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.pixels.decoders import Decoders, decoder_processes
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

SHAPE = (6, 12, 10)  # slices, rows, columns


def _images(folder: Path, shape: tuple[int, int, int] = SHAPE, **place: Any) -> list[Dataset]:
    change = {
        "FrameOfReferenceUID": "1.2.3.4", "PatientName": "", "PatientBirthDate": "", "PatientSex": "",
        "StudyDate": "20200101", "StudyTime": "101010", "AccessionNumber": "", "StudyID": "",
        "ReferringPhysicianName": "", "PositionReferenceIndicator": "", "SliceThickness": "2",
    }  # fmt: skip

    def complete(ds: Dataset, k: int) -> None:
        for name, value in change.items():
            setattr(ds, name, value)

    place = {"origin": (-5, 7, 20), "pixel_spacing": (0.8, 0.6)} | place
    paths = write_stack(folder, ramp(*shape), change=complete, **place)
    return [dcmread(path) for path in paths]


def _segment(number: int) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        number,
        f"lesion {number}",
        codes.SCT.MorphologicallyAbnormalStructure,
        codes.SCT.Lesion,
        hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def _write_seg(
    folder: Path,
    images: list[Dataset],
    pixels: NDArray[Any],
    kind: hd.seg.SegmentationTypeValues = hd.seg.SegmentationTypeValues.BINARY,
    segments: int = 1,
    **options: Any,
) -> None:
    seg = hd.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[_segment(n + 1) for n in range(segments)],
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    seg.save_as(folder / "seg")


def _labels(folder: Path) -> list[Series]:
    return [series for series in build_series(scan([folder])) if series.kind == "labels"]


def _truth() -> NDArray[np.uint8]:
    truth = np.zeros(SHAPE, np.uint8)
    truth[1:3, 2:7, 3:8] = 1
    truth[4, 8:11, 1:4] = 2
    return truth


def test_binary_segments_become_label_values_on_the_image(tmp_path: Path) -> None:
    _write_seg(tmp_path, _images(tmp_path), _truth(), segments=2)
    (series,) = _labels(tmp_path)
    assert np.array_equal(read_all(open_series(series))[..., 0], _truth().transpose(2, 1, 0))
    assert [segment.label for segment in series.segments] == ["lesion 1", "lesion 2"]
    assert series.segments[0].algorithm == "MANUAL"
    assert series.segments[0].type.startswith("SCT:")


def test_frames_without_a_segment_may_be_left_out(tmp_path: Path) -> None:
    _write_seg(tmp_path, _images(tmp_path), _truth(), segments=2, omit_empty_frames=True)
    (series,) = _labels(tmp_path)
    assert series.instances[0].n_frames == 3
    assert np.array_equal(read_all(open_series(series))[..., 0], _truth().transpose(2, 1, 0))


def test_fractions_keep_their_value(tmp_path: Path) -> None:
    fractions = np.zeros(SHAPE, np.float32)
    fractions[2, 3:6, 3:6] = 0.5
    fractions[3, 3:6, 3:6] = 1.0
    kind = hd.seg.SegmentationTypeValues.FRACTIONAL
    _write_seg(tmp_path, _images(tmp_path), fractions, kind, max_fractional_value=200)
    (series,) = _labels(tmp_path)
    assert np.allclose(physical(open_series(series))[..., 0], fractions.transpose(2, 1, 0))


def test_label_maps_keep_their_values(tmp_path: Path) -> None:
    kind = hd.seg.SegmentationTypeValues.LABELMAP
    _write_seg(tmp_path, _images(tmp_path), _truth(), kind, segments=2)
    (series,) = _labels(tmp_path)
    assert np.array_equal(read_all(open_series(series))[..., 0], _truth().transpose(2, 1, 0))


def test_segments_that_overlap_become_volumes_of_their_own(tmp_path: Path) -> None:
    both = np.zeros((*SHAPE, 2), np.uint8)
    both[1:4, 2:7, 3:8, 0] = 1
    both[2:5, 4:9, 5:9, 1] = 1
    _write_seg(tmp_path, _images(tmp_path), both, segments=2)
    found = _labels(tmp_path)
    assert [series.component for series in found] == ["segment1", "segment2"]
    for n, series in enumerate(found):
        assert np.array_equal(read_all(open_series(series))[..., 0] > 0, both[..., n].transpose(2, 1, 0) > 0)


def test_undeclared_overlap_is_a_reason(tmp_path: Path) -> None:
    both = np.zeros((*SHAPE, 2), np.uint8)
    both[2, 2:7, 3:8] = 1
    _write_seg(tmp_path, _images(tmp_path), both, segments=2)
    ds = dcmread(tmp_path / "seg")
    ds.SegmentsOverlap = "UNDEFINED"
    ds.save_as(tmp_path / "seg")
    with pytest.raises(ImageReadError) as caught:
        read_all(open_series(_labels(tmp_path)[0]))
    assert caught.value.code == Reason.SEGMENTS_OVERLAP


def test_a_segmentation_on_another_grid_is_taken_over_by_the_nearest_voxel(tmp_path: Path) -> None:
    _write_seg(tmp_path, _images(tmp_path), _truth() > 0)
    ds = dcmread(tmp_path / "seg")
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [0.4, 0.3]  # half the size: the labels shrink towards the first voxel
    ds.save_as(tmp_path / "seg")
    (series,) = _labels(tmp_path)
    source = open_series(series)
    labels = read_all(source)[..., 0]
    assert source.attributes["resampled_to_image"] == 1
    truth = (_truth() > 0).transpose(2, 1, 0)
    expected = np.zeros_like(truth)
    for x, y, z in np.ndindex(truth.shape):
        if 2 * x < truth.shape[0] and 2 * y < truth.shape[1]:
            expected[x, y, z] = truth[2 * x, 2 * y, z]
    assert np.array_equal(labels > 0, expected)


def test_labels_beyond_the_image_are_cut_off_and_counted(tmp_path: Path) -> None:
    images = _images(tmp_path)
    pixels = np.zeros(SHAPE, bool)
    pixels[:, 2:8, 2:8] = True
    _write_seg(tmp_path, images, pixels)
    ds = dcmread(tmp_path / "seg")
    step = np.subtract(images[1].ImagePositionPatient, images[0].ImagePositionPatient)
    for group in ds.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [float(v) for v in np.add(place, 2 * step)]
    ds.save_as(tmp_path / "seg")
    (series,) = _labels(tmp_path)
    source = open_series(series)
    assert source.attributes["labels_clipped"] == 2 * 36
    labels = read_all(source)[..., 0]
    assert int((labels > 0).sum()) == (SHAPE[0] - 2) * 36


def test_slices_without_labels_stay_so_beside_the_voxels_of_the_image(tmp_path: Path) -> None:
    pixels = np.zeros(SHAPE, bool)
    pixels[[1, 5], 2:8, 2:8] = True
    _write_seg(tmp_path, _images(tmp_path), pixels, omit_empty_frames=True)
    ds = dcmread(tmp_path / "seg")
    for group in ds.PerFrameFunctionalGroupsSequence:
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x + 0.3, y, z]
    ds.save_as(tmp_path / "seg")
    (series,) = _labels(tmp_path)
    labels = read_all(open_series(series))[..., 0]
    assert np.flatnonzero(labels.any(axis=(0, 1))).tolist() == [1, 5]


def test_labels_that_no_voxel_of_the_image_takes_are_a_reason_and_no_empty_volume(tmp_path: Path) -> None:
    pixels = np.zeros(SHAPE, bool)
    pixels[1:3, 5, 5] = True
    _write_seg(tmp_path, _images(tmp_path), pixels)
    ds = dcmread(tmp_path / "seg")
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.4, 0.3]
    ds.save_as(tmp_path / "seg")
    (series,) = _labels(tmp_path)
    with pytest.raises(ImageReadError) as caught:
        read_all(open_series(series))
    assert caught.value.code == Reason.LABELS_EMPTY


def test_a_segmentation_far_from_its_image_is_off_the_grid(tmp_path: Path) -> None:
    _write_seg(tmp_path, _images(tmp_path), _truth() > 0)
    ds = dcmread(tmp_path / "seg")
    for group in ds.PerFrameFunctionalGroupsSequence:
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x + 500, y, z]
    ds.save_as(tmp_path / "seg")
    (series,) = _labels(tmp_path)
    assert series.reason is Reason.LABELS_OFF_GRID


def _as_highdicom(path: Path, series: Series, segments: list[int], **options: Any) -> NDArray[Any]:
    """What highdicom reads, on the grid of the label volume: matched by where voxels lie."""
    volume = hd.seg.segread(path).get_volume(segment_numbers=segments, **options)
    assert series.affine is not None
    assert series.shape is not None
    to_ours = np.linalg.inv(series.affine) @ np.diag([-1.0, -1, 1, 1]) @ volume.affine
    theirs = np.zeros(series.shape, volume.array.dtype)
    index = np.array(list(np.ndindex(volume.array.shape[:3]))).T
    ours = np.round(to_ours[:3, :3] @ index + to_ours[:3, 3:]).astype(int)
    inside = ((ours >= 0) & (ours < np.array(series.shape)[:, None])).all(axis=0)
    theirs[tuple(ours[:, inside])] = volume.array[tuple(index[:, inside])].reshape(inside.sum(), -1)[:, 0]
    return theirs


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        ("BINARY", ExplicitVRLittleEndian),
        ("FRACTIONAL", ExplicitVRLittleEndian),
        ("FRACTIONAL", RLELossless),
        ("LABELMAP", RLELossless),
        ("LABELMAP", JPEGLSLossless),
    ],
)
def test_every_kind_and_encoding_is_read_as_highdicom_reads_it(
    tmp_path: Path, kind: str, syntax: UID
) -> None:
    pixels: NDArray[Any] = _truth()
    segments = 2
    if kind == "FRACTIONAL":
        random = np.random.default_rng(3).integers(0, 256, (*SHAPE, 2)) / 255
        pixels = np.where(random > 0.5, random, 0).astype(np.float32)
    _write_seg(
        tmp_path,
        _images(tmp_path),
        pixels,
        hd.seg.SegmentationTypeValues(kind),
        segments,
        transfer_syntax_uid=syntax,
    )
    for series in _labels(tmp_path):
        source = open_series(series)
        numbers = [segment.number for segment in series.segments if segment.number]
        theirs = _as_highdicom(tmp_path / "seg", series, numbers, combine_segments=kind != "FRACTIONAL")
        assert np.allclose(physical(source)[..., 0], theirs, atol=1e-6)
        with Decoders(1) as decoders:
            assert np.array_equal(read_all(open_series(series, decoders=decoders)), read_all(source))
    assert len(_labels(tmp_path)) == (2 if kind == "FRACTIONAL" else 1)


def test_labels_whose_codec_crashes_have_that_as_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_codec.install(tmp_path / "faulty", monkeypatch)
    decoder_processes.end_idle()
    shape = (6, faulty_codec.CRASHES, 10)
    labels = np.zeros(shape, np.uint8)
    labels[2:4, 5:9, 3:6] = 1
    kind = hd.seg.SegmentationTypeValues.LABELMAP
    images = _images(tmp_path / "series", shape)
    _write_seg(tmp_path / "series", images, labels, kind, transfer_syntax_uid=JPEGLSLossless)
    (series,) = _labels(tmp_path / "series")
    with Decoders(1) as decoders, pytest.raises(ImageReadError) as died:
        read_all(open_series(series, decoders=decoders))
    decoder_processes.end_idle()
    assert died.value.code == Reason.WORKER_DIED
    assert np.array_equal(read_all(open_series(series))[..., 0], labels.transpose(2, 1, 0))


def test_a_label_map_with_colours_to_show_it_in_keeps_its_labels(tmp_path: Path) -> None:
    palette = hd.PaletteColorLUTTransformation.from_colors(
        ["black", "red", "lime"], palette_color_lut_uid="1.2"
    )
    kind = hd.seg.SegmentationTypeValues.LABELMAP
    images = _images(tmp_path)
    _write_seg(tmp_path, images, _truth(), kind, 2, palette_color_lut_transformation=palette)
    assert dcmread(tmp_path / "seg").PhotometricInterpretation == "PALETTE COLOR"
    (series,) = _labels(tmp_path)
    assert np.array_equal(read_all(open_series(series))[..., 0], _truth().transpose(2, 1, 0))


def test_a_segmentation_of_some_slices_in_another_order_is_read_as_highdicom_reads_it(tmp_path: Path) -> None:
    images = _images(tmp_path)
    _write_seg(tmp_path, images[4:0:-1], _truth()[4:0:-1], segments=2)
    (series,) = _labels(tmp_path)
    ours = read_all(open_series(series))[..., 0]
    assert np.array_equal(ours, _as_highdicom(tmp_path / "seg", series, [1, 2], combine_segments=True))
    assert np.array_equal(ours, _truth().transpose(2, 1, 0))


def test_tiles_of_a_slide_are_no_volume(tmp_path: Path) -> None:
    _write_seg(tmp_path, _images(tmp_path), _truth() > 0)
    ds = dcmread(tmp_path / "seg")
    ds.DimensionOrganizationType = "TILED_FULL"
    del ds.PerFrameFunctionalGroupsSequence
    ds.save_as(tmp_path / "seg")
    assert _labels(tmp_path)[0].reason is Reason.NO_GEOMETRY


OBLIQUE = (0.806707, -0.142244, 0.573576, 0.359093, 0.889896, -0.284361)


@pytest.mark.parametrize("lean", [0, 0.5], ids=["upright", "tilted"])
@pytest.mark.parametrize("rises", [2, -2], ids=["rising", "falling"])
@pytest.mark.parametrize("orientation", [(0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), OBLIQUE])
def test_labels_lie_where_highdicom_put_them_however_the_image_is_turned(
    tmp_path: Path, orientation: tuple[float, ...], rises: float, lean: float
) -> None:
    normal = np.cross(orientation[:3], orientation[3:])
    step = normal * rises + np.array(orientation[3:]) * lean
    images = _images(tmp_path, orientation=orientation, step=step)
    _write_seg(tmp_path, images, _truth(), segments=2)
    (series,) = _labels(tmp_path)
    labels = read_all(open_series(series))[..., 0]
    assert series.affine is not None
    found = np.argwhere(labels)
    world = (series.affine @ np.c_[found, np.ones(len(found))].T)[:3].T * [-1, -1, 1]
    z, y, x = np.argwhere(_truth()).T
    origins = np.array([image.ImagePositionPatient for image in images], np.float64)
    axes = np.array(orientation[:3]) * 0.6, np.array(orientation[3:]) * 0.8
    truth = origins[z] + x[:, None] * axes[0] + y[:, None] * axes[1]
    apart = np.linalg.norm(world[:, None] - truth[None], axis=2)
    assert len(world) == len(truth)
    assert apart.min(axis=1).max() < 1e-3
    assert np.array_equal(labels[tuple(found.T)], _truth()[z, y, x][apart.argmin(axis=1)])


def test_a_segmentation_whose_frames_cut_across_the_slices_is_taken_over(tmp_path: Path) -> None:
    images = _images(tmp_path, pixel_spacing=(1, 1), step=(0, 0, 1))
    across = hd.get_volume_from_series(images)
    mask = np.zeros(across.array.shape, np.uint8)
    mask[1:3, 2:5, 3:7] = 1
    across = across.with_array(mask).permute_spatial_axes((1, 0, 2))
    _write_seg(tmp_path, images, across)
    (series,) = _labels(tmp_path)
    assert np.array_equal(read_all(open_series(series))[..., 0], _as_highdicom(tmp_path / "seg", series, [1]))


def _without_series(ds: Dataset) -> None:
    del ds.ReferencedSeriesSequence


def _with_wrong_series(ds: Dataset) -> None:
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.99"


@pytest.mark.parametrize("change", [_without_series, _with_wrong_series])
def test_the_instances_that_a_segmentation_names_tell_its_image(tmp_path: Path, change: Any) -> None:
    images = _images(tmp_path)
    _write_seg(tmp_path, images, _truth(), segments=2)
    ds = dcmread(tmp_path / "seg")
    change(ds)
    ds.save_as(tmp_path / "seg")
    (series,) = _labels(tmp_path)
    assert series.references == (images[0].SeriesInstanceUID,)
    assert np.array_equal(read_all(open_series(series))[..., 0], _truth().transpose(2, 1, 0))
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    ds.pop("ReferencedSeriesSequence", None)
    found_by = []
    for nothing_more in ("Modality", "SourceImageSequence", "FrameOfReferenceUID"):
        del ds[nothing_more]
        ds.save_as(tmp_path / "seg")
        (series,) = _labels(tmp_path)
        assert series.references == (images[0].SeriesInstanceUID,)
        found_by.append(series.attributes["labels_found_by"])
    assert found_by == ["instances", "frame_of_reference", "grid"]
    ds.StudyInstanceUID = "1.2.3"
    ds.save_as(tmp_path / "seg")
    assert _labels(tmp_path)[0].reason is Reason.REFERENCE_MISSING


@pytest.mark.parametrize("numbers", [(1, 1), (0, 2), (7, 2)], ids=["twice", "background", "not described"])
def test_segments_that_are_not_told_apart_by_their_numbers_are_a_reason(
    tmp_path: Path, numbers: tuple[int, int]
) -> None:
    _write_seg(tmp_path, _images(tmp_path), _truth(), segments=2)
    ds = dcmread(tmp_path / "seg")
    for segment, number in zip(ds.SegmentSequence, numbers, strict=True):
        segment.SegmentNumber = number
    ds.save_as(tmp_path / "seg")
    assert _labels(tmp_path)[0].reason is Reason.DAMAGED_HEADER
