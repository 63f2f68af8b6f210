"""Multi-frame objects and mosaics, changed: exact, or refused as a whole; never a part or another order."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import changed_evidence as evidence
import changed_series as changed
import nibabel as nib
import numpy as np
import pydicom
import pytest
from changed_series import Change
from dcm2niix_reference import physical
from good_series import Good, Plane, Volume, load_mosaic, outcome, unlike
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series

REFERENCES = {
    "mr_hyperfine_enh": "mr_hyperfine_enh.nii.gz",
    "mr_philips_enh_fmri4d": "p_n/mr_philips_enh_fmri4d_pn.nii.gz",
    "mr_siemens_xa30_enh_t1": "mr_siemens_xa30_enh_t1.nii.gz",
}
IN_TIME = "mr_philips_enh_fmri4d"
Random = np.random.Generator


def enhanced(shared_data: Path, name: str) -> tuple[Dataset, Volume]:
    """The object of an enhanced series, and the volume that dcm2niix makes of it."""
    files = [*(shared_data / "series" / name).glob("*")]
    if len(files) != 1:
        pytest.skip(f"{name} is not on this machine")
    image = nib.load(shared_data / "ref" / name / REFERENCES[name])
    values = np.asarray(image.dataobj, np.float64)
    return pydicom.dcmread(files[0]), Volume(values.reshape((*values.shape, 1)[:4]), np.asarray(image.affine))


def frames_of(ds: Dataset) -> list[tuple[Dataset, bytes]]:
    """Functional groups and pixels of each frame."""
    size = int(ds.Rows) * int(ds.Columns) * int(ds.BitsAllocated) // 8
    groups = ds.PerFrameFunctionalGroupsSequence
    return [(group, ds.PixelData[n * size : (n + 1) * size]) for n, group in enumerate(groups)]


def with_frames(ds: Dataset, frames: Sequence[tuple[Dataset, bytes]]) -> Dataset:
    """The object with these frames."""
    ds.NumberOfFrames = len(frames)
    ds.PerFrameFunctionalGroupsSequence = [group for group, _ in frames]
    ds.PixelData = b"".join(pixels for _, pixels in frames)
    return ds


def written(ds: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    path.write_bytes(buffer.getvalue())
    return path.parent


def what_came(folder: Path, right: Volume) -> str:
    """`exact`, `refused`, or what is wrong."""
    images = [one for one in build_series(scan([folder])) if one.kind == "image"]
    taken = [one for one in images if one.verdict == "ingestable"]
    if not taken:
        assert all(one.reason in set(Reason) and one.detail for one in images)
        return "refused"
    if len(images) > 1:
        return f"{[one.shape for one in taken]} taken, {len(images) - len(taken)} refused"
    (one,) = taken
    return unlike(Volume(physical(open_series(one)), np.asarray(one.affine)), right) or "exact"


def content(group: Dataset) -> Dataset:
    return group.FrameContentSequence[0]


def shuffled(ds: Dataset, random: Random) -> Dataset:
    """Frames are stored in another order; their functional groups say where each belongs."""
    frames = frames_of(ds)
    return with_frames(ds, [frames[i] for i in random.permutation(len(frames))])


def frame_lost(ds: Dataset, random: Random) -> Dataset:
    """A frame in the middle is not there."""
    frames = frames_of(ds)
    return with_frames(ds, [*frames[: len(frames) // 2], *frames[len(frames) // 2 + 1 :]])


def frame_twice(ds: Dataset, random: Random) -> Dataset:
    """A frame is there again with other pixels."""
    frames = frames_of(ds)
    return with_frames(ds, [*frames, (frames[0][0], frames[1][1])])


def position_absent(ds: Dataset, random: Random) -> Dataset:
    """One frame has no position."""
    del ds.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence
    return ds


def spacing_apart(ds: Dataset, random: Random) -> Dataset:
    """The last frames have pixels that are 2 % larger."""
    frames = frames_of(ds)
    for number, (group, _) in enumerate(frames):
        measures = (group if "PixelMeasuresSequence" in group else ds.SharedFunctionalGroupsSequence[0])[
            "PixelMeasuresSequence"
        ].value[0]
        own = Dataset()
        own.update(measures)
        if number >= len(frames) // 2:
            own.PixelSpacing = [float(v) * 1.02 for v in measures.PixelSpacing]
        group.PixelMeasuresSequence = [own]
    if "PixelMeasuresSequence" in ds.SharedFunctionalGroupsSequence[0]:
        del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    return ds


def indices_lie_about_places(ds: Dataset, random: Random) -> Dataset:
    """InStackPositionNumber counts the other way: positions say where a frame is."""
    n_places = max(content(group).InStackPositionNumber for group in ds.PerFrameFunctionalGroupsSequence)
    for group in ds.PerFrameFunctionalGroupsSequence:
        content(group).InStackPositionNumber = n_places + 1 - content(group).InStackPositionNumber
    return ds


EXACT, REFUSED, EITHER = {"exact"}, {"refused"}, {"exact", "refused"}


@pytest.mark.parametrize("name", REFERENCES)
def test_frames_that_are_stored_in_another_order_are_where_their_positions_say(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    ds, volume = enhanced(shared_data, name)
    folder = written(shuffled(ds, np.random.default_rng(5)), tmp_path / "in" / "one.dcm")
    assert what_came(folder, volume) == "exact"


@pytest.mark.parametrize("name", ["mr_hyperfine_enh", IN_TIME])
@pytest.mark.parametrize(
    ("change", "right"),
    [
        (indices_lie_about_places, EITHER),
        (frame_lost, REFUSED),
        (frame_twice, REFUSED),
        (position_absent, REFUSED),
        (spacing_apart, REFUSED),
    ],
)
def test_a_changed_multi_frame_object_is_exact_or_refused_as_a_whole(
    shared_data: Path,
    tmp_path: Path,
    name: str,
    change: Callable[[Dataset, Random], Dataset],
    right: set[str],
) -> None:
    ds, volume = enhanced(shared_data, name)
    folder = written(change(ds, np.random.default_rng(5)), tmp_path / "in" / "one.dcm")
    assert what_came(folder, volume) in right


def test_frames_in_no_order_of_which_nothing_tells_the_time_are_no_time_series(
    shared_data: Path, tmp_path: Path
) -> None:
    ds, volume = enhanced(shared_data, IN_TIME)
    for group in ds.PerFrameFunctionalGroupsSequence:
        for name in ("TemporalPositionIndex", "DimensionIndexValues", "FrameReferenceDateTime"):
            if name in content(group):
                delattr(content(group), name)
        group.remove_private_tags()
    folder = written(shuffled(ds, np.random.default_rng(5)), tmp_path / "in" / "one.dcm")
    assert what_came(folder, volume) == "refused"


def test_temporal_indices_that_contradict_the_times_of_frames_are_no_guess(
    shared_data: Path, tmp_path: Path
) -> None:
    ds, volume = enhanced(shared_data, IN_TIME)
    for group in ds.PerFrameFunctionalGroupsSequence:
        late = 4 - int(content(group).TemporalPositionIndex)
        content(group).FrameAcquisitionDateTime = f"202001011000{2 * late:02d}.00"
        content(group).FrameReferenceDateTime = f"202001011000{2 * late:02d}.00"
        group.remove_private_tags()
    folder = written(ds, tmp_path / "in" / "one.dcm")
    assert what_came(folder, volume) == "refused"


def test_times_of_frames_alone_prove_their_order(shared_data: Path, tmp_path: Path) -> None:
    ds, volume = enhanced(shared_data, IN_TIME)
    for group in ds.PerFrameFunctionalGroupsSequence:
        at = 58 + 2 * (int(content(group).TemporalPositionIndex) - 1)
        day, second = divmod(23 * 3600 + 59 * 60 + at, 86400)
        clock = f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"
        content(group).FrameAcquisitionDateTime = f"202001{1 + day:02d}{clock}.00"
        content(group).FrameReferenceDateTime = f"202001{1 + day:02d}{clock}.00"
        del content(group).TemporalPositionIndex
        del content(group).DimensionIndexValues
        group.remove_private_tags()
    folder = written(shuffled(ds, np.random.default_rng(5)), tmp_path / "in" / "one.dcm")
    assert what_came(folder, volume) in EITHER


def test_an_object_with_fewer_frames_than_the_others_is_no_shorter_series(
    shared_data: Path, tmp_path: Path
) -> None:
    """rordenlab/dcm2niix issues 515 and 742, nipy/heudiconv issue 814: a scan that was stopped."""
    ds, volume = enhanced(shared_data, IN_TIME)
    frames = frames_of(ds)
    for t in range(4):
        part = [frame for frame in frames if int(content(frame[0]).TemporalPositionIndex) == t + 1]
        one = with_frames(
            pydicom.dcmread(next((shared_data / "series" / IN_TIME).glob("*"))), part[: 3 if t == 3 else 8]
        )
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.InstanceNumber = t + 1
        folder = written(one, tmp_path / "in" / f"{t}.dcm")
    assert what_came(folder, volume) == "refused"


def test_dimension_indices_in_another_order_of_dimensions_change_nothing(
    shared_data: Path, tmp_path: Path
) -> None:
    """rordenlab/dcm2niix issue 809: the sequence of dimensions and their values have other orders."""
    ds, volume = enhanced(shared_data, IN_TIME)
    for group in ds.PerFrameFunctionalGroupsSequence:
        stack, place, point = content(group).DimensionIndexValues
        content(group).DimensionIndexValues = [point, stack, place]
    folder = written(shuffled(ds, np.random.default_rng(5)), tmp_path / "in" / "one.dcm")
    assert what_came(folder, volume) == "exact"


def test_an_object_for_each_time_point_is_one_volume_in_time(shared_data: Path, tmp_path: Path) -> None:
    ds, volume = enhanced(shared_data, IN_TIME)
    frames = frames_of(ds)
    order = np.random.default_rng(5).permutation(4)
    for number, t in enumerate(order.tolist()):
        part = [frame for frame in frames if int(content(frame[0]).TemporalPositionIndex) == t + 1]
        one = with_frames(pydicom.dcmread(next((shared_data / "series" / IN_TIME).glob("*"))), part)
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.InstanceNumber = t + 1
        folder = written(one, tmp_path / "in" / f"{number}.dcm")
    assert what_came(folder, volume) in EITHER


@pytest.mark.parametrize("word", ["PHASE", "WATER", "FIELD_MAP"])
def test_frames_of_another_kind_are_no_time_point(shared_data: Path, tmp_path: Path, word: str) -> None:
    ds, volume = enhanced(shared_data, IN_TIME)
    for group in ds.PerFrameFunctionalGroupsSequence:
        if int(content(group).TemporalPositionIndex) == 3:
            group.MRImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", word, "NONE"]
            if word == "PHASE":
                group.MRImageFrameTypeSequence[0].ComplexImageComponent = "PHASE"
    found = build_series(scan([written(ds, tmp_path / "in" / "one.dcm")]))
    points = [
        unlike(Volume(physical(open_series(one)), np.asarray(one.affine)), of)
        for one in found
        if one.verdict == "ingestable"
        for of in [Volume(volume.voxels[..., [2] if len(one.shape or ()) == 3 else [0, 1, 3]], volume.affine)]
    ]
    assert points in ([], [None], [None, None]), points


# Of a mosaic each file is one point of the fourth axis.
MOSAIC = "mr_siemens_mosaic_fmri4d"
WHOLE = {"exact", "refused", "divided"}


def position_moved(planes: list[Plane], random: Random) -> list[Plane]:
    """One volume was acquired 2 mm further along, as with prospective motion correction."""

    def change(ds: Dataset) -> None:
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [f"{x + 2:.6f}", f"{y:.6f}", f"{z:.6f}"]

    return [plane.edited(change, damaged=True) if plane.t == 3 else plane for plane in planes]


def point_truncated(planes: list[Plane], random: Random) -> list[Plane]:
    """The file of a point in the middle ends within its pixels."""
    from dataclasses import replace

    return [replace(p, data=p.data[:-20000], damaged=True) if p.t == 3 else p for p in planes]


@pytest.mark.parametrize(
    ("change", "right"),
    [
        (changed.files_renamed, EXACT),
        (changed.copied_again, EXACT),
        (changed.slice_location_lies, EXACT),
        (changed.numbers_alike, EXACT),
        (changed.numbers_shuffled, EITHER),
        (changed.split_by_point, WHOLE),
        (evidence.dates_missing, EXACT),
        (evidence.temporal_tag_removed, EITHER),
        (evidence.times_in_order, EXACT),
        (evidence.over_midnight, EXACT),
        (evidence.over_midnight_without_dates, EITHER),
        (evidence.times_against_positions, REFUSED),
        (evidence.kind_of_a_point, {"divided", "refused"}),
        (evidence.units_of_a_point, {"divided", "refused"}),
        (position_moved, REFUSED),
        (point_truncated, REFUSED),
    ],
)
def test_a_changed_series_of_mosaics_is_exact_or_refused_as_a_whole(
    shared_data: Path, tmp_path: Path, change: Change, right: set[str]
) -> None:
    if not (shared_data / "series" / MOSAIC).is_dir():
        pytest.skip(f"{MOSAIC} is not on this machine")
    good: Good = load_mosaic(shared_data, MOSAIC)
    assert outcome(good, good.planes, tmp_path / "unchanged") == "exact"
    for seed in (1, 2):
        planes = change(list(good.planes), np.random.default_rng(seed))
        assert outcome(good, planes, tmp_path / str(seed)) in right
