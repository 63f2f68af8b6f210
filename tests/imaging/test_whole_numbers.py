"""A collection of labels holds whole numbers: brought back where a scaling hid them, else refused."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dcm2niix_reference import read_all
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.labels.one_hot import Channels, OneHotLabels
from radiobject_assets.imaging.labels.whole_numbers import whole_numbers
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.imaging.source import ImageSource

SHAPE = (4, 5, 6)


def saved(folder: Path, voxels: np.ndarray, dtype: str, **scaling: float) -> Path:
    path = folder / "labels.nii.gz"
    image = nib.Nifti1Image(voxels, np.eye(4))
    image.set_data_dtype(np.dtype(dtype))
    if scaling:
        image.header.set_slope_inter(scaling["slope"], scaling["inter"])
    nib.save(image, path)
    return path


def opened(path: Path) -> ImageSource:
    def reopen() -> ImageSource:
        (series,) = build_series(scan([path]))
        return open_series(series)

    return whole_numbers(reopen, lambda source: 2)


@given(
    hnp.arrays(np.int64, SHAPE, elements=st.integers(-40, 3000)),
    st.sampled_from(["int16", "float32", "float64", "int32", "uint16"]),
)
@settings(max_examples=40, deadline=None)
def test_labels_that_nibabel_scaled_into_any_type_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, truth: np.ndarray, dtype: str
) -> None:
    # nibabel scales floats into integers: as when labels are saved with the header of their image
    path = saved(tmp_path_factory.mktemp("labels"), truth.astype(np.float64), dtype)
    source = opened(path)
    assert (source.slope, source.intercept, source.dtype.kind in "iu") == (1.0, 0.0, True)
    assert np.array_equal(read_all(source, 4)[..., 0], truth)


@given(st.floats(0.05, 0.95), st.sampled_from(["int16", "float32", "float64"]))
@settings(max_examples=30, deadline=None)
def test_one_voxel_between_whole_numbers_is_a_reason_with_its_value(
    tmp_path_factory: pytest.TempPathFactory, value: float, dtype: str
) -> None:
    voxels = np.zeros(SHAPE)
    voxels[1, 2, 3], voxels[2, 2, 2] = value, 3
    with pytest.raises(ImageReadError) as caught:
        opened(saved(tmp_path_factory.mktemp("labels"), voxels, dtype))
    assert caught.value.code == Reason.LABELS_NOT_WHOLE
    assert "0.83 %" in str(caught.value)
    (said,) = re.findall(r"such as ([0-9.]+)\)", str(caught.value))
    assert float(said) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [((0, 255), "u1"), ((0, 256), "u2"), ((-1, 1), "i1"), ((-1, 200), "i2"), ((0, 2**31), "u4")],
)
def test_whole_floats_become_the_smallest_integers_that_hold_them(
    tmp_path: Path, values: tuple[int, int], dtype: str
) -> None:
    voxels = np.full(SHAPE, values[0], np.float64)
    voxels[0, 0, 0] = values[1]
    source = opened(saved(tmp_path, voxels, "float64"))
    assert source.dtype == np.dtype(dtype)
    assert np.array_equal(read_all(source)[..., 0], voxels)


@pytest.mark.parametrize(("value", "said"), [(np.nan, "no numbers"), (np.inf, "no numbers"), (1e20, "1e+20")])
def test_what_is_no_number_or_too_large_is_no_label(tmp_path: Path, value: float, said: str) -> None:
    voxels = np.zeros(SHAPE)
    voxels[1, 1, 1] = value
    with pytest.raises(ImageReadError, match=said.replace("+", r"\+")) as caught:
        opened(saved(tmp_path, voxels, "float64"))
    assert caught.value.code == Reason.LABELS_NOT_WHOLE


def test_integers_without_a_scaling_keep_their_type(tmp_path: Path) -> None:
    voxels = np.arange(120, dtype=np.int32).reshape(SHAPE)
    source = opened(saved(tmp_path, voxels, "int32"))
    assert source.dtype == np.int32
    assert np.array_equal(read_all(source)[..., 0], voxels)


def one_hot(path: Path, channels: Channels) -> np.ndarray:
    return read_all(OneHotLabels(opened(path), channels), 4)[..., 0]


@given(
    hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 4)),
    st.booleans(),
    st.sampled_from(["uint8", "float32"]),
)
@settings(max_examples=25, deadline=None)
def test_channels_of_zeros_and_ones_become_values(
    tmp_path_factory: pytest.TempPathFactory, truth: np.ndarray, background: bool, dtype: str
) -> None:
    assume((truth == 0).any())
    first = 0 if background else 1
    hot = np.stack([truth == value for value in range(first, 5)], axis=-1).astype(np.float64)
    path = saved(tmp_path_factory.mktemp("labels"), hot, dtype)
    right, wrong = (
        ("one_hot_with_background", "one_hot") if background else ("one_hot", "one_hot_with_background")
    )
    assert np.array_equal(one_hot(path, right), truth)
    with pytest.raises(ImageReadError) as caught:
        one_hot(path, wrong)
    assert caught.value.code == Reason.LABELS_WITH_CHANNELS


def test_channels_that_share_a_voxel_or_hold_other_values_are_a_reason(tmp_path: Path) -> None:
    hot = np.zeros((*SHAPE, 2))
    hot[1, 1, 1] = 1
    with pytest.raises(ImageReadError) as caught:
        one_hot(saved(tmp_path, hot, "uint8"), "one_hot")
    assert caught.value.code == Reason.SEGMENTS_OVERLAP
    hot[1, 1, 1] = [2, 0]
    with pytest.raises(ImageReadError, match="channel 1 has the value 2"):
        one_hot(saved(tmp_path, hot, "uint8"), "one_hot")
